"""PutRecords in full requests, only what failed sent again, order per symbol kept.

PutRecords is neither atomic nor ordered: a response names each record's fate, and a record may be
taken although an earlier one of the same symbol was not. From the first failed record of a symbol
on, all of its records are therefore sent again: a later copy wins everywhere downstream, and the
last copies are in order. So that this stays rare, a symbol that had a failure sends one record a
request at first, then two, four and so on. The other symbols are not affected.
https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.domain.retry import backoff
from stockpipe.errors import NotProvisioned, StockpipeError
from stockpipe.functions.faults import EXPIRED, THROTTLES, error_code, is_transient
from stockpipe.producer.buffer import Waiting

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

MAX_RECORDS = 500
MAX_BYTES = 5 * 1024 * 1024 - 64 * 1024
"""A request's limit is 5 MB with partition keys; a margin is cheaper than an exact count."""
PATIENCE_S = 300.0
"""How long nothing at all may get through before a replay gives up."""
_LOGIN = frozenset(
    {
        "CredentialRetrievalError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
        *EXPIRED,
    }
)
"""What somebody who logs in again, or the machine's role, mends while we wait."""


class Sent(NamedTuple):
    """One acknowledged quote and where Kinesis put it.

    ``waited_s``: from when it was read until it was acknowledged.
    """

    position: int
    quote: Quote
    shard: str
    seq: str
    waited_s: float


@dataclass
class Totals:
    """What became of the quotes so far. ``resent`` counts attempts after the first."""

    sent: int = 0
    resent: int = 0
    throttled: int = 0
    requests: int = 0
    by_symbol: Counter[str] = field(default_factory=Counter)


class Sender:
    """Writes to one stream. Not shared between threads.

    ``connect`` makes a client and is called again after credentials have expired, for a client
    keeps the ones that it began with. ``patience_s``: how many seconds nothing at all may get
    through before it gives up; None for ever.
    """

    def __init__(
        self,
        connect: Callable[[], KinesisClient],
        stream: str,
        *,
        on_sent: Callable[[Sent], None] = lambda sent: None,
        on_trouble: Callable[[str], None] = lambda text: None,
        patience_s: float | None = PATIENCE_S,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._connect, self._stream, self._clock = connect, stream, clock
        self._kinesis = connect()
        self._on_sent, self._on_trouble = on_sent, on_trouble
        self._patience_s = patience_s
        self._pending: list[tuple[Waiting, bytes]] = []
        self._window: dict[str, int] = {}
        """Records of a symbol that may travel in one request; absent: as many as fit."""
        self._progress_s = clock.monotonic()
        self._pauses: Iterator[float] | None = None
        self.totals = Totals()

    @property
    def room(self) -> int:
        """How many more quotes to accept: two requests' worth may wait here."""
        return 2 * MAX_RECORDS - len(self._pending)

    @property
    def unsent(self) -> int:
        """Quotes that are accepted and not acknowledged."""
        return len(self._pending)

    def accept(self, quotes: Iterable[Waiting]) -> None:
        """Take quotes over; :meth:`flush` sends them."""
        if not self._pending:
            self._progress_s = self._clock.monotonic()
        self._pending += ((waiting, quote_json(waiting.quote).encode()) for waiting in quotes)

    def send(self, quotes: Iterable[Quote]) -> None:
        """Send all quotes and return when every one is acknowledged; raises as :meth:`flush`."""
        now = self._clock.monotonic()
        self.accept(Waiting(number, quote, now) for number, quote in enumerate(quotes))
        while self.unsent:
            if pause_s := self.flush():
                self._clock.sleep(pause_s)

    def flush(self) -> float:
        """Make one request of what is waiting; out: seconds to wait before the next one.

        Raises :class:`NotProvisioned` without a stream, what is not transient as it came, and
        :class:`StockpipeError` when patience has ended, naming how many were not sent.
        """
        picked = self._pick()
        taken, trouble = self._put(picked)
        if taken:
            done = set(taken)
            self._pending = [
                entry for index, entry in enumerate(self._pending) if index not in done
            ]
            self._progress_s, self._pauses = self._clock.monotonic(), None
        if not trouble:
            return 0.0
        self.totals.resent += len(picked) - len(taken)
        stuck_s = self._clock.monotonic() - self._progress_s
        if self._patience_s is not None and stuck_s > self._patience_s:
            raise StockpipeError(
                f"Kinesis took nothing for {stuck_s:.0f} s ({trouble}); "
                f"{len(self._pending)} quotes were not sent.",
                hint="See `stockpipe status`, then run the same command again: "
                "quotes that are there already change nothing.",
            )
        self._on_trouble(trouble)
        self._pauses = self._pauses or backoff(base_s=0.05, cap_s=5.0)
        return next(self._pauses)

    def _pick(self) -> list[int]:
        """Which of the pending go into the next request: up to 500 records and 5 MB, in order."""
        picked: list[int] = []
        of_symbol: Counter[str] = Counter()
        size = 0
        for index, (waiting, data) in enumerate(self._pending):
            symbol = waiting.quote.symbol
            if of_symbol[symbol] >= self._window.get(symbol, MAX_RECORDS):
                continue
            size += len(data) + len(symbol)
            if len(picked) == MAX_RECORDS or (picked and size > MAX_BYTES):
                break
            of_symbol[symbol] += 1
            picked.append(index)
        return picked

    def _put(self, picked: list[int]) -> tuple[list[int], str]:
        """Out: which of ``picked`` are through, and why the others are not."""
        entries = [self._pending[index] for index in picked]
        self.totals.requests += 1
        try:
            answer = self._kinesis.put_records(
                StreamName=self._stream,
                Records=[
                    {"Data": data, "PartitionKey": waiting.quote.symbol}
                    for waiting, data in entries
                ],
            )
        except Exception as error:
            reason = self._passing(error)
            if reason is None:
                raise
            return [], reason
        now = self._clock.monotonic()
        taken: list[int] = []
        stuck: set[str] = set()
        trouble = ""
        for index, (waiting, _), result in zip(picked, entries, answer["Records"], strict=True):
            quote, code = waiting.quote, result.get("ErrorCode")
            if code or quote.symbol in stuck:
                stuck.add(quote.symbol)
                trouble = trouble or code or ""
                self.totals.throttled += code in THROTTLES
                continue
            taken.append(index)
            self.totals.sent += 1
            self.totals.by_symbol[quote.symbol] += 1
            self._on_sent(
                Sent(
                    waiting.position,
                    quote,
                    result["ShardId"],
                    result["SequenceNumber"],
                    now - waiting.read_s,
                )
            )
        self._adapt({waiting.quote.symbol for waiting, _ in entries}, stuck)
        return taken, trouble

    def _adapt(self, symbols: set[str], stuck: set[str]) -> None:
        for symbol in stuck:
            self._window[symbol] = 1
        for symbol in self._window.keys() & symbols - stuck:
            self._window[symbol] *= 2
            if self._window[symbol] >= MAX_RECORDS:
                del self._window[symbol]

    def _passing(self, error: Exception) -> str | None:
        """Why the request as a whole failed, if that passes by itself."""
        code = error_code(error)
        if code == "ResourceNotFoundException":
            raise NotProvisioned(
                f"There is no stream {self._stream}.", hint="Run `stockpipe provision` first."
            ) from error
        if code in _LOGIN:
            self._kinesis = self._connect()
        elif not is_transient(error):
            return None
        self.totals.throttled += code in THROTTLES
        return code
