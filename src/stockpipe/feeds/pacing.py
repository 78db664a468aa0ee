"""Recorded quotes as rounds, one per timestamp, at a factor of the pace that they were made at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from stockpipe.domain.clock import Clock
from stockpipe.domain.exact import parse_moment
from stockpipe.domain.quote import Quote
from stockpipe.feeds.base import Round


def rounds_of(quotes: Iterable[Quote]) -> Iterator[Round]:
    """Quotes in time order, those of one timestamp together."""
    for _, together in groupby(quotes, key=attrgetter("timestamp")):
        yield Round(tuple(together))


def paced(rounds: Iterable[Round], speed: float | None, clock: Clock) -> Iterator[Round]:
    """The rounds, each when it is due: the first at once, the others by their distance from it.

    ``speed`` is a factor on the pace of their timestamps, None for without a wait. A round that
    is late is not waited for, and the next ones catch up.
    """
    begun = clock.monotonic()
    first = None
    for taken in rounds:
        if speed is not None:
            moment = parse_moment(taken.quotes[0].timestamp)
            first = first or moment
            due = begun + (moment - first).total_seconds() / speed
            if (wait := due - clock.monotonic()) > 0:
                clock.sleep(wait)
        yield taken
