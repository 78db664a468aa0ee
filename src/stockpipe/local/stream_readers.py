"""Reading shards of Kinesis and DynamoDB streams, by sequence number and nothing else.

The emulator's Kinesis iterators are list indexes. When an old record expires the list shifts, and
a chained iterator silently skips as many unread ones. So a Kinesis reader always asks again *at*
the last record it has, and goes on only when that record comes first; otherwise it looks where the
shard now begins. DynamoDB's positions are absolute there, so those iterators are chained.
"""

from __future__ import annotations

import base64
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from stockpipe.domain.clock import Clock
from stockpipe.local.batching import Record
from stockpipe.local.event_mappings import EventMapping, Start

_log = logging.getLogger(__name__)
ITERATOR_LIFE_S = 60.0
"""Iterators live for 5 minutes; one that is older than this is replaced before use."""

_BYTES_PER_READ = 8 * 1024 * 1024
"""What one read should bring at most; AWS stops at 10 MB, the emulator does not."""


class SourceGone(Exception):
    """The stream or the shard does not exist (any more)."""


@dataclass(frozen=True, slots=True)
class Shard:
    """``parents`` must be read out first, as far as they still exist."""

    id: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Records in order. ``more``: ask again at once. ``ended``: the shard is closed and read."""

    records: Sequence[Record]
    more: bool = False
    ended: bool = False
    behind_ms: int = 0


def error_code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def to_json(event: Any) -> str:
    """An event record as JSON text: bytes as base64, times as epoch seconds."""
    return json.dumps(event, default=_plain, separators=(",", ":"))


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        return epoch(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} in a stream record")


def epoch(value: Any) -> float:
    """Epoch seconds of what boto3 made of a timestamp; whole seconds stay whole numbers."""
    seconds = value.timestamp() if isinstance(value, datetime) else float(value)
    return int(seconds) if seconds.is_integer() else round(seconds, 3)


class ShardReader(ABC):
    """Reads one shard from a position on. Not for several threads."""

    def __init__(
        self,
        client: Any,
        mapping: EventMapping,
        shard: str,
        start: Start,
        after: str | None,
        clock: Clock,
    ) -> None:
        """``after`` is the checkpoint; without one the shard is read from ``start``."""
        self._client, self._mapping, self._shard, self._clock = client, mapping, shard, clock
        self._start, self._last = start, after
        self._iterator: str | None = None
        self._issued = 0.0
        self._record_bytes = 1024.0

    def follow(self, mapping: EventMapping) -> None:
        """The mapping was updated; what has been read stays as it is."""
        self._mapping = mapping

    @abstractmethod
    def read(self, limit: int) -> Page:
        """The next records, some ``limit`` of them.

        Raises :class:`SourceGone`; botocore's errors otherwise, after which it can be called again.
        """

    @abstractmethod
    def _ask(self, iterator: str, limit: int) -> dict[str, Any]: ...

    @abstractmethod
    def _issue(self, kind: str, **fields: Any) -> str: ...

    def _get(self, iterator: str, limit: int) -> dict[str, Any] | None:
        """One GetRecords; None when the iterator has expired or points at trimmed data."""
        try:
            return self._ask(iterator, limit)
        except ClientError as error:
            if error_code(error) in ("ExpiredIteratorException", "TrimmedDataAccessException"):
                return None
            raise self._gone_or(error) from error

    def _gone_or(self, error: ClientError) -> Exception:
        if error_code(error) == "ResourceNotFoundException":
            return SourceGone(f"{self._mapping.source} {self._shard}: {error}")
        return error

    def _limit(self, wanted: int) -> int:
        """Fewer records when they are large, so that a read stays at some megabytes."""
        return max(1, min(wanted, int(_BYTES_PER_READ / self._record_bytes)))

    def _kept(self, event: Any, sequence: str, arrived: float) -> Record:
        accepts = self._mapping.accepts
        body = to_json(event)
        self._record_bytes += (len(body) - self._record_bytes) / 16
        passes = accepts is None or accepts(json.loads(body))
        return Record(sequence, arrived, body if passes else None)

    def _log_jump(self, why: str) -> None:
        _log.warning(
            "%s %s: %s after sequence number %s; going on at the trim horizon",
            self._mapping.source,
            self._shard,
            why,
            self._last,
        )


class KinesisReader(ShardReader):
    """https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html"""

    def __init__(self, *fields: Any, role: Callable[[], str]) -> None:
        super().__init__(*fields)
        self._role = role
        self._trimmed = False  # the last record we had is gone: what remains is all new

    def read(self, limit: int) -> Page:
        limit = self._limit(limit)
        for _ in range(3):
            answer = self._next(limit)
            if answer is not None:
                return self._page(answer, limit)
        # The stream moves under us faster than two calls: the worker comes again.
        return Page((), more=True)

    def _next(self, limit: int) -> dict[str, Any] | None:
        """The answer with unread records only; None: look again."""
        at_horizon = self._trimmed or (self._last is None and self._start.at is None)
        if self._iterator is None or self._clock.monotonic() - self._issued > ITERATOR_LIFE_S:
            self._iterator = self._fresh(at_horizon)
        # One more: an iterator at our last record answers with that one first.
        answer = self._get(self._iterator, limit + 1)
        if answer is None:
            self._iterator = None
            return None
        records = answer["Records"]
        if self._last is None:
            if self._start.at is not None:
                self._iterator = None  # an index for that time, which shifts: never used twice
            return answer
        if self._trimmed:
            last = int(self._last)
            return answer | {"Records": [r for r in records if int(r["SequenceNumber"]) > last]}
        if records and records[0]["SequenceNumber"] == self._last:
            return answer | {"Records": records[1:]}
        self._iterator = None
        self._after_loss(self._last)
        return None

    def _fresh(self, at_horizon: bool) -> str:
        self._issued = self._clock.monotonic()
        if at_horizon:
            return self._issue("TRIM_HORIZON")
        if self._last is not None:
            return self._issue("AT_SEQUENCE_NUMBER", StartingSequenceNumber=self._last)
        return self._issue("AT_TIMESTAMP", Timestamp=self._start.at)

    def _after_loss(self, last: str) -> None:
        """Our last record did not come first: find out whether it expired or the list moved."""
        horizon = self._get(self._issue("TRIM_HORIZON"), 1)
        if horizon is None:
            return
        records = horizon["Records"]
        if not records or int(records[0]["SequenceNumber"]) > int(last):
            self._trimmed = True  # usual after a day without records; nothing need be lost
            _log.info("%s %s: %s has expired", self._mapping.source, self._shard, last)
            return
        again = self._get(self._fresh(at_horizon=False), 1)
        if again is None or (again["Records"] and again["Records"][0]["SequenceNumber"] == last):
            return  # only the list had moved between two calls
        # Older records are there but ours never was: the emulator came back with an older state,
        # and what we did after it may be gone as well.
        self._log_jump("the stream does not know its records (state rolled back?)")
        self._last, self._start = None, Start("TRIM_HORIZON")

    def _page(self, answer: dict[str, Any], limit: int) -> Page:
        raw = answer["Records"]
        if raw:
            self._last, self._trimmed, self._iterator = raw[-1]["SequenceNumber"], False, None
        behind = int(answer.get("MillisBehindLatest") or 0)
        role = self._role() if raw else ""
        return Page(
            [self._record(record, role) for record in raw],
            more=bool(raw) and (behind > 0 or len(raw) >= limit),
            ended=not answer.get("NextShardIterator"),
            behind_ms=behind,
        )

    def _record(self, raw: dict[str, Any], role: str) -> Record:
        sequence, arrived = raw["SequenceNumber"], epoch(raw["ApproximateArrivalTimestamp"])
        event = {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": raw["PartitionKey"],
                "sequenceNumber": sequence,
                "data": raw["Data"],
                "approximateArrivalTimestamp": arrived,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{self._shard}:{sequence}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": role,
            "awsRegion": self._mapping.region,
            "eventSourceARN": self._mapping.source,
        }
        return self._kept(event, sequence, arrived)

    def _ask(self, iterator: str, limit: int) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.get_records(
            ShardIterator=iterator, Limit=min(limit, 10_000)
        )
        return answer

    def _issue(self, kind: str, **fields: Any) -> str:
        try:
            answer = self._client.get_shard_iterator(
                StreamARN=self._mapping.source,
                ShardId=self._shard,
                ShardIteratorType=kind,
                **fields,
            )
        except ClientError as error:
            raise self._gone_or(error) from error
        return str(answer["ShardIterator"])


class DynamoDBReader(ShardReader):
    """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html

    ``start.at`` (epoch seconds) is when a LATEST mapping was first met. Its iterator is taken once;
    should it get lost before a first record, the shard is read from its beginning without what is
    older than that.
    """

    def read(self, limit: int) -> Page:
        limit = min(self._limit(limit), 1000)
        if self._iterator is None or self._clock.monotonic() - self._issued > ITERATOR_LIFE_S:
            self._iterator = self._fresh()
        self._issued = self._clock.monotonic()
        answer = self._get(self._iterator, limit)
        if answer is None:
            self._iterator = None
            return Page((), more=True)
        raw = answer["Records"]
        self._iterator = answer.get("NextShardIterator")
        records = [self._record(record) for record in raw]
        if raw:
            self._last = records[-1].sequence
        since = self._start.at
        if since is not None:
            # Creation times are whole seconds, so the second of `since` stays in.
            records = [record for record in records if record.arrived >= int(since)]
        now = self._clock.now().timestamp()
        full = len(raw) >= limit or sum(len(record.body or "") for record in records) > 500_000
        return Page(
            records,
            more=bool(raw) and full,
            ended=self._iterator is None,
            behind_ms=int(max(0.0, now - records[-1].arrived) * 1000) if full and records else 0,
        )

    def _fresh(self) -> str:
        if self._last is None:
            iterator = self._issue(self._start.position)
            self._start = Start("TRIM_HORIZON", self._start.at)
            return iterator
        try:
            return self._issue("AFTER_SEQUENCE_NUMBER", SequenceNumber=self._last)
        except ClientError as error:
            if error_code(error) != "TrimmedDataAccessException":
                raise
            # Trimmed after a day, or the emulator came back with an older state: what the stream
            # still holds is repeated rather than skipped.
            self._log_jump("the stream holds nothing")
            self._last, self._start = None, Start("TRIM_HORIZON")
            return self._issue("TRIM_HORIZON")

    def _record(self, raw: dict[str, Any]) -> Record:
        change = raw["dynamodb"]
        arrived = epoch(change.get("ApproximateCreationDateTime", datetime.now(UTC)))
        event = {key: raw[key] for key in raw if key != "userIdentity"}
        if identity := raw.get("userIdentity"):  # an expiry by TTL; Lambda writes it in lower case
            event["userIdentity"] = {
                "type": identity.get("Type"),
                "principalId": identity.get("PrincipalId"),
            }
        event["eventSourceARN"] = self._mapping.source
        return self._kept(event, str(change["SequenceNumber"]), arrived)

    def _ask(self, iterator: str, limit: int) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.get_records(ShardIterator=iterator, Limit=limit)
        return answer

    def _issue(self, kind: str, **fields: Any) -> str:
        try:
            answer = self._client.get_shard_iterator(
                StreamArn=self._mapping.source,
                ShardId=self._shard,
                ShardIteratorType=kind,
                **fields,
            )
        except ClientError as error:
            raise self._gone_or(error) from error
        return str(answer["ShardIterator"])
