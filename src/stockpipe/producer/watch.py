"""What is known of each symbol of a stream while it runs: data for whoever draws it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from stockpipe.domain.exact import parse_moment
from stockpipe.domain.quote import Quote
from stockpipe.feeds.base import Round
from stockpipe.producer.sender import Sent

OPEN_STATES = frozenset({"", "REGULAR"})
STALE_ROUNDS = 3
STALE_S = 300.0
"""An open market's quote that is older than so many intervals, and than this, is STALE."""


@dataclass(frozen=True, slots=True)
class Line:
    """One symbol. ``lag_s``: from when its newest quote was read until it was acknowledged.

    ``readings``: how many of the readings that the averages need are stored or sent, None where
    that is not known.
    """

    symbol: str
    quote: Quote | None = None
    market: str = ""
    next_open: datetime | None = None
    delayed_s: int = 0
    sent: int = 0
    lag_s: float | None = None
    readings: int | None = None

    def age_s(self, now: datetime) -> float | None:
        """Seconds since the quote's own time."""
        if self.quote is None:
            return None
        return max(0.0, (now - parse_moment(self.quote.timestamp)).total_seconds())

    def state(self, now: datetime, interval_s: float) -> str:
        """The market's state where it is not open; of an open one STALE, DELAYED, or nothing."""
        if self.market not in OPEN_STATES:
            return self.market
        age_s = self.age_s(now) or 0.0
        if age_s > self.delayed_s + max(STALE_S, STALE_ROUNDS * interval_s):
            return "STALE"
        return "DELAYED" if self.delayed_s else ""


class Watch:
    """Told by the thread that reads and by the one that sends; asked by the one that draws."""

    def __init__(self, symbols: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._lines = {symbol: Line(symbol) for symbol in symbols}
        self.unchanged = self.refused = self.rounds = 0

    def read(self, taken: Round) -> None:
        with self._lock:
            self.rounds += 1
            self.unchanged += taken.unchanged
            self.refused += taken.refused
            for quote in taken.quotes:
                self._update(quote.symbol, quote=quote)
            for symbol, state in taken.states.items():
                opens = taken.next_open.get(symbol)
                delayed_s = taken.delayed_s.get(symbol, 0)
                self._update(symbol, market=state, next_open=opens, delayed_s=delayed_s)

    def sent(self, sent: Sent) -> None:
        with self._lock:
            symbol = sent.quote.symbol
            line = self._lines.get(symbol, Line(symbol))
            readings = None if line.readings is None else line.readings + 1
            self._update(symbol, sent=line.sent + 1, lag_s=sent.waited_s, readings=readings)

    def stored(self, symbol: str, readings: int) -> None:
        """So many readings of a symbol were there before; what was sent since is added."""
        with self._lock:
            line = self._lines.get(symbol, Line(symbol))
            self._update(symbol, readings=readings + line.sent)

    def lines(self) -> list[Line]:
        """One per symbol, in the order of the request or of appearance."""
        with self._lock:
            return list(self._lines.values())

    def _update(self, symbol: str, **changes: object) -> None:
        self._lines[symbol] = replace(self._lines.get(symbol, Line(symbol)), **changes)  # type: ignore[arg-type]
