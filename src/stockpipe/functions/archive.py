"""The two kinds of S3 object that the processor writes: raw archive and quarantine."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from stockpipe.domain.exact import moment_text
from stockpipe.domain.names import QUARANTINE_PREFIX, RAW_PREFIX
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.functions.batch import Arrived
from stockpipe.functions.faults import is_transient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PARALLEL_PUTS = 8
T = TypeVar("T")


class Row(NamedTuple):
    """A quote and where it stands in the stream."""

    seq: str
    padded_seq: str
    quote: Quote


class Refused(NamedTuple):
    """A record that cannot be stored, and why."""

    record: Arrived
    reason: str


class Archive:
    """Objects of one bucket. Keys derive from content, so a retry writes what is there already."""

    def __init__(self, s3: S3Client, bucket: str, owner: str) -> None:
        self._s3, self._bucket, self._owner = s3, bucket, owner

    def put_rows(self, rows: Sequence[Row], left: Callable[[], float]) -> list[str]:
        """Write the rows, one object per day; returns the sequence numbers that were not written.

        Only transient failures are reported so; any other error is raised.
        """
        days: dict[str, list[Row]] = {}
        for row in rows:
            days.setdefault(row.quote.day, []).append(row)
        failed = _each(days.values(), self._put_day, left)
        return [row.seq for day in failed for row in day]

    def put_quarantine(self, refused: Sequence[Refused], left: Callable[[], float]) -> list[str]:
        """Write each refused record with its original bytes; returns what was not written."""
        return [one.record.seq for one in _each(refused, self._put_refused, left)]

    def _put_day(self, rows: list[Row]) -> None:
        lines = [quote_json(row.quote, seq=row.padded_seq) for row in rows]
        body = ("\n".join(lines) + "\n").encode()
        first = min(row.quote.timestamp for row in rows)
        digest = hashlib.sha256(body).hexdigest()[:16]
        name = f"{first.replace(':', '-')}-{digest}.json"
        self._put(f"{RAW_PREFIX}day={first[:10]}/{name}", body)

    def _put_refused(self, one: Refused) -> None:
        record, reason = one
        document = {
            "reason": reason,
            "shard": record.shard,
            "sequence_number": record.seq,
            "arrived_at": moment_text(record.arrived_at),
            "payload": None if record.data is None else _as_text(record.data),
            "payload_base64": record.raw
            if record.data is None
            else base64.b64encode(record.data).decode(),
        }
        day = document["arrived_at"][:10] if document["arrived_at"] else ""
        key = f"{QUARANTINE_PREFIX}day={day}/{record.shard}-{record.seq}.json"
        self._put(key, (json.dumps(document) + "\n").encode())

    def _put(self, key: str, body: bytes) -> None:
        self._s3.put_object(
            Bucket=self._bucket,
            Key=key,
            Body=body,
            ContentType="application/json",
            ExpectedBucketOwner=self._owner,
        )


def _as_text(data: bytes) -> str | None:
    """The payload for reading, where it is text; its exact bytes stand beside it."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _each(items: Iterable[T], put: Callable[[T], None], left: Callable[[], float]) -> list[T]:
    """Put all items in parallel; returns those that failed transiently or came too late."""

    def attempt(item: T) -> T | None:
        if left() <= 0:
            return item
        try:
            put(item)
        except Exception as error:
            if not is_transient(error):
                raise
            return item
        return None

    items = list(items)
    if len(items) == 1:  # the live case: no threads for one object
        return [item for item in map(attempt, items) if item is not None]
    with ThreadPoolExecutor(PARALLEL_PUTS) as pool:
        return [item for item in pool.map(attempt, items) if item is not None]
