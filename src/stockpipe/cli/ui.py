"""The one place where text is drawn. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeGuard

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from stockpipe.errors import StockpipeError


class _Data(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # the reader has seen enough: main ends quietly


class _Talk(Console):
    def on_broken_pipe(self) -> None:
        """Nobody listens any more; what is being done is finished all the same."""
        self.quiet = True
        # Python flushes once more at exit, and would end with an error of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


out = _Data(highlight=False, soft_wrap=True)
err = _Talk(stderr=True, highlight=False, soft_wrap=True)

GOLDEN, DEATH, ANOMALY = "bold green", "bold red", "yellow"
SPARKS = "▁▂▃▄▅▆▇█"

errors = _Talk(stderr=True, highlight=False, soft_wrap=True)

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


def cell(value: Any) -> str:
    """A value for a person: thousands separated, no exponent, an empty cell for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (Decimal, float)):
        if not Decimal(value).is_finite():
            return str(value)
        whole, _, fraction = format(Decimal(str(value)), "f").partition(".")
        fraction = fraction.rstrip("0")
        negative = whole.startswith("-")
        grouped = f"{int(whole or 0):,}"
        grouped = f"-{grouped}" if negative and not grouped.startswith("-") else grouped
        return f"{grouped}.{fraction}" if fraction else grouped
    # A whole second needs no milliseconds on a screen.
    return value.removesuffix(".000Z") + "Z" if _is_whole_second(value) else str(value)


def _is_whole_second(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) == 24 and value.endswith(".000Z")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Iterable[str] = (),
    styles: Sequence[str | None] = (),
    title: str | None = None,
    console: Console = out,
) -> None:
    """A table: framed on a terminal, aligned columns without frames in a pipe."""
    right = set(right)
    drawn = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None if not console.is_terminal else _box(),
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold",
        show_edge=False,
    )
    for column in columns:
        justify: Any = "right" if column in right else "left"
        drawn.add_column(column, justify=justify, no_wrap=True)
    for index, row in enumerate(rows):
        style = styles[index] if index < len(styles) else None
        drawn.add_row(*(Text(cell(value)) for value in row), style=style)
    # A value that is cut is a wrong value: a table wider than the terminal wraps, as in psql.
    needed = console.measure(drawn, options=console.options.update(max_width=10_000)).maximum
    _Data(
        file=console.file,
        width=max(needed, console.width),
        force_terminal=console.is_terminal,
        highlight=False,
    ).print(drawn, crop=False)


def _box() -> Any:
    from rich.box import SIMPLE_HEAD

    return SIMPLE_HEAD


def spark(values: Sequence[float]) -> str:
    """A line of blocks from lowest to highest; plain ``.:|`` where only ASCII can be written."""
    if len(values) < 2:
        return ""
    marks = SPARKS if (sys.stdout.encoding or "").lower().startswith("utf") else ".:-=+*#@"
    low, high = min(values), max(values)
    scale = (len(marks) - 1) / (high - low) if high > low else 0.0
    return "".join(marks[round((value - low) * scale)] for value in values)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner while something takes its time; a plain line where there is no terminal."""
    if live_terminal():
        with err.status(Text(what)):
            yield
    else:
        note(f"{what} ...")
        yield


@contextmanager
def counting(what: str, total: int | None) -> Iterator[Any]:
    """A progress bar to be advanced by calling it with a number; silent without a terminal."""
    if not live_terminal():
        yield lambda step, **_: None
        return
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
    )
    with progress:
        task = progress.add_task(what, total=total)
        yield lambda step, **_: progress.advance(task, step)


class Steps:
    """A live line per thing that is being done, which stays once it is; in a pipe, lines."""

    def __init__(self, total: int) -> None:
        self._total, self._ended = total, 0
        self._lines: dict[str, Spinner] = {}
        self._live: Live | None = None

    def __enter__(self) -> Steps:
        if live_terminal():
            self._live = Live(console=err, transient=True, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begin(self, what: str, waits_for: str = "") -> None:
        """``what`` is being done; ``waits_for`` says what holds it up."""
        line = Text(f"{what}  ") + Text(waits_for, style="dim")
        line.no_wrap, line.overflow = True, "ellipsis"
        known = self._lines.get(what)
        if known is None:
            self._lines[what] = Spinner("dots", line)
        elif waits_for:
            known.update(text=line)
        self._draw()

    def end(self, what: str, line: str, style: str = "") -> None:
        """``what`` is over: ``line`` says how."""
        self._lines.pop(what, None)
        self._ended += 1
        note(line, style)
        self._draw()

    def _draw(self) -> None:
        if self._live:
            counted = Text(f"  {self._ended}/{self._total}", style="dim")
            self._live.update(Group(*self._lines.values(), counted))


class Board:
    """Panels side by side that fill up live; in a pipe, a line per item instead."""

    ROWS, NARROW_ROWS, WIDTH = 9, 4, 36

    def __init__(self, *titles: str) -> None:
        self._panels = {title: deque[Text](maxlen=self.ROWS) for title in titles}
        self._totals = dict.fromkeys(titles, 0)
        self._footer = ""
        self._live: Live | None = None

    def __enter__(self) -> Board:
        if live_terminal():
            self._live = Live(self._draw(), console=err, refresh_per_second=12)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self._draw())
            self._live.stop()

    def add(self, title: str, line: str, style: str = "", *, piped: bool = True) -> None:
        """One more item of a panel; ``piped`` says whether it is worth a line in a pipe."""
        self._totals[title] += 1
        self._panels[title].append(Text(line, style=style, no_wrap=True))
        if self._live is None and piped:
            note(f"   {line}")

    def show(self, footer: str) -> None:
        """Redraw with a line of totals below."""
        self._footer = footer
        if self._live:
            self._live.update(self._draw())

    def _draw(self) -> RenderableType:
        beside = self.WIDTH * len(self._panels) <= err.width
        width = err.width // len(self._panels) if beside else err.width
        rows = self.ROWS if beside else self.NARROW_ROWS
        panels = [
            Panel(
                Group(*list(lines)[-rows:], *[Text("")] * (rows - len(lines))),
                title=f"{title} [dim]{self._totals[title]:,}[/]",
                title_align="left",
                border_style="dim",
                padding=0,
                width=width,
            )
            for title, lines in self._panels.items()
        ]
        return Group(Columns(panels, padding=(0, 0)), Text(self._footer, style="dim"))


def program() -> str:
    """How this program can be called from here, for the hints."""
    import shutil

    name = os.path.basename(sys.argv[0]) or "stockpipe"  # noqa: PTH119 - a name, not a path
    found = shutil.which(name)
    if found and os.path.realpath(found) == os.path.realpath(sys.argv[0]):
        return name
    relative = os.path.relpath(sys.argv[0])
    return relative if not relative.startswith("..") else sys.argv[0]
