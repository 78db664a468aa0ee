"""StockTrendAnalysis: each alert once, whatever fails between claim, publish and mark."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from stores import THROTTLED, refused
from trend_stack import Stack, days, jumpy, wave

from stockpipe.domain.rules import CrossoverRule, MoveRule, Rule, SpikeRule
from stockpipe.functions.alert_table import LEASE_S
from stockpipe.functions.analysis import Outcome


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


def test_a_throttled_release_is_tried_on_the_spot_too() -> None:
    stack = Stack()
    batch = [stack.store("AAPL", reading) for reading in wave(20)]
    throttled = iter([True, True, False])
    stack.topic.fault = lambda *_: refused(THROTTLED)
    stack.alerts.fault = lambda _, request: (
        refused(THROTTLED)
        if "#lease_until = :over" in request.get("UpdateExpression", "") and next(throttled, False)
        else None
    )
    assert stack.judge(batch).failed == batch[0].seq
    stack.topic.fault = lambda *_: None
    assert stack.judge(batch).failed is None  # else the lease would be waited for
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


def test_old_crossings_are_recorded_and_not_sent() -> None:
    stack = Stack(max_age_s=3600)
    stack.judge([stack.store("AAPL", reading) for reading in wave(20)])
    assert stack.true() == stack.expected("muted")
    assert stack.topic.messages == []


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


@pytest.mark.parametrize(
    "rule", [MoveRule(), CrossoverRule(2, 4), SpikeRule()], ids=lambda rule: rule.kind
)
@pytest.mark.parametrize("operation", ["update_item", "publish"])
def test_two_invocations_at_once_over_the_same_rows_send_each_alert_once(
    rule: Rule, operation: str
) -> None:
    stack = Stack(rule)
    rng = random.Random(3)
    rows = (jumpy if isinstance(rule, SpikeRule) else days)(rng, 150)
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
