"""A late reading turns a signal around: each kind told once, the history keeps what was told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from stores import THROTTLED, refused
from trend_stack import Stack, at

from stockpipe.domain.rules import CrossoverRule
from stockpipe.domain.signals import DEATH, GOLDEN, Reading
from stockpipe.functions.alert_table import LEASE_S
from stockpipe.functions.analysis import Change


class Killed(BaseException):
    """The execution environment is gone: nothing after this call happens."""


class Turning(Stack):
    """SMA 1/2: the reading at 2 is above or below the one at 1, which comes late."""

    def __init__(self, cooldown_s: int | None = None) -> None:
        super().__init__(CrossoverRule(1, 2, cooldown_s=cooldown_s))

    def put(self, minute: int, price: float) -> Change:
        return self.store("AAPL", Reading(at(minute), round(price * 10**6)))

    def kinds(self) -> list[str]:
        """Of what was published, in order."""
        return [one["MessageAttributes"]["signal"]["StringValue"] for one in self.topic.messages]

    def found(self) -> dict[str, tuple[str, str]]:
        """Kind and status by id."""
        return {one[1]: (one[2], one[3]) for one in self.true()}


CROSSING = f"{at(2)}#crossover-1-2"


def turned(stack: Turning) -> None:
    """Golden at 2, told."""
    stack.judge([stack.put(0, 12), stack.put(1, 10), stack.put(2, 11)])
    assert stack.found() == {CROSSING: (GOLDEN, "sent")}


def to_death(stack: Turning) -> Change:
    """Rows that end with a fall at 2, after a rise at 1."""
    stack.put(1, 13)
    return stack.put(2, 11)


def to_golden(stack: Turning) -> Change:
    stack.put(1, 10)
    return stack.put(2, 11)


def both(stack: Turning, last: Change) -> list[Change]:
    first = Change("0", "AAPL", at(1), last.written_at, modified=True)
    return [first, last]


def test_both_kinds_are_told_and_the_first_keeps_a_place_in_the_history() -> None:
    stack = Turning()
    turned(stack)
    stack.judge(both(stack, to_death(stack)))
    assert stack.kinds() == [GOLDEN, DEATH]
    assert stack.found()[CROSSING] == (DEATH, "sent")
    assert stack.found()[f"{CROSSING}#{GOLDEN}"] == (GOLDEN, "superseded")
    assert "sent_at" in stack.alerts.items["AAPL", f"{CROSSING}#{GOLDEN}"]


def test_turned_back_it_is_not_told_again() -> None:
    stack = Turning()
    turned(stack)
    sent_at = stack.alerts.items["AAPL", CROSSING]["sent_at"]
    for turn in (to_death, to_golden, to_death, to_golden):
        stack.judge(both(stack, turn(stack)))
    assert stack.kinds() == [GOLDEN, DEATH]
    assert stack.found()[CROSSING] == (GOLDEN, "sent")
    assert stack.alerts.items["AAPL", CROSSING]["sent_at"] == sent_at


def test_killed_while_it_turned_back_it_is_not_told_again_either() -> None:
    stack = Turning()
    turned(stack)
    stack.judge(both(stack, to_death(stack)))
    batch = both(stack, to_golden(stack))

    def kill(_: str, request: dict[str, Any]) -> None:
        if "#sent_at = :at" in request.get("UpdateExpression", ""):
            raise Killed

    stack.alerts.fault = kill
    with pytest.raises(Killed):
        stack.judge(batch)
    stack.alerts.fault = lambda *_: None
    stack.clock.moment += timedelta(seconds=LEASE_S + 1)
    stack.judge(batch)
    assert stack.found()[CROSSING] == (GOLDEN, "sent")
    assert stack.kinds() == [GOLDEN, DEATH]


def test_two_invocations_that_turn_it_around_tell_it_once() -> None:
    stack = Turning()
    turned(stack)
    batch = both(stack, to_death(stack))
    ran: list[None] = []

    def meanwhile(operation: str, _: dict[str, Any]) -> None:
        if operation == "put_item" and not ran:
            ran.append(None)
            assert stack.other.run(batch, lambda: 50.0).failed is None

    stack.alerts.fault = meanwhile
    assert stack.judge(batch).failed is None
    assert ran
    assert stack.kinds() == [GOLDEN, DEATH]
    assert stack.found()[CROSSING] == (DEATH, "sent")


def test_within_a_cooldown_a_signal_that_turned_around_is_muted_too() -> None:
    stack = Turning(cooldown_s=3600)
    stack.judge([stack.put(0, 10), stack.put(1, 9), stack.put(2, 12)])
    assert stack.found() == {CROSSING: (GOLDEN, "sent")}
    later = f"{at(4)}#crossover-1-2"
    stack.judge([stack.put(3, 11), stack.put(4, 14)])
    assert stack.found()[later] == (GOLDEN, "muted")
    stack.judge([stack.put(3, 15), stack.put(4, 14)])
    assert stack.found()[later] == (DEATH, "muted")
    assert stack.kinds() == [GOLDEN]


@pytest.mark.parametrize("turn", [to_death, lambda stack: stack.put(2, 10)], ids=["turned", "gone"])
def test_what_went_out_while_a_late_reading_made_it_wrong_does_not_go_out_again(
    turn: Callable[[Turning], Change],
) -> None:
    """The late reading is judged by another invocation between publishing and marking."""
    stack = Turning()
    first = [stack.put(0, 12), stack.put(1, 10), stack.put(2, 11)]

    def late(operation: str, request: dict[str, Any]) -> None:
        if operation == "publish" and not stack.topic.messages:
            stack.topic.fault = lambda *_: None
            stack.topic.publish(**request)  # out it goes; what follows is before its mark
            stack.other.run(both(stack, turn(stack)), lambda: 50.0)
            stack.topic.messages.pop(0)

    stack.topic.fault = late
    assert stack.judge(first).failed is None
    told = stack.kinds()
    stack.judge(both(stack, to_golden(stack)))
    assert stack.found()[CROSSING] == (GOLDEN, "sent")
    assert stack.kinds() == told
    assert told.count(GOLDEN) == 1


def test_a_throttled_publish_of_what_was_superseded_meanwhile_is_a_hand_back_and_no_error() -> None:
    stack = Turning()
    first = [stack.put(0, 12), stack.put(1, 10), stack.put(2, 11)]

    def late(*_: Any) -> Exception:
        stack.topic.fault = lambda *_: None
        stack.other.run(both(stack, stack.put(2, 10)), lambda: 50.0)
        return refused(THROTTLED)

    stack.topic.fault = late
    assert stack.judge(first).handed_back == {first[0].seq: f"AAPL: {THROTTLED}"}
    assert stack.judge(first).failed is None
    assert stack.kinds() == []
