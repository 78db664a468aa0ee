"""Between the thread that reads a feed and the one that sends: bounded, in order, never lossy.

When it is full, whoever replays a recording has to wait; of a live source the oldest waiting quote
of a symbol makes room for its newest, for nobody can tell the present to wait.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.quote import Quote
from stockpipe.producer.stop import StoppableClock, Stopped

CAPACITY = 5_000
"""Quotes that may wait: ten full requests."""
_LOOK_S = 0.1


class Waiting(NamedTuple):
    """A quote that is to be sent.

    ``position``: how many quotes the feed brought before it. ``read_s``: monotonic, when it did.
    """

    position: int
    quote: Quote
    read_s: float


class Buffer:
    """One thread puts, one takes."""

    def __init__(
        self,
        stop: StoppableClock,
        *,
        newest_wins: bool,
        capacity: int = CAPACITY,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._stop, self._newest_wins, self._capacity = stop, newest_wins, capacity
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: dict[int, Waiting] = {}
        self._of_symbol: dict[str, deque[int]] = {}
        self._closed = False
        self._next = 0
        self.replaced = 0
        """Quotes of a live source that a newer one of the same symbol has taken the place of."""

    def start_at(self, position: int) -> None:
        """Count positions from here: the quotes before it are left out."""
        self._next = position

    def put(self, quotes: Iterable[Quote]) -> None:
        """Add quotes in their order; waits for room where ``newest_wins`` is not set.

        Raises :class:`Stopped` when the stream is to end while it waits.
        """
        for quote in quotes:
            with self._changed:
                while len(self._waiting) >= self._capacity and not self._make_room(quote.symbol):
                    if self._stop.stopped:
                        raise Stopped
                    self._changed.wait(_LOOK_S)
                self._waiting[self._next] = Waiting(self._next, quote, self._clock.monotonic())
                self._of_symbol.setdefault(quote.symbol, deque()).append(self._next)
                self._next += 1
                self._changed.notify_all()

    def _make_room(self, symbol: str) -> bool:
        """Of a live source: drop the oldest of this symbol, else of the one with most waiting.

        One of each symbol always has room, however many symbols there are.
        """
        if not self._newest_wins:
            return False
        own = self._of_symbol.get(symbol)
        most = own or max(self._of_symbol.values(), key=len)
        if most is own or len(most) > 1:
            del self._waiting[most.popleft()]
            self.replaced += 1
        return True

    def take(self, limit: int, *, wait_s: float, linger_s: float = 0.0) -> list[Waiting]:
        """Up to ``limit`` of the oldest quotes.

        Waits ``wait_s`` seconds for the first, and ``linger_s`` from when that was put for others
        to keep it company. Empty when there was none, or no room was asked for.
        """
        if limit <= 0:
            return []
        with self._changed:
            if not self._waiting and not self._closed:
                self._changed.wait(wait_s)
            while self._waiting and len(self._waiting) < limit and not self._closed:
                oldest = next(iter(self._waiting.values()))
                left = oldest.read_s + linger_s - self._clock.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            taken = [waiting for waiting, _ in zip(self._waiting.values(), range(limit))]  # noqa: B905 - the shorter
            for waiting in taken:
                del self._waiting[waiting.position]
                symbol = self._of_symbol[waiting.quote.symbol]
                symbol.popleft()
                if not symbol:
                    del self._of_symbol[waiting.quote.symbol]
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """Nothing more will be put."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def drained(self) -> bool:
        """Whether nothing is there and nothing will be."""
        with self._changed:
            return self._closed and not self._waiting

    def __len__(self) -> int:
        return len(self._waiting)
