"""A running embedded cloud whose metrics and alarms are looked at, with a clock for the alarms."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import alarm_clock
import pytest
from embedded import cleaned, client, function

from stockpipe.aws import Endpoint
from stockpipe.local import daemon

MINUTE_S = 60


@dataclass(frozen=True)
class Cloud:
    """A running embedded cloud whose alarms have a clock of their own."""

    home: Path
    endpoint: Endpoint

    def client(self, service: str) -> Any:
        return client(service, self.endpoint, read_timeout=90)

    def later(self, seconds: float) -> None:
        """From now on alarms are evaluated as of ``seconds`` later; 0 is back to the present."""
        clock = self.home / alarm_clock.FILE.name
        part = clock.with_suffix(".part")
        part.write_text(str(seconds))
        part.replace(clock)

    def function(self, source: str) -> str:
        name = f"function-{uuid.uuid4().hex[:8]}"
        function(self.endpoint, name, source)
        self.client("logs").create_log_group(logGroupName=f"/aws/lambda/{name}")
        return name

    def call(self, name: str, event: object = None, **how: Any) -> dict[str, Any]:
        payload = json.dumps(event).encode()
        found: dict[str, Any] = self.client("lambda").invoke(
            FunctionName=name, Payload=payload, **how
        )
        return found

    def figures(
        self, namespace: str, dimensions: dict[str, str], statistic: str = "Sum"
    ) -> dict[str, float]:
        """The statistic of every metric under exactly these dimensions, over the last hours."""
        cloudwatch = self.client("cloudwatch")
        wanted = [{"Name": name, "Value": value} for name, value in dimensions.items()]
        listed = cloudwatch.list_metrics(Namespace=namespace, Dimensions=wanted)["Metrics"]
        found = {}
        for metric in listed:
            (point,) = cloudwatch.get_metric_statistics(
                **metric, **period(), Statistics=[statistic]
            )["Datapoints"]
            found[metric["MetricName"]] = point[statistic]
        return found

    def alarm(self, **watched: Any) -> Alarm:
        """A new alarm on Sum > 0 over five minutes, and a queue that hears its topic."""
        name = f"alarm-{uuid.uuid4().hex[:8]}"
        topic = self.client("sns").create_topic(Name=name)["TopicArn"]
        found = Alarm(self, name, self.inbox(topic))
        settings = {
            "Period": 5 * MINUTE_S,
            "EvaluationPeriods": 1,
            "Threshold": 0,
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
            "AlarmActions": [topic],
            "OKActions": [topic],
            **watched,
        }
        self.client("cloudwatch").put_metric_alarm(AlarmName=name, **settings)
        return found

    def inbox(self, topic: str) -> str:
        """The URL of a new queue that the topic may send to."""
        sqs = self.client("sqs")
        url: str = sqs.create_queue(QueueName=f"inbox-{uuid.uuid4().hex[:8]}")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn["QueueArn"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        self.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"])
        return url

    def heard(self, url: str) -> list[tuple[str, str]]:
        """(alarm, new state) of the messages in a queue, which are taken out of it."""
        sqs, found = self.client("sqs"), []
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get(
            "Messages", []
        ):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            told = json.loads(json.loads(message["Body"])["Message"])
            found.append((told["AlarmName"], told["NewStateValue"]))
        return found

    def state(self, alarm: str) -> str:
        (found,) = self.client("cloudwatch").describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
        return str(found["StateValue"])


@dataclass(frozen=True)
class Alarm:
    cloud: Cloud
    name: str
    queue: str
    messages: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        return self.cloud.state(self.name)

    @property
    def reason(self) -> str:
        cloudwatch = self.cloud.client("cloudwatch")
        (found,) = cloudwatch.describe_alarms(AlarmNames=[self.name])["MetricAlarms"]
        return str(found["StateReason"])

    def told(self) -> list[str]:
        """All states that its topic was told so far, in order."""
        self.messages.extend(state for _, state in self.cloud.heard(self.queue))
        return self.messages


def period() -> dict[str, Any]:
    """One period that holds everything that a test can have done."""
    day = timedelta(days=1)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return {"StartTime": midnight - day, "EndTime": midnight + day, "Period": 7 * 24 * 3600}


def of_function(metric: str, name: str) -> dict[str, Any]:
    """What an alarm watches: the sum of a function's metric."""
    dimensions = [{"Name": "FunctionName", "Value": name}]
    watched = {"Namespace": "AWS/Lambda", "MetricName": metric, "Dimensions": dimensions}
    return {**watched, "Statistic": "Sum"}


@contextlib.contextmanager
def metered(home: Path) -> Iterator[Cloud]:
    """A cloud in ``home``, which is gone afterwards."""
    with cleaned(home), pytest.MonkeyPatch.context() as environment:
        home.mkdir()
        shutil.copy(alarm_clock.__file__, home / "sitecustomize.py")
        environment.setenv("PYTHONPATH", str(home))  # of every server of this home
        yield Cloud(home, daemon.ensure_running(home))
