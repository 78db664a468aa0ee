"""Later sweeps of an environment: what may have changed is read, what waits is not forgotten."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from stores import THROTTLED, refused
from swept_stack import (
    DAY_S,
    HOUR_S,
    Stack,
    alert,
    alert_aged,
    having,
)

from stockpipe.domain.alerts import Alert
from stockpipe.domain.rules.bars import LONGEST_BREAK_S
from stockpipe.domain.signals import GOLDEN, MOVE, Reading, Signal
from stockpipe.functions.alert_table import LEASE_S
from stockpipe.functions.sweep import OUT_OF_TIME, Swept


@pytest.fixture
def stack() -> Stack:
    return Stack()


def test_only_the_first_sweep_of_an_environment_reads_the_history(stack: Stack) -> None:
    stack.history("AAPL", "IBM", "MSFT", each=1000)
    stack.sweep()
    assert stack.alerts.looked_at == 3000

    calls, looked_at = len(stack.alerts.calls), stack.alerts.looked_at
    assert stack.sweep() == Swept()

    assert stack.alerts.calls[calls:] == [*["scan", "query"] * 3, "scan"]
    assert stack.alerts.looked_at - looked_at == 3  # one item tells a symbol

    stack.sweeper().run(lambda: 50.0)
    assert stack.alerts.looked_at - looked_at == 3003


def test_a_later_sweep_sends_what_was_claimed_since(stack: Stack) -> None:
    symbols = [f"S{number:02}" for number in range(40)]
    stack.history(*symbols, each=3)
    stack.sweep()
    stack.crash(*map(alert, symbols[::2]), alert("NEW"))
    stack.lease_ends()

    swept = stack.sweep()

    assert (swept.stopped, swept.pending_s) == (None, 0)
    assert stack.sent() == ["NEW", *symbols[::2]]


def test_a_later_sweep_reads_every_page_of_a_symbol(stack: Stack) -> None:
    stack.history("AAPL", "IBM", each=5)
    stack.sweep()
    stack.crash(*[alert(at=f"19:5{minute}") for minute in range(7)], alert("IBM"))
    stack.lease_ends()
    stack.alerts.page_size = 2

    assert stack.sweep().stopped is None
    assert stack.sent() == ["AAPL"] * 7 + ["IBM"]


def test_a_later_sweep_finds_whatever_was_claimed_within_a_day(stack: Stack) -> None:
    stack.sweep()
    stack.crash(alert_aged("AAPL", HOUR_S))
    stack.clock.sleep(DAY_S)

    assert stack.sweep().settled == {"muted": 1}


def test_a_later_sweep_finds_an_alert_of_the_day_before_at_the_exchange(stack: Stack) -> None:
    """03:59 UTC is the evening before in New York, and the id begins with that day alone."""
    stack.sweep()
    stack.clock.moment = datetime(2022, 3, 15, 4, 0, tzinfo=UTC)
    moved = Signal(Reading("2022-03-15T03:59:00.000Z", 10**6, 10**5, utc_offset_s=-14_400), MOVE)
    one = Alert("ES=F", "move-5", moved)
    assert one.id == "2022-03-14#move-5"
    stack.crash(one)
    stack.lease_ends()

    assert stack.sweep().settled == {"sent": 1}


def test_a_later_sweep_finds_the_bar_of_friday_that_monday_completed() -> None:
    stack = Stack(known_after_s=LONGEST_BREAK_S)
    stack.sweep()
    friday, monday = "2022-03-11T21:00:00.000Z", "2022-03-14T19:58:00.000Z"
    signal = Signal(Reading(friday, 10**6), GOLDEN, known_at=monday)
    stack.crash(Alert("AAPL", "crossover-5-20-1d", signal))
    stack.lease_ends()

    assert stack.sweep().settled == {"sent": 1}


def test_where_alerts_of_any_age_are_sent_a_later_sweep_finds_one_of_any_age() -> None:
    stack = Stack(None)
    stack.history("AAPL", each=10)
    stack.sweep()
    stack.crash(alert_aged("AAPL", 400 * DAY_S))
    stack.lease_ends()

    assert stack.sweep().settled == {"sent": 1}


def test_an_age_longer_than_the_calendar_is_no_error() -> None:
    stack = Stack(1e12)
    stack.sweep()
    stack.crash(alert_aged("AAPL", 400 * DAY_S))
    stack.lease_ends()

    assert stack.sweep().settled == {"sent": 1}


def test_an_old_one_that_failed_in_the_first_sweep_is_tried_again_by_the_next(
    stack: Stack,
) -> None:
    stack.history("AAPL", "IBM", each=1000)
    stack.left_behind(alert_aged("AAPL", 20 * DAY_S))
    stack.left_behind(alert_aged("IBM", 10 * DAY_S))
    stack.alerts.fault = lambda operation, request: (
        refused(THROTTLED) if operation == "update_item" else None
    )
    waited = [stack.sweep().pending_s for _ in range(2)]
    assert waited == [20 * DAY_S] * 2

    stack.alerts.fault = lambda operation, request: None
    looked_at = stack.alerts.looked_at
    swept = stack.sweep()

    assert (swept.settled, swept.pending_s) == ({"muted": 2}, 0)
    assert stack.alerts.looked_at - looked_at == 4  # each symbol, and each alert by its key
    assert stack.sweep() == Swept()
    assert stack.alerts.looked_at - looked_at == 6


@pytest.mark.parametrize("before", [0, 1], ids=["the first sweeps", "later sweeps"])
def test_a_history_is_read_as_far_as_there_is_time_too(stack: Stack, before: int) -> None:
    stack.history("AAPL", "IBM", "MSFT", each=2)
    for _ in range(before):
        stack.sweep()
    stack.alerts.page_size = 2
    stack.crash(alert("NEW"))
    stack.lease_ends()

    stopped = [stack.sweep(lambda: 0.0).stopped for _ in range(3)]

    assert stopped == [OUT_OF_TIME] * 3
    assert stack.sweep(having(1)).settled == {"sent": 1}


@pytest.mark.parametrize("times", [0, 2], ids=["the table", "the alert"])
def test_what_a_sweep_had_no_time_to_look_at_again_still_waits(stack: Stack, times: int) -> None:
    stack.history("AAPL", "IBM")
    stack.left_behind(alert_aged("IBM", 20 * DAY_S))
    stack.alerts.fault = lambda operation, request: (
        refused(THROTTLED) if operation == "update_item" else None
    )
    stack.sweep()

    swept = stack.sweep(having(times))

    assert (swept.stopped, swept.failed) == (OUT_OF_TIME, {})
    assert swept.pending_s == 20 * DAY_S


def test_old_ones_that_fail_take_turns_where_there_is_not_time_for_all(stack: Stack) -> None:
    for symbol in ("AAPL", "IBM"):
        stack.left_behind(alert_aged(symbol, 20 * DAY_S))
    stack.alerts.fault = lambda operation, request: (
        refused(THROTTLED) if operation == "update_item" else None
    )
    stack.sweep()

    # Two symbols are asked for time, then one alert.
    failed = [name for _ in range(4) for name in stack.sweep(having(3)).failed]

    assert [name.split()[0] for name in failed] == ["AAPL", "IBM", "AAPL", "IBM"]


def test_what_lies_before_the_start_of_a_sweep_is_tried_and_counted_too(stack: Stack) -> None:
    stack.sweep()
    stack.crash(alert("AAPL"))
    stack.lease_ends()
    stack.crash(alert("IBM"), alert("MSFT"))
    stack.lease_ends()
    stack.topic.fault = lambda operation, request: refused("AuthorizationError", status=403)
    stack.sweep(having(1))  # AAPL

    swept = stack.sweep()

    assert [name.split()[0] for name in swept.failed] == ["IBM", "MSFT", "AAPL"]
    assert swept.pending_s == 2 * (LEASE_S + 1)


def test_one_that_was_sent_elsewhere_meanwhile_waits_no_longer(stack: Stack) -> None:
    stack.left_behind(alert_aged("AAPL", 20 * DAY_S))
    stack.alerts.fault = lambda operation, request: (
        refused(THROTTLED) if operation == "update_item" else None
    )
    assert stack.sweep().pending_s == 20 * DAY_S
    stack.alerts.fault = lambda operation, request: None
    stack.sweeper().run(lambda: 50.0)

    assert stack.sweep() == Swept()
