"""Reading a shard of a DynamoDB stream.

Positions are absolute here, in the emulator too, so iterators are chained; one that got lost is
replaced by the sequence number.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from stockpipe.local.event_sources.batching import Record
from stockpipe.local.event_sources.mappings import Start
from stockpipe.local.event_sources.readers import (
    ITERATOR_LIFE_S,
    Page,
    ShardReader,
    epoch,
    error_code,
)

_PAGE_BYTES = 500_000
"""A page beyond this may have been cut at 1 MB, so there may be more at once."""


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
        records = [self._record(record) for record in raw]
        self._iterator = answer.get("NextShardIterator")
        if raw:
            self._last = records[-1].sequence
        since = self._start.at
        if since is not None:
            # Creation times are whole seconds, so the second of `since` stays in.
            records = [record for record in records if record.arrived >= int(since)]
        now = self._clock.now().timestamp()
        full = len(raw) >= limit or sum(len(record.body or "") for record in records) > _PAGE_BYTES
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
            self._check_gone(error)
            raise
        return str(answer["ShardIterator"])
