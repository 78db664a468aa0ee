"""The sweep: what was claimed and never sent is sent once, and nothing else is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from stores import THROTTLED, Table, Topic, refused

from stockpipe.domain import messages
from stockpipe.domain.alerts import Alert
from stockpipe.domain.clock import SystemClock
from stockpipe.domain.exact import moment_text
from stockpipe.domain.signals import DEATH, GOLDEN, Reading, Signal
from stockpipe.functions.alert_items import alert_of
from stockpipe.functions.alert_table import LEASE_S, Standing
from stockpipe.functions.alerts import AlertBook
from stockpipe.functions.sweep import OUT_OF_TIME, Sweeper, Swept, summary

NOW = datetime(2022, 3, 14, 20, 0, tzinfo=UTC)
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


class Now(SystemClock):
    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self.moment.timestamp()


class Crash(BaseException):
    """The function's process ends here."""


def alert(symbol: str = "AAPL", kind: str = GOLDEN, at: str = "19:50") -> Alert:
    return alert_of_time(symbol, f"2022-03-14T{at}:00.000Z", kind)


def alert_of_time(symbol: str, timestamp: str, kind: str = GOLDEN) -> Alert:
    crossing = Signal(Reading(timestamp, 150_000_000), kind, 149_500_001, 149_499_999)
    return Alert(symbol, "crossover-5-20", crossing)


def alert_aged(symbol: str, age_s: float) -> Alert:
    """One whose quote is older than NOW by this."""
    return alert_of_time(symbol, moment_text(NOW - timedelta(seconds=age_s)))


class Stack:
    """An alerts table, its topic, and a function that may crash."""

    def __init__(self, max_age_s: float | None = HOUR_S) -> None:
        self.clock, self.alerts, self.topic = Now(), Table("symbol", "id"), Topic()
        self.max_age_s = max_age_s
        self.book = AlertBook(
            self.alerts,  # type: ignore[arg-type]
            self.topic,  # type: ignore[arg-type]
            table="alerts",
            topic_arn="arn",
            max_age_s=max_age_s,
            clock=self.clock,
        )
        self._sweeper = self.sweeper()

    def sweeper(self) -> Sweeper:
        """That of a new execution environment."""
        return Sweeper(
            self.alerts,  # type: ignore[arg-type]
            self.book,
            table="alerts",
            max_age_s=self.max_age_s,
            clock=self.clock,
        )

    def crash(self, *alerts: Alert) -> None:
        """Claim these, and end before they are published."""
        self.topic.fault = lambda operation, request: Crash()
        for one in alerts:
            with pytest.raises(Crash):
                self.book.settle(one)
        self.topic.fault = lambda operation, request: None

    def history(self, *symbols: str, each: int = 1) -> None:
        """Alerts of these, sent long ago: an hour apart, and the last one a month old."""
        for symbol in symbols:
            for number in range(each):
                one = alert_aged(symbol, 30 * DAY_S + number * HOUR_S)
                self.book.settle(one)
                self.alerts.items[symbol, one.id]["status"] = {"S": "sent"}

    def left_behind(self, one: Alert) -> None:
        """Claimed when its quote was young, and pending ever since."""
        now, self.clock.moment = self.clock.moment, datetime.fromisoformat(one.signal.timestamp)
        self.crash(one)
        self.clock.moment = now

    def lease_ends(self) -> None:
        self.clock.sleep(LEASE_S + 1)

    def sweep(self, left: Callable[[], float] = lambda: 50.0) -> Swept:
        return self._sweeper.run(left)

    def statuses(self) -> dict[str, str]:
        return {key[0]: item["status"]["S"] for key, item in sorted(self.alerts.items.items())}

    def sent(self) -> list[str]:
        """The symbols of what was published, in order."""
        return [message["Subject"].removeprefix("Stock Alert: ") for message in self.topic.messages]


def having(times: int) -> Callable[[], float]:
    """Time left as often as it is asked for, up to this."""
    left = iter([10.0] * times)
    return lambda: next(left, 0.0)


@pytest.fixture
def stack() -> Stack:
    return Stack()


def test_a_crashed_claim_is_sent_exactly_once(stack: Stack) -> None:
    stack.crash(alert())
    stack.lease_ends()

    assert stack.sweep().settled == {"sent": 1}
    assert stack.sweep().settled == {}
    assert stack.book.settle(alert()) == "known"  # its record comes back as well
    assert stack.statuses() == {"AAPL": "sent"}
    assert [message["Message"] for message in stack.topic.messages] == [
        messages.by_protocol(alert())
    ]


def test_what_is_sent_is_what_was_claimed(stack: Stack) -> None:
    stack.crash(alert())

    (item,) = stack.alerts.items.values()
    assert alert_of(item) == alert()


def test_one_that_somebody_is_publishing_is_left_alone(stack: Stack) -> None:
    stack.crash(alert())
    stack.clock.sleep(LEASE_S - 10)
    calls = len(stack.alerts.calls)

    swept = stack.sweep()

    assert stack.sent() == []
    assert stack.alerts.calls[calls:] == ["scan"]
    assert swept.pending_s == LEASE_S - 10


def test_one_that_is_claimed_between_finding_and_claiming_is_left_to_its_claimant(
    stack: Stack,
) -> None:
    stack.crash(alert())
    stack.lease_ends()

    def rival(operation: str, request: dict[str, Any]) -> None:
        if operation == "update_item":
            stack.alerts.fault = lambda operation, request: None
            stack.crash(alert())

    stack.alerts.fault = rival
    swept = stack.sweep()

    assert (swept.settled, stack.sent()) == ({"leased": 1}, [])
    assert stack.statuses() == {"AAPL": "pending"}


@pytest.mark.parametrize(
    "meanwhile",
    [
        pytest.param(lambda item: {**item, "status": {"S": "superseded"}}, id="superseded"),
        pytest.param(lambda item: {**item, "kind": {"S": DEATH}}, id="turned around"),
        pytest.param(lambda item: {**item, "status": {"S": "sent"}}, id="sent"),
    ],
)
def test_one_that_changed_between_finding_and_claiming_is_not_touched(
    stack: Stack, meanwhile: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    stack.crash(alert())
    stack.lease_ends()
    ((key, item),) = stack.alerts.items.items()
    changed = meanwhile(item)

    def rival(operation: str, request: dict[str, Any]) -> None:
        if operation == "update_item":
            stack.alerts.items[key] = changed

    stack.alerts.fault = rival
    stack.sweep()

    assert stack.sent() == []
    assert stack.alerts.items == {key: changed}


def test_one_that_was_superseded_stays_so(stack: Stack) -> None:
    stack.crash(alert())
    stack.lease_ends()
    stack.book.supersede(Standing.of(alert()))

    stack.sweep()

    assert (stack.statuses(), stack.sent()) == ({"AAPL": "superseded"}, [])


@pytest.mark.parametrize(
    ("max_age_s", "status", "sent"), [(HOUR_S, "muted", []), (None, "sent", ["AAPL"])]
)
def test_one_whose_quote_has_become_old_is_muted(
    max_age_s: float | None, status: str, sent: list[str]
) -> None:
    stack = Stack(max_age_s)
    stack.crash(alert())
    stack.clock.sleep(HOUR_S)

    swept = stack.sweep()

    assert swept.settled == {status: 1}
    assert (stack.statuses(), stack.sent()) == ({"AAPL": status}, sent)
    assert swept.pending_s == 0


def test_one_that_was_sent_before_it_was_superseded_is_not_sent_again(stack: Stack) -> None:
    stack.book.settle(alert())
    stack.book.supersede(Standing.of(alert()))
    # True again, and the function ends between the claim and the mark.
    stack.alerts.fault = lambda operation, request: (
        Crash() if ":sent" in request.get("ExpressionAttributeValues", {}) else None
    )
    with pytest.raises(Crash):
        stack.book.settle(alert())
    stack.alerts.fault = lambda operation, request: None
    stack.lease_ends()

    assert stack.sweep().settled == {"sent": 1}
    assert stack.sent() == ["AAPL"]


@pytest.mark.parametrize(
    "error",
    [
        refused("AuthorizationError", status=403),
        refused("Throttled", status=429),
        ReadTimeoutError(endpoint_url="https://sns"),
        ValueError("a bug"),
    ],
    ids=["denied", "throttled", "no answer", "a bug"],
)
def test_one_that_cannot_be_published_stays_pending_and_stops_no_other(
    stack: Stack, error: Exception
) -> None:
    stack.crash(alert("AAPL"), alert("IBM"), alert("MSFT"))
    stack.lease_ends()
    stack.topic.fault = lambda operation, request: error if "IBM" in request["Subject"] else None

    swept = stack.sweep()

    assert stack.statuses() == {"AAPL": "sent", "IBM": "pending", "MSFT": "sent"}
    assert swept.settled == {"sent": 2}
    ((name, why),) = swept.failed.items()
    assert name == f"IBM {alert().id}"
    assert str(error) in why

    stack.topic.fault = lambda operation, request: None
    stack.lease_ends()
    assert stack.sweep().settled == {"sent": 1}
    assert sorted(stack.sent()) == ["AAPL", "IBM", "MSFT"]


def test_an_item_that_is_no_alert_stops_no_other(stack: Stack) -> None:
    stack.crash(alert("AAPL"), alert("IBM"))
    stack.lease_ends()
    del stack.alerts.items["AAPL", alert().id]["price"]

    assert stack.sweep().settled == {"sent": 1}
    assert stack.sent() == ["IBM"]


def test_how_long_the_oldest_has_been_waiting_survives_being_claimed_again(stack: Stack) -> None:
    stack.crash(alert("AAPL"))
    stack.clock.sleep(300)
    stack.crash(alert("IBM"))
    stack.topic.fault = lambda operation, request: refused("AuthorizationError", status=403)
    waited = []
    for _ in range(3):
        stack.clock.sleep(300)
        waited.append(stack.sweep().pending_s)

    assert waited == [600, 900, 1200]


def test_nothing_pending_is_no_age(stack: Stack) -> None:
    stack.book.settle(alert())

    assert stack.sweep() == Swept()


def test_it_counts_anew_when_an_alert_becomes_true_again(stack: Stack) -> None:
    stack.crash(alert())
    stack.clock.sleep(600)
    stack.book.supersede(Standing.of(alert()))
    stack.clock.sleep(600)
    stack.crash(alert())
    stack.clock.sleep(10)

    assert stack.sweep().pending_s == 10


def test_every_page_of_the_table_is_swept(stack: Stack) -> None:
    symbols = [f"S{number}" for number in range(7)]
    stack.crash(*map(alert, symbols))
    stack.lease_ends()
    stack.alerts.page_size = 2

    assert stack.sweep().stopped is None
    assert stack.sent() == symbols


@pytest.mark.parametrize("page_size", [2, 1000])
@pytest.mark.parametrize("before", [0, 1], ids=["the first sweeps", "later sweeps"])
def test_out_of_time_the_next_sweep_goes_on_where_this_one_stopped(
    stack: Stack, page_size: int, before: int
) -> None:
    symbols = [f"S{number}" for number in range(7)]
    for _ in range(before):
        stack.sweep()
    stack.crash(*map(alert, symbols))
    stack.lease_ends()
    stack.alerts.page_size = page_size
    # The first two never succeed, and a sweep has time for three.
    stack.topic.fault = lambda operation, request: (
        refused("AuthorizationError", status=403) if request["Subject"][-1] in "01" else None
    )

    swept = stack.sweep(having(3))
    assert swept.stopped == OUT_OF_TIME
    assert swept.pending_s == LEASE_S + 1
    for _ in range(3):
        stack.sweep(having(3))
    assert stack.sent() == symbols[2:]
    stack.topic.fault = lambda operation, request: None
    stack.sweep()
    assert sorted(stack.sent()) == symbols


@pytest.mark.parametrize(("before", "throttled"), [(0, "scan"), (1, "scan"), (1, "query")])
def test_a_throttled_read_is_left_to_the_next_sweep(
    stack: Stack, before: int, throttled: str
) -> None:
    for _ in range(before):
        stack.sweep()
    stack.crash(alert())
    stack.lease_ends()
    stack.alerts.fault = lambda operation, request: (
        refused(THROTTLED) if operation == throttled else None
    )

    assert stack.sweep().stopped == THROTTLED

    stack.alerts.fault = lambda operation, request: None
    assert stack.sweep().settled == {"sent": 1}


def test_a_read_that_is_not_allowed_is_an_error_of_the_function(stack: Stack) -> None:
    stack.alerts.fault = lambda operation, request: refused("AccessDeniedException")

    with pytest.raises(Exception, match="AccessDeniedException"):
        stack.sweep()


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


def test_the_log_line_has_the_metrics_of_the_function_it_runs_in(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACK", "dev")
    stack.crash(alert("AAPL"), alert("IBM"))
    stack.lease_ends()
    stack.topic.fault = lambda operation, request: (
        refused("AuthorizationError", status=403) if "IBM" in request["Subject"] else None
    )

    line = json.loads(summary(stack.sweep(), stack.clock))

    (metrics,) = line["_aws"]["CloudWatchMetrics"]
    assert metrics["Namespace"] == "stockpipe"
    assert metrics["Dimensions"] == [["stack", "function"]]
    assert {metric["Name"]: metric["Unit"] for metric in metrics["Metrics"]} == {
        "swept": "Count",
        "pending_s": "Seconds",
    }
    assert (line["stack"], line["function"]) == ("dev", "trend")
    assert (line["swept"], line["pending_s"]) == (1, LEASE_S + 1)
    assert list(line["failed"]) == [f"IBM {alert().id}"]
