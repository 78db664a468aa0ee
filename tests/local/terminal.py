"""A terminal to run the program on, and what is left on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROWS = 24
CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


@dataclass
class Shown:
    """What a program wrote to a terminal, and the lines that are left on the screen."""

    raw: str
    columns: int

    @property
    def lines(self) -> list[str]:
        """The screen, as far as rich uses one: lines, line up, erase line, and wrapping."""
        screen, row, column = [""], 0, 0
        for argument, command, control, text in CONTROL.findall(self.raw):
            if control == "\r":
                column = 0
            elif control == "\n":
                row += 1
                screen += [""] * (row + 1 - len(screen))
            elif command == "A":
                row -= int(argument or 1)
            elif command == "K":
                screen[row] = ""
            else:
                for character in text:
                    if column == self.columns:
                        row, column = row + 1, 0
                        screen += [""] * (row + 1 - len(screen))
                    line = screen[row].ljust(column)
                    screen[row] = line[:column] + character + line[column + 1 :]
                    column += 1
        return [line.rstrip() for line in screen]

    def line(self, start: str) -> str:
        """The one line on the screen that begins so."""
        (found,) = [line for line in self.lines if line.startswith(start)]
        return found


def on_terminal(
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    *,
    columns: int = 120,
    out: Path | None = None,
) -> Shown:
    """Run a command on a terminal of its own, with standard output in a file where one is given.

    Reading a terminal whose other side is closed fails on Linux, and is empty elsewhere.
    """
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    inherited = {name: value for name, value in environment.items() if name != "COLUMNS"}
    with open(out or os.devnull, "wb") as file:  # noqa: PTH123 - a Path, or the null device
        process = subprocess.Popen(
            command,
            env={"TERM": "xterm-256color", **inherited},
            cwd=directory,
            stdin=terminal,
            stdout=file if out else terminal,
            stderr=terminal,
        )
    os.close(terminal)
    written = b""
    try:
        while piece := os.read(screen, 65_536):
            written += piece
    except OSError:
        pass
    finally:
        os.close(screen)
    assert process.wait(timeout=20) == 0, written.decode()
    return Shown(written.decode(), columns)
