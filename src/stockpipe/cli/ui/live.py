"""What moves: spinners, progress, steps, panels, the watch-list; lines where nothing can move."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from stockpipe.cli import ui
from stockpipe.cli.ui.consoles import err


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner while something takes its time; a plain line where there is no terminal."""
    if ui.live_terminal():
        with err.status(Text(what)):
            yield
    else:
        ui.note(f"{what} ...")
        yield


@contextmanager
def counting(what: str, total: int | None) -> Iterator[Any]:
    """A progress bar to be advanced by calling it with a number; silent without a terminal."""
    if not ui.live_terminal():
        yield lambda step, **_: None
        return
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        # Data in a file or pipe stays there: rich would print it on the terminal of stderr.
        redirect_stdout=sys.stdout.isatty(),
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
        if ui.live_terminal():
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
        ui.note(line, style)
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
        if ui.live_terminal():
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
            ui.note(f"   {line}")

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


class Watchlist:
    """A line per symbol that is redrawn in place, and a line of totals below; nothing in a pipe.

    ``spare``: the columns that a narrow terminal does without, the first one first.
    """

    KEPT_FREE = 5
    """Lines of the terminal for the head, the totals and what was said before."""

    GAP = 2
    """Spaces between two columns."""

    def __init__(
        self, *columns: str, right: Collection[str] = (), spare: Sequence[str] = ()
    ) -> None:
        self._columns, self._right, self._spare = columns, right, spare
        self._live: Live | None = None

    def __enter__(self) -> Watchlist:
        if ui.live_terminal():
            self._live = Live(console=err, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    @property
    def alive(self) -> bool:
        return self._live is not None

    def show(self, rows: Sequence[tuple[Sequence[str], str]], footer: str) -> None:
        """Redraw: each row its cells and a style; what the terminal has no line for is counted."""
        if self._live is None:
            return
        table = Table(box=None, pad_edge=False, padding=(0, self.GAP, 0, 0), header_style="dim")
        room = max(1, err.height - self.KEPT_FREE)
        kept = self._fitting([cells for cells, _ in rows[:room]])
        for index in kept:
            column = self._columns[index]
            justify: Any = "right" if column in self._right else "left"
            table.add_column(column, justify=justify, no_wrap=True)
        for cells, style in rows[:room]:
            table.add_row(*(Text(cells[index]) for index in kept), style=style)
        if len(rows) > room:
            footer = f"and {len(rows) - room:,} more   {footer}"
        self._live.update(Group(table, Text(footer, style="dim")), refresh=True)

    def _fitting(self, rows: Sequence[Sequence[str]]) -> list[int]:
        """Which columns there is width for: a whole price is worth more than a piece of each."""
        widths = [
            max(map(cell_len, column)) + self.GAP
            for column in zip(self._columns, *rows, strict=True)
        ]
        kept = list(range(len(self._columns)))
        for column in self._spare:
            if sum(widths[index] for index in kept) - self.GAP <= err.width:
                break
            kept.remove(self._columns.index(column))
        return kept
