"""StockTrendAnalysis: the same alerts whatever the batching, order and gaps of its rows."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import THROTTLED, refused
from trend_stack import RULE, Stack, at, series, wave

from stockpipe.domain.rules import CrossoverRule, MoveRule
from stockpipe.domain.signals import Reading
from stockpipe.functions import readings
from stockpipe.functions.analysis import SETTLE_S, Change
from stockpipe.functions.trend import changes


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 2**32).map(random.Random), st.integers(1, 140), st.sampled_from([1, 2, 7, 100])
)
def test_any_batching_gives_exactly_the_crossings(
    rng: random.Random, length: int, size: int
) -> None:
    stack = Stack(RULE, CrossoverRule(1, 9))
    feed = {symbol: series(rng, length) for symbol in ("AAPL", "TSLA")}
    rows = [
        (symbol, reading) for i in range(length) for symbol, r in feed.items() for reading in [r[i]]
    ]
    pending: list[Change] = []
    for start in range(0, len(rows), size):
        pending += [stack.store(symbol, reading) for symbol, reading in rows[start : start + size]]
        # The function may run behind by several batches, and be given a batch twice.
        while len(pending) >= size * rng.randint(1, 3):
            batch, pending = pending[:size], pending[size:]
            stack.judge(batch)
            if rng.random() < 0.3:
                stack.judge(batch)
    while pending:
        batch, pending = pending[:size], pending[size:]
        stack.judge(batch)
    assert stack.true() == stack.expected()
    assert len(stack.topic.messages) == len(stack.expected())


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32).map(random.Random), st.integers(10, 80), st.integers(1, 9))
def test_late_rows_end_with_the_crossings_of_the_final_data(
    rng: random.Random, length: int, size: int
) -> None:
    stack = Stack()
    rows = series(rng, length)
    order = sorted(range(length), key=lambda i: i + rng.uniform(0, 5))
    for start in range(0, length, size):
        batch = [stack.store("AAPL", rows[i]) for i in order[start : start + size]]
        stack.judge(batch)
    live = {one for one in stack.true() if one[3] != "superseded"}
    assert live == stack.expected()


def test_a_changed_row_supersedes_what_it_made_wrong() -> None:
    stack = Stack()
    rows = wave(20)
    stack.judge([stack.store("AAPL", reading) for reading in rows])
    before = stack.expected()
    assert before
    flat = [Reading(reading.timestamp, 10**7) for reading in rows]
    outcome = stack.judge([stack.store("AAPL", reading) for reading in flat])
    assert len(outcome.superseded) == len(before)
    assert {one[3] for one in stack.true()} == {"superseded"}


def test_a_crossing_that_becomes_true_again_is_not_sent_again() -> None:
    stack = Stack()
    rows = wave(20)
    stack.judge([stack.store("AAPL", reading) for reading in rows])
    sent = len(stack.topic.messages)
    stack.judge([stack.store("AAPL", Reading(r.timestamp, 10**7)) for r in rows])
    stack.judge([stack.store("AAPL", reading) for reading in rows])
    assert stack.true() == stack.expected()
    assert len(stack.topic.messages) == sent


def test_a_row_waits_for_the_predecessor_of_its_batch() -> None:
    stack = Stack()
    rows = wave(20)
    written = [stack.store("AAPL", reading) for reading in rows[:7]]
    late = stack.store("AAPL", rows[8], after=at(7))
    outcome = stack.judge([*written, late])
    assert outcome.failed == written[0].seq
    assert "not visible yet" in next(iter(outcome.handed_back.values()))
    stack.store("AAPL", rows[7], after=at(6))
    assert stack.judge([*written, late]).failed is None
    assert stack.true() == stack.expected()


def test_the_very_first_row_is_waited_for_too() -> None:
    stack = Stack()
    second = stack.store("AAPL", wave(2)[1], after=at(0))
    assert stack.judge([second]).failed == second.seq


def test_a_predecessor_that_never_comes_is_given_up_in_the_end() -> None:
    stack = Stack()
    rows = [stack.store("AAPL", reading) for reading in wave(20)]
    last = stack.store("AAPL", Reading(at(21), 10**7), after=at(20))
    assert stack.judge([*rows, last]).failed
    stack.clock.moment += timedelta(seconds=SETTLE_S + 1)
    assert stack.judge([*rows, last]).failed is None
    assert stack.true() == stack.expected()


def test_a_gap_known_for_long_holds_no_new_row_up() -> None:
    stack = Stack()
    for reading in wave(20):
        stack.store("AAPL", reading)
    stack.store("AAPL", Reading(at(21), 10**7), after=at(20))
    stack.judge([stack.store("AAPL", Reading(at(22), 10**7))])
    stack.clock.moment += timedelta(seconds=SETTLE_S + 1)
    assert stack.judge([stack.store("AAPL", Reading(at(23), 10**7))]).failed is None


def kept(stack: Stack, days: float, timestamp: str) -> None:
    """The row expires so long after its quote."""
    item = stack.table.items["AAPL", timestamp]
    at_s = datetime.fromisoformat(timestamp).timestamp() + days * 86_400
    item["expires_at"] = {"N": f"{at_s:.0f}"}


def test_a_predecessor_that_has_expired_is_not_waited_for() -> None:
    stack = Stack()
    rows = wave(8)
    for place, reading in enumerate(rows):
        stack.store("AAPL", reading, after=at(place - 1))
        kept(stack, 1, reading.timestamp)
    stack.clock.moment = datetime.fromisoformat(at(0)) + timedelta(days=1)
    new = stack.store("AAPL", Reading(at(8), 10**7), after=at(7))
    assert stack.judge([new]).failed is None  # the one before the first is gone for good
    for place in range(3):
        del stack.table.items["AAPL", at(place)]
    stack.clock.moment += timedelta(minutes=2)
    assert stack.judge([new]).failed is None


def test_a_predecessor_that_has_not_expired_is_waited_for() -> None:
    stack = Stack()
    new = stack.store("AAPL", wave(2)[1], after=at(0))
    kept(stack, 1, at(1))
    assert stack.judge([new]).failed == new.seq


def test_a_rule_that_would_need_too_many_rows_is_named_and_stops_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readings, "MOST_ROWS", 200)
    stack = Stack(CrossoverRule(2, 4, bar_s=86_400), MoveRule())
    for minute in range(900):
        stack.store("AAPL", Reading(at(minute), 10**8, 10**8))
    outcome = stack.judge([stack.store("AAPL", Reading(at(900), 11 * 10**7, 10**8))])
    assert list(outcome.unjudged) == ["AAPL crossover-2-4-1d"]
    assert "200 rows are not enough" in outcome.unjudged["AAPL crossover-2-4-1d"]
    assert outcome.failed is None
    assert {one[2:] for one in stack.true()} == {("move", "sent")}


def test_a_lagging_function_does_not_judge_across_a_gap_behind_its_batch() -> None:
    # Its own rows are old, but the newest of the table are half-written at this very moment.
    stack = Stack()
    rows = wave(24)
    old = [stack.store("AAPL", reading) for reading in rows[:8]]
    stack.clock.moment += timedelta(seconds=SETTLE_S + 60)
    behind = [stack.store("AAPL", rows[9], after=at(8))]
    behind += [stack.store("AAPL", rows[i], after=at(i - 1)) for i in range(10, 24)]
    assert stack.judge(old).failed is None
    before = len(stack.topic.messages)
    assert before == len({c for c in stack.true() if c[1] < at(8)})
    late = stack.store("AAPL", rows[8], after=at(7))
    assert stack.judge([late, *behind]).failed is None
    assert stack.true() == stack.expected()
    assert len(stack.topic.messages) == len(stack.expected())


def test_a_row_without_a_price_has_no_say_and_stops_nobody() -> None:
    stack = Stack()
    batch = [stack.store("AAPL", reading) for reading in wave(20)]
    stack.table.items["AAPL", "2022-03-14T13:35:30.000Z"] = {
        "symbol": {"S": "AAPL"},
        "timestamp": {"S": "2022-03-14T13:35:30.000Z"},
        "price": {"S": "none"},
    }
    assert stack.judge(batch).failed is None
    assert len(stack.true()) == 2


def test_a_price_that_never_moves_costs_one_query_and_its_end_is_seen() -> None:
    stack = Stack()
    down = [Reading(at(i), (20 - i) * 10**6) for i in range(6)]
    flat = [Reading(at(6 + i), 10**7) for i in range(3000)]
    for reading in down + flat:
        stack.store("AAPL", reading)
    stack.table.calls.clear()
    stack.judge([stack.store("AAPL", Reading(at(3006), 10**7))])
    assert len(stack.table.calls) == 1
    stack.table.calls.clear()
    stack.judge([stack.store("AAPL", Reading(at(3007), 2 * 10**7))])
    assert len(stack.table.calls) < 12
    assert {one[2] for one in stack.true()} == {"golden"}
    assert stack.true() == stack.expected()


def test_throttled_reads_hand_back_only_the_symbol_concerned() -> None:
    stack = Stack()
    good = [stack.store("AAPL", reading) for reading in wave(20)]
    bad = [stack.store("TSLA", reading) for reading in wave(20)]
    stack.table.fault = lambda _, request: (
        refused(THROTTLED)
        if request["ExpressionAttributeValues"][":symbol"]["S"] == "TSLA"
        else None
    )
    assert stack.judge(good + bad).failed == bad[0].seq
    assert {one[0] for one in stack.true()} == {"AAPL"}


def test_one_query_per_symbol_while_it_keeps_up() -> None:
    stack = Stack()
    rows = wave(60)
    for reading in rows[:50]:
        stack.judge([stack.store("AAPL", reading)])
    stack.table.calls.clear()
    stack.judge([stack.store("AAPL", reading) for reading in rows[50:]])
    assert stack.table.calls == ["query"]


def test_rules_cover_only_their_symbols() -> None:
    stack = Stack(CrossoverRule(2, 4, symbols=frozenset({"TSLA"})))
    stack.judge([stack.store("AAPL", reading) for reading in wave(20)])
    assert stack.true() == set()


def test_removals_are_ignored_and_other_events_refused() -> None:
    removal = {"eventName": "REMOVE", "dynamodb": {}}
    assert changes({"Records": [removal]}) == []
    with pytest.raises(ValueError, match="no DynamoDB Streams event"):
        changes({"detail-type": "Scheduled Event"})
