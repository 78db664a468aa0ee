"""Which alarms there are, what the dashboard shows, and that both name what really is counted."""

from __future__ import annotations

import json
from contextvars import copy_context
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from stockpipe.aws import Aws, Endpoint
from stockpipe.domain.clock import SYSTEM_CLOCK
from stockpipe.errors import ProvisionError
from stockpipe.functions import process, sweep, trend
from stockpipe.functions.analysis import Outcome
from stockpipe.infra import waiting
from stockpipe.infra.dashboard import dashboard
from stockpipe.infra.monitoring import alarms, watches
from stockpipe.infra.resources.cloudwatch import Alarm, Dashboard
from stockpipe.infra.resources.events import Schedule, rate
from stockpipe.infra.resources.mappings import EventSourceMapping
from stockpipe.settings import Settings

ACCOUNT = "123456789012"
LONGEST_EVALUATION_S = 86_400
"""Periods of an alarm together, where one is shorter than an hour."""


class Stubbed(Aws):
    """A session whose account is known, and whose clients answer what they are told to."""

    def __init__(self, stack: str = "default") -> None:
        super().__init__(region="us-east-2", stack=stack, endpoint=Endpoint("http://_", "_", "_"))
        self.account_id = ACCOUNT
        self.answers: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        if service not in self.answers:
            client = boto3.client(  # type: ignore[call-overload]
                service,
                region_name=self.region,
                aws_access_key_id="_",
                aws_secret_access_key="_",
            )
            self.answers[service] = client, Stubber(client)
            self.answers[service][1].activate()
        return self.answers[service][0]

    def answer(self, service: str, operation: str, answer: dict[str, Any]) -> None:
        self.client(service)
        self.answers[service][1].add_response(operation, answer)


class Mapping(EventSourceMapping):
    """One that exists as long as it has an id."""

    known_as: str | None = None

    def uuid(self) -> str | None:
        return self.known_as


def made(aws: Aws, **settings: Any) -> dict[str, Alarm]:
    """The alarms of a stack by name, with mappings that exist."""
    quotes, changes = (Mapping(aws, f"mapping of {side}") for side in ("process", "trend"))
    quotes.known_as, changes.known_as = "uuid-of-process", "uuid-of-trend"
    found = alarms(aws, Settings(**settings), quotes=quotes, changes=changes, tags={"a": "b"})
    return {alarm.name: alarm for alarm in found}


def emitted(monkeypatch: pytest.MonkeyPatch, stack: str) -> set[tuple[Any, ...]]:
    """Namespace, name and dimensions of every metric that the functions write."""
    monkeypatch.setenv("STACK", stack)
    lines = [
        process.summary(process.Outcome(), [], SYSTEM_CLOCK),
        trend.summary(Outcome(unjudged={"AAPL": "why"}), [], SYSTEM_CLOCK),
        sweep.summary(sweep.Swept(), SYSTEM_CLOCK),
    ]
    found = set()
    for line in map(json.loads, lines):
        for group in line["_aws"]["CloudWatchMetrics"]:
            (names,) = group["Dimensions"]
            dimensions = frozenset((name, line[name]) for name in names)
            found |= {(group["Namespace"], one["Name"], dimensions) for one in group["Metrics"]}
    return found


@pytest.fixture
def aws() -> Stubbed:
    return Stubbed("dev")


def test_the_alarms_of_a_stack(aws: Stubbed) -> None:
    assert sorted(made(aws)) == [
        "stockpipe-dev-pending",
        "stockpipe-dev-process-behind",
        "stockpipe-dev-process-errors",
        "stockpipe-dev-process-failures",
        "stockpipe-dev-process-throttles",
        "stockpipe-dev-quarantine",
        "stockpipe-dev-trend-behind",
        "stockpipe-dev-trend-errors",
        "stockpipe-dev-trend-failures",
        "stockpipe-dev-trend-throttles",
        "stockpipe-dev-unjudged",
    ]


def test_every_alarm_tells_the_operations_topic_which_it_needs(aws: Stubbed) -> None:
    topic = aws.names.operations_topic_arn
    for alarm in made(aws).values():
        assert alarm.alarm_actions == (topic,)
        assert alarm.ok_actions in ((), (topic,))
        assert f"topic/{aws.names.operations_topic}" in alarm.needs
        assert alarm.tags == {"a": "b"}


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, set()),
        ({"sweep": "off"}, {"stockpipe-dev-pending"}),
        ({"alarms": False}, None),
    ],
)
def test_what_the_settings_switch_off_is_not_wanted(
    aws: Stubbed, settings: dict[str, Any], missing: set[str] | None
) -> None:
    found = made(aws, **settings)
    unwanted = {name for name, alarm in found.items() if not alarm.wanted}

    assert unwanted == (set(found) if missing is None else missing)


@pytest.mark.parametrize("side", ["process", "trend"])
def test_failures_are_counted_by_the_mapping_in_front_of_the_function(
    aws: Stubbed, side: str
) -> None:
    alarm = made(aws)[f"stockpipe-dev-{side}-failures"]

    assert alarm.dimensions() == {"EventSourceMappingUUID": f"uuid-of-{side}"}
    assert f"mapping/mapping of {side}" in alarm.needs


def test_before_its_mapping_is_listed_an_alarm_can_be_planned_and_waits_for_it(
    aws: Stubbed,
) -> None:
    missing = Mapping(aws, "to come")
    found = alarms(aws, Settings(), quotes=missing, changes=missing, tags={})
    first, *others = [alarm for alarm in found if alarm.desired()["dimensions"] is None]

    assert [alarm.name.rsplit("-", 1)[1] for alarm in (first, *others)] == ["failures", "failures"]

    def create() -> list[str]:
        told: list[str] = []

        def hear(what: str) -> None:
            told.append(what)
            missing.known_as = "listed at last"

        waiting.watch.set(waiting.Watch(tell=hear))
        first.create()
        return told

    aws.answer("cloudwatch", "put_metric_alarm", {})
    assert copy_context().run(create) == [f"until it is known what {first.name} watches"]
    assert first.desired()["dimensions"] == {"EventSourceMappingUUID": "listed at last"}


def test_every_metric_of_ours_that_is_watched_is_one_that_a_function_writes(
    aws: Stubbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = emitted(monkeypatch, "dev")
    watched = {
        (alarm.namespace, alarm.metric, frozenset((alarm.dimensions() or {}).items()))
        for alarm in made(aws).values()
        if alarm.namespace == "stockpipe"
    }
    shown = {
        (metric[0], metric[1], frozenset(zip(metric[2::2], metric[3::2], strict=True)))
        for metric in metrics(dashboard(aws, Settings(), {}).body)
        if metric[0] == "stockpipe"
    }

    assert {name for _, name, _ in watched} == {"quarantined", "pending_s", "unjudged"}
    assert {name for _, name, _ in shown} == {"lag_ms", "stored", "quarantined", "signals"}
    assert watched <= written
    assert shown <= written


@pytest.mark.parametrize("sweep_s", [60.0, 300.0, 86_400.0])
def test_alarms_keep_to_the_limits_of_cloudwatch(aws: Stubbed, sweep_s: float) -> None:
    for watch in watches(aws.names, Settings(sweep=sweep_s)):
        assert watch.period_s % 60 == 0
        assert watch.period_s * watch.periods <= LONGEST_EVALUATION_S
        assert 0 < len(watch.description) <= 1024


@pytest.mark.parametrize("sweep_s", [60.0, 300.0, 3600.0])
def test_a_period_of_the_pending_alarm_holds_a_sweep_however_they_fall(
    aws: Stubbed, sweep_s: float
) -> None:
    (pending,) = (w for w in watches(aws.names, Settings(sweep=sweep_s)) if w.what == "pending")

    assert pending.period_s >= 2 * sweep_s


def metrics(body: Any) -> list[list[str]]:
    return [
        metric
        for widget in body["widgets"]
        if widget["type"] == "metric"
        for metric in widget["properties"]["metrics"]
    ]


def test_the_dashboard_shows_what_the_contract_names(aws: Stubbed) -> None:
    names, body = aws.names, dashboard(aws, Settings(), {}).body
    shown = {tuple(metric[:2]) for metric in metrics(body)}

    assert shown == {
        ("AWS/Lambda", "Invocations"),
        ("AWS/Lambda", "Errors"),
        ("AWS/Lambda", "Throttles"),
        ("AWS/Lambda", "Duration"),
        ("AWS/Lambda", "IteratorAge"),
        ("AWS/Kinesis", "IncomingRecords"),
        ("AWS/Kinesis", "IncomingBytes"),
        ("AWS/DynamoDB", "SuccessfulRequestLatency"),
        ("stockpipe", "lag_ms"),
        ("stockpipe", "stored"),
        ("stockpipe", "quarantined"),
        ("stockpipe", "signals"),
    }
    of = {metric[3] for metric in metrics(body) if metric[0].startswith("AWS/")}
    assert of == {
        names.process_function,
        names.trend_function,
        names.stream,
        names.table,
        names.alerts_table,
    }
    regions = {w["properties"]["region"] for w in body["widgets"] if w["type"] == "metric"}
    assert regions == {"us-east-2"}


def test_the_dashboard_shows_the_state_of_the_alarms_that_there_are(aws: Stubbed) -> None:
    def shown(**settings: Any) -> list[str]:
        body = dashboard(aws, Settings(**settings), {}).body
        widgets = [widget for widget in body["widgets"] if widget["type"] == "alarm"]
        return [arn for widget in widgets for arn in widget["properties"]["alarms"]]

    every = [aws.names.alarm_arn(name) for name in made(aws)]
    assert shown() == every
    assert shown(sweep="off") == [arn for arn in every if not arn.endswith("-pending")]
    assert shown(alarms=False) == []


@pytest.mark.parametrize("settings", [{}, {"alarms": False}])
def test_widgets_lie_beside_each_other_on_a_grid_of_24_columns(
    aws: Stubbed, settings: dict[str, Any]
) -> None:
    widgets = dashboard(aws, Settings(**settings), {}).body["widgets"]
    taken = [
        (x, y)
        for one in widgets
        for x in range(one["x"], one["x"] + one["width"])
        for y in range(one["y"], one["y"] + one["height"])
    ]

    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


def test_a_dashboard_that_cloudwatch_finds_fault_with_is_an_error(aws: Stubbed) -> None:
    fault = {"DataPath": "/widgets/0", "Message": "Should have property region"}
    aws.answer("cloudwatch", "put_dashboard", {"DashboardValidationMessages": [fault]})

    with pytest.raises(ProvisionError, match="/widgets/0: Should have property region"):
        Dashboard(aws, "d", body={"widgets": []}).create()


def test_a_target_that_could_not_be_put_is_an_error(aws: Stubbed) -> None:
    schedule = Schedule(aws, "r", function="f", payload={"a": 1})
    failed = {"TargetId": "stockpipe", "ErrorCode": "ConcurrentModificationException"}
    answer = {"FailedEntryCount": 1, "FailedEntries": [failed]}
    aws.answer("events", "put_targets", answer)

    with pytest.raises(ProvisionError, match="stockpipe: ConcurrentModificationException"):
        schedule.update({"target": (None, {})})


@pytest.mark.parametrize(
    ("seconds", "expression"),
    [(60.0, "rate(1 minute)"), (300.0, "rate(5 minutes)"), (86_400.0, "rate(1440 minutes)")],
)
def test_a_rate_of_one_minute_is_singular(seconds: float, expression: str) -> None:
    assert rate(seconds) == expression


@pytest.mark.parametrize(("every_s", "age_s"), [(60.0, 60), (300.0, 300), (86_400.0, 86_400)])
def test_a_call_that_fails_is_given_up_when_the_next_one_is_due(
    aws: Stubbed, every_s: float, age_s: int
) -> None:
    target = Schedule(aws, "r", rate_s=every_s, function="f").desired()["target"]

    assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] == age_s
