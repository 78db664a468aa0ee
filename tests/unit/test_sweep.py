"""The sweep: what was claimed and never sent is sent once, and nothing else is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from stores import THROTTLED, refused
from swept_stack import (
    HOUR_S,
    Crash,
    Stack,
    alert,
    having,
)

from stockpipe.domain import messages
from stockpipe.domain.signals import DEATH
from stockpipe.functions.alert_items import alert_of
from stockpipe.functions.alert_table import LEASE_S, Standing
from stockpipe.functions.sweep import OUT_OF_TIME, Swept, summary


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
