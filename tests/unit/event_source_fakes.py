"""Streams in memory that expire, split and roll back, as the emulator has them."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from stockpipe.local.event_sources.mappings import EventMapping, read_mapping

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
