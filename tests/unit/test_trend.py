"""StockTrendAnalysis: the same alerts whatever the batching, each once."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import THROTTLED, Table, Topic, refused

from stockpipe.domain.alerts import Alert
from stockpipe.domain.clock import SystemClock
from stockpipe.domain.exact import price_text, to_micro
from stockpipe.domain.rules import CrossoverRule, MoveRule, PriceRule, Rule, SpikeRule, parse_rule
from stockpipe.domain.rules.history import signals
from stockpipe.domain.signals import Reading
from stockpipe.functions.alerts import LEASE_S, AlertBook
from stockpipe.functions.readings import Readings
from stockpipe.functions.trend import SETTLE_S, Change, Outcome, TrendAnalysis, changes

NOW = datetime(2022, 3, 14, 20, 0, tzinfo=UTC)
RULE = CrossoverRule(2, 4)


class Now(SystemClock):
    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment


class Stack:
    """The trend function over a table that rows are put into as the processor puts them."""

    def __init__(self, *rules: Rule, max_age_s: float | None = None) -> None:
        self.clock = Now()
        self.table, self.alerts = Table("symbol", "timestamp"), Table("symbol", "id")
        self.topic = Topic()
        self.rules: tuple[Rule, ...] = rules or (RULE,)
        self._seq = 0
        book = AlertBook(
            self.alerts,  # type: ignore[arg-type]
            self.topic,  # type: ignore[arg-type]
            table="alerts",
            topic_arn="arn",
            max_age_s=max_age_s,
            clock=self.clock,
        )
        readings = Readings(self.table, "table")  # type: ignore[arg-type]
        # Two execution environments over the same tables.
        self._analysis, self.other = (
            TrendAnalysis(readings, book, self.rules, self.clock) for _ in range(2)
        )

    def store(self, symbol: str, reading: Reading, after: str | None = None) -> Change:
        self._seq += 1
        item: dict[str, Any] = {
            "symbol": {"S": symbol},
            "timestamp": {"S": reading.timestamp},
            "price": {"N": price_text(reading.price)},
            **({"after": {"S": after}} if after else {}),
            **({"utc_offset_s": {"N": str(reading.utc_offset_s)}} if reading.utc_offset_s else {}),
            **(
                {"previous_close": {"N": price_text(reading.previous_close)}}
                if reading.previous_close
                else {}
            ),
        }
        modified = (symbol, reading.timestamp) in self.table.items
        self.table.items[symbol, reading.timestamp] = item
        written_at = self.clock.now().timestamp()
        return Change(str(self._seq), symbol, reading.timestamp, written_at, modified)

    def judge(self, batch: Sequence[Change]) -> Outcome:
        return self._analysis.run(batch, lambda: 50.0)

    def true(self) -> set[tuple[str, str, str, str]]:
        """(symbol, id, kind, status) of every alert."""
        return {
            (key[0], key[1], item["kind"]["S"], item["status"]["S"])
            for key, item in self.alerts.items.items()
        }

    def expected(self, status: str = "sent") -> set[tuple[str, str, str, str]]:
        """What the final rows make true."""
        series: dict[str, list[Reading]] = {}
        for (symbol, timestamp), item in sorted(self.table.items.items()):
            close = to_micro(item["previous_close"]["N"]) if "previous_close" in item else None
            reading = Reading(timestamp, to_micro(item["price"]["N"]), close)
            series.setdefault(symbol, []).append(reading)
        return {
            (symbol, Alert(symbol, rule.name, one).id, one.kind, status)
            for symbol, readings in series.items()
            for rule in self.rules
            for one in signals(rule, readings)
        }


def at(index: int) -> str:
    return f"{START + timedelta(minutes=index):%Y-%m-%dT%H:%M:%S.000Z}"


START = datetime(2022, 3, 14, 13, 30, tzinfo=UTC)


def series(rng: random.Random, length: int) -> list[Reading]:
    # Few distinct prices: many exact ties, where careless code goes wrong.
    return [Reading(at(index), rng.choice([9, 10, 10, 11, 12]) * 10**6) for index in range(length)]


def wave(length: int) -> list[Reading]:
    return [Reading(at(i), (10 + (i // 6) % 2 * 5) * 10**6) for i in range(length)]


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


def test_a_throttled_mark_is_tried_on_the_spot() -> None:
    stack = Stack()
    batch = [stack.store("AAPL", reading) for reading in wave(20)]
    throttled = iter([True, True, False])
    stack.alerts.fault = lambda _, request: (
        refused(THROTTLED)
        if "sent_at" in request.get("UpdateExpression", "") and next(throttled, False)
        else None
    )
    assert stack.judge(batch).failed is None
    assert len(stack.topic.messages) == len(stack.expected())


def test_a_publish_without_an_answer_keeps_its_lease() -> None:
    stack = Stack()
    batch = [stack.store("AAPL", reading) for reading in wave(20)]

    def deliver_and_hang(_: str, request: dict[str, Any]) -> Exception:
        stack.topic.messages.append(request)
        return ReadTimeoutError(endpoint_url="sns")

    stack.topic.fault = deliver_and_hang
    assert stack.judge(batch).failed == batch[0].seq
    stack.topic.fault = lambda *_: None
    assert "another invocation" in next(iter(stack.judge(batch).handed_back.values()))
    assert len(stack.topic.messages) == 1


def test_a_failed_publish_is_tried_again_at_once_and_not_forgotten() -> None:
    stack = Stack()
    batch = [stack.store("AAPL", reading) for reading in wave(20)]
    stack.topic.fault = lambda *_: refused("InternalError", status=500)
    outcome = stack.judge(batch)
    assert outcome.failed == batch[0].seq
    assert "pending" in {one[3] for one in stack.true()}
    stack.topic.fault = lambda *_: None
    assert stack.judge(batch).failed is None
    assert stack.true() == stack.expected()
    assert len(stack.topic.messages) == len(stack.expected())


class Killed(BaseException):
    """The execution environment is gone: nothing after this call happens."""


@pytest.mark.parametrize("nth", range(1, 7))  # two crossings of claim, publish, mark
def test_killed_after_any_call_loses_nothing(nth: int) -> None:
    stack = Stack()
    batch = [stack.store("AAPL", reading) for reading in wave(20)]
    count = 0

    def kill(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == nth:
            raise Killed

    stack.alerts.fault = stack.topic.fault = kill
    with pytest.raises(Killed):
        stack.judge(batch)
    stack.alerts.fault = stack.topic.fault = lambda *_: None
    leased = stack.judge(batch)
    if leased.failed:  # claimed by the one that was killed: comes back after the lease
        assert "another invocation" in next(iter(leased.handed_back.values()))
        stack.clock.moment += timedelta(seconds=LEASE_S + 1)
        assert stack.judge(batch).failed is None
    assert stack.true() == stack.expected()
    # Between publish and mark is the one place where a message goes out twice.
    twice = 1 if nth % 3 == 0 else 0
    assert len(stack.topic.messages) == len(stack.expected()) + twice


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


def test_old_crossings_are_recorded_and_not_sent() -> None:
    stack = Stack(max_age_s=3600)
    stack.judge([stack.store("AAPL", reading) for reading in wave(20)])
    assert stack.true() == stack.expected("muted")
    assert stack.topic.messages == []


def test_one_query_per_symbol_while_it_keeps_up() -> None:
    stack = Stack()
    rows = wave(60)
    for reading in rows[:50]:
        stack.judge([stack.store("AAPL", reading)])
    stack.table.calls.clear()
    stack.judge([stack.store("AAPL", reading) for reading in rows[50:]])
    assert stack.table.calls == ["query"]


def test_the_message_can_be_acted_on_by_its_first_line() -> None:
    stack = Stack()
    stack.judge([stack.store("AAPL", reading) for reading in wave(20)])
    kinds = {}
    for message in stack.topic.messages:
        assert message["Subject"] == "Stock Alert: AAPL"
        kind = message["MessageAttributes"]["signal"]["StringValue"]
        assert message["MessageStructure"] == "json"
        mail = json.loads(message["Message"])["default"]
        kinds[kind] = mail.splitlines()[0]
    assert kinds == {
        "golden": "AAPL is in an Uptrend! Consider a buy opportunity.",
        "death": "AAPL is in a Downtrend! Consider selling.",
    }


def test_rules_cover_only_their_symbols() -> None:
    stack = Stack(CrossoverRule(2, 4, symbols=frozenset({"TSLA"})))
    stack.judge([stack.store("AAPL", reading) for reading in wave(20)])
    assert stack.true() == set()


def test_removals_are_ignored_and_other_events_refused() -> None:
    removal = {"eventName": "REMOVE", "dynamodb": {}}
    assert changes({"Records": [removal]}) == []
    with pytest.raises(ValueError, match="no DynamoDB Streams event"):
        changes({"detail-type": "Scheduled Event"})


# The other kinds of rules


MOVE, SPIKE = MoveRule(), SpikeRule()
LEVEL = PriceRule(level=11 * 10**6, above=True)


def days(rng: random.Random, length: int) -> list[Reading]:
    """Hours over several days, against a previous close of 10: 9 and 11 have moved, 10 has not."""
    return [
        Reading(at(index * 60), rng.choice([9, 10, 10, 10, 10, 12]) * 10**6, 10**7)
        for index in range(length)
    ]


def jumpy(rng: random.Random, length: int) -> list[Reading]:
    price, rows = 100.0, []
    for index in range(length):
        price *= 1 + rng.gauss(0, 0.01 if rng.random() > 0.04 else 0.2)
        price = min(max(price, 20.0), 500.0)
        rows.append(Reading(at(index * 20), round(price * 10**6), 10**8))
    return rows


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


@pytest.mark.parametrize("rule", [MOVE, CrossoverRule(2, 4), SPIKE], ids=lambda rule: rule.kind)
@pytest.mark.parametrize("operation", ["update_item", "publish"])
def test_two_invocations_at_once_over_the_same_rows_send_each_alert_once(
    rule: Rule, operation: str
) -> None:
    stack = Stack(rule)
    rng = random.Random(3)
    rows = (jumpy if rule == SPIKE else days)(rng, 150)
    batch = [stack.store("AAPL", row) for row in rows]
    outcomes: list[Outcome] = []

    def meanwhile(made: str, _: dict[str, Any]) -> None:
        if made == operation and not outcomes:
            outcomes.append(Outcome())
            outcomes.append(stack.other.run(batch, lambda: 50.0))

    stack.alerts.fault = stack.topic.fault = meanwhile
    first = stack.judge(batch)
    assert outcomes
    stack.alerts.fault = stack.topic.fault = lambda *_: None
    for outcome in (first, outcomes[-1]):
        if outcome.failed:
            assert stack.judge(batch).failed is None
    assert stack.true() == stack.expected()
    assert len(stack.topic.messages) == len(stack.expected()) > 1
