"""Metrics and alarms of the embedded cloud: what happens is counted, and an alarm goes off."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import alarm_clock
import pytest
from botocore.exceptions import ClientError
from embedded import bucket, cleaned, client, function, table, until
from stock_emulator import flaws
from stockpipe_cli import Cli

from stockpipe.aws import Endpoint
from stockpipe.errors import LocalCloudError
from stockpipe.local import daemon
from stockpipe.local.emulator import alarms
from stockpipe.local.home import Places
from stockpipe.local.outbox import Outbox

pytest.importorskip("ministack")

MINUTE_S = 60
RAISE = "def handle(event, context):\n    raise ValueError('a bug')\n"
RETURN = "def handle(event, context):\n    return 'fine'\n"
RAISE_ON_BAD = """
import base64, json

def handle(event, context):
    for record in event["Records"]:
        if json.loads(base64.b64decode(record["kinesis"]["data"])).get("bad"):
            raise ValueError("a bad record")
"""
PRINT = """
import json

def handle(event, context):
    for line in event["lines"]:
        print(line if isinstance(line, str) else json.dumps(line))
"""


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


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cleaned(tmp_path_factory.mktemp("metrics") / "home") as home:
        home.mkdir()
        shutil.copy(alarm_clock.__file__, home / "sitecustomize.py")
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("PYTHONPATH", str(home))  # of the server
            endpoint = daemon.ensure_running(home)
        yield Cloud(home, endpoint)


# What is counted ----------------------------------------------------------------------------


def test_calls_of_a_function_are_counted_by_how_they_end(cloud: Cloud) -> None:
    good, bad = cloud.function(RETURN), cloud.function(RAISE)
    for name in (good, good, bad):
        cloud.call(name)

    counted = cloud.figures("AWS/Lambda", {"FunctionName": good})
    assert 0 < counted.pop("Duration") < 60_000
    assert counted == {"Invocations": 2, "Errors": 0, "Throttles": 0}
    counted = cloud.figures("AWS/Lambda", {"FunctionName": bad})
    assert (counted["Invocations"], counted["Errors"]) == (1, 1)
    assert cloud.figures("AWS/Lambda", {"FunctionName": good}, "SampleCount")["Duration"] == 2


def test_a_call_that_nobody_waits_for_is_counted_when_it_was_made_not_when_accepted(
    cloud: Cloud,
) -> None:
    name = cloud.function(RAISE)
    cloud.client("lambda").put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0
    )
    cloud.call(name, InvocationType="Event")

    def counted() -> dict[str, float]:
        return cloud.figures("AWS/Lambda", {"FunctionName": name})

    until(lambda: counted().get("Errors"))
    assert counted()["Invocations"] == 1


def test_a_throttled_call_is_no_invocation(cloud: Cloud) -> None:
    name = cloud.function(RETURN)
    cloud.client("lambda").put_function_concurrency(
        FunctionName=name, ReservedConcurrentExecutions=0
    )
    with pytest.raises(ClientError, match="TooManyRequests"):
        cloud.call(name)
    assert cloud.figures("AWS/Lambda", {"FunctionName": name}) == {"Throttles": 1}


def test_percentiles_of_durations_are_answered(cloud: Cloud) -> None:
    name = cloud.function("import time\n\ndef handle(event, context):\n    time.sleep(event)\n")
    for seconds in (0.2, 0.2, 0.2, 0.4):
        cloud.call(name, seconds)
    wanted = [{"Name": "FunctionName", "Value": name}]
    (point,) = cloud.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName="Duration",
        Dimensions=wanted,
        ExtendedStatistics=["p95"],
        Statistics=["Minimum", "Maximum"],
        **period(),
    )["Datapoints"]
    assert point["Minimum"] < point["ExtendedStatistics"]["p95"] <= 1.05 * point["Maximum"]
    metric = {"Namespace": "AWS/Lambda", "MetricName": "Duration", "Dimensions": wanted}
    wide = period()
    query = {"Metric": metric, "Period": wide.pop("Period"), "Stat": "p95"}
    (answer,) = cloud.client("cloudwatch").get_metric_data(
        MetricDataQueries=[{"Id": "a", "MetricStat": query}], **wide
    )["MetricDataResults"]
    assert answer["Values"] == [point["ExtendedStatistics"]["p95"]]


def mapped(cloud: Cloud, name: str, **settings: Any) -> tuple[str, str]:
    """A new stream with a mapping to a function; out: the stream, the mapping's UUID."""
    stream = f"stream-{uuid.uuid4().hex[:8]}"
    cloud.client("kinesis").create_stream(StreamName=stream, ShardCount=1)
    arn = f"arn:aws:kinesis:us-east-2:000000000000:stream/{stream}"
    made = cloud.client("lambda").create_event_source_mapping(
        EventSourceArn=arn, FunctionName=name, StartingPosition="TRIM_HORIZON", **settings
    )
    return stream, made["UUID"]


def put(cloud: Cloud, stream: str, *records: object) -> None:
    cloud.client("kinesis").put_records(
        StreamName=stream,
        Records=[{"Data": json.dumps(one).encode(), "PartitionKey": "k"} for one in records],
    )


COUNTED = {"MetricsConfig": {"Metrics": ["EventCount"]}}
PATTERN = json.dumps({"data": {"kind": ["wanted"]}})


def test_a_mapping_counts_what_becomes_of_its_events(cloud: Cloud) -> None:
    failures = f"failures-{uuid.uuid4().hex[:8]}"
    bucket(cloud.endpoint, failures)
    name = cloud.function(RAISE_ON_BAD)
    stream, mapping = mapped(
        cloud,
        name,
        MaximumRetryAttempts=1,
        FilterCriteria={"Filters": [{"Pattern": PATTERN}]},
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:s3:::{failures}"}},
        **COUNTED,
    )
    put(
        cloud,
        stream,
        {"kind": "wanted", "bad": True},
        {"kind": "wanted"},
        {"kind": "other"},
    )

    def counted() -> dict[str, float]:
        return cloud.figures("AWS/Lambda", {"EventSourceMappingUUID": mapping})

    until(lambda: "OnFailureDestinationDeliveredEventCount" in counted())
    assert counted() == {
        "PolledEventCount": 3,
        "FilteredOutEventCount": 1,
        "InvokedEventCount": 4,  # a batch of two, twice
        "FailedInvokeEventCount": 4,
        "OnFailureDestinationDeliveredEventCount": 2,
    }
    age_ms = cloud.figures("AWS/Lambda", {"FunctionName": name}, "Maximum")["IteratorAge"]
    assert 0 <= age_ms < 60_000
    sent = cloud.figures("AWS/Lambda", {"FunctionName": name}, "SampleCount")
    assert (sent["IteratorAge"], sent["Errors"]) == (2, 2)


def test_events_that_go_nowhere_are_counted_as_dropped(cloud: Cloud) -> None:
    stream, mapping = mapped(cloud, cloud.function(RAISE_ON_BAD), MaximumRetryAttempts=0, **COUNTED)
    put(cloud, stream, {"bad": True})
    until(
        lambda: (
            cloud.figures("AWS/Lambda", {"EventSourceMappingUUID": mapping}).get(
                "DroppedEventCount"
            )
            == 1
        )
    )


def test_a_mapping_counts_nothing_that_it_is_not_asked_to(cloud: Cloud) -> None:
    name = cloud.function(RAISE_ON_BAD)
    stream, mapping = mapped(cloud, name)
    put(cloud, stream, {})
    until(lambda: "IteratorAge" in cloud.figures("AWS/Lambda", {"FunctionName": name}))
    assert cloud.figures("AWS/Lambda", {"EventSourceMappingUUID": mapping}) == {}


def test_streams_and_tables_have_the_metrics_of_the_dashboard(cloud: Cloud) -> None:
    stream = f"stream-{uuid.uuid4().hex[:8]}"
    kinesis = cloud.client("kinesis")
    kinesis.create_stream(StreamName=stream, ShardCount=1)
    kinesis.put_record(StreamName=stream, Data=b"12345", PartitionKey="k")
    put(cloud, stream, {}, {})
    assert cloud.figures("AWS/Kinesis", {"StreamName": stream}) == {
        "IncomingRecords": 3,
        "IncomingBytes": 9,
    }
    name = f"table-{uuid.uuid4().hex[:8]}"
    dynamodb = table(cloud.endpoint, name)
    item = {"PutRequest": {"Item": {"k": {"S": "a"}}}}
    dynamodb.batch_write_item(RequestItems={name: [item]})
    dynamodb.query(
        TableName=name,
        KeyConditionExpression="k = :k",
        ExpressionAttributeValues={":k": {"S": "a"}},
    )
    for operation in ("BatchWriteItem", "Query"):
        dimensions = {"TableName": name, "Operation": operation}
        found = cloud.figures("AWS/DynamoDB", dimensions, "Maximum")
        assert 0 < found["SuccessfulRequestLatency"] < 10_000


def line(at: datetime, **fields: Any) -> dict[str, Any]:
    """A log line with the metric ``lost`` in it, of a namespace of its own."""
    directive = {
        "Namespace": "lines",
        "Dimensions": [["stage"]],
        "Metrics": [{"Name": "lost", "Unit": "Count"}],
    }
    return {
        "_aws": {"Timestamp": int(at.timestamp() * 1000), "CloudWatchMetrics": [directive]},
        **fields,
    }


def test_metrics_in_log_lines_are_extracted_and_other_lines_are_just_kept(cloud: Cloud) -> None:
    name, now = cloud.function(PRINT), datetime.now(UTC)
    lines = [
        line(now, stage="dev", lost=2),
        line(now, stage="dev", lost=[1, 0.5]),
        line(now, stage="prod", lost=1),
        line(now, stage="dev", lost="many"),
        line(now - timedelta(days=2), stage="dev", lost=100),
        line(now + timedelta(hours=3), stage="dev", lost=100),
        '{"_aws": not a document',
    ]
    cloud.call(name, {"lines": lines})
    assert cloud.figures("lines", {"stage": "dev"}) == {"lost": 3.5}
    assert cloud.figures("lines", {"stage": "prod"}) == {"lost": 1}
    events = cloud.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    printed = [one["message"] for one in events if one["message"].startswith("{")]
    assert len(printed) == len(lines)


# What the alarms make of it -----------------------------------------------------------------


@pytest.fixture
def clock(cloud: Cloud) -> Iterator[Callable[[float], None]]:
    """Moves the alarms' clock, which starts and ends in the present."""
    yield cloud.later
    cloud.later(0)


def of_function(metric: str, name: str) -> dict[str, Any]:
    dimensions = [{"Name": "FunctionName", "Value": name}]
    watched = {"Namespace": "AWS/Lambda", "MetricName": metric, "Dimensions": dimensions}
    return {**watched, "Statistic": "Sum"}


def test_an_alarm_goes_off_when_its_own_function_fails_and_ends_in_silence(
    cloud: Cloud, clock: Callable[[float], None]
) -> None:
    bad, good = cloud.function(RAISE), cloud.function(RETURN)
    failing, other = (cloud.alarm(**of_function("Errors", name)) for name in (bad, good))
    clock(MINUTE_S)
    until(lambda: failing.told() == ["OK"] and other.told() == ["OK"])

    cloud.call(bad)
    cloud.call(good)
    clock(2 * MINUTE_S)
    until(lambda: failing.told() == ["OK", "ALARM"])
    assert failing.state == "ALARM"
    assert failing.reason == (
        "Threshold Crossed: of the last 1, 1 datapoint was greater than the threshold (0.0): [1.0]."
    )

    cloud.call(bad)  # it goes on, and nobody is told again
    witness = cloud.alarm(**of_function("Errors", good))
    clock(3 * MINUTE_S)
    until(witness.told)
    assert failing.told() == ["OK", "ALARM"]

    clock(9 * MINUTE_S)
    until(lambda: failing.told()[2:])
    assert (failing.told(), failing.state) == (["OK", "ALARM", "OK"], "OK")
    assert failing.reason == (
        "Threshold Crossed: 1 missing datapoint was treated as [NonBreaching]."
    )
    assert other.told() == ["OK"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # In the minute before the last one a 10, in the last one a 1 and a 4.
        ({"Statistic": "Sum", "Threshold": 14.5}, "ALARM"),
        ({"Statistic": "Sum", "Threshold": 15}, "OK"),
        ({"Statistic": "Average", "Threshold": 4.9}, "ALARM"),
        ({"Statistic": "Average", "Threshold": 5}, "OK"),
        ({"Statistic": "Maximum", "Threshold": 9.5}, "ALARM"),
        ({"Statistic": "SampleCount", "Threshold": 2.5}, "ALARM"),
        ({"Statistic": "Minimum", "Threshold": 1}, "OK"),
        ({"ExtendedStatistic": "p50", "Threshold": 3.9}, "ALARM"),
        ({"ExtendedStatistic": "p50", "Threshold": 4}, "OK"),
        ({"Statistic": "Sum", "Threshold": 1, "Unit": "Seconds"}, "OK"),
        ({"Statistic": "Sum", "Threshold": 1, "Unit": "Count"}, "ALARM"),
        ({"Statistic": "Sum", "Threshold": 5, "Period": MINUTE_S}, "OK"),
        ({"Statistic": "Sum", "Threshold": 4.5, "Period": MINUTE_S, "N": 3, "M": 2}, "ALARM"),
        ({"Statistic": "Sum", "Threshold": 5.5, "Period": MINUTE_S, "N": 3, "M": 2}, "OK"),
        ({"Statistic": "Sum", "Threshold": 4.5, "Period": MINUTE_S, "N": 3}, "OK"),
    ],
    ids=str,
)
def test_an_alarm_follows_its_statistic_and_its_periods(
    cloud: Cloud, clock: Callable[[float], None], settings: dict[str, Any], expected: str
) -> None:
    dimensions = [{"Name": "test", "Value": uuid.uuid4().hex}]
    # Ahead of the clock on the wall, so that no minute of that one can end in between.
    now = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=2)
    clock(MINUTE_S + (now.timestamp() - datetime.now(UTC).timestamp()))
    data = [
        {"MetricName": "put", "Dimensions": dimensions, "Unit": "Count", "Value": value,
         "Timestamp": now - timedelta(seconds=ago)}
        for ago, value in ((60, 10), (0, 1), (0, 4))
    ]  # fmt: skip
    cloud.client("cloudwatch").put_metric_data(Namespace="test", MetricData=data)
    given = dict(settings)
    needed = {"DatapointsToAlarm": given.pop("M")} if "M" in given else {}
    alarm = cloud.alarm(
        Namespace="test",
        MetricName="put",
        Dimensions=dimensions,
        **{"EvaluationPeriods": given.pop("N", 1), **needed, **given},
    )
    assert until(alarm.told) == [expected]


def test_who_cannot_be_told_of_an_alarm_now_is_told_at_the_next_evaluation(
    cloud: Cloud, clock: Callable[[float], None]
) -> None:
    bad = cloud.function(RAISE)
    alarm = cloud.alarm(**of_function("Errors", bad))
    sns, outbox = cloud.client("sns"), Outbox(Places(cloud.home).local)
    topic = sns.create_topic(Name=alarm.name)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="reader@example.com")
    clock(MINUTE_S)
    until(lambda: alarm.told() == ["OK"])
    cloud.call(bad)

    aside = outbox.path.rename(outbox.path.with_name("aside"))
    outbox.path.mkdir()
    try:
        clock(2 * MINUTE_S)
        said = f"alarm {alarm.name}: nobody is told: Is a directory"
        until(lambda: said in Places(cloud.home).log.read_text())
        assert alarm.state == "OK"
    finally:
        outbox.path.rmdir()
        aside.rename(outbox.path)
    until(lambda: alarm.state == "ALARM")
    assert alarm.told() == ["OK", "ALARM"]
    subjects = [mail.subject for mail in outbox.read() if mail.topic == topic]
    assert [subject.split(":")[0] for subject in subjects[-2:]] == ["OK", "ALARM"]


def test_metrics_are_dropped_when_they_are_too_old_in_every_region(
    cloud: Cloud, clock: Callable[[float], None]
) -> None:
    """By the clock alone: nobody need ask for a metric."""
    import boto3

    endpoint, name = cloud.endpoint, f"stream-{uuid.uuid4().hex[:8]}"
    regions = ("us-east-2", "eu-west-1")

    def there(service: str, region: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service, endpoint_url=endpoint.url, region_name=region,
            aws_access_key_id=endpoint.access_key_id,
            aws_secret_access_key=endpoint.secret_access_key,
        )  # fmt: skip

    def known() -> list[str]:
        wanted = [{"Name": "StreamName", "Value": name}]
        found = [
            there("cloudwatch", region).list_metrics(Dimensions=wanted)["Metrics"]
            for region in regions
        ]
        return [metric["MetricName"] for metrics in found for metric in metrics]

    for region in regions:
        kinesis = there("kinesis", region)
        kinesis.create_stream(StreamName=name, ShardCount=1)
        kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="p")
    assert sorted(known()) == ["IncomingBytes"] * 2 + ["IncomingRecords"] * 2
    clock(23 * 3600)
    sleeping = cloud.alarm(**of_function("Errors", "nobody"))
    until(sleeping.told)
    assert len(known()) == 4
    clock(24 * 3600 + 2 * MINUTE_S)
    until(lambda: not known())


@pytest.mark.parametrize(
    ("period", "due"), [(10, True), (30, True), (60, False), (300, False)], ids=str
)
def test_alarms_of_less_than_a_minute_are_evaluated_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, period: int, due: bool
) -> None:
    from ministack.services import cloudwatch

    alarm = {
        "AlarmName": "a", "Namespace": "nobody's", "MetricName": "m", "Statistic": "Sum",
        "Period": period, "EvaluationPeriods": 1, "Threshold": 0.0, "StateValue": "ALARM",
        "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching",
    }  # fmt: skip
    alarms_kept = type(cloudwatch._alarms)()
    alarms_kept["a"] = alarm
    monkeypatch.setattr(cloudwatch, "_alarms", alarms_kept)
    noon = 1_637_496_000.0
    assert alarms.evaluate(noon + 20, since=noon + 10) is due
    assert alarm["StateValue"] == ("OK" if due else "ALARM")


# The pipeline's own ------------------------------------------------------------------------------


def test_what_is_no_quote_sets_off_the_pipeline_s_alarm_and_status_shows_it(
    cloud: Cloud, clock: Callable[[float], None]
) -> None:
    cli = Cli(cloud.home)
    cli.make()
    names = cli.aws.names
    queue, quarantine = cloud.inbox(names.operations_topic_arn), names.alarm("quarantine")
    empty = json.loads(cli("status", "--json").out)
    assert empty["functions"] == [
        {"name": name, "invocations": 0, "errors": 0, "lag_s": None}
        for name in (names.process_function, names.trend_function)
    ]
    cloud.client("kinesis").put_record(StreamName=names.stream, Data=b"no quote", PartitionKey="X")
    cli.settle()
    clock(MINUTE_S)

    def told() -> list[tuple[str, str]]:
        return [(name, state) for name, state in cloud.heard(queue) if name == quarantine]

    assert until(told) == [(quarantine, "ALARM")]
    document = json.loads(cli("status", "--json", code=1).out)
    states = {one["name"]: one["state"] for one in document["resources"]}
    assert (states[quarantine], document["healthy"]) == ("alarm", False)
    process, _ = document["functions"]
    assert process["name"] == names.process_function
    assert (process["invocations"], process["errors"]) == (1, 0)
    assert 0 <= process["lag_s"] < 60
    shown = [line.split() for line in cli("status", code=1).out.splitlines()]
    assert ["alarm", quarantine, "alarm"] in shown
    assert [names.process_function, "1", "0"] in [words[:3] for words in shown]

    clock(10 * MINUTE_S)
    until(lambda: cloud.state(quarantine) == "OK")
    cli("status")


def ours(cloud: Cloud, prefix: str) -> list[str]:
    found = cloud.client("cloudwatch").describe_alarms(AlarmNamePrefix=prefix)["MetricAlarms"]
    return [str(alarm["AlarmName"]) for alarm in found]


def test_a_bug_in_a_function_sets_off_its_alarm_and_no_other(
    cloud: Cloud, clock: Callable[[float], None]
) -> None:
    cli = Cli(cloud.home, stack="bug")
    cli.make()
    names = cli.aws.names
    queue = cloud.inbox(names.operations_topic_arn)

    cloud.call(names.process_function, {"no": "Records"})
    clock(MINUTE_S)

    def alarming() -> list[str]:
        return [name for name, state in cloud.heard(queue) if state == "ALARM"]

    assert until(alarming) == [names.alarm("process-errors")]
    states = {name: cloud.state(name) for name in ours(cloud, "stockpipe-bug")}
    assert [name for name, state in states.items() if state != "OK"] == [
        names.alarm("process-errors")
    ]
    process, trend = json.loads(cli("status", "--json", code=1).out)["functions"]
    assert (process["errors"], trend["errors"]) == (1, 0)


def test_metrics_and_states_survive_a_clean_stop(
    cloud: Cloud, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = cloud.function(RAISE)
    cloud.call(name)
    before = cloud.figures("AWS/Lambda", {"FunctionName": name})
    alarm = cloud.alarm(**of_function("Errors", name))
    clock(MINUTE_S)
    until(lambda: alarm.state == "ALARM")
    daemon.stop(cloud.home)
    monkeypatch.setenv("PYTHONPATH", str(cloud.home))
    assert daemon.ensure_running(cloud.home) == cloud.endpoint
    assert alarm.state == "ALARM"
    cloud.call(name)
    after = cloud.figures("AWS/Lambda", {"FunctionName": name})
    assert (before["Errors"], after["Errors"]) == (1, 2)


# What is mended --------------------------------------------------------------------------------

STOCK = """
import json, time

import ministack.app
from ministack.services import cloudwatch, cloudwatch_logs, dynamodb, kinesis, lambda_svc

found = {}


def points(namespace, name):
    return [point for key, kept in cloudwatch._metrics.items() if key[:2] == (namespace, name)
            for point in kept]


# alarms.install
def alarm(**changed):
    made = {"AlarmName": "a", "Namespace": "n", "MetricName": "m", "Statistic": "Sum",
            "Period": 60, "EvaluationPeriods": 1, "Threshold": 0.0, "StateValue": "OK",
            "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching",
            "Dimensions": [{"Name": "of", "Value": "a"}], **changed}
    cloudwatch._alarms["a"] = made
    cloudwatch._evaluate_all_alarms()
    return made["StateValue"]


cloudwatch.record_metric("n", "m", 1, "Count", {"of": "b"})
found["an alarm takes another's metric"] = alarm() == "ALARM"
cloudwatch._metrics.clear()
found["an alarm does not end in silence"] = alarm(StateValue="ALARM") == "ALARM"
cloudwatch.record_metric("n", "m", 1, "Count", {"of": "a"})
several = {"EvaluationPeriods": 3, "DatapointsToAlarm": 3}
found["one bad period is as bad as three"] = alarm(**several) == "ALARM"

# feeds.keep_statistic_sets
sets = [{"_stat": {"SampleCount": 2, "Sum": 3, "Minimum": 1, "Maximum": 2}}]
found["statistic sets have no percentiles"] = cloudwatch._percentile_samples(sets) is None
cloudwatch._metrics["k"] = kept = [{"Timestamp": time.time()}]
cloudwatch._evict_old_metrics()
found["evicting loses what is being counted"] = cloudwatch._metrics["k"] is not kept
del cloudwatch._metrics["k"]

# feeds.measure_functions
config = {"FunctionName": "f", "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f"}
lambda_svc._execute_function_dispatch = lambda *call: {"error": True}
lambda_svc._execute_function({"config": config}, {})
found["a call that a service makes is not counted"] = not points("AWS/Lambda", "Errors")
for _ in range(2):
    lambda_svc._emit_lambda_metrics("f", 1.0, False, False)
found["every call is a point"] = len(points("AWS/Lambda", "Invocations")) == 2
lambda_svc._emit_lambda_metrics("f", 0.0, True, True)
found["a throttled call is an invocation"] = len(points("AWS/Lambda", "Invocations")) == 3

# feeds.measure_streams, feeds.measure_tables
kinesis._create_stream({"StreamName": "s", "ShardCount": 1})
kinesis._streams["s"]["StreamStatus"] = "ACTIVE"
status, _, _ = kinesis._put_record({"StreamName": "s", "PartitionKey": "k", "Data": "eA=="})
found["nobody counts records"] = status == 200 and not points("AWS/Kinesis", "IncomingRecords")
dynamodb._create_table({"TableName": "table", "BillingMode": "PAY_PER_REQUEST",
                        "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
                        "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}]})
dynamodb._tables["table"]["TableStatus"] = "ACTIVE"
status, _, _ = dynamodb._get_item({"TableName": "table", "Key": {"k": {"S": "a"}}})
latency = points("AWS/DynamoDB", "SuccessfulRequestLatency")
found["nobody measures latency"] = status == 200 and not latency

# feeds.read_log_lines
line = {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [
    {"Namespace": "n", "Dimensions": [[]], "Metrics": [{"Name": "emf"}]}]}, "emf": 1}
now = int(time.time() * 1000)
cloudwatch_logs._append_log_events(
    {"events": [], "firstEventTimestamp": None, "lastEventTimestamp": None},
    [{"timestamp": now, "message": json.dumps(line), "ingestionTime": now}])
found["metrics stay in their log lines"] = not points("n", "emf")
print(json.dumps(found))
"""


def test_every_flaw_that_we_mend_is_still_there() -> None:
    found = flaws(STOCK, AUTH="false")
    assert len(found) == 11
    assert [flaw for flaw, there in found.items() if not there] == []


@pytest.mark.parametrize("name", ["_evaluate_alarm", "_stat_value"])
def test_an_emulator_whose_alarms_are_not_as_we_know_them_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from ministack.services import cloudwatch

    for attribute in ("_evaluate_alarm", "_evaluate_all_alarms"):
        monkeypatch.setattr(cloudwatch, attribute, getattr(cloudwatch, attribute))
    monkeypatch.delattr(cloudwatch, name)
    with pytest.raises(LocalCloudError, match=name):
        alarms.install()
