"""Rules over history: what is expected of real data, all of it and nothing else."""

from __future__ import annotations

import csv
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from stockpipe.domain.exact import normalise_timestamp
from stockpipe.domain.quote import Quote
from stockpipe.domain.rules import DEFAULT_RULES, CrossoverRule, MoveRule
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.operate.backtest import Backtest, backtest

FILES = (
    "daily_2018-2019", "daily_CALM_2022-2024", "daily_SPY_2008-2017", "daily_wiki",
    "intraday_15m_EA_2026", "intraday_1m_2019-02", "intraday_1m_2022-03",
    "intraday_1m_GSPC_2019-11", "intraday_1m_exthours_AAPL",
)  # fmt: skip
SPLITS = {("AAPL", "2000-06-21"), ("AAPL", "2005-02-28"), ("MSFT", "2003-02-18")}
"""In daily_wiki: days that open at half of an unadjusted close. PROVENANCE.md names them traps."""
OF_A_DAY = ("day_vs_previous_close", "first_in_session_vs_previous_close")


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def over(data: Path, name: str) -> Backtest:
    return backtest(read_csv(str(data / "bars" / f"{name}.csv.gz")), DEFAULT_RULES)


@pytest.mark.parametrize("name", FILES)
def test_every_expected_crossing_is_found_and_no_other(shared_data: Path, name: str) -> None:
    expected = {
        (row["symbol"], normalise_timestamp(row["timestamp"]), row["kind"]): row
        for row in rows(shared_data / "expected" / f"{name}.crosses.csv")
    }
    records = [one.record() for one in over(shared_data, name).found]
    crossings = [record for record in records if record["rule"] == "crossover-5-20"]
    found = Counter((one["symbol"], one["timestamp"], one["kind"]) for one in crossings)
    assert found == Counter(expected.keys())
    for one in crossings:
        row = expected[one["symbol"], one["timestamp"], one["kind"]]
        assert one["price"] == Decimal(row["close"])
        for ours, theirs in (("sma_fast", "sma5"), ("sma_slow", "sma20")):
            assert abs(one[ours] - Decimal(row[theirs])) <= Decimal("0.000001")


@pytest.mark.parametrize("name", FILES)
def test_every_move_above_5_percent_is_found_once_a_day_but_for_splits(
    shared_data: Path, name: str
) -> None:
    result = over(shared_data, name)
    expected = {
        (row["symbol"], row["timestamp"][:10])
        for row in rows(shared_data / "expected" / f"{name}.anomalies5pct.csv")
        if row["rule"] in OF_A_DAY
    }
    found = [(one.symbol, one.signal.reading.day) for one in result.found if one.rule == "move-5"]
    splits = SPLITS if name == "daily_wiki" else set()
    assert sorted(found) == sorted(expected - splits)
    assert set(result.splits) == splits


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
