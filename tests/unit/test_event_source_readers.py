"""Readers and the runner against streams in memory that expire, split, roll back and fail."""

from __future__ import annotations

import io
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpipe.local.event_sources import runner as event_sources
from stockpipe.local.event_sources.checkpoints import Checkpoints, Position
from stockpipe.local.event_sources.dynamodb import DynamoDBReader
from stockpipe.local.event_sources.kinesis import KinesisReader
from stockpipe.local.event_sources.mappings import EventMapping, Start, read_mapping
from stockpipe.local.event_sources.readers import SourceGone
from stockpipe.local.event_sources.runner import EventSourceRunner
from stockpipe.local.event_sources.wakes import Bell, on_set

REGION = "us-east-2"
STREAM = f"arn:aws:kinesis:{REGION}:000000000000:stream/s"
TABLE = f"arn:aws:dynamodb:{REGION}:000000000000:table/t/stream/2026-01-01T00:00:00.000"
FUNCTION = f"arn:aws:lambda:{REGION}:000000000000:function:f"
SHARD = "shardId-000000000000"


def described(source: str = STREAM, **fields: Any) -> dict[str, Any]:
    return {
        "UUID": "mapping-1",
        "EventSourceArn": source,
        "FunctionArn": FUNCTION,
        "StartingPosition": "TRIM_HORIZON",
        "State": "Enabled",
    } | fields


def mapping(source: str = STREAM, **fields: Any) -> EventMapping:
    return read_mapping(described(source, **fields), REGION)


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "Operation")


class ManualClock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class FakeKinesis:
    """Shards as the emulator keeps them: iterators are indexes into lists that shift."""

    def __init__(self, **parents: tuple[str, ...]) -> None:
        self.shards: dict[str, list[dict[str, Any]]] = {name: [] for name in parents or [SHARD]}
        self.parents = parents
        self.closed: set[str] = set()
        self.tokens: dict[str, tuple[str, int]] = {}
        self.calls: list[str] = []
        self.before_call: Iterator[Callable[[], None]] = iter(())
        self._numbers = itertools.count(1)

    def put(self, count: int = 1, *, shard: str = SHARD, at: float = 0.0) -> None:
        for _ in range(count):
            n = next(self._numbers)
            self.shards[shard].append(
                {
                    "SequenceNumber": f"{n:030d}",
                    "ApproximateArrivalTimestamp": at or time.time(),
                    "Data": json.dumps({"n": n}).encode(),
                    "PartitionKey": "k",
                }
            )

    def expire(self, count: int, shard: str = SHARD) -> None:
        del self.shards[shard][:count]

    def _called(self, name: str) -> None:
        self.calls.append(name)
        next(self.before_call, lambda: None)()

    def describe_stream_summary(self, **_: Any) -> dict[str, Any]:
        return {"StreamDescriptionSummary": {"RetentionPeriodHours": 24}}

    def list_shards(self, **_: Any) -> dict[str, Any]:
        found = []
        for name in self.shards:
            names = ("ParentShardId", "AdjacentParentShardId")
            up = dict(zip(names, self.parents.get(name, ()), strict=False))
            found.append({"ShardId": name, **up})
        return {"Shards": found}

    def get_shard_iterator(
        self,
        *,
        ShardId: str,  # noqa: N803 - boto3's names
        ShardIteratorType: str,  # noqa: N803
        StartingSequenceNumber: str = "",  # noqa: N803
        Timestamp: float = 0.0,  # noqa: N803
        **_: Any,
    ) -> dict[str, Any]:
        self._called(ShardIteratorType)
        if ShardId not in self.shards:
            raise refusal("ResourceNotFoundException")
        records = self.shards[ShardId]
        keep: Callable[[dict[str, Any]], bool] = {
            "TRIM_HORIZON": lambda r: True,
            "AT_SEQUENCE_NUMBER": lambda r: bool(r["SequenceNumber"] >= StartingSequenceNumber),
            "AT_TIMESTAMP": lambda r: bool(r["ApproximateArrivalTimestamp"] >= Timestamp),
        }[ShardIteratorType]
        place = next((i for i, record in enumerate(records) if keep(record)), len(records))
        token = f"token-{len(self.tokens)}"
        self.tokens[token] = ShardId, place
        return {"ShardIterator": token}

    def get_records(self, *, ShardIterator: str, Limit: int) -> dict[str, Any]:  # noqa: N803
        self._called("GetRecords")
        if ShardIterator not in self.tokens:
            raise refusal("ExpiredIteratorException")
        shard, place = self.tokens[ShardIterator]
        page = self.shards[shard][place : place + Limit]
        left = len(self.shards[shard]) - place - len(page)
        ended = shard in self.closed and left <= 0
        return {
            "Records": page,
            "MillisBehindLatest": 1 if left > 0 else 0,
            "NextShardIterator": None if ended else "never used",
        }


def kinesis_reader(
    fake: FakeKinesis, clock: ManualClock, after: str | None = None, start: Start | None = None
) -> KinesisReader:
    begin = start or Start("TRIM_HORIZON")
    return KinesisReader(fake, mapping(), SHARD, begin, after, clock, role=lambda: "role")


def numbers(reader: KinesisReader, limit: int = 100) -> list[int]:
    return [int(record.sequence) for record in reader.read(limit).records]


# Kinesis -------------------------------------------------------------------------------------


def test_an_idle_shard_costs_one_call_and_a_busy_one_two() -> None:
    fake, clock = FakeKinesis(), ManualClock()
    reader = kinesis_reader(fake, clock)
    fake.put(2)
    assert numbers(reader) == [1, 2]
    numbers(reader)
    fake.calls.clear()
    assert numbers(reader) == []
    assert fake.calls == ["GetRecords"]
    fake.put(1)
    assert numbers(reader) == [3]
    assert fake.calls == ["GetRecords"] * 2
    assert numbers(reader) == []
    assert fake.calls[2:] == ["AT_SEQUENCE_NUMBER", "GetRecords"]
    clock.sleep(61)
    fake.calls.clear()
    assert numbers(reader) == []
    assert fake.calls == ["AT_SEQUENCE_NUMBER", "GetRecords"]


def test_a_large_shard_is_read_page_by_page() -> None:
    fake = FakeKinesis()
    fake.put(25)
    reader = kinesis_reader(fake, ManualClock())
    pages = [reader.read(10) for _ in range(3)]
    assert [len(page.records) for page in pages] == [10, 10, 5]
    assert [page.more for page in pages] == [True, True, False]


def test_an_expired_iterator_is_replaced() -> None:
    fake = FakeKinesis()
    reader = kinesis_reader(fake, ManualClock())
    fake.put(3)
    assert numbers(reader) == [1, 2, 3]
    assert numbers(reader) == []
    fake.tokens.clear()
    fake.put(2)
    assert numbers(reader) == [4, 5]


def test_records_that_expire_behind_the_reader_hide_none_before_it() -> None:
    """The emulator's own poller, and any chained iterator, skips records 4 to 6 here."""
    fake = FakeKinesis()
    reader = kinesis_reader(fake, ManualClock())
    fake.put(3)
    assert numbers(reader) == [1, 2, 3]
    assert numbers(reader) == []
    fake.expire(3)
    fake.put(3)
    assert numbers(reader) == [4, 5, 6]
    fake.put(1)
    assert numbers(reader) == [7]


def test_trimmed_records_are_passed_over() -> None:
    fake = FakeKinesis()
    fake.put(10)
    reader = kinesis_reader(fake, ManualClock(), after=f"{2:030d}")
    fake.expire(6)
    assert numbers(reader) == [7, 8, 9, 10]


def test_a_state_that_was_rolled_back_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeKinesis()
    fake.put(3)
    reader = kinesis_reader(fake, ManualClock(), after=f"{9:030d}")
    with caplog.at_level(logging.WARNING):
        assert numbers(reader) == [1, 2, 3]
    assert "rolled back" in caplog.text


def test_a_timestamp_is_looked_up_until_there_is_a_record() -> None:
    fake = FakeKinesis()
    fake.put(2, at=10.0)
    reader = kinesis_reader(fake, ManualClock(), start=Start("AT_TIMESTAMP", 20.0))
    assert numbers(reader) == []
    fake.expire(1)
    fake.put(1, at=21.0)
    assert numbers(reader) == [3]


def test_a_shard_that_is_gone_is_reported() -> None:
    fake = FakeKinesis()
    del fake.shards[SHARD]
    with pytest.raises(SourceGone):
        numbers(kinesis_reader(fake, ManualClock()))


OPERATIONS = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 5)),
    st.tuples(st.just("expire"), st.integers(1, 8)),
    st.tuples(st.just("read"), st.integers(1, 6)),
    st.tuples(st.just("wait"), st.sampled_from([1, 61, 400])),
    st.tuples(st.just("restart"), st.just(0)),
)


@settings(max_examples=300, deadline=None)
@given(
    operations=st.lists(OPERATIONS, max_size=40),
    between=st.lists(st.integers(0, 3), max_size=60),
    unread=st.booleans(),
)
def test_whatever_expires_and_whenever_nothing_else_is_skipped(
    operations: list[tuple[str, int]], between: list[int], unread: bool
) -> None:
    """Expiry strikes between any two calls. ``unread``: also records that were not read yet."""
    fake, clock = FakeKinesis(), ManualClock()
    received: list[int] = []

    def expire(count: int) -> None:
        first = int(fake.shards[SHARD][0]["SequenceNumber"]) if fake.shards[SHARD] else 0
        read = max(0, len(received) - first + 1) if first else 0
        fake.expire(count if unread else min(count, read))

    fake.before_call = iter([partial(expire, count) for count in between])
    reader = kinesis_reader(fake, clock)
    put = 0
    for operation, amount in [*operations, *[("read", 100)] * (len(between) + 3)]:
        if operation == "put":
            fake.put(amount)
            put += amount
        elif operation == "expire":
            expire(amount)
        elif operation == "wait":
            clock.sleep(amount)
            if amount > 300:
                fake.tokens.clear()
        elif operation == "restart" and received:
            reader = kinesis_reader(fake, clock, after=f"{received[-1]:030d}")
        elif operation == "read":
            received += numbers(reader, amount)
    assert received == sorted(set(received))
    left = [int(record["SequenceNumber"]) for record in fake.shards[SHARD]]
    assert set(left) <= set(received)
    if not unread:
        assert received == list(range(1, put + 1))


# DynamoDB Streams ------------------------------------------------------------------------------


class FakeStreams:
    """One shard with absolute positions, as the emulator has them."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.trimmed = 0
        self.lost: set[str] = set()
        self.calls: list[str] = []

    def put(self, *numbers: int, at: float = 0.0) -> None:
        for n in numbers:
            change = {
                "SequenceNumber": f"{n:030d}",
                "ApproximateCreationDateTime": datetime.fromtimestamp(at or 1e9, UTC),
                "NewImage": {"n": {"N": str(n)}, "b": {"B": b"\x00"}},
            }
            self.records.append({"eventID": str(n), "eventName": "INSERT", "dynamodb": change})

    def get_shard_iterator(
        self,
        *,
        ShardIteratorType: str,  # noqa: N803
        SequenceNumber: str = "",  # noqa: N803
        **_: Any,
    ) -> dict[str, Any]:
        self.calls.append(ShardIteratorType)
        names = [record["dynamodb"]["SequenceNumber"] for record in self.records]
        if ShardIteratorType == "AFTER_SEQUENCE_NUMBER":
            if SequenceNumber not in names:
                raise refusal("TrimmedDataAccessException")
            return {"ShardIterator": str(self.trimmed + names.index(SequenceNumber) + 1)}
        end = len(names) if ShardIteratorType == "LATEST" else 0
        return {"ShardIterator": str(self.trimmed + end)}

    def get_records(self, *, ShardIterator: str, Limit: int) -> dict[str, Any]:  # noqa: N803
        if ShardIterator in self.lost:
            self.lost.clear()
            raise refusal("ExpiredIteratorException")
        place = int(ShardIterator) - self.trimmed
        if place < 0:
            raise refusal("TrimmedDataAccessException")
        page = self.records[place : place + Limit]
        return {"Records": page, "NextShardIterator": str(int(ShardIterator) + len(page))}


def streams_reader(
    fake: FakeStreams, after: str | None = None, start: Start | None = None
) -> DynamoDBReader:
    begin = start or Start("TRIM_HORIZON")
    return DynamoDBReader(fake, mapping(TABLE), SHARD, begin, after, ManualClock())


def changes(reader: DynamoDBReader) -> list[int]:
    """What two reads bring: the first may only find out that its iterator is lost."""
    return [int(record.sequence) for _ in range(2) for record in reader.read(10).records]


def test_a_table_is_read_on_from_its_checkpoint_and_iterators_are_chained() -> None:
    fake = FakeStreams()
    fake.put(1, 2, 3)
    reader = streams_reader(fake, after=f"{1:030d}")
    assert changes(reader) == [2, 3]
    fake.put(4)
    assert changes(reader) == [4]
    assert fake.calls == ["AFTER_SEQUENCE_NUMBER"]


def test_a_lost_iterator_of_a_table_is_replaced_by_the_sequence_number() -> None:
    fake = FakeStreams()
    fake.put(1, 2)
    reader = streams_reader(fake)
    assert changes(reader) == [1, 2]
    fake.put(3)
    fake.lost = {"2"}
    assert changes(reader) == [3]
    assert fake.calls == ["TRIM_HORIZON", "AFTER_SEQUENCE_NUMBER"]


def test_a_checkpoint_that_a_table_does_not_know_repeats_what_there_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = FakeStreams()
    fake.put(1, 2)
    with caplog.at_level(logging.WARNING):
        assert changes(streams_reader(fake, after=f"{7:030d}")) == [1, 2]
    assert "trim horizon" in caplog.text


def test_trimmed_records_of_a_table_are_passed_over() -> None:
    fake = FakeStreams()
    fake.put(1, 2)
    reader = streams_reader(fake)
    assert changes(reader) == [1, 2]
    fake.put(3, 4, 5)
    del fake.records[:4]
    fake.trimmed = 4
    assert changes(reader) == [5]


def test_latest_is_asked_for_once_and_then_is_a_moment() -> None:
    fake = FakeStreams()
    fake.put(1, at=100.0)
    reader = streams_reader(fake, start=Start("LATEST", 200.5))
    assert changes(reader) == []
    fake.lost = {"1"}
    fake.put(2, at=200.0)
    assert changes(reader) == [2]
    assert fake.calls == ["LATEST", "TRIM_HORIZON"]


def test_what_boto3_parsed_becomes_json_again() -> None:
    fake = FakeStreams()
    fake.put(1)
    [record] = streams_reader(fake).read(10).records
    assert record.body is not None
    event = json.loads(record.body)
    assert event["dynamodb"]["ApproximateCreationDateTime"] == 1_000_000_000
    assert event["dynamodb"]["NewImage"]["b"] == {"B": "AA=="}
    assert event["eventSourceARN"] == TABLE


# Checkpoints and wakes ---------------------------------------------------------------------------


def test_checkpoints_survive_and_a_closed_store_moves_no_more(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    known, first = store.meet("m", REGION, 12.5)
    assert (known.since, first) == (12.5, True)
    store.save("m", SHARD, Position("7"))
    store.save("m", "shardId-2", Position("9", finished=True))
    store.close()
    assert not store.save("m", SHARD, Position("8"))
    store.forget("m")
    again = Checkpoints(tmp_path)
    assert again.meet("m", REGION, 99.0) == (known, False)
    assert again.position("m", SHARD) == Position("7")
    assert again.position("m", "shardId-2").finished
    assert again.position("m", "unknown") == Position()
    again.forget("m")
    assert list(tmp_path.iterdir()) == []
    assert Checkpoints(tmp_path).known() == {}


def test_a_damaged_checkpoint_is_as_if_there_were_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / f"{SHARD}.json").write_text("{", "utf-8")
    assert Checkpoints(tmp_path).position("m", SHARD) == Position()
    assert "cannot read the checkpoint" in caplog.text


def test_a_ring_between_a_look_and_a_wait_is_not_missed() -> None:
    bell, event = Bell(), threading.Event()
    undo = on_set(event, bell.ring)
    seen = bell.rings
    event.set()
    event.clear()  # as the emulator's poll loop does
    assert bell.wait(seen, 5)
    assert not bell.wait(bell.rings, 0.001)
    undo()
    event.set()
    assert bell.rings == seen + 1


# The runner ------------------------------------------------------------------------------------


class FakeLambda:
    """Mappings, and a function whose behaviour is ``answer``."""

    def __init__(self) -> None:
        self.mappings: dict[str, dict[str, Any]] = {}
        self.received: list[list[int]] = []
        self.answer: Callable[[list[int]], Any] = lambda numbers: None
        self.unreachable = self.missing = False

    def list_event_source_mappings(self, **_: Any) -> dict[str, Any]:
        if self.unreachable:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1")
        return {"EventSourceMappings": list(self.mappings.values())}

    def get_event_source_mapping(self, *, UUID: str) -> dict[str, Any]:  # noqa: N803
        if UUID not in self.mappings:
            raise refusal("ResourceNotFoundException")
        return self.mappings[UUID]

    def get_function_configuration(self, **_: Any) -> dict[str, Any]:
        if self.missing:
            raise refusal("ResourceNotFoundException")
        return {"Role": "role"}

    def invoke(self, *, Payload: bytes, **_: Any) -> dict[str, Any]:  # noqa: N803
        import base64

        records = json.loads(Payload)["Records"]
        data = [json.loads(base64.b64decode(raw["kinesis"]["data"])) for raw in records]
        sent = [fields["n"] for fields in data]
        self.received.append(sent)
        answer = json.dumps(self.answer(sent)).encode()
        return {"Payload": io.BytesIO(answer), "ExecutedVersion": "$LATEST"}


class World:
    """A runner over fakes, in real time."""

    def __init__(self, directory: Path) -> None:
        self.functions, self.kinesis = FakeLambda(), FakeKinesis()
        self.directory, self.wake = directory, threading.Event()
        self.runner = self.start()

    def connect(self, service: str, region: str) -> Any:
        assert region == REGION
        return {"lambda": self.functions, "kinesis": self.kinesis}[service]

    def start(self) -> EventSourceRunner:
        self.runner = EventSourceRunner(
            self.connect,
            self.directory,
            self.wake,
            regions=lambda: [REGION],
            idle_poll_s=0.02,
            rescan_s=0.02,
        )
        self.runner.start()
        return self.runner

    def map(self, **fields: Any) -> None:
        self.functions.mappings["mapping-1"] = described(**fields)

    @property
    def received(self) -> list[int]:
        return [n for batch in self.functions.received for n in batch]

    def position(self, shard: str = SHARD) -> Position:
        return Checkpoints(self.directory).position("mapping-1", shard)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "checkpoints")
    yield world
    world.runner.stop(5)


def until(ready: Callable[[], object], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_parents_are_read_out_before_their_children(world: World) -> None:
    """A split and a merge: one and two become three, which becomes four and five."""
    fake = FakeKinesis(
        five=("three",), four=("three",), three=("one", "two"), two=(), one=("trimmed-long-ago",)
    )
    world.kinesis = fake
    for shard in ("one", "two", "three", "four", "five"):
        fake.put(2, shard=shard)
    fake.closed = {"one", "three"}
    world.map()
    until(lambda: len(world.received) == 4)
    assert sorted(world.received) == [1, 2, 3, 4]
    until(lambda: world.position("one").finished)
    fake.closed.add("two")
    until(lambda: len(world.received) == 10)
    assert world.received[4:6] == [5, 6]
    assert world.position("three") == Position(f"{6:030d}", finished=True)
    assert not world.position("four").finished


def test_a_finished_shard_is_not_read_again_after_a_restart(world: World) -> None:
    world.kinesis.put(3)
    world.kinesis.closed = {SHARD}
    world.map()
    until(lambda: world.position().finished)
    world.runner.stop(5)
    world.start()
    passes = len(world.kinesis.calls)
    until(lambda: world.runner.status()["mappings"])
    time.sleep(0.1)
    assert world.received == [1, 2, 3]
    assert len(world.kinesis.calls) == passes


def test_an_abandoned_invocation_moves_no_checkpoint(world: World) -> None:
    entered, release = threading.Event(), threading.Event()

    def hang(numbers: list[int]) -> None:
        entered.set()
        release.wait(10)

    world.functions.answer = hang
    world.kinesis.put(2)
    world.map()
    assert entered.wait(5)
    world.runner.stop(0.05)
    release.set()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("esm-f")])
    assert world.position() == Position()
    world.functions.answer = lambda numbers: None
    world.start()
    until(lambda: world.position().sequence == f"{2:030d}")
    assert world.received == [1, 2, 1, 2]


def test_a_function_that_is_not_there_yet_costs_no_record(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.functions.missing = True
    world.kinesis.put(3)
    world.map()
    until(lambda: "ResourceNotFoundException" in caplog.text)
    world.functions.missing = False
    until(lambda: world.received == [1, 2, 3])


def test_a_worker_that_breaks_is_replaced_at_its_checkpoint(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stockpipe.local.event_sources import crew as mapping_crew

    monkeypatch.setattr(mapping_crew, "REST_AFTER_CRASH_S", 0.1)
    world.kinesis.put(3)
    broken = world.kinesis.shards[SHARD][1].pop("PartitionKey")
    world.map()
    until(lambda: "KeyError" in caplog.text)
    world.kinesis.shards[SHARD][1]["PartitionKey"] = broken
    until(lambda: world.received == [1, 2, 3])


def test_a_full_disk_does_not_stop_the_work(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    world.kinesis.put(1)
    world.map()
    until(lambda: world.position().sequence)
    monkeypatch.setattr(Checkpoints, "_write", full)
    world.kinesis.put(2)
    until(lambda: world.received == [1, 2, 3])
    until(lambda: "cannot write a checkpoint" in caplog.text)
    monkeypatch.undo()
    world.kinesis.put(1)
    until(lambda: world.position().sequence == f"{4:030d}")
    assert world.received == [1, 2, 3, 4]


def test_checkpoints_go_only_when_the_mapping_is_known_to_be_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.kinesis.put(1)
    world.map()
    until(lambda: world.position().sequence)
    world.functions.unreachable = True
    until(lambda: world.runner.status()["regions"])
    world.kinesis.put(1)
    until(lambda: world.received == [1, 2])
    world.functions.unreachable = False
    world.runner.stop(5)
    # Another run, whose emulator has not loaded its state yet.
    found = world.functions.mappings.pop("mapping-1")
    world.start()
    until(lambda: world.runner._orphans)
    assert world.position().sequence
    world.functions.mappings["mapping-1"] = found
    world.kinesis.put(1)
    until(lambda: world.received == [1, 2, 3])
    monkeypatch.setattr(event_sources, "ORPHAN_AGE_S", 0.1)
    world.runner.stop(5)
    world.functions.mappings.clear()
    world.start()
    until(lambda: not (world.directory / "mapping-1").exists())


def test_a_blocked_shard_reports_its_age_and_error(world: World) -> None:
    world.functions.answer = lambda numbers: {"batchItemFailures": [{"itemIdentifier": "?"}]}
    world.kinesis.put(1, at=time.time() - 60)
    world.map(FunctionResponseTypes=["ReportBatchItemFailures"])

    def shard() -> dict[str, Any]:
        mappings = world.runner.status()["mappings"]
        found: dict[str, Any] = mappings.get("mapping-1", {}).get("shards", {}).get(SHARD, {})
        return found

    until(lambda: shard().get("failures"))
    assert shard()["iterator_age_ms"] > 59_000
    assert "as failed" in shard()["last_error"]
    assert shard()["sequence"] is None
    world.functions.answer = lambda numbers: {}
    until(lambda: shard()["sequence"] == f"{1:030d}", within_s=10)
    until(lambda: shard()["iterator_age_ms"] == 0)
