"""Alarms, dashboard and the sweep's rule: what somebody changes by hand is seen and put back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from monitoring_cloud import (
    FUNCTION,
    KINDS,
    Cloud,
    Make,
    a_dashboard,
    a_rule,
    an_alarm,
    drop_permission,
    monitored,
    put_rule,
    standing,
)

from stockpipe.infra.plan import difference
from stockpipe.infra.resources.events import STATEMENT, TARGET

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with monitored(tmp_path_factory.mktemp("monitoring") / "home") as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def _one_statement(cloud: Cloud) -> Iterator[None]:
    """The function's policy has room for the statement of one rule; the rules are many here."""
    yield
    drop_permission(cloud)


def put_alarm(**changed: Any) -> Callable[[Cloud, str], None]:
    """The alarm as it stands, but for what a person changes in the console."""

    def put(cloud: Cloud, name: str) -> None:
        cloudwatch = cloud.client("cloudwatch")
        (found,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        members = cloudwatch.meta.service_model.operation_model("PutMetricAlarm").input_shape
        kept = {key: value for key, value in found.items() if key in members.members}
        cloudwatch.put_metric_alarm(**{**kept, **changed})

    return put


def retag(service: str) -> Callable[[Cloud, str], None]:
    """Someone overwrites a tag of ours that is not the identity."""

    def put(cloud: Cloud, name: str) -> None:
        at = cloud.client(service)
        if service == "events":
            arn = at.describe_rule(Name=name)["Arn"]
        elif name.startswith("alarm"):
            arn = at.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["AlarmArn"]
        else:
            arn = at.get_dashboard(DashboardName=name)["DashboardArn"]
        at.tag_resource(ResourceARN=arn, Tags=[{"Key": "team", "Value": "other"}])

    return put


def put_dashboard(cloud: Cloud, name: str) -> None:
    body = json.dumps({"widgets": []})
    cloud.client("cloudwatch").put_dashboard(DashboardName=name, DashboardBody=body)


def put_target(**changed: Any) -> Callable[[Cloud, str], None]:
    def put(cloud: Cloud, name: str) -> None:
        events = cloud.client("events")
        (found,) = events.list_targets_by_rule(Rule=name)["Targets"]
        events.put_targets(Rule=name, Targets=[{**found, **changed}])

    return put


def put_statement(**changed: Any) -> Callable[[Cloud, str], None]:
    """None takes a condition away, which lets in more than our rule."""

    def put(cloud: Cloud, name: str) -> None:
        drop_permission(cloud)
        arguments = {
            "FunctionName": FUNCTION,
            "StatementId": STATEMENT,
            "Action": "lambda:InvokeFunction",
            "Principal": "events.amazonaws.com",
            "SourceArn": cloud.client("events").describe_rule(Name=name)["Arn"],
            "SourceAccount": "000000000000",
            **changed,
        }
        given = {key: value for key, value in arguments.items() if value is not None}
        cloud.client("lambda").add_permission(**given)

    return put


SOMEWHERE = "arn:aws:sns:us-east-2:000000000000:somewhere"
ELSEWHERE = "arn:aws:lambda:us-east-2:000000000000:function:elsewhere"


BY_HAND: list[tuple[Make, str, Callable[[Cloud, str], object]]] = [
    (an_alarm, "namespace", put_alarm(Namespace="AWS/Other")),
    (an_alarm, "metric", put_alarm(MetricName="Errors")),
    (an_alarm, "dimensions", put_alarm(Dimensions=[])),
    (an_alarm, "dimensions", put_alarm(Dimensions=[{"Name": "FunctionName", "Value": "other"}])),
    (an_alarm, "statistic", put_alarm(Statistic="Sum")),
    (an_alarm, "unit", put_alarm(Unit="Seconds")),
    (an_alarm, "period_s", put_alarm(Period=60)),
    (an_alarm, "periods", put_alarm(EvaluationPeriods=4)),
    (an_alarm, "datapoints", put_alarm(DatapointsToAlarm=1)),
    (an_alarm, "threshold", put_alarm(Threshold=1e9)),
    (an_alarm, "comparison", put_alarm(ComparisonOperator="LessThanThreshold")),
    (an_alarm, "missing_data", put_alarm(TreatMissingData="ignore")),
    (an_alarm, "alarm_actions", put_alarm(AlarmActions=[])),
    (an_alarm, "ok_actions", put_alarm(OKActions=[SOMEWHERE])),
    (an_alarm, "insufficient_data_actions", put_alarm(InsufficientDataActions=[SOMEWHERE])),
    (an_alarm, "description", put_alarm(AlarmDescription="")),
    (
        an_alarm,
        "actions_enabled",
        lambda cloud, name: cloud.client("cloudwatch").disable_alarm_actions(AlarmNames=[name]),
    ),
    (an_alarm, "tags", retag("cloudwatch")),
    (a_dashboard, "body", put_dashboard),
    (a_dashboard, "tags", retag("cloudwatch")),
    (a_rule, "schedule", put_rule(ScheduleExpression="rate(1 day)")),
    (a_rule, "description", put_rule(Description="mine")),
    (a_rule, "state", lambda cloud, name: cloud.client("events").disable_rule(Name=name)),
    (a_rule, "tags", retag("events")),
    (
        a_rule,
        "target",
        lambda cloud, name: cloud.client("events").remove_targets(Rule=name, Ids=[TARGET]),
    ),
    (a_rule, "target", put_target(Arn=ELSEWHERE)),
    (a_rule, "target", put_target(Input="{}")),
    (a_rule, "target", put_target(RetryPolicy={"MaximumRetryAttempts": 185})),
    (a_rule, "target", put_target(DeadLetterConfig={"Arn": "arn:aws:sqs:us-east-2:0:q"})),
    (a_rule, "permission", lambda cloud, name: drop_permission(cloud)),
    (a_rule, "permission", put_statement(Principal="*")),
    (a_rule, "permission", put_statement(Action="lambda:*")),
    (a_rule, "permission", put_statement(SourceArn=None)),
    (a_rule, "permission", put_statement(SourceAccount=None)),
    (a_rule, "permission", put_statement(SourceArn="arn:aws:events:us-east-2:*:rule/*")),
]


@pytest.mark.parametrize(("make", "setting", "change"), BY_HAND)
def test_what_is_changed_by_hand_is_seen_and_put_back(
    cloud: Cloud, make: Make, setting: str, change: Callable[[Cloud, str], object]
) -> None:
    resource = make(cloud.aws())
    resource.create()

    change(cloud, resource.name)

    live = standing(resource)
    found = difference(resource, live)
    assert live.ours
    assert list(found) == [setting]
    resource.update(found)
    assert difference(resource, standing(resource)) == {}


def test_every_setting_is_among_those_that_are_changed_by_hand(cloud: Cloud) -> None:
    for make in KINDS:
        changed = {setting for one, setting, _ in BY_HAND if one is make}
        assert changed == set(make(cloud.aws()).desired())
