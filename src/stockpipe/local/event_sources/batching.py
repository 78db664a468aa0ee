"""What Lambda decides about a batch of stream records, as pure functions without I/O.

Where a batch ends, what a function's answer means, what is retried, split or given up. Sources:

- https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html (batches, 6 MB)
- https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html
- https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html (retries, age)

DynamoDB Streams behave alike (services-ddb-batchfailurereporting, services-dynamodb-errors).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

PAYLOAD_LIMIT = 6 * 1024 * 1024
"""Bytes of event that one synchronous invocation takes."""

_ENVELOPE = len('{"Records":[]}')


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a stream, ready to be sent.

    ``body`` is its JSON (ASCII) as the function receives it, None when a filter leaves it out;
    ``arrived`` is in epoch seconds.
    """

    sequence: str
    arrived: float
    body: str | None


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of a mapping that decide about batches; None stands for unlimited."""

    batch_size: int = 100
    window_s: float = 0.0
    max_retries: int | None = None
    max_age_s: float | None = None
    bisect: bool = False
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """Records that go to the function together, and how often they have been there.

    ``retries`` counts what MaximumRetryAttempts limits; ``invocations`` counts every call.
    """

    records: tuple[Record, ...]
    retries: int = 0
    invocations: int = 0

    @property
    def sequences(self) -> list[str]:
        return [record.sequence for record in self.records]

    def event(self) -> str:
        """The function's event as JSON."""
        bodies = (record.body for record in self.records if record.body is not None)
        return '{"Records":[' + ",".join(bodies) + "]}"


@dataclass(frozen=True, slots=True)
class Batch:
    """The first ``length`` records of a buffer. ``full``: nothing more would fit in."""

    length: int
    live: int
    full: bool


def cut(buffer: Iterable[Record], policy: Policy, limit: int = PAYLOAD_LIMIT) -> Batch:
    """Where the next batch ends: at BatchSize records or before ``limit`` bytes of event.

    Filtered records count for nothing and go along with the batch, so that the checkpoint passes
    them. A record that is too large on its own still makes a batch: Invoke refuses it, and it is
    treated like any batch that fails.
    """
    length = live = 0
    size = _ENVELOPE
    for record in buffer:
        if record.body is not None:
            size += len(record.body) + 1
            if live == policy.batch_size or (live and size > limit):
                return Batch(length, live, full=True)
            live += 1
        length += 1
    return Batch(length, live, full=live >= policy.batch_size or size > limit)


def first_failure(answer: bytes, sequences: Sequence[str]) -> int:
    """How many leading records a function's answer reports as done.

    The lowest sequence number named is the checkpoint. No answer, ``{}``, or an empty or null list
    is a complete success; a bad key name, an empty, null or unknown identifier, or anything that
    is no such object is a complete failure (0).
    """
    try:
        value = json.loads(answer) if answer.strip() else None
    except ValueError:
        return 0
    if value is None or value in ("", [], {}):
        return len(sequences)
    if not isinstance(value, dict):
        return 0
    failures = value.get("batchItemFailures")
    if failures is None:
        return len(sequences)
    if not isinstance(failures, list):
        return 0
    places = {sequence: place for place, sequence in enumerate(sequences)}
    done = len(sequences)
    for failure in failures:
        name = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if not isinstance(name, str) or name not in places:
            return 0
        done = min(done, places[name])
    return done


@dataclass(frozen=True, slots=True)
class Settlement:
    """What follows an invocation.

    ``done`` leading records are complete; ``pending`` goes next, in order; ``discarded`` is given
    up; ``pause`` says whether to back off first.
    """

    done: int
    pending: tuple[Segment, ...] = ()
    discarded: Segment | None = None
    pause: bool = False


def settle(segment: Segment, done: int, policy: Policy, *, reported: bool) -> Settlement:
    """Decide after an invocation of which the first ``done`` records are complete.

    - Retries are counted for the same batch sent again; what remains after a partial success is
      another batch, and its count starts anew.
    - With bisect on, a batch of which nothing was done is split in two, which consumes no retry,
      whether it raised or its answer (``reported``) named the first record. After a partial
      success the cut lies at the returned sequence number instead.
    - Otherwise the same batch goes again until MaximumRetryAttempts is used up.
    """
    count = len(segment.records)
    invocations = segment.invocations + 1
    if done >= count:
        return Settlement(count)
    if done > 0:
        rest = Segment(segment.records[done:], 0, invocations)
        return Settlement(done, (rest,), pause=True)
    if policy.bisect and count > 1:
        half = (count + 1) // 2
        halves = (
            Segment(segment.records[:half], 0, invocations),
            Segment(segment.records[half:], 0, invocations),
        )
        # Halving ends by itself. What the function itself reports is often a throttled service,
        # which a burst of calls would only make worse.
        return Settlement(0, halves, pause=reported)
    again = replace(segment, retries=segment.retries + 1, invocations=invocations)
    if policy.max_retries is not None and segment.retries >= policy.max_retries:
        return Settlement(0, discarded=replace(segment, invocations=invocations))
    return Settlement(0, (again,), pause=True)


def split_expired(
    segment: Segment, limit_s: float | None, now: float
) -> tuple[Segment | None, Segment | None]:
    """(the leading records older than ``limit_s``, the others), None for an empty part.

    Records are in order of arrival, so those that are too old lead. They are given up alone: the
    younger ones behind them still go to the function.
    """
    records = segment.records
    old = 0
    if limit_s is not None:
        while old < len(records) and now - records[old].arrived > limit_s:
            old += 1
    if not old:
        return None, segment
    live = replace(segment, records=records[old:]) if old < len(records) else None
    return replace(segment, records=records[:old]), live
