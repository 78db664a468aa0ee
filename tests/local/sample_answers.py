"""What the pipeline must have made of the bundled sample, and what it says that it has made."""

from __future__ import annotations

from typing import Any

from stockpipe_cli import Cli

from stockpipe.domain.rules.crossover import crossings
from stockpipe.domain.signals import Reading
from stockpipe.feeds.csv_bars import read_csv


def expected_crossings() -> set[tuple[str, str, str]]:
    series: dict[str, list[Reading]] = {}
    for quote in read_csv("sample"):
        series.setdefault(quote.symbol, []).append(Reading(quote.timestamp, quote.price))
    return {
        (symbol, crossing.timestamp, crossing.kind)
        for symbol, readings in series.items()
        for crossing in crossings(readings, 5, 20)
    }


def alerted(cli: Cli) -> list[tuple[str, str, str]]:
    lines = cli("alerts", "history", "--json").lines
    return sorted((line["symbol"], line["timestamp"], line["kind"]) for line in lines)


def changes(plan: dict[str, Any]) -> int:
    """How many things the plan would touch; it must know of some that it keeps."""
    summary = plan["summary"]
    assert summary["keep"]
    return sum(int(count) for action, count in summary.items() if action != "keep")
