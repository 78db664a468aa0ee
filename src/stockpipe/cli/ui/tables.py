"""Values and tables for a person: a terminal gets frames, a pipe aligned columns."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeGuard

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stockpipe.cli.ui.consoles import Data, out

SPARKS = "▁▂▃▄▅▆▇█"


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
    Data(
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
