"""What survives: everything a clean stop, all but the last moment a kill."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded import REGION, bucket, cleaned, client, function, kill, servers, table

from awaited import until
from stockpipe.aws import Endpoint
from stockpipe.errors import LocalCloudError
from stockpipe.local import daemon
from stockpipe.local.contact import save
from stockpipe.local.emulator.snapshot import _read_all
from stockpipe.local.emulator.state import Sequence
from stockpipe.local.emulator.traffic import Traffic
from stockpipe.local.home import PROOF_HEADER, SAVE, Places, ServerRecord

pytest.importorskip("ministack")

SHARD = "shardId-000000000000"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """For tests that may meet what others have made, under other names."""
    with cleaned(tmp_path_factory.mktemp("state")) as home:
        yield home


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    with cleaned(tmp_path / "home") as home:
        yield home


def snapshot(home: Path) -> bytes:
    file = Places(home).state / "snapshot.jsonl"
    return file.read_bytes() if file.exists() else b""


def kinesis_records(endpoint: Endpoint, stream: str) -> list[dict[str, Any]]:
    kinesis = client("kinesis", endpoint)
    iterator = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=SHARD, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records: list[dict[str, Any]] = kinesis.get_records(ShardIterator=iterator)["Records"]
    return records


def stream_of(endpoint: Endpoint, table_name: str) -> tuple[Any, str, str]:
    """The DynamoDB Streams client, the stream's ARN and its one shard."""
    streams = client("dynamodbstreams", endpoint)
    arn = streams.list_streams(TableName=table_name)["Streams"][0]["StreamArn"]
    shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
    return streams, arn, shard


def changes(endpoint: Endpoint, table_name: str, after: str | None = None) -> list[dict[str, Any]]:
    """The stream records of a table, all or those after a sequence number."""
    streams, arn, shard = stream_of(endpoint, table_name)
    where = (
        {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        if after
        else {"ShardIteratorType": "TRIM_HORIZON"}
    )
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, **where)["ShardIterator"]
    records: list[dict[str, Any]] = streams.get_records(ShardIterator=iterator)["Records"]
    return records


def put(endpoint: Endpoint, table_name: str, key: str) -> None:
    client("dynamodb", endpoint).put_item(TableName=table_name, Item={"k": {"S": key}})


def keys_of(records: list[dict[str, Any]]) -> list[str]:
    return [record["dynamodb"]["Keys"]["k"]["S"] for record in records]


def numbers(records: list[dict[str, Any]]) -> list[str]:
    return [record["dynamodb"]["SequenceNumber"] for record in records]


def test_a_clean_stop_loses_nothing(home: Path) -> None:
    cloud = daemon.ensure_running(home)
    kinesis = client("kinesis", cloud)
    kinesis.create_stream(StreamName="s", ShardCount=1)
    for text in ("one", "two"):
        kinesis.put_record(StreamName="s", Data=text.encode(), PartitionKey="p")
    table(cloud, "things")
    for key in ("a", "b", "c"):
        put(cloud, "things", key)
    first = changes(cloud, "things")
    s3 = bucket(cloud, "kept-1")
    s3.put_object(Bucket="kept-1", Key="x/ü y", Body=b"body", Metadata={"m": "1"})
    s3.put_bucket_tagging(Bucket="kept-1", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    function(cloud, "f", "def handle(event, context): return 'answer'\n")
    topic = client("sns", cloud).create_topic(Name="topic")["TopicArn"]
    session = client("sts", cloud).get_session_token()["Credentials"]
    before = [record["SequenceNumber"] for record in kinesis_records(cloud, "s")]

    assert daemon.stop(home)
    again = daemon.ensure_running(home)

    assert again == cloud
    assert [record["Data"] for record in kinesis_records(again, "s")] == [b"one", b"two"]
    assert keys_of(changes(again, "things", after=numbers(first)[0])) == ["b", "c"]
    assert numbers(changes(again, "things")) == numbers(first)
    s3 = client("s3", again)
    found = s3.get_object(Bucket="kept-1", Key="x/ü y")
    assert found["Body"].read() == b"body"
    assert found["Metadata"] == {"m": "1"}
    assert s3.get_bucket_tagging(Bucket="kept-1")["TagSet"] == [{"Key": "k", "Value": "v"}]
    answer = client("lambda", again).invoke(FunctionName="f")
    assert json.loads(answer["Payload"].read()) == "answer"
    assert topic in [one["TopicArn"] for one in client("sns", again).list_topics()["Topics"]]
    client(
        "dynamodb",
        again,
        key=session["AccessKeyId"],
        secret=session["SecretAccessKey"],
        token=session["SessionToken"],
    ).list_tables()

    later = client("kinesis", again).put_record(StreamName="s", Data=b"3", PartitionKey="p")
    assert later["SequenceNumber"] > max(before)
    put(again, "things", "d")
    assert keys_of(changes(again, "things", after=numbers(first)[-1])) == ["d"]
    assert numbers(changes(again, "things")) == sorted(numbers(changes(again, "things")))


def test_the_stream_of_a_deleted_table_can_still_be_read_after_a_restart(home: Path) -> None:
    cloud = daemon.ensure_running(home)
    dynamodb = table(cloud, "deleted")
    put(cloud, "deleted", "a")
    streams, arn, shard = stream_of(cloud, "deleted")
    dynamodb.delete_table(TableName="deleted")
    daemon.stop(home)
    streams = client("dynamodbstreams", daemon.ensure_running(home))
    iterator = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    assert keys_of(streams.get_records(ShardIterator=iterator)["Records"]) == ["a"]


def test_after_a_kill_positions_and_buckets_go_back_and_what_was_written_stays(home: Path) -> None:
    """Positions of event sources are as of the snapshot, never ahead of what there is to read."""
    places = Places(home)
    cloud = daemon.ensure_running(home)
    table(cloud, "written")
    bucket(cloud, "old-1")
    position = places.checkpoints / "mapping" / "shard.json"
    position.parent.mkdir()
    position.write_text('{"sequence": "1"}')
    put(cloud, "written", "before")
    until(lambda: b"before" in snapshot(home) and b"mapping/shard.json" in snapshot(home))

    position.write_text('{"sequence": "2"}')
    put(cloud, "written", "after")
    client("s3", cloud).put_object(Bucket="old-1", Key="after", Body=b"x")
    bucket(cloud, "new-1")
    kill(home)

    assert daemon.status(home).died
    again = daemon.ensure_running(home)
    assert keys_of(changes(again, "written")) == ["before", "after"]
    items = client("dynamodb", again).scan(TableName="written")["Items"]
    assert sorted(item["k"]["S"] for item in items) == ["after", "before"]
    # Whether the last snapshot came before or after it was moved.
    assert json.loads(position.read_text())["sequence"] in ("1", "2")
    s3 = client("s3", again)
    assert s3.get_object(Bucket="old-1", Key="after")["Body"].read() == b"x"
    names = {one["Name"] for one in s3.list_buckets()["Buckets"]} & {"new-1", "old-1"}
    assert names == ({"new-1", "old-1"} if b"new-1" in snapshot(home) else {"old-1"})
    numbers_now = numbers(changes(again, "written"))
    put(again, "written", "later")
    assert numbers(changes(again, "written"))[-1] > numbers_now[-1]


def test_a_start_keeps_the_directories_that_other_commands_may_be_making(home: Path) -> None:
    daemon.stop(home)
    directory = os.open(Places(home).checkpoints, os.O_RDONLY)
    try:
        daemon.ensure_running(home)
        assert os.fstat(directory).st_nlink > 0  # else it was removed and made anew
    finally:
        os.close(directory)


def test_what_is_made_survives_a_kill_once_it_was_saved(home: Path) -> None:
    for name in ("first-1", "second-2"):
        bucket(daemon.ensure_running(home), name)
        save(home)
        kill(home)
    s3 = client("s3", daemon.ensure_running(home))
    assert {"first-1", "second-2"} <= {one["Name"] for one in s3.list_buckets()["Buckets"]}


def test_a_full_disk_is_said_to_who_saves(own: Path) -> None:
    bucket(daemon.ensure_running(own), "new-1")
    save(own)
    state = Places(own).state
    bucket(daemon.ensure_running(own), "new-2")
    shutil.rmtree(state)
    with pytest.raises(LocalCloudError, match="cannot save its data: No such file or directory"):
        save(own)
    state.mkdir()
    save(own)


def test_only_who_knows_the_credentials_has_it_saved(home: Path) -> None:
    daemon.ensure_running(home)
    server = ServerRecord.load(Places(home).server)
    assert server
    assert server.port
    for proof in ({}, {PROOF_HEADER: "0" * 64}, {PROOF_HEADER: server.nonce}):
        connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", SAVE, headers=proof)
            assert connection.getresponse().status == 403


def test_nothing_is_saved_where_nothing_runs(own: Path) -> None:
    with pytest.raises(LocalCloudError, match="No embedded cloud is running"):
        save(own)


def test_a_kill_before_the_first_snapshot_leaves_an_empty_cloud(own: Path) -> None:
    places = Places(own)
    cloud = daemon.ensure_running(own)
    [server] = servers(own)
    bucket(cloud, "new-1")
    (places.checkpoints / "shard.json").write_text("{}")
    os.kill(server, signal.SIGKILL)
    until(lambda: not daemon.status(own).running)
    (places.state / "snapshot.jsonl").unlink(missing_ok=True)
    again = daemon.ensure_running(own)
    assert client("s3", again).list_buckets()["Buckets"] == []
    client("s3", again).create_bucket(
        Bucket="new-1", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    assert not (places.checkpoints / "shard.json").exists()


def test_reading_alone_writes_no_snapshot(home: Path) -> None:
    cloud = daemon.ensure_running(home)
    table(cloud, "read")
    until(lambda: b'"read"' in snapshot(home))
    file = Places(home).state / "snapshot.jsonl"
    put(cloud, "read", "marker-1")
    for name in ("list_tables", "describe_limits"):
        getattr(client("dynamodb", cloud), name)()
    until(lambda: b"marker-1" in snapshot(home))
    written = file.stat().st_mtime_ns
    for _ in range(50):
        client("dynamodb", cloud).scan(TableName="read")
    put_at = until(lambda: _age_s(file) > 2.5 or None)
    assert put_at
    assert file.stat().st_mtime_ns == written


def _age_s(file: Path) -> float:
    import time

    return time.time() - file.stat().st_mtime


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process's files")
def test_a_full_disk_fails_requests_and_refuses_to_stop(home: Path) -> None:
    import resource

    cloud = daemon.ensure_running(home)
    s3 = bucket(cloud, "b-1")
    s3.put_object(Bucket="b-1", Key="small", Body=b"x")
    dynamodb = table(cloud, "full")
    until(lambda: b"b-1" in snapshot(home) and b'"full"' in snapshot(home))
    [server] = servers(home)
    unlimited = resource.prlimit(server, resource.RLIMIT_FSIZE)
    resource.prlimit(server, resource.RLIMIT_FSIZE, (200_000, unlimited[1]))

    with pytest.raises(ClientError, match="File too large") as caught:
        s3.put_object(Bucket="b-1", Key="big", Body=b"x" * 300_000)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500

    with pytest.raises(ClientError, match=r"InternalFailure.*File too large"):
        dynamodb.put_item(TableName="full", Item={"k": {"S": "a"}, "v": {"S": "y" * 350_000}})
    with pytest.raises(LocalCloudError, match=r"still running.*File too large"):
        daemon.stop(home)
    assert daemon.status(home).running

    def refused() -> str:
        try:
            dynamodb.put_item(TableName="full", Item={"k": {"S": "b"}})
        except ClientError as error:
            return str(error)
        return ""

    assert "cannot save its data: File too large" in until(refused)
    with pytest.raises(ClientError, match=r"ServiceUnavailable.*File too large"):
        s3.put_object(Bucket="b-1", Key="small", Body=b"y")
    assert dynamodb.get_item(TableName="full", Key={"k": {"S": "a"}})["Item"]

    resource.prlimit(server, resource.RLIMIT_FSIZE, unlimited)
    until(lambda: not refused())
    assert daemon.stop(home)
    again = daemon.ensure_running(home)
    found = client("dynamodb", again).get_item(TableName="full", Key={"k": {"S": "a"}})["Item"]
    assert len(found["v"]["S"]) == 350_000
    assert [one["Key"] for one in client("s3", again).list_objects_v2(Bucket="b-1")["Contents"]]


@pytest.mark.parametrize(
    "content",
    [b"header 1\nservice dynamodb {", b"header 1\nservice dynamodb {}\nend\n", b"\x00\xff\n"],
)
def test_a_damaged_snapshot_is_refused_and_left_alone(own: Path, content: bytes) -> None:
    places = Places(own)
    places.make()
    (places.s3 / "000000000000" / "b").mkdir(parents=True)
    (places.state / "snapshot.jsonl").write_bytes(content)
    with pytest.raises(LocalCloudError) as caught:
        daemon.ensure_running(own)
    assert "reset" in str(caught.value.hint)
    assert (places.state / "snapshot.jsonl").read_bytes() == content


def test_a_snapshot_takes_back_no_refusal_that_came_after_it_began() -> None:
    async def nobody(*call: Any) -> None:
        raise AssertionError("nothing is served here")

    traffic = Traffic(nobody)
    assert traffic.refuse_writes("is full")
    when_it_began = traffic.refusals
    assert not traffic.refuse_writes("is full")
    assert not traffic.take_writes(when_it_began)
    assert traffic.take_writes(traffic.refusals)
    assert not traffic.take_writes(traffic.refusals)


def test_positions_are_read_while_a_mapping_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shard.json").write_text(name)
    (tmp_path / "one" / "shard.json.new").write_text("half")
    scan = os.scandir

    def removed_meanwhile(path: Any = ".") -> Any:
        if str(path) == str(tmp_path / "other"):
            shutil.rmtree(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", removed_meanwhile)
    assert _read_all(tmp_path) == {"one/shard.json": b"one"}


def test_sequence_numbers_rise_when_the_clock_does_not() -> None:
    times = iter([5.0, 5.0, 4.0, 3.0, 6.0, 6.0])
    sequence = Sequence(lambda: next(times))
    drawn = [sequence() for _ in range(6)]
    assert drawn == sorted(set(drawn))
    assert {len(number) for number in drawn} == {30}

    restarted = Sequence(lambda: 1.0)
    restarted.restore(sequence.saved())
    assert restarted() > drawn[-1]
