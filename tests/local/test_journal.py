"""What was acknowledged is there after ``kill -9``, as it was: records, items, stream records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded import REGION, cleaned, client, kill, table, until

from stockpipe.aws import Endpoint
from stockpipe.errors import LocalCloudError
from stockpipe.local import daemon
from stockpipe.local.home import Places

pytest.importorskip("ministack")

SHARD = "shardId-000000000000"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with cleaned(tmp_path / "home") as home:
        yield home


@pytest.fixture
def cloud(home: Path) -> Endpoint:
    """A cloud whose snapshot knows the stream ``quotes`` and the table ``things``."""
    cloud = daemon.ensure_running(home)
    client("kinesis", cloud).create_stream(StreamName="quotes", ShardCount=1)
    table(cloud, "things")
    snapshot = Places(home).state / "snapshot.jsonl"
    until(lambda: snapshot.exists() and b'"things"' in snapshot.read_bytes())
    return cloud


def journals(home: Path) -> list[Path]:
    return sorted(Places(home).state.glob("journal-*"))


def records(cloud: Endpoint) -> list[tuple[str, bytes]]:
    kinesis = client("kinesis", cloud)
    where = {"StreamName": "quotes", "ShardId": SHARD, "ShardIteratorType": "TRIM_HORIZON"}
    found = kinesis.get_records(ShardIterator=kinesis.get_shard_iterator(**where)["ShardIterator"])
    return [(record["SequenceNumber"], record["Data"]) for record in found["Records"]]


def items(cloud: Endpoint) -> dict[str, Any]:
    found = client("dynamodb", cloud).scan(TableName="things")["Items"]
    return {item["k"]["S"]: item.get("v", {}).get("N") for item in found}


def changes(cloud: Endpoint) -> list[dict[str, Any]]:
    """The table's stream records, but for when they were made."""
    streams = client("dynamodbstreams", cloud)
    arn = streams.list_streams(TableName="things")["Streams"][0]["StreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    start = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    found = streams.get_records(ShardIterator=start)["Records"]
    return [
        {"name": one["eventName"]}
        | {k: v for k, v in one["dynamodb"].items() if k != "ApproximateCreationDateTime"}
        for one in found
    ]


def entry(table: str, key: str) -> bytes:
    """What the journal keeps of a PutItem."""
    body = json.dumps({"TableName": table, "Item": {"k": {"S": key}}}).encode()
    header = {
        "service": "dynamodb",
        "scope": ["000000000000", REGION],
        "moment": [1, 1],
        "headers": {"x-amz-target": "DynamoDB_20120810.PutItem"},
        "length": len(body),
    }
    return json.dumps(header).encode() + b"\n" + body


def write_in_every_way(cloud: Endpoint) -> None:
    kinesis, dynamodb = client("kinesis", cloud), client("dynamodb", cloud)
    kinesis.put_record(StreamName="quotes", Data=b"\x00\xff", PartitionKey="p")
    several = [{"Data": b"%d" % number, "PartitionKey": "p"} for number in range(50)]
    kinesis.put_records(StreamName="quotes", Records=several)

    def item(key: str, value: str) -> dict[str, Any]:
        return {"k": {"S": key}, "v": {"N": value}}

    dynamodb.put_item(TableName="things", Item=item("put", "1"))
    dynamodb.put_item(TableName="things", Item=item("deleted", "1"))
    for _ in range(3):
        dynamodb.update_item(
            TableName="things", Key={"k": {"S": "added"}}, UpdateExpression="ADD v :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )  # fmt: skip
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        dynamodb.put_item(
            TableName="things", Item=item("put", "2"), ConditionExpression="attribute_not_exists(k)"
        )
    dynamodb.delete_item(TableName="things", Key={"k": {"S": "deleted"}})
    dynamodb.batch_write_item(
        RequestItems={"things": [{"PutRequest": {"Item": item("batch", "4")}}]}
    )
    dynamodb.transact_write_items(
        TransactItems=[{"Put": {"TableName": "things", "Item": item("transaction", "5")}}]
    )


def test_every_acknowledged_write_survives_with_its_sequence_number(
    home: Path, cloud: Endpoint
) -> None:
    write_in_every_way(cloud)
    before = (records(cloud), items(cloud), changes(cloud))
    assert before[1] == {"put": "1", "added": "3", "batch": "4", "transaction": "5"}

    kill(home)
    again = daemon.ensure_running(home)

    assert (records(again), items(again), changes(again)) == before
    later = client("kinesis", again).put_record(StreamName="quotes", Data=b"l", PartitionKey="p")
    assert later["SequenceNumber"] > before[0][-1][0]


def test_a_second_kill_before_the_next_snapshot_loses_nothing_either(
    home: Path, cloud: Endpoint
) -> None:
    dynamodb = client("dynamodb", cloud)
    expected: dict[str, str] = {}
    for number in range(4):
        dynamodb.put_item(TableName="things", Item={"k": {"S": f"k{number}"}, "v": {"N": "1"}})
        expected[f"k{number}"] = "1"
        kill(home)
        assert items(daemon.ensure_running(home)) == expected


def test_writes_of_another_region_go_back_to_it(home: Path, cloud: Endpoint) -> None:
    import boto3

    def kinesis(endpoint: Endpoint) -> Any:
        return boto3.client(
            "kinesis", endpoint_url=endpoint.url, region_name="eu-west-1",
            aws_access_key_id=endpoint.access_key_id,
            aws_secret_access_key=endpoint.secret_access_key,
        )  # fmt: skip

    kinesis(cloud).create_stream(StreamName="quotes", ShardCount=1)
    snapshot = Places(home).state / "snapshot.jsonl"
    until(lambda: b"eu-west-1" in snapshot.read_bytes())
    kinesis(cloud).put_record(StreamName="quotes", Data=b"elsewhere", PartitionKey="p")
    kill(home)
    again = daemon.ensure_running(home)
    assert records(again) == []
    start = kinesis(again).get_shard_iterator(
        StreamName="quotes", ShardId=SHARD, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    (record,) = kinesis(again).get_records(ShardIterator=start)["Records"]
    assert record["Data"] == b"elsewhere"


def test_a_snapshot_makes_the_journal_before_it_superfluous(home: Path, cloud: Endpoint) -> None:
    def put(key: str) -> None:
        client("dynamodb", cloud).put_item(TableName="things", Item={"k": {"S": key}})

    put("first")
    snapshot = Places(home).state / "snapshot.jsonl"
    until(lambda: b'"first"' in snapshot.read_bytes())
    until(lambda: not any(b"first" in file.read_bytes() for file in journals(home)))
    put("second")
    kept = b"".join(file.read_bytes() for file in [*journals(home), snapshot])
    assert b"second" in kept
    assert daemon.stop(home)
    assert b"".join(file.read_bytes() for file in journals(home)) == b""


@pytest.mark.parametrize("cut", [slice(20), slice(-5)], ids=["in its header", "in its body"])
def test_an_entry_that_was_cut_off_was_never_acknowledged(
    home: Path, cloud: Endpoint, cut: slice
) -> None:
    client("dynamodb", cloud).put_item(TableName="things", Item={"k": {"S": "whole"}})
    kill(home)
    (Places(home).state / "journal-1000").write_bytes(entry("things", "parts")[cut])
    assert items(daemon.ensure_running(home)) == {"whole": None}


def test_a_damaged_journal_is_refused_and_left_alone(home: Path, cloud: Endpoint) -> None:
    kill(home)
    damaged = Places(home).state / "journal-1000"
    damaged.write_bytes(b"no entry\n")
    with pytest.raises(LocalCloudError, match="journal-1000 is damaged") as caught:
        daemon.ensure_running(home)
    assert "reset" in str(caught.value.hint)
    assert damaged.read_bytes() == b"no entry\n"


def test_what_cannot_be_repeated_is_said_in_the_log(home: Path, cloud: Endpoint) -> None:
    kill(home)
    (Places(home).state / "journal-1000").write_bytes(entry("gone", "k"))
    daemon.ensure_running(home)
    assert "1 of 1 writes since the last snapshot could not be repeated" in (
        Places(home).log.read_text()
    )
