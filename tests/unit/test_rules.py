"""The kinds of rules: against pandas on real prices, and by the laws that windows rest on."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import Table

from recorded import SPLITS, bars_file
from stockpipe.domain.exact import price_text, to_micro
from stockpipe.domain.rules import (
    CrossoverRule,
    InvalidRule,
    MoveRule,
    PriceRule,
    Rule,
    SpikeRule,
    parse_rule,
    parse_rules,
)
from stockpipe.domain.rules.history import reading_of, signals
from stockpipe.domain.rules.splits import split_ratio
from stockpipe.domain.signals import Reading, Signal
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.functions.readings import Readings

START = datetime(2022, 3, 14, 13, 30, tzinfo=UTC)
UNIT = 10**6


def at(seconds: float) -> str:
    return f"{START + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.000Z}"


def readings(*prices: float, every: int = 60, close: float | None = None) -> list[Reading]:
    before = None if close is None else to_micro(close)
    return [Reading(at(i * every), to_micro(p), before) for i, p in enumerate(prices)]


def scanned(rule: Rule, series: list[Reading]) -> list[Signal]:
    scan = rule.scan()
    return [signal for reading in series if (signal := scan.push(reading))]


def times(found: list[Signal]) -> list[str]:
    return [signal.timestamp for signal in found]


# Against pandas


def test_moves_are_those_of_pandas_on_thirteen_years(
    closes: dict[str, list[tuple[str, str]]],
) -> None:
    total = 0
    for series in closes.values():
        micro = [to_micro(close) for _, close in series]
        prices = pd.Series(micro, dtype="int64")
        before = prices.shift(1)
        exceeded = ((prices - before).abs() * 100 > 5 * before)[1:]
        days = [
            Reading(day, now, then)
            for (day, _), now, then in zip(series[1:], micro[1:], micro, strict=False)
        ]
        expected = [day.timestamp for day, yes in zip(days, exceeded, strict=True) if yes]
        unsplit = [day.timestamp for day in days if split_ratio(day) is None]
        found = times(scanned(MoveRule(), days))
        assert found == [day for day in expected if day in unsplit]
        total += len(found)
    assert total > 400


@pytest.mark.parametrize("above", [True, False])
def test_passed_levels_are_those_of_pandas(
    closes: dict[str, list[tuple[str, str]]], above: bool
) -> None:
    for series in closes.values():
        prices = pd.Series([to_micro(close) for _, close in series], dtype="int64")
        level = int(prices.median())
        beyond = prices > level if above else prices < level
        passed = beyond & ~beyond.shift(1, fill_value=True)
        expected = [day for (day, _), yes in zip(series, passed, strict=True) if yes]
        days = [Reading(day, to_micro(close)) for day, close in series]
        assert times(scanned(PriceRule(level=level, above=above), days)) == expected
        assert expected


# Moves and splits


def test_recorded_splits_are_no_moves_and_no_spikes_and_a_fall_like_one_is(
    shared_data: Path,
) -> None:
    series: dict[str, list[Reading]] = {}
    for quote in read_csv(str(bars_file(shared_data, "daily_wiki"))):
        series.setdefault(quote.symbol, []).append(reading_of(quote))
    for rule in (MoveRule(), SpikeRule()):
        found = {(s, one.reading.day) for s, r in series.items() for one in signals(rule, r)}
        assert not found & SPLITS
        assert ("AAPL", "2000-09-29") in found


@pytest.mark.parametrize(("price", "moved"), [(105, 0), (105.000001, 1), (95, 0), (94.999999, 1)])
def test_a_move_is_more_than_the_percentage_exactly(price: float, moved: int) -> None:
    assert len(scanned(MoveRule(), readings(price, close=100))) == moved


def test_without_a_previous_close_nothing_has_moved() -> None:
    assert scanned(MoveRule(), readings(100, 200, 50)) == []


@pytest.mark.parametrize(("old", "new"), [(7, 1), (3, 2), (1, 10), (20, 1), (2, 1), (1, 2)])
def test_a_split_is_no_move_though_the_day_goes_on_moving(old: int, new: int) -> None:
    price = 100 * new / old
    day = [
        Reading(at(i), round(price * (1 + i / 200) * UNIT), 100 * UNIT, round(price * 1.02 * UNIT))
        for i in range(5)
    ]
    assert scanned(MoveRule(), day) == []


def test_a_crash_that_is_near_a_ratio_is_a_move() -> None:
    real = Reading("2000-09-29T14:30:00.000Z", 25_750_000, 53_500_000, 28_190_000)
    assert split_ratio(real) is None
    assert len(scanned(MoveRule(), [real])) == 1


# Prices


def test_a_level_is_passed_once_and_again_only_after_a_return() -> None:
    rule = PriceRule(level=10 * UNIT, above=True)
    found = scanned(rule, readings(9, 10, 10.5, 11, 10, 10.1))
    assert times(found) == [at(120), at(300)]


def test_the_first_reading_passes_no_level() -> None:
    assert scanned(PriceRule(level=10 * UNIT, above=True), readings(11, 12)) == []


# Bars


def test_a_bar_is_judged_by_its_last_reading_once_the_next_has_begun() -> None:
    rule = MoveRule(bar_s=300)
    first = readings(106, 106, 106, 106, 104, close=100)  # 13:30 to 13:34
    assert scanned(rule, [*first, Reading(at(300), 106 * UNIT, 100 * UNIT)]) == []
    second = [Reading(at(s), 106 * UNIT, 100 * UNIT) for s in (300, 540)]
    assert scanned(rule, [*first, *second]) == []
    assert times(scanned(rule, [*first, *second, Reading(at(3600), 106 * UNIT)])) == [at(540)]


def test_a_bar_of_a_day_is_the_day_at_the_exchange() -> None:
    tokyo = 9 * 3600
    evening = datetime(2022, 3, 14, 14, 59, tzinfo=UTC)  # 23:59 there
    rows = [
        Reading(f"{evening + timedelta(minutes=m):%Y-%m-%dT%H:%M:%S.000Z}", 106 * UNIT, 100 * UNIT,
                utc_offset_s=tokyo)
        for m in (0, 1, 600)
    ]  # fmt: skip
    found = scanned(MoveRule(bar_s=86_400), rows)
    assert [one.occasion for one in found] == ["2022-03-14"]


# Windows


RULES: list[Rule] = [
    CrossoverRule(2, 4),
    CrossoverRule(1, 3),
    MoveRule(),
    PriceRule(level=10 * UNIT, above=True),
    PriceRule(level=11 * UNIT, above=False),
    SpikeRule(),
]
every_rule = st.sampled_from(RULES)
seeds = st.integers(0, 2**32).map(random.Random)
bar_lengths = st.sampled_from([None, 60, 300])


def with_bar(rule: Rule, bar_s: int | None) -> Rule:
    table = {**rule.as_table(), **({"bar": f"{bar_s}s"} if bar_s else {})}
    return parse_rule(table)


def history(rng: random.Random, length: int) -> list[Reading]:
    """Ties, gaps, several readings a bar, flat stretches, and an offset that comes and goes."""
    second, rows, price = 0, [], 10 * UNIT
    for _ in range(length):
        second += rng.choice([1, 20, 40, 60, 90, 700])
        if rng.random() < 0.7:
            price = rng.choice([9, 10, 10, 11, 12]) * UNIT
        offset = rng.choice([0, 0, 0, -14_430]) if length % 2 else 0
        close = rng.choice([None, 10 * UNIT, 10 * UNIT])
        rows.append(Reading(at(second), price, close, utc_offset_s=offset))
    return rows


def long_history(rng: random.Random) -> list[Reading]:
    """More than a window of the spike rule, mostly quiet."""
    second, rows, price = 0, [], 100.0
    for _ in range(900):
        second += rng.choice([20, 60, 90])
        price *= 1 + rng.gauss(0, 0.01 if rng.random() > 0.03 else 0.08)
        rows.append(Reading(at(second), round(price * UNIT)))
    return rows


def lengthy(rule: Rule, rng: random.Random) -> list[Reading]:
    return long_history(rng) if isinstance(rule, SpikeRule) else history(rng, rng.randint(2, 90))


@settings(max_examples=400, deadline=None)
@given(seeds, every_rule, bar_lengths)
def test_a_settled_window_tells_what_all_of_history_tells(
    rng: random.Random, plain: Rule, bar_s: int | None
) -> None:
    rule = with_bar(plain, bar_s)
    rows = lengthy(rule, rng)
    changed = rng.choice(rows).timestamp
    for start in rng.sample(range(len(rows)), min(6, len(rows))):
        window = rows[start:]
        if rule.settled(window, changed):
            first = rule.judged_from(window, changed)
            assert first == rule.judged_from(rows, changed)
            whole = [one for one in scanned(rule, rows) if one.timestamp >= first]
            assert [one for one in scanned(rule, window) if one.timestamp >= first] == whole


def altered(rng: random.Random, rows: list[Reading], spot: int) -> list[Reading]:
    """The same with one reading changed, or without it."""
    if rng.random() < 0.5:
        return rows[:spot] + rows[spot + 1 :]
    price = rng.choice([5, 9, 10, 11, 300]) * UNIT
    return [*rows[:spot], rows[spot]._replace(price=price), *rows[spot + 1 :]]


@settings(max_examples=400, deadline=None)
@given(seeds, every_rule, bar_lengths)
def test_a_change_touches_nothing_before_its_judgement_nor_behind_its_reach(
    rng: random.Random, plain: Rule, bar_s: int | None
) -> None:
    rule = with_bar(plain, bar_s)
    rows = lengthy(rule, rng)
    spot = rng.randrange(len(rows))
    end = rng.randint(spot + 1, len(rows))
    before, after = scanned(rule, rows), scanned(rule, altered(rng, rows, spot))
    changed = rows[spot].timestamp
    first = rule.judged_from(rows, changed)
    assert [s for s in before if s.timestamp < first] == [s for s in after if s.timestamp < first]
    if rule.reached(rows[:end], changed):
        last = rule.judged_to(rows[:end])
        assert [s for s in before if s.timestamp > last] == [s for s in after if s.timestamp > last]


@settings(max_examples=400, deadline=None)
@given(seeds, every_rule, bar_lengths, st.integers(1, 12))
def test_a_cluster_tells_for_certain_what_it_says_it_judges(
    rng: random.Random, plain: Rule, bar_s: int | None, count: int
) -> None:
    rule = with_bar(plain, bar_s)
    rows = lengthy(rule, rng)
    table = Table("symbol", "timestamp")
    for row in rows:
        table.items["A", row.timestamp] = item(row)
    some = rng.sample(rows, min(count, len(rows)))
    whole = scanned(rule, rows)
    clusters = Readings(table, "table").clusters(  # type: ignore[arg-type]
        "A", [row.timestamp for row in some], [rule]
    )
    assert sorted(t for c in clusters for t in c.changed) == sorted(r.timestamp for r in some)
    for cluster in clusters:
        first, last = cluster.judged(rule)
        assert cluster.signals(rule) == [s for s in whole if first <= s.timestamp <= last]


def test_a_flat_price_is_followed_back_where_the_readings_behind_it_cross() -> None:
    rule = CrossoverRule(2, 4)
    rows = readings(*range(20, 10, -1), *[10] * 200, *[12] * 60)
    table = Table("symbol", "timestamp")
    for row in rows:
        table.items["A", row.timestamp] = item(row)
    (cluster,) = Readings(table, "table").clusters("A", [rows[209].timestamp], [rule])  # type: ignore[arg-type]
    assert times(cluster.signals(rule)) == times(scanned(rule, rows)) == [rows[210].timestamp]


def item(row: Reading) -> dict[str, Any]:
    found = {
        "symbol": {"S": "A"},
        "timestamp": {"S": row.timestamp},
        "price": {"N": price_text(row.price)},
        "utc_offset_s": {"N": str(row.utc_offset_s)},
    }
    if row.previous_close:
        found["previous_close"] = {"N": price_text(row.previous_close)}
    return found


# Cooldown


@given(seeds, every_rule, st.sampled_from([60, 600, 3600]))
def test_of_one_rule_two_alerts_are_a_cooldown_apart(
    rng: random.Random, plain: Rule, cooldown_s: int
) -> None:
    rule = parse_rule({**plain.as_table(), "cooldown": f"{cooldown_s}s"})
    found = list(signals(rule, lengthy(rule, rng)))
    for one, following in pairwise(found):
        apart = datetime.fromisoformat(following.timestamp) - datetime.fromisoformat(one.timestamp)
        assert apart.total_seconds() >= cooldown_s
        assert one.occasion != following.occasion


def test_a_day_whose_first_move_is_muted_stays_muted() -> None:
    moved = [Reading(at(s), 106 * UNIT, 100 * UNIT) for s in (0, 86_000, 86_401)]
    assert times(list(signals(MoveRule(cooldown_s=86_400), moved))) == [at(0)]


# Tables


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("options", [{}, {"bar": "5m", "cooldown": "1h", "symbols": ["AAPL"]}])
def test_a_rule_reads_back_from_its_table(rule: Rule, options: dict[str, Any]) -> None:
    made = parse_rule({**rule.as_table(), **options})
    assert parse_rule(made.as_table()) == made


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "macd"}, "kind: must be crossover, move, price, spike, got 'macd'"),
        ({"kind": "move", "fast": 5}, "fast: unknown key of move"),
        ({"fast": 5.0}, "fast: must be a whole number of readings, got 5.0"),
        ({"slow": True}, "slow: must be a whole number of readings, got True"),
        ({"fast": 20, "slow": 5}, "1 <= fast < slow <= 200, got 20, 5"),
        ({"slow": 201}, "1 <= fast < slow <= 200, got 5, 201"),
        ({"kind": "move", "percent": 0}, "percent: must lie above 0 and up to 1000"),
        ({"kind": "move", "percent": "five"}, "percent: must be a number, got 'five'"),
        ({"kind": "move", "percent": float("nan")}, "percent: must be finite, got nan"),
        ({"kind": "move", "percent": "0.0000001"}, "percent: must have at most 6 places"),
        ({"kind": "price", "above": "200.12345678"}, "above: must have at most 6 places"),
        ({"kind": "move", "symbols": [7203]}, "symbols: must be"),
        ({"kind": "move", "symbols": []}, "symbols: must name some"),
        ({"kind": "spike", "sigmas": 101}, "sigmas: must lie above 0 and up to 100"),
        ({"kind": "price"}, "above, below: exactly one must be there"),
        ({"kind": "price", "above": 1, "below": 2}, "above, below: exactly one must be there"),
        ({"kind": "price", "above": -1}, "above: must be above 0"),
        ({"kind": "price", "below": [1]}, r"below: must be a number, got \[1\]"),
        ({"symbols": "AAPL"}, "symbols: must be a list of symbols"),
        ({"symbols": ["A B"]}, "symbols: must be"),
        ({"bar": 5}, "bar: must be a time like 5m or 1h, at most 1d, got 5"),
        ({"bar": "2d"}, "bar: must be a time like 5m or 1h, at most 1d, got '2d'"),
        ({"bar": "0m"}, "bar: must be a time like 5m"),
        ({"cooldown": "8d"}, "cooldown: must be a time like 5m or 1h, at most 7d, got '8d'"),
    ],
)
def test_each_wrong_table_is_refused_in_its_own_words(table: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRule, match=words):
        parse_rule(table)


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidRule, match="two rules are named crossover-5-20: merge"):
        parse_rules([{}, {"symbols": ["AAPL"]}])


def test_rules_that_differ_in_their_bar_have_names_of_their_own() -> None:
    names = [r.name for r in parse_rules([{}, {"bar": "5m"}, {"kind": "move", "percent": "7.50"}])]
    assert names == ["crossover-5-20", "crossover-5-20-5m", "move-7.5"]
    assert parse_rule({"kind": "spike"}) == SpikeRule(sigmas=Decimal(5))
