"""A running embedded cloud for alarms, dashboards and rules, and how the tests make one of each."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from embedded import REGION, cleaned, client, function

from stockpipe.aws import Aws, Endpoint
from stockpipe.domain.names import VERSION_TAG
from stockpipe.domain.sweep_event import EVENT
from stockpipe.infra.dashboard import dashboard
from stockpipe.infra.resource import Live, Resource
from stockpipe.infra.resources.cloudwatch import Alarm, Dashboard
from stockpipe.infra.resources.events import Schedule
from stockpipe.local import daemon
from stockpipe.settings import Settings

FUNCTION = "swept"
ECHO = "def handle(event, context):\n    print('GOT', event)\n"
PATTERN = json.dumps({"source": ["test"]})


@dataclass(frozen=True)
class Cloud:
    """A running embedded cloud with one function, ``FUNCTION``, that prints what it is sent."""

    home: Path
    endpoint: Endpoint

    def aws(self, stack: str = "default") -> Aws:
        return clients(self.endpoint, stack)

    def client(self, service: str) -> Any:
        return client(service, self.endpoint)

    def printed(self) -> list[str]:
        events = self.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{FUNCTION}")
        return [one["message"] for one in events["events"] if one["message"].startswith("GOT")]


@cache
def clients(endpoint: Endpoint, stack: str) -> Aws:
    """Made once: a boto3 session and its clients cost a tenth of a second."""
    return Aws(region=REGION, stack=stack, endpoint=endpoint)


@contextlib.contextmanager
def monitored(home: Path) -> Iterator[Cloud]:
    with cleaned(home):
        endpoint = daemon.ensure_running(home)
        function(endpoint, FUNCTION, ECHO)
        client("logs", endpoint).create_log_group(logGroupName=f"/aws/lambda/{FUNCTION}")
        yield Cloud(home, endpoint)


def tags(aws: Aws) -> dict[str, str]:
    return {"team": "data", **aws.names.tags, VERSION_TAG: "1"}


def an_alarm(aws: Aws) -> Alarm:
    return Alarm(
        aws,
        f"alarm-{uuid.uuid4().hex[:8]}",
        metric="IteratorAge",
        dimensions=lambda: {"FunctionName": FUNCTION},
        statistic="Maximum",
        threshold=600_000.0,
        periods=3,
        description="It is behind.",
        alarm_actions=(aws.names.operations_topic_arn,),
        ok_actions=(aws.names.operations_topic_arn,),
        tags=tags(aws),
    )


def a_dashboard(aws: Aws) -> Dashboard:
    body = dashboard(aws, Settings(), {}).body
    return Dashboard(aws, f"dashboard-{uuid.uuid4().hex[:8]}", body=body, tags=tags(aws))


def a_rule(aws: Aws) -> Schedule:
    name = f"rule-{uuid.uuid4().hex[:8]}"
    return Schedule(aws, name, function=FUNCTION, payload=EVENT, tags=tags(aws))


Make = Callable[[Aws], Resource]
KINDS: list[Make] = [an_alarm, a_dashboard, a_rule]


def drop_permission(cloud: Cloud) -> None:
    functions = cloud.client("lambda")
    policy = json.loads(functions.get_policy(FunctionName=FUNCTION)["Policy"])
    for statement in policy["Statement"]:
        functions.remove_permission(FunctionName=FUNCTION, StatementId=statement["Sid"])


def standing(resource: Resource) -> Live:
    live = resource.read()
    assert live
    return live


def put_rule(**changed: Any) -> Callable[[Cloud, str], None]:
    def put(cloud: Cloud, name: str) -> None:
        events = cloud.client("events")
        found = events.describe_rule(Name=name)
        kept = {key: found[key] for key in ("ScheduleExpression", "State", "Description")}
        events.put_rule(Name=name, **{**kept, **changed})

    return put
