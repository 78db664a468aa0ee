"""Readers against streams in memory that expire, are trimmed, roll back and are gone."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from event_source_fakes import (
    SHARD,
    TABLE,
    FakeKinesis,
    ManualClock,
    mapping,
    refusal,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpipe.local.event_sources.dynamodb import DynamoDBReader
from stockpipe.local.event_sources.kinesis import KinesisReader
from stockpipe.local.event_sources.mappings import Start
from stockpipe.local.event_sources.readers import SourceGone


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
