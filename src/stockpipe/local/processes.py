"""What the system says about processes: Linux through /proc, elsewhere through ``ps``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_HAS_PROC = _PROC.joinpath("self", "cmdline").exists()


def command_line(pid: int) -> str:
    """The command line of a process, empty when it is gone."""
    if _HAS_PROC:
        with contextlib.suppress(OSError):
            return _words(_PROC / str(pid))
        return ""
    return _ps("-ww", "-o", "command=", "-p", str(pid)).strip()


def naming(text: str) -> list[int]:
    """The processes, other than this one, whose command line contains ``text``."""
    return [pid for pid, command in _commands() if text in command and pid != os.getpid()]


def functions(tmp: Path) -> list[int]:
    """The function processes of the embedded cloud whose scratch directory is ``tmp``."""
    return naming(f"{tmp}{os.sep}ministack-lambda-")


def end_functions(tmp: Path) -> None:
    """Kill them: of a server that was killed, they would go on writing to its successor."""
    for pid in functions(tmp):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def memory_bytes(pid: int) -> int:
    """Resident memory of a process, 0 when it is gone."""
    try:
        if _HAS_PROC:
            pages = int(_PROC.joinpath(str(pid), "statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE")
        return int(_ps("-o", "rss=", "-p", str(pid))) * 1024
    except (OSError, ValueError, IndexError):
        return 0


def _commands() -> Iterator[tuple[int, str]]:
    if _HAS_PROC:
        for entry in _PROC.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it ended while we looked
                    yield int(entry.name), _words(entry)
        return
    for line in _ps("-axww", "-o", "pid=,command=").splitlines():
        pid, _, command = line.strip().partition(" ")
        if pid.isdigit():
            yield int(pid), command


def _words(process: Path) -> str:
    words = process.joinpath("cmdline").read_bytes().split(b"\0")
    return b" ".join(words).decode(errors="replace").strip()


def _ps(*options: str) -> str:
    return subprocess.run(["ps", *options], capture_output=True, text=True, check=False).stdout
