"""Reading the shards of a stream: what ``kinesis_reader`` and ``dynamodb_reader`` have in common.

Both know one position: the sequence number of the last record read. Iterators are only a means to
get there, and are thrown away whenever in doubt.
"""

from __future__ import annotations

import base64
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from stockpipe.domain.clock import Clock
from stockpipe.local.event_sources.batching import Record
from stockpipe.local.event_sources.mappings import EventMapping, Start

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
            self._check_gone(error)
            raise

    def _check_gone(self, error: ClientError) -> None:
        if error_code(error) == "ResourceNotFoundException":
            raise SourceGone(f"{self._mapping.source} {self._shard}: {error}") from error

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
