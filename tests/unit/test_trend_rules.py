"""StockTrendAnalysis: every kind of rule alerts as over its whole history; days and bars."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trend_stack import Stack, at, days, jumpy

from stockpipe.domain.rules import CrossoverRule, MoveRule, PriceRule, Rule, SpikeRule, parse_rule
from stockpipe.domain.signals import Reading

MOVE, SPIKE = MoveRule(), SpikeRule()
LEVEL = PriceRule(level=11 * 10**6, above=True)
rules = st.sampled_from([MOVE, LEVEL, CrossoverRule(2, 4), SPIKE])
options = st.sampled_from([{}, {"bar": "2h"}, {"cooldown": "3h"}, {"bar": "1h", "cooldown": "1d"}])


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32).map(random.Random),
    rules,
    options,
    st.integers(1, 150),
    st.sampled_from([1, 2, 100]),
)
def test_in_order_every_rule_alerts_as_over_its_whole_history(
    rng: random.Random, plain: Rule, option: dict[str, str], length: int, size: int
) -> None:
    rule = parse_rule({**plain.as_table(), **option})
    stack = Stack(rule)
    rows = (jumpy if plain == SPIKE else days)(rng, length)
    for start in range(0, length, size):
        batch = [stack.store("AAPL", row) for row in rows[start : start + size]]
        batch += batch if rng.random() < 0.3 else []
        stack.judge(batch)
        if rng.random() < 0.3:
            stack.other.run(batch, lambda: 50.0)
    sent = {one for one in stack.true() if one[3] == "sent"}
    assert sent == stack.expected()
    assert len(stack.topic.messages) == len(sent)
    others = {one[3] for one in stack.true() - sent}
    assert others <= ({"muted"} if rule.cooldown_s else set())


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32).map(random.Random),
    rules,
    st.sampled_from([{}, {"bar": "2h"}]),
    st.integers(5, 150),
    st.sampled_from([1, 2, 100]),
)
def test_shuffled_every_rule_ends_with_the_alerts_of_the_final_data(
    rng: random.Random, plain: Rule, option: dict[str, str], length: int, size: int
) -> None:
    rule = parse_rule({**plain.as_table(), **option})
    stack = Stack(rule)
    rows = (jumpy if plain == SPIKE else days)(rng, length)
    order = sorted(range(length), key=lambda i: i + rng.uniform(0, 5))
    for start in range(0, length, size):
        stack.judge([stack.store("AAPL", rows[i]) for i in order[start : start + size]])
    live = {one for one in stack.true() if one[3] != "superseded"}
    assert live == stack.expected()


def test_a_move_is_told_once_a_day_whatever_follows() -> None:
    stack = Stack(MOVE)
    for minute in (0, 1, 2, 300, 1440, 1441):
        stack.judge([stack.store("AAPL", Reading(at(minute), 106 * 10**6, 10**8))])
    assert stack.true() == {
        ("AAPL", "2022-03-14#move-5", "move", "sent"),
        ("AAPL", "2022-03-15#move-5", "move", "sent"),
    }
    assert len(stack.topic.messages) == 2


def test_a_move_that_was_corrected_away_is_superseded_and_a_later_one_keeps_its_day() -> None:
    stack = Stack(MOVE)
    stack.judge([stack.store("AAPL", Reading(at(0), 106 * 10**6, 10**8))])
    stack.judge([stack.store("AAPL", Reading(at(0), 104 * 10**6, 10**8))])
    assert {one[3] for one in stack.true()} == {"superseded"}
    stack.judge([stack.store("AAPL", Reading(at(1), 106 * 10**6, 10**8))])
    assert {one[3] for one in stack.true()} == {"sent"}
    stack.judge([stack.store("AAPL", Reading(at(0), 103 * 10**6, 10**8))])
    assert {one[3] for one in stack.true()} == {"sent"}
    assert len(stack.topic.messages) == 1


@pytest.mark.parametrize("together", [True, False])
def test_an_alert_of_a_day_stands_as_long_as_one_of_its_readings_does(*, together: bool) -> None:
    """Whether the next reading that makes it true is judged with the one that did before or not."""
    stack = Stack(MOVE)

    def judge(**prices: int) -> tuple[str, str]:
        """The alert's status and the minute of its reading, after these minutes' prices."""
        rows = [Reading(at(int(m[1:])), p * 10**6, 10**8) for m, p in prices.items()]
        stack.judge([stack.store("AAPL", row) for row in rows])
        (item,) = stack.alerts.items.values()
        return item["status"]["S"], item["timestamp"]["S"][14:16]

    assert judge(m0=106) == ("sent", "30")
    if together:
        assert judge(m0=104, m5=107) == ("sent", "35")
    else:
        assert judge(m5=107) == ("sent", "30")
        assert judge(m0=104) == ("sent", "35")
    assert judge(m5=103) == ("superseded", "35")
    assert judge(m2=94) == ("sent", "32")
    assert len(stack.topic.messages) == 1


def test_an_alert_of_which_no_price_is_stored_stops_nothing_and_is_superseded() -> None:
    stack = Stack(MOVE)
    bare = {"symbol": "AAPL", "id": "2022-03-14#move-5", "rule": "move-5", "kind": "move",
            "status": "sent", "timestamp": at(0)}  # fmt: skip
    stack.alerts.items["AAPL", bare["id"]] = {name: {"S": text} for name, text in bare.items()}
    for price in (101, 102):  # changed, so that it looks back
        row = stack.store("AAPL", Reading(at(0), price * 10**6, 10**8))
        assert stack.judge([row]).failed is None
    assert {one[3] for one in stack.true()} == {"superseded"}


def test_only_readings_of_the_same_day_at_the_exchange_keep_its_alert() -> None:
    stack = Stack(MOVE)
    # 23:50 and 00:10 in New York, in UTC on the same day; then the first is corrected.
    before, after = 14 * 60 + 20, 14 * 60 + 40
    for minute, price in ((before, 106), (after, 106), (before, 104)):
        reading = Reading(at(minute), price * 10**6, 10**8, utc_offset_s=-4 * 3600)
        stack.judge([stack.store("AAPL", reading)])
    assert stack.true() == {
        ("AAPL", "2022-03-14#move-5", "move", "superseded"),
        ("AAPL", "2022-03-15#move-5", "move", "sent"),
    }


def test_a_late_row_that_ends_a_bar_otherwise_supersedes_what_its_old_end_told() -> None:
    stack = Stack(MoveRule(bar_s=300))
    rows = [Reading(at(m), p * 10**6, 10**8) for m, p in ((3, 106), (5, 100), (10, 100))]
    stack.judge([stack.store("AAPL", row) for row in rows])
    assert {one[3] for one in stack.true()} == {"sent"}
    stack.judge([stack.store("AAPL", Reading(at(4), 101 * 10**6, 10**8))])
    assert {one[3] for one in stack.true()} == {"superseded"}


SESSIONS = ("2022-03-16", "2022-03-17", "2022-03-18", "2022-03-21", "2022-03-22", "2022-03-23")


@pytest.mark.parametrize(("late_s", "status"), [(60, "sent"), (3601, "muted")])
def test_the_age_of_a_bar_counts_from_the_reading_that_completes_it(
    late_s: float, status: str
) -> None:
    """The close of Friday is known as the bar's last one on Monday: 65 hours later."""
    stack = Stack(CrossoverRule(1, 2, bar_s=86_400), max_age_s=3600)
    for day, price in zip(SESSIONS, (10, 12, 9, 13, 8, 14), strict=True):
        for time in ("14:30:00", "20:00:00"):
            reading = Reading(f"{day}T{time}.000Z", price * 10**6)
            stack.clock.moment = datetime.fromisoformat(reading.timestamp)
            stack.clock.moment += timedelta(seconds=late_s)
            stack.judge([stack.store("AAPL", reading)])
    told = {one[1][:10]: one[2:] for one in stack.true()}
    assert told["2022-03-18"] == ("death", status)
    assert told["2022-03-21"] == ("golden", status)
    assert stack.true() == stack.expected(status)
