"""Crossovers, exactly: against real data, against another library, and by their own laws."""

from __future__ import annotations

import csv
import gzip
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import SHARED
from stockpipe.domain.exact import normalise_timestamp, to_micro
from stockpipe.domain.indicators import SmaPair
from stockpipe.domain.rules.crossover import crossings
from stockpipe.domain.signals import Reading

BARS = sorted(SHARED.glob("bars/*.csv.gz"))


def readings(prices: list[int]) -> list[Reading]:
    return [Reading(f"{index:08d}", price) for index, price in enumerate(prices)]


def kinds(prices: list[int], fast: int = 2, slow: int = 3) -> list[tuple[int, str]]:
    return [(int(c.timestamp), c.kind) for c in crossings(readings(prices), fast, slow)]


@pytest.mark.skipif(not BARS, reason="the recorded market data are not in this clone")
@pytest.mark.parametrize("bars", BARS, ids=lambda path: path.name.split(".")[0])
def test_every_crossing_of_the_recorded_bars_and_no_other(bars: Path) -> None:
    name = bars.name.removesuffix(".csv.gz")
    series: dict[str, list[Reading]] = {}
    with gzip.open(bars, "rt") as stream:
        for row in csv.DictReader(stream):
            reading = Reading(normalise_timestamp(row["timestamp"]), to_micro(row["close"]))
            series.setdefault(row["symbol"], []).append(reading)
    found = [
        (symbol, c.timestamp, c.kind, round(c.sma_fast or 0, -1), round(c.sma_slow or 0, -1))
        for symbol, values in series.items()
        for c in crossings(sorted(values), 5, 20)
    ]
    with (SHARED / "expected" / f"{name}.crosses.csv").open() as stream:
        expected = [
            (
                row["symbol"],
                normalise_timestamp(row["timestamp"]),
                row["kind"],
                round(to_micro(row["sma5"]), -1),
                round(to_micro(row["sma20"]), -1),
            )
            for row in csv.DictReader(stream)
        ]
    assert [one[:3] for one in sorted(found)] == [one[:3] for one in sorted(expected)]
    for ours, theirs in zip(sorted(found), sorted(expected), strict=True):
        assert abs(ours[3] - theirs[3]) <= 10
        assert abs(ours[4] - theirs[4]) <= 10


def test_pandas_agrees_on_thirteen_years_of_real_prices(
    closes: dict[str, list[tuple[str, str]]],
) -> None:
    # In micro-units, sums of 20 prices are whole numbers below 2^53: pandas is an exact oracle.
    total = 0
    for series in closes.values():
        micro = pd.Series([float(to_micro(close)) for _, close in series])
        spread = micro.rolling(5).sum() * 4 - micro.rolling(20).sum()
        signs = spread.dropna().map(lambda d: (d > 0) - (d < 0))
        signs = signs[signs != 0]
        changed = signs[signs.ne(signs.shift()) & signs.shift().notna()]
        expected = [
            (series[index][0], "golden" if sign > 0 else "death")
            for index, sign in changed.items()
            if isinstance(index, int)
        ]
        ours = crossings([Reading(day, to_micro(close)) for day, close in series], 5, 20)
        assert [(c.timestamp, c.kind) for c in ours] == expected
        total += len(ours)
    assert total > 500


def test_fewer_readings_than_the_slow_window_say_nothing() -> None:
    assert kinds([1, 9], 1, 3) == []


def test_the_first_sign_only_seeds() -> None:
    assert kinds([1, 2, 3, 4, 5]) == []
    assert kinds([5, 4, 3, 2, 1]) == []


# With windows of 1 and 2, d has the sign of the last step: the cases below spell out that sign.
def test_equal_then_above_fires_once() -> None:
    assert kinds([3, 2, 2, 2, 3, 4], 1, 2) == [(4, "golden")]


def test_equal_then_below_fires_once() -> None:
    assert kinds([2, 3, 3, 2, 1], 1, 2) == [(3, "death")]


def test_a_touch_does_not_fire() -> None:
    assert kinds([1, 2, 2, 3, 3, 4], 1, 2) == []


prices = st.lists(st.integers(1, 50), min_size=0, max_size=120)
windows = st.tuples(st.integers(1, 6), st.integers(1, 14)).map(lambda w: (w[0], w[0] + w[1]))


@given(prices, windows)
def test_signals_alternate(values: list[int], window: tuple[int, int]) -> None:
    found = [kind for _, kind in kinds(values, *window)]
    assert all(a != b for a, b in pairwise(found))


@given(prices, windows)
def test_the_running_sums_equal_averages_taken_anew(
    values: list[int], window: tuple[int, int]
) -> None:
    fast, slow = window
    pair = SmaPair(fast, slow)
    for index, value in enumerate(values, start=1):
        pair.push(value)
        if index >= slow:
            d = Fraction(sum(values[index - fast : index]), fast) - Fraction(
                sum(values[index - slow : index]), slow
            )
            assert pair.sign == (d > 0) - (d < 0)


@given(prices, windows, st.integers(1, 10**9))
def test_scaling_all_prices_changes_no_signal(
    values: list[int], window: tuple[int, int], factor: int
) -> None:
    assert kinds(values, *window) == kinds([value * factor for value in values], *window)
