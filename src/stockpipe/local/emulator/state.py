"""What ministack keeps in memory only, although it must survive a clean stop.

* DynamoDB Streams: the records, how many have been trimmed, and the streams already closed. It
  saves readers' positions but not these, so every restart loses what has not been read.
* Sequence numbers of Kinesis and DynamoDB Streams: made of the wall clock, so a clock that steps
  back, or a restart after one, would give a later record a lower number than an earlier one.
* Tokens of DynamoDB's transactions: without them a client that tries again after a restart has its
  transaction done twice. AWS knows a token for 10 minutes.
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


Moment = list[float]
"""Last millisecond and count of a :class:`Sequence`, and the time of the day (epoch seconds)."""


class Sequence:
    """Ever rising numbers of 30 digits in the emulator's format: milliseconds, then a counter."""

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._last_ms = self._count = 0
        self._stands_at_s: float | None = None

    def __call__(self) -> str:
        with self._lock:
            if self._stands_at_s is None:
                self._tick(self._now_s())
            self._count += 1
            return f"{self._last_ms:020d}{self._count:010d}"

    def _tick(self, now_s: float) -> None:
        self._last_ms = max(self._last_ms, int(now_s * 1000))

    def time(self) -> float:
        """The time of the day, epoch seconds; that of the moment, within one."""
        return self._now_s() if self._stands_at_s is None else self._stands_at_s

    @contextlib.contextmanager
    def one_moment(self, again: Moment | None = None) -> Iterator[Moment]:
        """Within, the clock stands. The value leads to the same numbers and the same time when
        given as ``again``."""
        with self._lock:
            if again:
                self._last_ms, self._count, at_s = int(again[0]), int(again[1]), again[2]
            else:
                at_s = round(self._now_s(), 3)
                self._tick(at_s)
            self._stands_at_s, moment = at_s, [self._last_ms, self._count, at_s]
        try:
            yield moment
        finally:
            self._stands_at_s = None

    def saved(self) -> list[int]:
        # Without the lock: this runs in the snapshot's process, where no thread could release it.
        return [self._last_ms, self._count]

    def restore(self, saved: list[int]) -> None:
        with self._lock:
            self._last_ms = max(self._last_ms, saved[0])
            self._count = max(self._count, saved[1])


class _Clock:
    """The module ``time`` for a service whose clock stands while a request is kept or repeated:
    so a record that is put again after a crash has the arrival time that it had."""

    def __init__(self, sequence: Sequence) -> None:
        self.time = sequence.time

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def install() -> dict[str, Sequence]:
    """Save and restore all of the above with the services they belong to.

    Out: where the sequence numbers of Kinesis and DynamoDB Streams come from, by service.
    """
    from ministack.services import dynamodb, kinesis, sts

    streams, records = Sequence(), Sequence()
    replace(kinesis, "_next_sequence_number", records)
    replace(dynamodb, "_next_stream_seq", streams)
    replace(kinesis, "time", _Clock(records))
    replace(dynamodb, "time", _Clock(streams))

    def restore_streams(saved: dict[str, Any]) -> None:
        dynamodb._stream_records.update(saved["records"])
        dynamodb._stream_trimmed.update(saved["trimmed"])
        dynamodb._closed_streams.update(saved["closed"])
        if "transactions" in saved:  # not in what an earlier version saved
            dynamodb._txn_idempotency.update(saved["transactions"])
        streams.restore(saved["sequence"])

    _extend(
        dynamodb,
        lambda: {
            "records": dynamodb._stream_records,
            "trimmed": dynamodb._stream_trimmed,
            "closed": dynamodb._closed_streams,
            "transactions": dynamodb._txn_idempotency,
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
