"""What the pipeline must have made of the bundled sample, and what it says that it has made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stockpipe_cli import Cli

from stockpipe.domain.quote import Quote
from stockpipe.domain.rules import DEFAULT_RULES
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.operate.backtest import backtest


def expected_signals(quotes: Sequence[Quote] = ()) -> list[tuple[str, str, str]]:
    """Symbol, timestamp and kind of what the default rules find in these, or in all; sorted."""
    found = backtest(quotes or read_csv("sample"), DEFAULT_RULES).found
    return sorted((one.symbol, one.signal.timestamp, one.signal.kind) for one in found)


def alerted(cli: Cli) -> list[tuple[str, str, str]]:
    lines = cli("alerts", "history", "--json").lines
    return sorted((line["symbol"], line["timestamp"], line["kind"]) for line in lines)


def changes(plan: dict[str, Any]) -> int:
    """How many things the plan would touch; it must know of some that it keeps."""
    summary = plan["summary"]
    assert summary["keep"]
    return sum(int(count) for action, count in summary.items() if action != "keep")
