"""Feed to Kinesis: PutRecords in batches, only what failed sent again, order per symbol kept.

PutRecords is not atomic and not ordered: a response names each record's fate. A failed record of
a symbol holds that symbol's later records back until it is through, so a later quote never
overtakes an earlier one; the other symbols go on.
https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.domain.retry import backoff
from stockpipe.errors import NotProvisioned, StockpipeError
from stockpipe.functions.faults import THROTTLES, error_code, is_transient

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

MAX_RECORDS = 500
MAX_BYTES = 5 * 1024 * 1024 - 64 * 1024
"""A request's limit is 5 MB with partition keys; a margin is cheaper than an exact count."""
PATIENCE_S = 300.0
"""How long nothing at all may get through before the producer gives up."""


class Sent(NamedTuple):
    """One acknowledged quote and where Kinesis put it."""

    quote: Quote
    shard: str
    seq: str


@dataclass
class Totals:
    """What became of the quotes so far. ``resent`` counts attempts after the first."""

    sent: int = 0
    resent: int = 0
    throttled: int = 0
    started_s: float = 0.0
    by_symbol: dict[str, int] = field(default_factory=dict)


class Producer:
    """Writes to one stream. Not shared between threads."""

    def __init__(
        self,
        kinesis: KinesisClient,
        stream: str,
        *,
        on_sent: Callable[[Sent], None] = lambda sent: None,
        on_trouble: Callable[[str], None] = lambda text: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._kinesis, self._stream, self._clock = kinesis, stream, clock
        self._on_sent, self._on_trouble = on_sent, on_trouble
        self.totals = Totals(started_s=clock.monotonic())

    def send(self, quotes: Iterable[Quote]) -> None:
        """Send all quotes and return when every one is acknowledged.

        Raises :class:`NotProvisioned` without a stream, and :class:`StockpipeError` after
        ``PATIENCE_S`` seconds in which nothing got through, naming how many were not sent.
        """
        waiting = deque((quote, quote_json(quote).encode()) for quote in quotes)
        progress = self._clock.monotonic()
        pauses = backoff(base_s=0.05, cap_s=5.0)
        while waiting:
            batch = _next_batch(waiting)
            failed, trouble = self._put(batch)
            if len(failed) < len(batch):
                progress = self._clock.monotonic()
                pauses = backoff(base_s=0.05, cap_s=5.0)
            if failed:
                self.totals.resent += len(failed)
                # Back to the front, in their order, before anything later of the same symbol.
                waiting.extendleft(reversed(failed))
                if self._clock.monotonic() - progress > PATIENCE_S:
                    raise StockpipeError(
                        f"Kinesis took nothing for {PATIENCE_S:.0f} s ({trouble}); "
                        f"{len(waiting)} quotes of this round were not sent.",
                        hint="See `stockpipe status`, then run the same command again: "
                        "quotes that are there already change nothing.",
                    )
                self._on_trouble(trouble)
                self._clock.sleep(next(pauses))

    def _put(self, batch: Sequence[tuple[Quote, bytes]]) -> tuple[list[tuple[Quote, bytes]], str]:
        """Put one batch; returns what has to be sent again, in order, and why.

        Of a symbol with a failed record, everything from that record on counts as failed: Kinesis
        may have taken a later one, and the repeated record is the price of keeping the order.
        """
        try:
            answer = self._kinesis.put_records(
                StreamName=self._stream,
                Records=[{"Data": data, "PartitionKey": quote.symbol} for quote, data in batch],
            )
        except Exception as error:
            if error_code(error) == "ResourceNotFoundException":
                raise NotProvisioned(
                    f"There is no stream {self._stream}.", hint="Run `stockpipe provision` first."
                ) from error
            if not is_transient(error):
                raise
            return list(batch), error_code(error)
        failed: list[tuple[Quote, bytes]] = []
        stuck: set[str] = set()
        trouble = ""
        for (quote, data), result in zip(batch, answer["Records"], strict=True):
            code = result.get("ErrorCode")
            if code or quote.symbol in stuck:
                stuck.add(quote.symbol)
                failed.append((quote, data))
                trouble = trouble or code or ""
                self.totals.throttled += code in THROTTLES
                continue
            self.totals.sent += 1
            self.totals.by_symbol[quote.symbol] = self.totals.by_symbol.get(quote.symbol, 0) + 1
            self._on_sent(Sent(quote, result["ShardId"], result["SequenceNumber"]))
        return failed, trouble


def _next_batch(waiting: deque[tuple[Quote, bytes]]) -> list[tuple[Quote, bytes]]:
    """Take up to 500 records and 5 MB from the front."""
    batch: list[tuple[Quote, bytes]] = []
    size = 0
    while waiting and len(batch) < MAX_RECORDS:
        quote, data = waiting[0]
        size += len(data) + len(quote.symbol)
        if batch and size > MAX_BYTES:
            break
        batch.append(waiting.popleft())
    return batch
