"""The one place where text is drawn. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from rich.markup import escape
from rich.text import Text

from stockpipe.cli.ui.consoles import err, errors, out
from stockpipe.cli.ui.live import Board, Steps, Watchlist, counting, waiting
from stockpipe.cli.ui.tables import cell, spark, table
from stockpipe.errors import StockpipeError

__all__ = [
    "ANOMALY", "DEATH", "GOLDEN", "Board", "Steps", "Watchlist", "aloud", "ask", "cell",
    "counting", "err", "error", "heading", "json_line", "live_terminal", "note", "note_markup",
    "notify",
    "out", "plain", "program", "spark", "table", "tell_on_stdout", "text", "waiting",
]  # fmt: skip

NOTIFYING = frozenset({"WezTerm", "ghostty", "iTerm.app"})
"""Terminals that show OSC 9 as a notification; kitty does, too."""
GOLDEN, DEATH, ANOMALY = "bold green", "bold red", "yellow"

place_flags = ""
"""The flags that name this call's target and stack, for hints that others can type."""

quiet = False
json_wanted = False
"""Set once by the root command; errors then go out as JSON too."""


def live_terminal() -> bool:
    """Whether moving pictures make sense: a person looks at stderr, and nobody asked for quiet."""
    return err.is_terminal and not err.is_dumb_terminal and not quiet and not json_wanted


def plain(value: Any) -> str:
    """JSON text in which a Decimal keeps all its digits (a float would round past 15)."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(str(key))}: {plain(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(plain, value))}]"
    return json.dumps(value)


def json_line(value: Any) -> None:
    """One JSON value on one line of stdout, at once."""
    sys.stdout.write(plain(value) + "\n")
    sys.stdout.flush()


def text(line: str = "") -> None:
    """One line of data, at once: whoever reads the pipe may be waiting for it."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def note(line: str, style: str | None = None) -> None:
    """One line for people, on stderr. Not markup: quotes and paths are shown as they are."""
    if not quiet:
        err.print(Text(line, style=style or ""), soft_wrap=not err.is_terminal)


@contextmanager
def aloud() -> Iterator[None]:
    """Say it even under ``--quiet``."""
    global quiet
    before, quiet = quiet, False
    try:
        yield
    finally:
        quiet = before


def notify(what: str) -> None:
    """Ring the terminal's bell, or have it show a notification where it is known to (OSC 9)."""
    if quiet or not (out.is_terminal and err.is_terminal):
        return
    shown = "".join(character for character in what if character.isprintable())
    knows = os.environ.get("TERM_PROGRAM") in NOTIFYING or "KITTY_WINDOW_ID" in os.environ
    # While a panel is live, sys.stderr is rich's, which prints no control characters.
    err.file.write(f"\x1b]9;{shown}\x07" if knows else "\a")
    err.file.flush()


def heading(number: int | None, title: str, detail: str = "") -> None:
    """A step of something longer."""
    mark = f"{number}  " if number else ""
    note_markup(f"\n[bold cyan]{mark}{escape(title)}[/]  {escape(detail)}")


def note_markup(line: str) -> None:
    if not quiet:
        err.print(line, soft_wrap=not err.is_terminal)


def error(problem: StockpipeError) -> None:
    """What happened, where, what to do next."""
    if json_wanted:
        sys.stderr.write(plain({"error": problem.message, "hint": problem.hint}) + "\n")
        return
    errors.print(Text("error: ", style="bold red") + Text(problem.message))
    if problem.hint:
        errors.print(Text(f"       {problem.hint}", style="dim"))


def tell_on_stdout() -> None:
    """From here on what is said to people is the data: the demo is a story, whole in a pipe."""
    err.stderr = False


def ask(question: str) -> str:
    """Ask on stderr, read stdin; an empty string at the end of input."""
    err.print(Text(question + " "), end="")
    return sys.stdin.readline().strip()


def program() -> str:
    """How this program can be called from here, for the hints."""
    import shutil

    name = os.path.basename(sys.argv[0]) or "stockpipe"  # noqa: PTH119 - a name, not a path
    found = shutil.which(name)
    if found and os.path.realpath(found) == os.path.realpath(sys.argv[0]):
        return name
    relative = os.path.relpath(sys.argv[0])
    return relative if not relative.startswith("..") else sys.argv[0]
