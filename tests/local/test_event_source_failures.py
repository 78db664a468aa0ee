"""Event source mappings whose function fails: retries, what is given up, and who is told of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from event_source_cases import (
    FAIL_BAD,
    RAISE_ON_BAD,
    a_bucket_for_failures,
    discarded,
    numbered,
    ours_only,
    payload_numbers,
    polled,
    to,
)
from event_source_cloud import ACCOUNT, REGION, Cloud, until

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with polled(tmp_path_factory.mktemp("cloud")) as server:
        yield server


@pytest.fixture
def cloud(server: Cloud) -> Iterator[Cloud]:
    yield server
    server.unmap()


@pytest.fixture
def failures(cloud: Cloud) -> str:
    return a_bucket_for_failures(cloud)


def test_retries_are_limited_and_the_batch_is_kept_with_its_payload(
    cloud: Cloud, failures: str
) -> None:
    arn, function = cloud.stream(), cloud.function(RAISE_ON_BAD)
    mapping = cloud.map(arn, function, MaximumRetryAttempts=2, DestinationConfig=to(failures))
    sequences = cloud.put(arn, {"n": 1}, {"n": 2, "bad": True})
    [record] = until("a failure", lambda: discarded(cloud, failures, mapping))
    assert cloud.numbers(function, "raised") == [1, 2] * 3
    cloud.put(arn, {"n": 3})
    until("the shard moves on", lambda: cloud.numbers(function) == [3])
    assert payload_numbers(record) == [1, 2]
    assert record["version"] == "1.0"
    assert datetime.fromisoformat(record["timestamp"]) < datetime.now(UTC)
    request, response = record["requestContext"], record["responseContext"]
    assert request.pop("requestId")
    assert request == {
        "functionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}",
        "condition": "RetryAttemptsExhausted",
        "approximateInvokeCount": 3,
    }
    assert response == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    batch = record["KinesisBatchInfo"]
    for name in ("approximateArrivalOfFirstRecord", "approximateArrivalOfLastRecord"):
        assert batch.pop(name).endswith("Z")
    assert batch == {
        "shardId": "shardId-000000000000",
        "startSequenceNumber": sequences[0],
        "endSequenceNumber": sequences[1],
        "batchSize": 2,
        "streamArn": arn,
    }


def test_the_key_of_a_failure_is_the_one_that_lambda_uses(cloud: Cloud, failures: str) -> None:
    arn, function = cloud.stream(), cloud.function("raise ValueError('no')")
    mapping = cloud.map(arn, function, MaximumRetryAttempts=0, DestinationConfig=to(failures))
    cloud.put(arn, {"n": 1})
    until("a failure", lambda: discarded(cloud, failures, mapping))
    listed = cloud.client("s3").list_objects_v2(Bucket=failures.removeprefix("arn:aws:s3:::"))
    *folders, name = listed["Contents"][0]["Key"].split("/")
    assert folders[:4] == ["aws", "lambda", mapping, "shardId-000000000000"]
    moment = datetime.strptime(name[:19], "%Y-%m-%dT%H.%M.%S").replace(tzinfo=UTC)
    assert folders[4:] == [f"{moment:%Y}", f"{moment:%m}", f"{moment:%d}"]
    assert datetime.now(UTC) - moment < timedelta(minutes=1)
    assert len(name[19:]) == len("-") + 36


def test_retries_are_unlimited_by_default(cloud: Cloud, failures: str) -> None:
    arn = cloud.stream()
    function = cloud.function(
        """
place = os.environ["ENDPOINT"], os.environ["BUCKET"], "good", os.environ["CALLS"]
urllib.request.urlopen("/".join(place)).read()  # raises until there is such an object
"""
    )
    mapping = cloud.map(arn, function, DestinationConfig=to(failures))
    cloud.put(arn, {"n": 1})
    until("four failures", lambda: len(cloud.numbers(function, "raised")) >= 4)
    cloud.client("s3").put_object(Bucket=cloud.bucket, Key=f"good/{function}", Body=b"{}")
    until("success at last", lambda: cloud.numbers(function) == [1])
    assert discarded(cloud, failures, mapping) == []


def test_records_beyond_the_maximum_age_are_given_up(cloud: Cloud, failures: str) -> None:
    arn, function = cloud.stream(), cloud.function(RAISE_ON_BAD)
    mapping = cloud.map(arn, function, MaximumRecordAgeInSeconds=2, DestinationConfig=to(failures))
    cloud.put(arn, {"n": 0})
    until("the function is warm", lambda: cloud.numbers(function) == [0])
    cloud.put(arn, {"n": 1, "bad": True})
    [record] = until("a failure", lambda: discarded(cloud, failures, mapping))
    assert record["requestContext"]["condition"] == "RecordAgeExceeded"
    assert "responseContext" not in record
    assert payload_numbers(record) == [1]
    assert len(cloud.numbers(function, "raised")) > 1
    cloud.put(arn, {"n": 2})
    until("the shard moves on", lambda: cloud.numbers(function) == [0, 2])


def test_a_poison_record_in_a_batch_of_100_is_isolated(cloud: Cloud, failures: str) -> None:
    """Splitting consumes no retry: with none allowed, one record of 100 is given up."""
    arn, function = cloud.stream(), cloud.function(RAISE_ON_BAD)
    cloud.put(arn, *({"n": n, "bad": n == 61} for n in range(100)))
    mapping = cloud.map(
        arn,
        function,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=0,
        DestinationConfig=to(failures),
    )
    others = [n for n in range(100) if n != 61]
    until("99 processed", lambda: cloud.numbers(function) == others)
    [record] = discarded(cloud, failures, mapping)
    assert payload_numbers(record) == [61]
    cloud.put(arn, {"n": 100})
    until("the shard moves on", lambda: cloud.numbers(function) == [*others, 100])
    assert cloud.numbers(function, "raised").count(61) == 8  # 100, 50, 25, 13, 7, 4, 2, 1


def test_a_reported_failure_is_retried_from_the_lowest_sequence_number(cloud: Cloud) -> None:
    arn = cloud.stream()
    function = cloud.function(
        """
if STATE.setdefault("calls", 0) == 0:
    STATE["calls"] = 1
    names = [records[7]["seq"], records[4]["seq"]]
    return {"batchItemFailures": [{"itemIdentifier": name} for name in names]}
return {"batchItemFailures": []}
"""
    )
    cloud.put(arn, *numbered(*range(10)))
    cloud.map(arn, function, FunctionResponseTypes=["ReportBatchItemFailures"])
    until("a retry", lambda: len(cloud.calls(function)) == 2)
    assert [call["n"] for call in cloud.calls(function)] == [list(range(10)), list(range(4, 10))]


def test_a_reported_record_that_never_succeeds_takes_the_rest_of_its_batch_along(
    cloud: Cloud, failures: str
) -> None:
    arn, function = cloud.stream(), cloud.function(FAIL_BAD)
    cloud.put(arn, *({"n": n, "bad": n == 2} for n in range(5)))
    mapping = cloud.map(
        arn,
        function,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        MaximumRetryAttempts=1,
        DestinationConfig=to(failures),
    )
    [record] = until("a failure", lambda: discarded(cloud, failures, mapping))
    assert payload_numbers(record) == [2, 3, 4]
    assert "functionError" not in record["responseContext"]
    assert [call["n"] for call in cloud.calls(function)] == [[0, 1, 2, 3, 4], [2, 3, 4], [2, 3, 4]]


def test_with_bisect_a_reported_record_goes_alone(cloud: Cloud, failures: str) -> None:
    arn, function = cloud.stream(), cloud.function(FAIL_BAD)
    cloud.put(arn, *({"n": n, "bad": n == 2} for n in range(5)))
    mapping = cloud.map(
        arn,
        function,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=1,
        DestinationConfig=to(failures),
    )
    cloud.put(arn, {"n": 5})
    [record] = until("a failure", lambda: discarded(cloud, failures, mapping))
    assert payload_numbers(record) == [2]
    until("all others", lambda: {0, 1, 3, 4, 5} <= set(cloud.numbers(function)))


@pytest.mark.parametrize(
    "answer", ["{'batchItemFailures': [{'itemIdentifier': 'unknown'}]}", "{'batchItemFailures': 7}"]
)
def test_a_malformed_report_fails_the_whole_batch(cloud: Cloud, failures: str, answer: str) -> None:
    arn, function = cloud.stream(), cloud.function(f"return {answer}")
    cloud.put(arn, *numbered(1, 2))
    mapping = cloud.map(
        arn,
        function,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        MaximumRetryAttempts=0,
        DestinationConfig=to(failures),
    )
    [record] = until("a failure", lambda: discarded(cloud, failures, mapping))
    assert payload_numbers(record) == [1, 2]


def test_a_report_that_was_not_asked_for_is_ignored(cloud: Cloud) -> None:
    arn, function = cloud.stream(), cloud.function(FAIL_BAD)
    cloud.map(arn, function)
    cloud.put(arn, {"n": 1, "bad": True}, {"n": 2})
    until("both", lambda: cloud.calls(function))
    cloud.put(arn, {"n": 3})
    until("the next", lambda: 3 in cloud.numbers(function))
    assert cloud.numbers(function) == [1, 2, 3]


def test_queues_and_topics_are_told_without_the_payload(cloud: Cloud) -> None:
    sqs, sns = cloud.client("sqs"), cloud.client("sns")
    queues = [sqs.create_queue(QueueName=f"q{time.time_ns()}")["QueueUrl"] for _ in range(2)]
    arns = [
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        for url in queues
    ]
    topic = sns.create_topic(Name=f"t{time.time_ns()}")["TopicArn"]
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=arns[1],
        Attributes={"RawMessageDelivery": "true"},
    )
    function = cloud.function("raise ValueError('no')")
    (table, stream), kinesis = cloud.table(), cloud.stream()
    cloud.map(stream, function, MaximumRetryAttempts=0, DestinationConfig=to(arns[0]))
    cloud.map(kinesis, function, MaximumRetryAttempts=0, DestinationConfig=to(topic))
    cloud.items(table, 1)
    cloud.put(kinesis, {"n": 1})

    def receive(url: str) -> Any:
        return sqs.receive_message(QueueUrl=url).get("Messages")

    told = []
    for url in queues:
        answer = until("a message", partial(receive, url))
        told.append(json.loads(answer[0]["Body"]))
    assert [sorted(record) for record in told] == [
        ["DDBStreamBatchInfo", "requestContext", "responseContext", "timestamp", "version"],
        ["KinesisBatchInfo", "requestContext", "responseContext", "timestamp", "version"],
    ]
    batch = told[0]["DDBStreamBatchInfo"]
    assert batch["streamArn"] == stream
    assert batch["batchSize"] == 1
    assert datetime.strptime(batch["approximateArrivalOfFirstRecord"], "%Y-%m-%dT%H:%M:%S%z")


@ours_only
def test_throttling_consumes_no_retry(cloud: Cloud, failures: str) -> None:
    functions = cloud.client("lambda")
    arn, function = cloud.stream(), cloud.function()
    functions.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    mapping = cloud.map(arn, function, MaximumRetryAttempts=0, DestinationConfig=to(failures))
    cloud.put(arn, {"n": 1})
    until("it was throttled", lambda: "TooManyRequests" in json.dumps(cloud.status(mapping)))
    functions.delete_function_concurrency(FunctionName=function)
    until("it went through", lambda: cloud.numbers(function) == [1])
    assert discarded(cloud, failures, mapping) == []


@ours_only
def test_a_failure_waits_for_its_destination(cloud: Cloud) -> None:
    """The shard stands until the record is kept: going on would lose it."""
    arn, function = cloud.stream(), cloud.function(RAISE_ON_BAD)
    bucket = f"not-yet-{time.time_ns()}"
    mapping = cloud.map(
        arn, function, MaximumRetryAttempts=0, DestinationConfig=to(f"arn:aws:s3:::{bucket}")
    )
    cloud.put(arn, {"n": 1, "bad": True})
    until("it cannot be delivered", lambda: "NoSuchBucket" in json.dumps(cloud.status(mapping)))
    assert cloud.position(mapping) == {}
    cloud.client("s3").create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    until("it is", lambda: cloud.objects(f"aws/lambda/{mapping}/", bucket))


def test_a_blocked_shard_does_not_delay_another(cloud: Cloud) -> None:
    arn, function = cloud.stream(shards=2), cloud.function(RAISE_ON_BAD)
    cloud.map(arn, function)
    cloud.put(arn, {"n": 0, "bad": True}, ExplicitHashKey="0")
    until("the first shard fails", lambda: cloud.numbers(function, "raised"))

    def arrived(count: int) -> bool:
        return cloud.numbers(function) == list(range(1, count + 1))

    for n in range(1, 6):
        cloud.put(arn, {"n": n}, ExplicitHashKey=str(2**128 - 1))
        until("the second goes on", partial(arrived, n))


@ours_only
def test_status_is_written_for_people(cloud: Cloud, tmp_path: Path) -> None:
    arn, function = cloud.stream(), cloud.function(RAISE_ON_BAD)
    mapping = cloud.map(arn, function)
    cloud.put(arn, {"n": 1, "bad": True})

    def blocked() -> dict[str, Any]:
        shards: dict[str, dict[str, Any]] = cloud.status(mapping).get("shards", {})
        found = shards.get("shardId-000000000000", {})
        return found if found.get("iterator_age_ms", 0) > 100 and found["last_error"] else {}

    shard = until("its age grows while it is blocked", blocked)
    assert shard["last_error"] == "Unhandled: Runtime.HandlerError: a bad record"
    assert shard["last_error_at"].endswith("Z")
    assert shard["failures"] >= 1
    assert shard["records"] == 0
