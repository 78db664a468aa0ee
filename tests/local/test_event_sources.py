"""Event source mappings as AWS documents them, on a real emulator: what reaches the function, and
what becomes of a mapping that is changed, deleted or refused.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from event_source_cases import numbered, ours_only, polled
from event_source_cloud import REGION, ROLE, Cloud, until

from stockpipe.errors import LocalCloudError
from stockpipe.local.event_sources.runner import install

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with polled(tmp_path_factory.mktemp("cloud")) as server:
        yield server


@pytest.fixture
def cloud(server: Cloud) -> Iterator[Cloud]:
    yield server
    server.unmap()


def test_kinesis_records_reach_the_function_as_aws_sends_them(cloud: Cloud) -> None:
    arn, function = cloud.stream(), cloud.function()
    cloud.map(arn, function)
    before = time.time()
    [sequence] = cloud.put(arn, {"n": 1}, key="AAPL")
    [call] = until("one call", lambda: cloud.calls(function))
    [record] = call["event"]["Records"]
    arrived = record["kinesis"].pop("approximateArrivalTimestamp")
    assert isinstance(arrived, int | float)
    assert before - 1 < arrived < time.time() + 1
    assert record == {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "AAPL",
            "sequenceNumber": sequence,
            "data": "eyJuIjogMX0=",
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": ROLE,
        "awsRegion": REGION,
        "eventSourceARN": arn,
    }


def test_dynamodb_records_reach_the_function_as_aws_sends_them(cloud: Cloud) -> None:
    (table, arn), function = cloud.table("NEW_AND_OLD_IMAGES"), cloud.function()
    cloud.map(arn, function)
    cloud.items(table, 1, blob={"B": b"\x00\xff"}, tags={"SS": ["a", "b"]}, none={"NULL": True})
    cloud.items(table, 1, price={"N": "1.5"})
    cloud.client("dynamodb").delete_item(TableName=table, Key={"k": {"S": "k"}, "n": {"N": "1"}})
    until("three records", lambda: len(cloud.numbers(function)) == 3)
    records = [record for call in cloud.calls(function) for record in call["event"]["Records"]]
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "REMOVE"]
    first, second, third = records
    change = first["dynamodb"]
    assert isinstance(change.pop("ApproximateCreationDateTime"), int | float)
    assert change.pop("SequenceNumber").isdigit()
    assert isinstance(change.pop("SizeBytes"), int)
    keys = {"k": {"S": "k"}, "n": {"N": "1"}}
    old = keys | {"blob": {"B": "AP8="}, "tags": {"SS": ["a", "b"]}, "none": {"NULL": True}}
    assert change == {"Keys": keys, "NewImage": old, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert second["dynamodb"]["OldImage"] == old
    assert second["dynamodb"]["NewImage"] == keys | {"price": {"N": "1.5"}}
    assert "NewImage" not in third["dynamodb"]
    assert first.pop("eventID")
    assert {name: first[name] for name in first if name not in ("dynamodb", "eventName")} == {
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "eventSourceARN": arn,
    }


def test_mappings_of_another_region_run_there(cloud: Cloud) -> None:
    region = "eu-west-1"
    arn, function = cloud.stream(region=region), cloud.function(region=region)
    cloud.map(arn, function)
    cloud.put(arn, {"n": 1})
    [call] = until("one call", lambda: cloud.calls(function))
    assert call["event"]["Records"][0]["awsRegion"] == region


def test_batch_size_bounds_every_batch_and_order_is_kept(cloud: Cloud) -> None:
    arn, function = cloud.stream(), cloud.function()
    cloud.put(arn, *numbered(*range(25)))
    cloud.map(arn, function, BatchSize=10)
    until("all records", lambda: len(cloud.numbers(function)) >= 25)
    assert [call["n"] for call in cloud.calls(function)] == [
        list(range(10)),
        list(range(10, 20)),
        list(range(20, 25)),
    ]


def test_batching_window_gathers_and_a_full_batch_does_not_wait_for_it(cloud: Cloud) -> None:
    arn, function = cloud.stream(), cloud.function()
    patient = cloud.function()
    mapping = cloud.map(arn, function, BatchSize=5, MaximumBatchingWindowInSeconds=2)
    cloud.map(arn, patient, BatchSize=5, MaximumBatchingWindowInSeconds=300)
    until("it is followed", lambda: cloud.followed(mapping))
    began = time.time()
    cloud.put(arn, {"n": 0})
    cloud.put(arn, {"n": 1})
    [call] = until("one call", lambda: cloud.calls(function))
    assert call["n"] == [0, 1]
    assert call["at"] / 1e9 - began > 1.9
    assert cloud.calls(patient) == []
    cloud.put(arn, *numbered(2, 3, 4))
    until("a full batch", lambda: cloud.numbers(patient) == list(range(5)))


def test_an_event_stays_below_six_megabytes(cloud: Cloud) -> None:
    arn = cloud.stream()
    function = cloud.function("return [record.pop('pad') and None for record in records] and None")
    pad = "x" * 900_000
    for n in range(10):
        cloud.put(arn, {"n": n, "pad": pad})
    cloud.map(arn, function, BatchSize=100)
    until("all records", lambda: len(cloud.numbers(function)) >= 10)
    assert cloud.numbers(function) == list(range(10))
    sizes = [
        len(json.dumps(call["event"], separators=(",", ":"))) for call in cloud.calls(function)
    ]
    assert max(sizes) <= 6 * 1024 * 1024
    assert len(sizes) <= 3


def test_starting_positions_of_kinesis(cloud: Cloud) -> None:
    arn = cloud.stream()
    oldest, latest, timed = cloud.function(), cloud.function(), cloud.function()
    cloud.put(arn, {"n": 1})
    time.sleep(0.01)  # arrival times are whole milliseconds
    moment = datetime.now(UTC)
    cloud.put(arn, {"n": 2})
    cloud.map(arn, oldest, StartingPosition="TRIM_HORIZON")
    late = cloud.map(arn, latest, StartingPosition="LATEST")
    cloud.map(arn, timed, StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=moment)
    until("LATEST is followed", lambda: cloud.followed(late))
    cloud.put(arn, {"n": 3})
    until("TRIM_HORIZON", lambda: cloud.numbers(oldest) == [1, 2, 3])
    until("LATEST", lambda: cloud.numbers(latest) == [3])
    until("AT_TIMESTAMP", lambda: cloud.numbers(timed) == [2, 3])


def test_latest_of_dynamodb_begins_now(cloud: Cloud) -> None:
    (table, arn), function = cloud.table(), cloud.function()
    cloud.items(table, 1, 2)
    mapping = cloud.map(arn, function, StartingPosition="LATEST")
    until("it is followed", lambda: cloud.followed(mapping))
    cloud.items(table, 3)
    until("the new item", lambda: cloud.numbers(function) == [3])


def test_filtered_records_are_left_out_and_passed_by(cloud: Cloud) -> None:
    arn, function = cloud.stream(), cloud.function()
    pattern = {"Filters": [{"Pattern": json.dumps({"data": {"n": [{"numeric": [">", 2]}]}})}]}
    mapping = cloud.map(arn, function, FilterCriteria=pattern)
    last = cloud.put(arn, *numbered(1, 3, 2, 4, 0))[-1]
    until("what passes", lambda: cloud.numbers(function) == [3, 4])
    if cloud.ours:
        until("the checkpoint is at the end", lambda: last in cloud.position(mapping).values())
    last = cloud.put(arn, {"n": 1})[-1]
    if cloud.ours:
        until("it passes by", lambda: last in cloud.position(mapping).values())
    cloud.put(arn, {"n": 5})
    until("the next", lambda: 5 in cloud.numbers(function))
    assert cloud.numbers(function) == [3, 4, 5]


def test_the_children_of_a_split_shard_are_read_from_their_beginning(cloud: Cloud) -> None:
    arn, function = cloud.stream(), cloud.function()
    mapping = cloud.map(arn, function, StartingPosition="LATEST")
    until("it is followed", lambda: cloud.followed(mapping))
    cloud.put(arn, {"n": 1})
    until("the parent is read", lambda: cloud.numbers(function) == [1])
    cloud.client("kinesis").split_shard(
        StreamARN=arn, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127)
    )
    cloud.put(arn, {"n": 2}, ExplicitHashKey="0")
    cloud.put(arn, {"n": 3}, ExplicitHashKey=str(2**128 - 1))
    until("both children are read", lambda: sorted(cloud.numbers(function)) == [1, 2, 3])


@ours_only
def test_disabled_enabled_and_updated_while_running(cloud: Cloud) -> None:
    functions = cloud.client("lambda")
    arn, function, other = cloud.stream(), cloud.function(), cloud.function()
    mapping = cloud.map(arn, function)
    cloud.put(arn, {"n": 1})
    until("it runs", lambda: cloud.numbers(function) == [1])
    functions.update_event_source_mapping(UUID=mapping, Enabled=False)

    def stopped() -> bool:
        if not cloud.ours:
            return True
        shards = cloud.status(mapping).get("shards", {}).values()
        return bool(shards) and all(shard["state"] == "stopped" for shard in shards)

    until("it has stopped", stopped)
    cloud.put(arn, *numbered(2, 3, 4))
    functions.update_event_source_mapping(UUID=mapping, BatchSize=2)
    assert cloud.status(mapping).get("state") != "Enabled"
    assert cloud.numbers(function) == [1]
    functions.update_event_source_mapping(UUID=mapping, Enabled=True)
    until("it goes on where it was", lambda: cloud.numbers(function) == [1, 2, 3, 4])
    assert [call["n"] for call in cloud.calls(function)] == [[1], [2, 3], [4]]
    functions.update_event_source_mapping(UUID=mapping, FunctionName=other, BatchSize=10)
    until(
        "the other function",
        lambda: cloud.put(arn, {"n": 5}) and cloud.status(mapping).get("function") == other,
    )
    cloud.put(arn, {"n": 6})
    until("it receives", lambda: 6 in cloud.numbers(other))


@ours_only
def test_a_deleted_mapping_ends_and_leaves_nothing(cloud: Cloud) -> None:
    arn, function = cloud.stream(), cloud.function()
    mapping = cloud.map(arn, function)
    cloud.put(arn, {"n": 1})
    until("it runs", lambda: cloud.position(mapping))
    cloud.client("lambda").delete_event_source_mapping(UUID=mapping)
    until("its checkpoints are gone", lambda: not (cloud.checkpoints / mapping).exists())
    cloud.put(arn, {"n": 2})
    control = cloud.function()
    cloud.map(arn, control)
    until("another mapping runs", lambda: cloud.numbers(control) == [1, 2])
    assert cloud.numbers(function) == [1]


@ours_only
def test_a_restarted_runner_skips_nothing_and_repeats_nothing(cloud: Cloud) -> None:
    (table, stream), kinesis = cloud.table(), cloud.stream(shards=2)
    of_table, of_stream = cloud.function(), cloud.function()
    latest = cloud.function()
    cloud.map(stream, of_table)
    cloud.map(kinesis, of_stream, BatchSize=7)
    late = cloud.map(kinesis, latest, StartingPosition="LATEST")
    until("LATEST is followed", lambda: cloud.followed(late))
    cloud.items(table, *range(5))
    until("the table's records", lambda: cloud.numbers(of_table) == list(range(5)))
    cloud.tell_runner("stop")
    for n in range(20):
        cloud.put(kinesis, {"n": n}, key=f"key{n}")
    cloud.items(table, *range(5, 10))
    assert cloud.calls(of_stream) == []
    cloud.tell_runner("start")
    until("the table's others", lambda: len(cloud.numbers(of_table)) >= 10)
    until("the stream's", lambda: len(cloud.numbers(of_stream)) >= 20)
    until("LATEST since it was made", lambda: len(cloud.numbers(latest)) >= 20)
    assert cloud.numbers(of_table) == list(range(10))
    for function in (of_stream, latest):
        assert sorted(cloud.numbers(function)) == list(range(20))


@ours_only
def test_a_running_invocation_is_finished_before_the_runner_stops(cloud: Cloud) -> None:
    arn, function = cloud.stream(), cloud.function("time.sleep(1)")
    mapping = cloud.map(arn, function)
    [sequence] = cloud.put(arn, {"n": 1})

    def invoking() -> bool:
        shards = cloud.status(mapping).get("shards", {})
        return any(shard["iterator_age_ms"] > 0 for shard in shards.values())

    until("it is being invoked, or has been", lambda: invoking() or cloud.calls(function))
    cloud.tell_runner("stop")
    assert list(cloud.position(mapping).values()) == [sequence]
    cloud.tell_runner("start")
    cloud.put(arn, {"n": 2})
    until("the next", lambda: 2 in cloud.numbers(function))
    assert cloud.numbers(function) == [1, 2]


@ours_only
def test_a_second_mapping_of_the_same_stream_and_function_is_refused(cloud: Cloud) -> None:
    arn, function = cloud.stream(), cloud.function()
    mapping = cloud.map(arn, function)
    with pytest.raises(ClientError, match=f"ResourceConflictException.*{mapping}"):
        cloud.map(arn, function)


@ours_only
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"ParallelizationFactor": 2}, "ParallelizationFactor"),
        ({"TumblingWindowInSeconds": 30}, "TumblingWindowInSeconds"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{nonsense"}]}}, "FilterCriteria"),
    ],
)
def test_what_we_do_not_honour_is_refused(
    cloud: Cloud, settings: dict[str, Any], reason: str
) -> None:
    arn, function, control = cloud.stream(), cloud.function(), cloud.function()
    mapping = cloud.map(arn, function, **settings)
    cloud.map(arn, control)
    cloud.put(arn, {"n": 1})
    until("others run", lambda: cloud.numbers(control) == [1])
    until("it is refused", lambda: cloud.status(mapping).get("state") == "Refused")
    assert reason in cloud.status(mapping)["reason"]
    log = cloud.log.read_text()
    assert log.count(f"event source mapping {mapping}") == 1
    assert cloud.calls(function) == []
    cloud.client("lambda").delete_event_source_mapping(UUID=mapping)
    until("it is forgotten", lambda: cloud.status(mapping) == {})


def test_queues_are_left_to_the_emulator(cloud: Cloud) -> None:
    sqs = cloud.client("sqs")
    url = sqs.create_queue(QueueName=f"q{time.time_ns()}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    function = cloud.function()
    cloud.client("lambda").create_event_source_mapping(
        EventSourceArn=arn["Attributes"]["QueueArn"], FunctionName=function
    )
    sqs.send_message(QueueUrl=url, MessageBody="{}")

    def received() -> bool:
        attributes = sqs.get_queue_attributes(
            QueueUrl=url,
            AttributeNames=["ApproximateNumberOfMessages"],
        )["Attributes"]
        return bool(attributes["ApproximateNumberOfMessages"] == "0")

    until("the message is taken", received)


@pytest.mark.parametrize("name", ["_poll_kinesis", "_poll_dynamodb_streams", "_create_esm"])
def test_an_emulator_without_what_we_replace_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from ministack.services import lambda_svc

    for attribute in ("_poll_kinesis", "_poll_dynamodb_streams"):
        monkeypatch.setattr(lambda_svc, attribute, getattr(lambda_svc, attribute))
    for attribute in ("_create_esm", "_update_esm", "_delete_esm"):
        monkeypatch.setattr(lambda_svc, attribute, getattr(lambda_svc, attribute))
    monkeypatch.delattr(lambda_svc, name)
    with pytest.raises(LocalCloudError, match=name):
        install()
