"""Metrics of the embedded cloud: what happens is counted, as on AWS."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded import bucket, table
from metrics_cloud import Cloud, metered, period

from awaited import until

pytest.importorskip("ministack")


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


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with metered(tmp_path_factory.mktemp("metrics") / "home") as cloud:
        yield cloud


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
