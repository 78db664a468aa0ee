"""Quotes out of a file, in time order across symbols: CSV bars, or a recording of ``--record``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.quote import Quote
from stockpipe.errors import UsageError
from stockpipe.feeds.base import Request, Round
from stockpipe.feeds.csv_bars import bars
from stockpipe.feeds.files import in_time_order, opened
from stockpipe.feeds.ndjson import Recording
from stockpipe.feeds.pacing import paced, rounds_of

FORMS = "replay:FILE (CSV, or as --record writes it; .gz too), replay:- or replay:sample"
HASHED_AT_ONCE = 1000
"""Quotes per update of the hash: fewer calls, and never the text of a whole file in memory."""


def open_feed(request: Request) -> ReplayFeed:
    """The feed of ``replay:FILE``; raises as :class:`ReplayFeed` does."""
    if not request.argument:
        raise UsageError("Which file is to be replayed?", hint=f"--source takes {FORMS}.")
    return ReplayFeed(
        request.argument,
        symbols=frozenset(request.symbols),
        speed=request.speed,
        clock=request.clock,
    )


class ReplayFeed:
    """The quotes of a file; ``-`` is standard input, ``sample`` the bundled one.

    They are labelled ``replay``, but for those of a recording that says ``synthetic``. ``speed``
    is a factor on the file's own pace, None for as fast as it goes. The whole file is read and
    checked before the first quote, so that a bad row sends nothing. Raises :class:`BadRow`, naming
    file, line, column and rule, :class:`FeedError`, or :class:`UsageError` for ``symbols`` that
    the file does not hold.
    """

    live = False

    def __init__(
        self,
        file: str,
        *,
        symbols: frozenset[str] = frozenset(),
        speed: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock, self._speed, self._skipped = clock, speed, 0
        quotes, notices = read(file, clock.now())
        held = {quote.symbol for quote in quotes}
        if missing := sorted(symbols - held):
            raise UsageError(
                f"{file} holds no quotes of {', '.join(missing)}.",
                hint=f"It holds {', '.join(sorted(held))}.",
            )
        self._quotes = [q for q in quotes if q.symbol in symbols] if symbols else quotes
        self.symbols = symbols or frozenset(held)
        self.total: int | None = len(self._quotes)
        self.has_changes = any(quote.previous_close for quote in self._quotes)
        if not self.has_changes:
            notices += ("No previous_close in this file: no changes and no anomalies.",)
        labels = {quote.source for quote in self._quotes}
        self.source: str | None = labels.pop() if len(labels) == 1 else None
        self._notices = notices
        self.identity = _identity(self._quotes)

    def skip(self, quotes: int) -> None:
        """Begin after so many quotes; the first one that is left is due at once."""
        self._skipped = quotes

    def rounds(self) -> Iterator[Round]:
        """One round per timestamp, each when it is due."""
        notices = self._notices
        left = islice(self._quotes, self._skipped, None)
        for taken in paced(rounds_of(left), self._speed, self._clock):
            yield replace(taken, notices=notices) if notices else taken
            notices = ()


def parse_speed(text: str) -> float | None:
    """``60x`` as 60.0, ``max`` as None; raises :class:`UsageError`."""
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed <= 1_000_000:
        raise UsageError(f"--speed must be a factor like 60x, or max; got {text!r}.")
    return speed


def read(file: str, read_at: datetime) -> tuple[list[Quote], tuple[str, ...]]:
    """All quotes of a file of either kind in time order, and what to say of them.

    The kinds are told apart by content. Raises :class:`BadRow` or :class:`FeedError`.
    """
    with opened(file) as source:
        recorded = Recording(source, read_at) if source.begins_with(b"{") else None
        found: Iterable[Quote] = bars(source, read_at) if recorded is None else recorded
        quotes = in_time_order(source.name, list(found))
    if recorded and recorded.cut_off:
        return quotes, (
            f"{source.name} was cut off while it was recorded; whole quotes: {len(quotes):,}.",
        )
    return quotes, ()


def _identity(quotes: list[Quote]) -> str:
    """SHA-256 over what the quotes are and their order, not over when they were read.

    Takes about a second for a million quotes.
    """
    digest = hashlib.sha256()
    left = iter(quotes)
    while lines := [
        f"{quote.symbol}|{quote.timestamp}|{quote.open}|{quote.high}|{quote.low}|{quote.price}"
        f"|{quote.previous_close}|{quote.volume}|{quote.utc_offset_s}|{quote.source}\n"
        for quote in islice(left, HASHED_AT_ONCE)
    ]:
        digest.update("".join(lines).encode())
    return digest.hexdigest()
