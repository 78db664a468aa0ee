"""What was acknowledged is there after ``kill -9``, as it was: records, items, stream records."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded import client, kill, table
from journal_home import (
    SHARD,
    after_a_snapshot,
    arrivals,
    changes,
    items,
    journaled,
    records,
    with_quotes_and_things,
)

from awaited import until
from stockpipe.aws import Endpoint
from stockpipe.errors import LocalCloudError
from stockpipe.local import daemon
from stockpipe.local.contact import save
from stockpipe.local.emulator.expiry import Expiry
from stockpipe.local.emulator.journal import Journal
from stockpipe.local.emulator.state import Sequence
from stockpipe.local.home import Places

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with journaled(tmp_path_factory.mktemp("journal")) as home:
        yield home


@pytest.fixture
def cloud(home: Path) -> Endpoint:
    return with_quotes_and_things(home)


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

    def insert(key: str, value: int) -> str:
        return f"INSERT INTO things VALUE {{'k': '{key}', 'v': {value}}}"

    dynamodb.execute_statement(Statement=insert("statement", 6))
    dynamodb.batch_execute_statement(Statements=[{"Statement": insert("statements", 7)}])
    dynamodb.execute_transaction(
        TransactStatements=[{"Statement": insert("statements at once", 8)}]
    )


def test_every_acknowledged_write_survives_with_its_sequence_number(
    home: Path, cloud: Endpoint
) -> None:
    write_in_every_way(cloud)
    before = (records(cloud), items(cloud), changes(cloud))
    arrived = arrivals(cloud)
    assert before[1] == {
        "put": "1",
        "added": "3",
        "batch": "4",
        "transaction": "5",
        "statement": "6",
        "statements": "7",
        "statements at once": "8",
    }

    kill(home)
    again = daemon.ensure_running(home)

    assert (records(again), items(again), changes(again)) == before
    assert arrivals(again) == arrived
    later = client("kinesis", again).put_record(StreamName="quotes", Data=b"l", PartitionKey="p")
    assert later["SequenceNumber"] > before[0][-1][0]


def test_a_second_kill_before_the_next_snapshot_loses_nothing_either(
    home: Path, cloud: Endpoint
) -> None:
    dynamodb = client("dynamodb", cloud)
    expected: dict[str, str] = {}
    for number in range(2):
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
    save(home)
    kinesis(cloud).put_record(StreamName="quotes", Data=b"elsewhere", PartitionKey="p")
    kill(home)
    again = daemon.ensure_running(home)
    assert records(again) == []
    start = kinesis(again).get_shard_iterator(
        StreamName="quotes", ShardId=SHARD, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    (record,) = kinesis(again).get_records(ShardIterator=start)["Records"]
    assert record["Data"] == b"elsewhere"


def test_an_item_that_expired_and_was_put_again_survives_as_it_is(
    home: Path, cloud: Endpoint
) -> None:
    """Both the condition and the sum need the expiry to be where it was among the writes."""
    dynamodb = client("dynamodb", cloud)
    past = {"N": str(int(time.time()) - 10)}
    for key in ("conditional", "counted"):
        dynamodb.put_item(TableName="things", Item={"k": {"S": key}, "v": {"N": "1"}, "ttl": past})
    dynamodb.update_time_to_live(
        TableName="things", TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
    )
    until(lambda: items(cloud) == {})
    after_a_snapshot(home, cloud)
    put = {"TableName": "things", "ConditionExpression": "attribute_not_exists(k)"}
    conditional = {"k": {"S": "conditional"}, "v": {"N": "1"}}
    dynamodb.put_item(**put, Item={**conditional, "ttl": past})
    add: dict[str, Any] = {
        "TableName": "things",
        "Key": {"k": {"S": "counted"}},
        "ExpressionAttributeValues": {":one": {"N": "1"}, ":past": past},
    }
    dynamodb.update_item(**add, UpdateExpression="ADD v :one SET #ttl = :past",
                         ExpressionAttributeNames={"#ttl": "ttl"})  # fmt: skip
    until(lambda: items(cloud) == {})
    del add["ExpressionAttributeValues"][":past"]
    dynamodb.put_item(**put, Item=conditional)
    dynamodb.update_item(**add, UpdateExpression="ADD v :one")
    before = changes(cloud)
    kill(home)

    again = daemon.ensure_running(home)
    assert items(again) == {"conditional": "1", "counted": "1"}
    assert changes(again) == before
    assert "could not be repeated" not in Places(home).log.read_text()


def test_an_emulator_without_the_thread_that_we_know_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ministack.services import dynamodb

    monkeypatch.setattr(dynamodb, "_remove_item", dynamodb._remove_item)
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.current_thread()])
    with pytest.raises(LocalCloudError, match="dynamodb-ttl-reaper"):
        Expiry(Journal(tmp_path), Sequence()).install()


def test_an_expiry_alone_is_a_change_that_is_saved(home: Path, cloud: Endpoint) -> None:
    dynamodb = client("dynamodb", cloud)
    dynamodb.update_time_to_live(
        TableName="things", TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
    )

    def saved_before_it_expired() -> bool:
        """Or it is put once more: the machine may be too slow for the first."""
        if not items(cloud):
            soon = {"N": f"{time.time() + 4:.3f}"}
            dynamodb.put_item(TableName="things", Item={"k": {"S": "short-lived"}, "ttl": soon})
        return b"short-lived" in _items(home)

    until(saved_before_it_expired, within_s=60, every_s=0.1)
    until(lambda: b"short-lived" not in _items(home))
    assert items(cloud) == {}


def _items(home: Path) -> bytes:
    """What the snapshot says of tables, but for their stream records."""
    lines = (Places(home).state / "snapshot.jsonl").read_bytes().splitlines()
    (line,) = [line for line in lines if line.startswith(b"service dynamodb ")]
    return line.partition(b'"tags"')[0]


def test_items_of_a_deleted_table_are_not_mixed_into_the_next_one_of_its_name(
    home: Path, cloud: Endpoint
) -> None:
    kinesis, dynamodb = client("kinesis", cloud), client("dynamodb", cloud)
    dynamodb.put_item(TableName="things", Item={"k": {"S": "old"}})
    kinesis.put_record(StreamName="quotes", Data=b"old", PartitionKey="p")
    after_a_snapshot(home, cloud)
    dynamodb.delete_table(TableName="things")
    kinesis.delete_stream(StreamName="quotes")
    table(cloud, "things")
    kinesis.create_stream(StreamName="quotes", ShardCount=1)
    dynamodb.put_item(TableName="things", Item={"k": {"S": "new"}})
    kinesis.put_record(StreamName="quotes", Data=b"new", PartitionKey="p")
    kill(home)

    again = daemon.ensure_running(home)
    known = client("dynamodb", again).list_tables()["TableNames"]
    streams = client("kinesis", again).list_streams()["StreamNames"]
    # Unless a snapshot came in between, what was made since the last one is gone.
    assert (items(again) if known else {}) in ({}, {"new": None})
    assert [data for _, data in (records(again) if streams else [])] in ([], [b"new"])


def test_a_transaction_is_done_once_whatever_dies_between_two_attempts(
    home: Path, cloud: Endpoint
) -> None:
    def attempt(endpoint: Endpoint) -> None:
        update = {
            "TableName": "things",
            "Key": {"k": {"S": "counter"}},
            "UpdateExpression": "ADD v :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
        client("dynamodb", endpoint).transact_write_items(
            TransactItems=[{"Update": update}], ClientRequestToken="the-same"
        )

    attempt(cloud)
    kill(home)
    again = daemon.ensure_running(home)
    attempt(again)
    assert items(again) == {"counter": "1"}
    assert daemon.stop(home)
    stopped = daemon.ensure_running(home)
    attempt(stopped)
    assert items(stopped) == {"counter": "1"}
