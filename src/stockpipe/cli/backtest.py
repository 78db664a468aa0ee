"""``stockpipe backtest``: what the rules would have told over a file of history."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import configuration, symbols_of
from stockpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stockpipe.domain.rules import Rule
    from stockpipe.operate.backtest import Backtest

COLUMNS = (
    "symbol", "timestamp", "rule", "kind", "price", "sma_fast", "sma_slow",
    "change_percent", "level", "sigmas",
)  # fmt: skip
STYLES = {"golden": ui.GOLDEN, "death": ui.DEATH}


def register(app: typer.Typer) -> None:
    app.command(
        epilog="stockpipe backtest sample; stockpipe backtest prices.csv --rule crossover-5-20-15m "
        "--rule move-3 --by-day; stockpipe backtest today.ndjson.gz --json"
    )(backtest)


def backtest(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(help="CSV or recording, .gz too; sample; - is stdin.")],
    symbol: Annotated[list[str] | None, typer.Option(help="Only these; repeatable.")] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(help="crossover-5-20, move-5, spike-5, price-above-200 (default: settings)."),
    ] = None,
    by_day: Annotated[bool, typer.Option("--by-day", help="Counts per day and rule only.")] = False,
    format_: Annotated[
        Literal["table", "json", "csv"], typer.Option("--format", help="Of the signals.")
    ] = "table",
    json: Annotated[bool, typer.Option("--json", help="One object per line.")] = False,
) -> None:
    """Every signal that the rules would have given: the pipeline's own code, no cloud."""
    from stockpipe.domain.clock import SYSTEM_CLOCK
    from stockpipe.feeds.replay import read
    from stockpipe.operate.backtest import backtest as run

    settings = configuration(ctx).settings
    rules = _rules(rule) if rule else settings.rules
    chosen = frozenset(symbols_of(settings, [], symbol, default=False))
    begun = SYSTEM_CLOCK.monotonic()
    with ui.waiting(f"Reading {file}"):
        quotes, notices = read(file, SYSTEM_CLOCK.now())
    for notice in notices:
        ui.note(notice, "yellow")
    if missing := sorted(chosen - {quote.symbol for quote in quotes}):
        raise UsageError(f"{file} holds no quotes of {', '.join(missing)}.")
    with ui.waiting("Judging"):
        result = run((q for q in quotes if not chosen or q.symbol in chosen), rules)
    form = "json" if json else format_
    if by_day:
        _show_days(result, form)
    else:
        _show_signals(result, form)
    _sum_up(result, rules, SYSTEM_CLOCK.monotonic() - begun)


def _rules(texts: Sequence[str]) -> tuple[Rule, ...]:
    from stockpipe.domain.rules import InvalidRule
    from stockpipe.domain.rules.text import rule_of

    try:
        found = tuple(rule_of(text) for text in texts)
    except InvalidRule as error:
        raise UsageError(f"--rule {error}.", hint="docs/signals.md explains each.") from None
    if len({rule.name for rule in found}) < len(found):
        raise UsageError("--rule names one rule twice.")
    return found


def _show_signals(result: Backtest, form: str) -> None:
    records = (one.record() for one in result.found)
    if form == "json":
        for record in records:
            ui.json_line(record)
    elif form == "csv":
        _csv(COLUMNS, ([record[column] for column in COLUMNS] for record in records))
    elif result.found:
        shown = list(records)
        used = [column for column in COLUMNS if any(row[column] is not None for row in shown)]
        ui.table(
            used,
            ([row[column] for column in used] for row in shown),
            right=COLUMNS[4:],
            styles=[STYLES.get(row["kind"], ui.ANOMALY) for row in shown],
        )


def _show_days(result: Backtest, form: str) -> None:
    columns = ("day", "rule", "signals")
    rows = result.by_day()
    if form == "json":
        for row in rows:
            ui.json_line(dict(zip(columns, row, strict=True)))
    elif form == "csv":
        _csv(columns, rows)
    elif rows:
        ui.table(columns, rows, right=("signals",))


def _csv(columns: Sequence[str], rows: object) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)  # type: ignore[arg-type]


def _sum_up(result: Backtest, rules: Sequence[Rule], seconds: float) -> None:
    counted = result.by_rule()
    symbols = f"{result.symbols:,} symbol{'s' if result.symbols != 1 else ''}"
    ui.note(f"{result.bars:,} readings of {symbols} in {seconds:.1f} s.", "dim")
    for rule in rules:
        number = counted.get(rule.name, 0)
        rate = number / result.days if result.days else 0.0
        ui.note(f"{rule.name}: {number:,} signals, {rate:.2f} a symbol and day.", "green")
    if result.splits:
        listed = ", ".join(f"{symbol} {day}" for symbol, day in result.splits[:5])
        more = f" and {len(result.splits) - 5:,} more" if len(result.splits) > 5 else ""
        ui.note(f"Taken for splits, and not told as moves: {listed}{more}.", "yellow")
