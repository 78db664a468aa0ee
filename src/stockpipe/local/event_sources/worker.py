"""The thread that works through one shard for one mapping.

Read, batch, invoke, settle, checkpoint, in this order and in the order of the shard. What is read
but not yet settled exists in memory alone: whenever the thread ends, its checkpoint stands before
all unfinished work.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from stockpipe.domain.clock import Clock
from stockpipe.domain.retry import backoff
from stockpipe.local.event_sources.batching import (
    Batch,
    Record,
    Segment,
    cut,
    settle,
    split_expired,
)
from stockpipe.local.event_sources.checkpoints import Checkpoints, Position
from stockpipe.local.event_sources.invocations import (
    Condition,
    Functions,
    Invocation,
    Unavailable,
    deliver,
    failure_record,
)
from stockpipe.local.event_sources.mappings import EventMapping
from stockpipe.local.event_sources.readers import ShardReader, SourceGone
from stockpipe.local.event_sources.report import (
    ShardReport,
    tell,
    tell_discarded,
    tell_polled,
    tell_sent,
)
from stockpipe.local.event_sources.sources import ClientFor, StreamSource, iso_ms
from stockpipe.local.event_sources.wakes import Bell

_log = logging.getLogger(__name__)

FOREIGN_WAKE_GAP_S = 0.02
"""After a wake that brought this shard nothing: traffic of others must not make it spin."""
_SAME_PROBLEM_S = 60.0
_READ_AHEAD = 1000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all workers share.

    ``idle_poll_s``: how often an idle shard is read unasked. ``attention`` is called when a worker
    has ended.
    """

    connect: ClientFor
    functions: Functions
    checkpoints: Checkpoints
    bell: Bell
    clock: Clock
    idle_poll_s: float
    attention: Callable[[], None]


class ShardWorker(threading.Thread):
    """One shard of one mapping.

    Once it has ended, ``gone`` says that the shard does not exist, ``crashed`` that it broke.
    """

    def __init__(
        self,
        mapping: EventMapping,
        source: StreamSource,
        shard: str,
        reader: ShardReader,
        around: Surroundings,
    ) -> None:
        super().__init__(name=f"esm-{mapping.function_name}-{shard}", daemon=True)
        self.mapping, self.shard = mapping, shard
        self.gone = self.crashed = False
        self.report = ShardReport()
        self.made_at = around.clock.monotonic()
        self._source, self._reader, self._around = source, reader, around
        self._checkpoints, self._clock = around.checkpoints, around.clock
        self._buffer: deque[Record] = deque()
        self._filled_at: float | None = None
        self._barren = False
        self._halt = threading.Event()
        self._problem_at = float("-inf")

    def halt(self) -> None:
        """Ask it to end after the invocation that is running; does not wait."""
        if not self._halt.is_set():
            self._halt.set()
            self._around.bell.ring()

    def follow(self, mapping: EventMapping) -> None:
        """The mapping was updated: the new settings hold from the next decision on."""
        self.mapping = mapping
        self._reader.follow(mapping)

    def run(self) -> None:
        self.report.state = "running"
        try:
            self._run()
        except SourceGone as error:
            self._problem(str(error))
            self.gone = True
        except Exception as error:  # noqa: BLE001 - the runner starts another at the checkpoint
            self.crashed = True
            _log.exception("%s: unexpected", self.name)
            self._problem(f"{type(error).__name__}: {error}")
        if self.report.state == "running":
            self.report.state = "stopped"
        self._around.attention()

    def _run(self) -> None:
        delays = _delays()
        while not self._halt.is_set():
            try:
                batch = self._gather()
            except (BotoCoreError, ClientError) as error:
                # Nothing was taken from the buffer, and a reader can be asked again.
                self._problem(f"{type(error).__name__}: {error}")
                self._halt.wait(next(delays))
                continue
            delays = _delays()
            if batch is not None:
                self._work_off(batch)

    # Reading --------------------------------------------------------------------------------

    def _gather(self) -> Batch | None:
        """Read until a batch is due; None when halted, or when the shard has ended."""
        while not self._halt.is_set():
            policy, rings = self.mapping.policy, self._around.bell.rings
            batch = cut(self._buffer, policy)
            if batch.full:
                return batch
            page = self._reader.read(max(policy.batch_size, _READ_AHEAD))
            self._buffer.extend(page.records)
            self.report.behind_ms = page.behind_ms
            if page.records:
                self._barren = False
                tell_polled(self.mapping, page.records)
                batch = cut(self._buffer, policy)
            if batch.live and self._filled_at is None:
                self._filled_at = self._clock.monotonic()
            if batch.full or (batch.live and page.ended):
                return batch
            if page.more:
                if not page.records:  # an iterator got lost; not in a hurry if it is again
                    self._halt.wait(FOREIGN_WAKE_GAP_S)
                continue
            if batch.live and self._filled_at is not None:
                left = self._filled_at + policy.window_s - self._clock.monotonic()
                if left <= 0:
                    return batch
                self._rest(rings, min(left, self._around.idle_poll_s))
                continue
            self._pass_filtered(batch.length)
            if page.ended:
                self._finish()
                return None
            self._rest(rings, self._around.idle_poll_s)
        return None

    def _rest(self, rings: int, timeout_s: float) -> None:
        woken = self._around.bell.wait(rings, timeout_s)
        if woken and self._barren:
            self._halt.wait(FOREIGN_WAKE_GAP_S)
        self._barren = woken  # until a read brings something

    def _pass_filtered(self, length: int) -> None:
        """Records that a filter leaves out are done as soon as nothing waits before them."""
        self.report.oldest_pending = None
        if length:
            last = [self._buffer.popleft() for _ in range(length)][-1]
            self._checkpoint(last.sequence)

    def _finish(self) -> None:
        """The shard is closed and read out: its children may begin."""
        last = self._checkpoints.position(self.mapping.uuid, self.shard).sequence
        self._checkpoint(last, finished=True)
        self.report.state = "finished"
        self._halt.set()

    # Working --------------------------------------------------------------------------------

    def _work_off(self, batch: Batch) -> None:
        """Settle a batch completely, or stop at what its checkpoint says."""
        records = [self._buffer.popleft() for _ in range(batch.length)]
        self._filled_at = None
        pending = deque([Segment(tuple(record for record in records if record.body is not None))])
        delays = _delays()
        while pending:
            if self._halt.is_set():
                return
            segment = pending.popleft()
            self.report.oldest_pending = segment.records[0].arrived
            old, young = split_expired(segment, self._age_limit_s(), self._now())
            if old is not None and not self._discard(old, "RecordAgeExceeded", None):
                return
            if young is None:
                continue
            tell_sent(self.mapping, young, self._now())
            try:
                invocation = self._around.functions.invoke(self.mapping, young)
            except Unavailable as error:
                tell(self.mapping, FailedInvokeEventCount=len(young.records))
                self._problem(f"{self.mapping.function_name} was not invoked: {error}")
                pending.appendleft(young)
                self._halt.wait(next(delays))
                continue
            self._count(young, invocation)
            settled = settle(
                young, invocation.done, self.mapping.policy, reported=invocation.reported
            )
            if settled.done:
                self._checkpoint(young.records[settled.done - 1].sequence)
            if settled.discarded is not None and not self._discard(
                settled.discarded, "RetryAttemptsExhausted", invocation
            ):
                return
            pending.extendleft(reversed(settled.pending))
            if settled.pause:
                self._halt.wait(next(delays))
            elif not settled.pending:
                delays = _delays()
        self.report.oldest_pending = None
        self._checkpoint(records[-1].sequence)

    def _age_limit_s(self) -> float:
        # Without a limit of its own a record is retried until the stream forgets it.
        limit, retention = self.mapping.policy.max_age_s, self._source.retention_s
        return retention if limit is None else min(limit, retention)

    def _discard(
        self, segment: Segment, condition: Condition, invocation: Invocation | None
    ) -> bool:
        """Give records up, to the destination if there is one; False when halted before that.

        The shard waits until they are delivered: going on would lose them.
        """
        delays = _delays()
        first, last = segment.records[0].sequence, segment.records[-1].sequence
        while True:
            mapping, now = self.mapping, self._now()
            where = "nowhere: the mapping has no OnFailure destination"
            try:
                if mapping.destination:
                    told = failure_record(
                        mapping, self._source, self.shard, segment, condition, invocation, now
                    )
                    connect = self._around.connect
                    where = deliver(connect, mapping, self.shard, told, segment, now)
            except (BotoCoreError, ClientError) as error:
                self._problem(f"cannot deliver discarded records: {error}")
                if self._halt.wait(next(delays)):
                    return False
                continue
            _log.error(
                "%s: %s; %d records from %s to %s went %s",
                *(self.name, condition, len(segment.records), first, last, where),
            )
            self.report.discarded += len(segment.records)
            tell_discarded(mapping, segment, condition)
            self._checkpoint(last)
            return True

    # Telling --------------------------------------------------------------------------------

    def _checkpoint(self, sequence: str | None, *, finished: bool = False) -> None:
        position = Position(sequence, finished)
        if position == self._checkpoints.position(self.mapping.uuid, self.shard):
            return
        try:
            if self._checkpoints.save(self.mapping.uuid, self.shard, position):
                self.report.sequence = sequence
        except OSError as error:
            # The work is done; only a restart now would repeat it.
            self._problem(f"cannot write a checkpoint: {error}")

    def _count(self, segment: Segment, invocation: Invocation) -> None:
        count, report = len(segment.records), self.report
        failed = count - invocation.done
        tell(self.mapping, InvokedEventCount=count, FailedInvokeEventCount=failed)
        report.batches += 1
        report.records += invocation.done
        report.last_batch_at = iso_ms(self._now())
        if failed:
            report.failures += 1
            self._problem(f"{invocation.error or 'partial failure'}: {invocation.message}")

    def _problem(self, message: str) -> None:
        """Remember an error for ``status``; log it unless it repeats the last one."""
        now = self._clock.monotonic()
        if message != self.report.last_error or now - self._problem_at > _SAME_PROBLEM_S:
            self._problem_at = now
            _log.warning("%s: %s", self.name, message)
        self.report.last_error, self.report.last_error_at = message, iso_ms(self._now())

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _delays() -> Iterator[float]:
    return backoff(base_s=0.1, cap_s=5.0)
