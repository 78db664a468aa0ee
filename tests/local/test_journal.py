"""What was acknowledged is there after ``kill -9``, as it was: records, items, stream records."""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded import REGION, cleaned, client, kill, servers, table, until

from stockpipe.aws import Endpoint
from stockpipe.errors import LocalCloudError
from stockpipe.local import daemon
from stockpipe.local.contact import save
from stockpipe.local.emulator.expiry import Expiry
from stockpipe.local.emulator.journal import Journal
from stockpipe.local.emulator.state import Sequence
from stockpipe.local.home import Places

pytest.importorskip("ministack")

SHARD = "shardId-000000000000"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its servers look for expired items all the time, not once a minute."""
    with (
        cleaned(tmp_path_factory.mktemp("journal")) as home,
        pytest.MonkeyPatch.context() as environment,
    ):
        (home / "sitecustomize.py").write_text(
            "import time\n"
            "slept = time.sleep\n"
            "time.sleep = lambda seconds: slept(0.05 if seconds == 60 else seconds)\n"
        )
        environment.setenv("PYTHONPATH", str(home))
        yield home


@pytest.fixture
def cloud(home: Path) -> Endpoint:
    """A cloud whose snapshot knows the stream ``quotes`` and the table ``things``, both new."""
    cloud = daemon.ensure_running(home)
    kinesis, dynamodb = client("kinesis", cloud), client("dynamodb", cloud)
    if "quotes" in kinesis.list_streams()["StreamNames"]:
        kinesis.delete_stream(StreamName="quotes")
    if "things" in dynamodb.list_tables()["TableNames"]:
        dynamodb.delete_table(TableName="things")
    kinesis.create_stream(StreamName="quotes", ShardCount=1)
    table(cloud, "things")
    save(home)
    os.truncate(Places(home).log, 0)
    return cloud


def saved(home: Path) -> int:
    """Which snapshot is in force, as a number that rises."""
    return int((Places(home).state / "snapshot.jsonl").read_bytes().split(b"\n")[1].split()[1])


def after_a_snapshot(home: Path, cloud: Endpoint) -> None:
    """Return right after a snapshot was written, so that the next one is a second away."""
    before = saved(home)
    client("kinesis", cloud).add_tags_to_stream(StreamName="quotes", Tags={"a": "change"})
    until(lambda: saved(home) > before)


def left_behind(home: Path, journal: bytes) -> Path:
    """A journal as a killed server would leave it, with what the snapshot does not hold."""
    file = Places(home).state / f"journal-{saved(home) + 100}"
    file.write_bytes(journal)
    return file


def journals(home: Path) -> list[Path]:
    return journals_in(Places(home).state)


def journals_in(directory: Path) -> list[Path]:
    return sorted(directory.glob("journal-*"))


def records(cloud: Endpoint) -> list[tuple[str, bytes]]:
    kinesis = client("kinesis", cloud)
    where = {"StreamName": "quotes", "ShardId": SHARD, "ShardIteratorType": "TRIM_HORIZON"}
    found = kinesis.get_records(ShardIterator=kinesis.get_shard_iterator(**where)["ShardIterator"])
    return [(record["SequenceNumber"], record["Data"]) for record in found["Records"]]


def arrivals(cloud: Endpoint) -> list[Any]:
    kinesis = client("kinesis", cloud)
    where = {"StreamName": "quotes", "ShardId": SHARD, "ShardIteratorType": "TRIM_HORIZON"}
    found = kinesis.get_records(ShardIterator=kinesis.get_shard_iterator(**where)["ShardIterator"])
    return [record["ApproximateArrivalTimestamp"] for record in found["Records"]]


def items(cloud: Endpoint) -> dict[str, Any]:
    found = client("dynamodb", cloud).scan(TableName="things")["Items"]
    return {item["k"]["S"]: item.get("v", {}).get("N") for item in found}


def changes(cloud: Endpoint) -> list[dict[str, Any]]:
    """The table's stream records."""
    streams = client("dynamodbstreams", cloud)
    things = client("dynamodb", cloud).describe_table(TableName="things")["Table"]
    arn = things["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    start = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    found = streams.get_records(ShardIterator=start)["Records"]
    return [{"name": one["eventName"]} | one["dynamodb"] for one in found]


def entry(table: str, key: str, action: str = "PutItem", **fields: Any) -> bytes:
    """What the journal keeps of a PutItem, or of another request."""
    request = fields or {"Item": {"k": {"S": key}}}
    body = json.dumps({"TableName": table, **request}).encode()
    header = {
        "service": "dynamodb",
        "scope": ["000000000000", REGION],
        "moment": [1, 1, 1.0],
        "headers": {"x-amz-target": f"DynamoDB_20120810.{action}"},
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
    for number in range(3):
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
    left_behind(home, entry("things", "parts")[cut])
    assert items(daemon.ensure_running(home)) == {"whole": None}


def test_a_damaged_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    Places(tmp_path).make()
    damaged = Places(tmp_path).state / "journal-1000"
    damaged.write_bytes(b"no entry\n")
    with pytest.raises(LocalCloudError, match="journal-1000 is damaged") as caught:
        daemon.ensure_running(tmp_path)
    assert "reset" in str(caught.value.hint)
    assert damaged.read_bytes() == b"no entry\n"


def test_what_cannot_be_repeated_is_said_in_the_log_with_its_reason(
    home: Path, cloud: Endpoint
) -> None:
    kill(home)
    unheard_of = entry("things", "k", "UpdateItem", Key={"k": {"S": "k"}}, UpdateExpression="HM v")
    left_behind(home, entry("gone", "k") * 2 + unheard_of)
    daemon.ensure_running(home)
    log = Places(home).log.read_text()
    assert "3 of 3 writes since the last snapshot could not be repeated: " in log
    (line,) = [line for line in log.splitlines() if "could not be repeated" in line]
    assert "ResourceNotFoundException" in line
    assert "(2); " in line
    assert "Invalid UpdateExpression" in line


def test_a_write_that_breaks_its_handler_keeps_no_cloud_from_starting(
    home: Path, cloud: Endpoint
) -> None:
    kill(home)
    breaking = entry("things", "k", "BatchWriteItem", RequestItems=7)
    left_behind(home, breaking + entry("things", "after"))
    assert items(daemon.ensure_running(home)) == {"after": None}
    log = Places(home).log.read_text()
    assert "1 of 2 writes since the last snapshot could not be repeated: " in log
    assert "Traceback" in log


# What time to live removes ------------------------------------------------------------------


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
    soon = {"N": f"{time.time() + 4:.3f}"}
    dynamodb.put_item(TableName="things", Item={"k": {"S": "short-lived"}, "ttl": soon})
    snapshot = Places(home).state / "snapshot.jsonl"
    until(lambda: b"service dynamodb" in snapshot.read_bytes() and b"short-lived" in _items(home))
    until(lambda: b"short-lived" not in _items(home))
    assert items(cloud) == {}


def _items(home: Path) -> bytes:
    """What the snapshot says of tables, but for their stream records."""
    lines = (Places(home).state / "snapshot.jsonl").read_bytes().splitlines()
    (line,) = [line for line in lines if line.startswith(b"service dynamodb ")]
    return line.partition(b'"tags"')[0]


# What is made or deleted after the snapshot ---------------------------------------------------


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


# The files themselves -------------------------------------------------------------------------


def test_a_journal_that_a_snapshot_holds_already_is_not_done_again(
    home: Path, cloud: Endpoint
) -> None:
    """A kill may come after the snapshot is in place, and before the older files are gone."""
    kill(home)
    add = entry(
        "things", "", "UpdateItem", Key={"k": {"S": "counter"}}, UpdateExpression="ADD v :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )  # fmt: skip
    number = saved(home)
    for old in (number - 1, number - 2):
        (Places(home).state / f"journal-{old}").write_bytes(add)
    left_behind(home, add)
    assert items(daemon.ensure_running(home)) == {"counter": "1"}


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process's files")
def test_a_snapshot_that_cannot_be_written_costs_no_journal(home: Path, cloud: Endpoint) -> None:
    dynamodb = client("dynamodb", cloud)
    for number in range(4):  # so that a snapshot is longer than all of the journal below
        dynamodb.put_item(
            TableName="things", Item={"k": {"S": f"filler-{number}"}, "v": {"S": "x" * 30_000}}
        )
    after_a_snapshot(home, cloud)
    [server] = servers(home)
    unlimited = resource.prlimit(server, resource.RLIMIT_FSIZE)
    resource.prlimit(server, resource.RLIMIT_FSIZE, (20_000, unlimited[1]))
    dynamodb.put_item(TableName="things", Item={"k": {"S": "acknowledged"}})
    until(lambda: "writes are refused for now" in Places(home).log.read_text())
    kill(home)
    assert "acknowledged" in items(daemon.ensure_running(home))


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process's files")
def test_after_a_write_that_could_not_be_kept_no_other_is_taken_until_a_snapshot(
    home: Path, cloud: Endpoint
) -> None:
    """It is done, though not acknowledged: a condition of the next attempt is told so."""
    dynamodb = client("dynamodb", cloud)
    after_a_snapshot(home, cloud)
    [server] = servers(home)
    unlimited = resource.prlimit(server, resource.RLIMIT_FSIZE)
    resource.prlimit(server, resource.RLIMIT_FSIZE, (0, unlimited[1]))

    def put() -> None:
        dynamodb.put_item(
            TableName="things",
            Item={"k": {"S": "once"}},
            ConditionExpression="attribute_not_exists(k)",
        )

    with pytest.raises(ClientError, match=r"InternalFailure.*File too large"):
        put()
    with pytest.raises(ClientError, match="cannot save its data: File too large"):
        put()
    resource.prlimit(server, resource.RLIMIT_FSIZE, unlimited)

    def answer() -> str:
        with pytest.raises(ClientError) as caught:
            put()
        return str(caught.value.response["Error"]["Code"])

    until(lambda: answer() == "ConditionalCheckFailedException")
    kill(home)
    assert items(daemon.ensure_running(home)) == {"once": None}


@pytest.mark.skipif(sys.platform != "linux", reason="limits the files of this process")
def test_an_entry_that_was_written_in_part_is_taken_back(tmp_path: Path) -> None:
    """Or what follows would be read as its body."""
    journal, moment = Journal(tmp_path), [1, 1, 1.0]
    journal.keep("service", moment, {}, b"first")
    [file] = journals_in(tmp_path)
    first = file.read_bytes()
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(first) + 200, unlimited[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.keep("service", moment, {}, b"x" * 1_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert file.read_bytes() == first
    journal.keep("service", moment, {}, b"first")
    assert file.read_bytes() == first * 2
