"""What is known of each symbol of a stream, and which of its quotes are due. No I/O.

Ticks and batch quotes go in, quotes come out: the newest per symbol since the last time, or every
one of them. A tick whose open, high and low nobody has told waits for a batch quote; of two that
wait, the newer one stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from stockpipe.domain.exact import moment_text, to_micro
from stockpipe.domain.quote import Quote, quote_from_fields
from stockpipe.feeds.yahoo_api import Entry
from stockpipe.feeds.yahoo_pricing import Session, Tick, quote_fields, session_after, session_of

CLOSED = frozenset({"CLOSED", "PREPRE", "POSTPOST"})
"""The batch quote's market states in which nothing is traded."""


class Book:
    """The sessions, states and ticks of ``symbols``; quotes are labelled ``source``."""

    def __init__(self, symbols: Iterable[str], source: str, *, every_tick: bool) -> None:
        self.symbols = tuple(dict.fromkeys(symbols))
        self._known = frozenset(self.symbols)
        self.states: dict[str, str] = {}
        self.waiting: dict[str, Tick] = {}
        self.unchanged = 0
        self._source = source
        self._every_tick = every_tick
        self._sessions: dict[str, Session] = {}
        self._latest: dict[str, Tick] = {}
        self._due: dict[str | tuple[str, str], Quote] = {}

    def __len__(self) -> int:
        """How many quotes are due."""
        return len(self._due)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._known

    @property
    def closed(self) -> bool:
        """Whether nothing is traded of any symbol, as far as Yahoo has told."""
        return all(self.states.get(symbol) in CLOSED for symbol in self.symbols)

    def learn(self, entries: Mapping[str, Entry]) -> None:
        """Take over the states and sessions of a batch quote."""
        for symbol in self.symbols:
            entry = entries.get(symbol, {})
            if isinstance(state := entry.get("marketState"), str):
                self.states[symbol] = state
            known, told = self._sessions.get(symbol), session_of(entry)
            # One of Yahoo's many servers may lag behind what a tick has said of a new day.
            if told is not None and (known is None or told.day >= known.day):
                self._sessions[symbol] = told

    def accept(self, tick: Tick, now: datetime) -> bool:
        """Take in a tick of one of ``symbols``, read at ``now``; whether a quote is due by it.

        Raises :class:`~stockpipe.domain.exact.InvalidQuote`.
        """
        to_micro(tick.price)  # refused before it can widen the day
        latest, session = self._latest.get(tick.symbol), self._sessions.get(tick.symbol)
        if latest is not None and (tick == latest or tick.time_ms < latest.time_ms):
            self.unchanged += 1
            return False
        # Of a day that is over: its open, high and low are no longer told.
        if session is not None and tick.day(session.utc_offset_s) < session.day:
            self.unchanged += 1
            return False
        self.states[tick.symbol] = tick.state
        session = session_after(session, tick)
        fields = quote_fields(tick, session)
        if fields is None:
            self.waiting[tick.symbol] = tick
            return False
        self.waiting.pop(tick.symbol, None)
        fields |= {"ingested_at": moment_text(now), "source": self._source}
        quote = quote_from_fields(fields, arrived_at=now)
        key = quote.key if self._every_tick else quote.symbol
        # The same time again, at another price: too late once its quote has left.
        if latest is not None and tick.time_ms == latest.time_ms and key not in self._due:
            self.unchanged += 1
            return False
        self._latest[tick.symbol], self._sessions[tick.symbol] = tick, session
        self._due[key] = quote
        return True

    def release(self) -> tuple[Tick, ...]:
        """The ticks that wait; they no longer do."""
        waiting, self.waiting = self.waiting, {}
        return tuple(waiting.values())

    def take(self) -> tuple[tuple[Quote, ...], int]:
        """The quotes that are due, and how many ticks told nothing new; both start anew."""
        quotes, self._due = tuple(self._due.values()), {}
        unchanged, self.unchanged = self.unchanged, 0
        return quotes, unchanged
