"""Rules over history: what is expected of real data, all of it and nothing else."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

import recorded
from stockpipe.domain.quote import Quote
from stockpipe.domain.rules import DEFAULT_RULES, CrossoverRule, MoveRule
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.operate.backtest import Backtest, backtest


def over(data: Path, name: str) -> Backtest:
    return backtest(read_csv(str(recorded.bars_file(data, name))), DEFAULT_RULES)


@pytest.mark.parametrize("name", recorded.BARS)
def test_every_expected_crossing_is_found_and_no_other(shared_data: Path, name: str) -> None:
    expected = recorded.crossings(shared_data, name)
    records = [one.record() for one in over(shared_data, name).found]
    crossings = [record for record in records if record["rule"] == "crossover-5-20"]
    found = Counter((one["symbol"], one["timestamp"], one["kind"]) for one in crossings)
    assert found == Counter(expected.keys())
    for one in crossings:
        row = expected[one["symbol"], one["timestamp"], one["kind"]]
        assert one["price"] == Decimal(row["close"])
        for ours, theirs in (("sma_fast", "sma5"), ("sma_slow", "sma20")):
            assert abs(one[ours] - Decimal(row[theirs])) <= Decimal("0.000001")


@pytest.mark.parametrize("name", recorded.BARS)
def test_every_move_above_5_percent_is_found_once_a_day_but_for_splits(
    shared_data: Path, name: str
) -> None:
    result = over(shared_data, name)
    found = [(one.symbol, one.signal.reading.day) for one in result.found if one.rule == "move-5"]
    assert sorted(found) == sorted(recorded.moves(shared_data, name))
    assert set(result.splits) == (recorded.SPLITS if name == "daily_wiki" else set())


def quote(symbol: str, minute: int, price: int) -> Quote:
    micro = price * 10**6
    timestamp = f"2022-03-14T13:{minute:02d}:00.000Z"
    return Quote(symbol, micro, micro, micro, micro, 100 * 10**6, 1, timestamp)


def test_of_two_quotes_of_a_key_the_later_counts_and_order_does_not_matter() -> None:
    quotes = [quote("AAPL", minute, price) for minute, price in enumerate((104, 106, 103))]
    shuffled = [quotes[2], quote("AAPL", 1, 90), quotes[0], quotes[1]]
    (found,) = backtest(shuffled, [MoveRule()]).found
    assert (found.signal.timestamp, found.signal.price) == (quotes[1].timestamp, 106 * 10**6)


def test_a_rule_sees_its_own_symbols_only_and_days_are_counted_by_symbol() -> None:
    quotes = [quote(symbol, 1, 120) for symbol in ("AAPL", "MSFT")]
    result = backtest(quotes, [MoveRule(symbols=frozenset({"MSFT"}))])
    assert [one.symbol for one in result.found] == ["MSFT"]
    assert (result.bars, result.symbols, result.days) == (2, 2, 2)
    assert result.by_day() == [("2022-03-14", "move-5", 1)]


def test_no_history_brings_nothing() -> None:
    assert backtest([], [CrossoverRule()]) == Backtest()
