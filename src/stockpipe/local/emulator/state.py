"""What ministack keeps in memory only, although it must survive a clean stop.

* DynamoDB Streams: the records, how many have been trimmed, and the streams already closed. It
  saves readers' positions but not these, so every restart loses what has not been read.
* Sequence numbers of Kinesis and DynamoDB Streams: made of the wall clock, so a clock that steps
  back, or a restart after one, would give a later record a lower number than an earlier one.
* STS sessions: without them AssumeRole credentials stop working although they have not expired.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from stockpipe.local.emulator.parts import replace

_KEY = "stockpipe"
"""Under which the additions lie in a service's saved state, beside its own."""


class Sequence:
    """Ever rising numbers of 30 digits in the emulator's format: milliseconds, then a counter."""

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._last_ms = self._count = 0
        self._stands = False

    def __call__(self) -> str:
        with self._lock:
            if not self._stands:
                self._tick()
            self._count += 1
            return f"{self._last_ms:020d}{self._count:010d}"

    def _tick(self) -> None:
        self._last_ms = max(self._last_ms, int(self._now_s() * 1000))

    @contextlib.contextmanager
    def one_moment(self, again: list[int] | None = None) -> Iterator[list[int]]:
        """Within, the clock stands; the value leads to the same numbers when given as ``again``."""
        with self._lock:
            if again:
                self._last_ms, self._count = again
            else:
                self._tick()
            self._stands, moment = True, [self._last_ms, self._count]
        try:
            yield moment
        finally:
            self._stands = False

    def saved(self) -> list[int]:
        # Without the lock: this runs in the snapshot's process, where no thread could release it.
        return [self._last_ms, self._count]

    def restore(self, saved: list[int]) -> None:
        with self._lock:
            self._last_ms = max(self._last_ms, saved[0])
            self._count = max(self._count, saved[1])


def install() -> dict[str, Sequence]:
    """Save and restore all of the above with the services they belong to.

    Out: where the sequence numbers of Kinesis and DynamoDB Streams come from, by service.
    """
    from ministack.services import dynamodb, kinesis, sts

    streams, records = Sequence(), Sequence()
    replace(kinesis, "_next_sequence_number", records)
    replace(dynamodb, "_next_stream_seq", streams)

    def restore_streams(saved: dict[str, Any]) -> None:
        dynamodb._stream_records.update(saved["records"])
        dynamodb._stream_trimmed.update(saved["trimmed"])
        dynamodb._closed_streams.update(saved["closed"])
        streams.restore(saved["sequence"])

    _extend(
        dynamodb,
        lambda: {
            "records": dynamodb._stream_records,
            "trimmed": dynamodb._stream_trimmed,
            "closed": dynamodb._closed_streams,
            "sequence": streams.saved(),
        },
        restore_streams,
    )
    _extend(
        kinesis,
        lambda: {"sequence": records.saved()},
        lambda saved: records.restore(saved["sequence"]),
    )
    _extend(
        sts,
        lambda: {"sessions": sts._sessions},
        lambda saved: sts._sessions.update(saved["sessions"]),
    )
    return {"kinesis": records, "dynamodb": streams}


def _extend(
    module: ModuleType,
    save: Callable[[], dict[str, Any]],
    restore: Callable[[dict[str, Any]], None],
) -> None:
    """Add to what a service saves, and read it back.

    ``save`` is called once here, so a name that it needs and that is gone fails at start.
    """
    save()

    def get_state() -> dict[str, Any]:
        return {**own_state(), _KEY: save()}

    def load_persisted_state(data: dict[str, Any]) -> None:
        own_load({name: part for name, part in data.items() if name != _KEY})
        if _KEY in data:
            restore(data[_KEY])

    own_state = replace(module, "get_state", get_state)
    own_load = replace(module, "load_persisted_state", load_persisted_state)
