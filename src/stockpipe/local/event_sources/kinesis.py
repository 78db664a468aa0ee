"""Reading a Kinesis shard so that nothing is skipped, whatever expires meanwhile.

The emulator's iterators are list indexes. When old records expire the list shifts, and a chained
iterator silently skips as many unread ones. So this reader always asks again *at* the last record
it has, and goes on only when that record comes first; otherwise it looks where the shard now
begins. An idle shard costs one call a poll, a busy one two a read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from stockpipe.local.event_sources.batching import Record
from stockpipe.local.event_sources.mappings import Start
from stockpipe.local.event_sources.readers import ITERATOR_LIFE_S, Page, ShardReader, epoch

_log = logging.getLogger(__name__)


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
        at_ours = self._last is not None and not self._trimmed  # that record will come first
        answer = self._get(self._iterator, limit + 1 if at_ours else limit)
        if answer is None:
            self._iterator = None
            return None
        records = answer["Records"]
        if self._last is None and self._start.at is not None:
            self._iterator = None  # an index for that time, which shifts: never used twice
            return answer if not records else self._certain(limit)
        if self._last is None:
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
        front = self._front()
        if front is None:
            return
        if not front or int(front) > int(last):
            self._trimmed = True  # usual after a day without records; nothing need be lost
            _log.info("%s %s: %s has expired", self._mapping.source, self._shard, last)
            return
        again = self._certain(1)
        if again is None or (again["Records"] and again["Records"][0]["SequenceNumber"] == last):
            return  # only the list had moved between two calls
        # Older records are there but ours never was: the emulator came back with an older state,
        # and what we did after it may be gone as well.
        self._log_jump("the stream does not know its records (state rolled back?)")
        self._last, self._start = None, Start("TRIM_HORIZON")

    def _certain(self, limit: int) -> dict[str, Any] | None:
        """A read during which nothing expired, so that its iterator was where it should be."""
        before = self._front()
        answer = self._get(self._fresh(at_horizon=False), limit)
        return answer if before is not None and before == self._front() else None

    def _front(self) -> str | None:
        """The oldest sequence number of the shard, "" when it is empty; None: ask again.

        An iterator at the trim horizon is the index 0, which no expiry can move.
        """
        answer = self._get(self._issue("TRIM_HORIZON"), 1)
        if answer is None:
            return None
        return str(answer["Records"][0]["SequenceNumber"]) if answer["Records"] else ""

    def _page(self, answer: dict[str, Any], limit: int) -> Page:
        raw = answer["Records"]
        role = self._role() if raw else ""
        records = [self._record(record, role) for record in raw]
        behind = int(answer.get("MillisBehindLatest") or 0)
        if raw:  # last of all: whatever failed above is asked for again
            self._last, self._trimmed, self._iterator = raw[-1]["SequenceNumber"], False, None
        return Page(
            records,
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
            self._check_gone(error)
            raise
        return str(answer["ShardIterator"])
