"""What a feed is: something that yields rounds of quotes, in time order, paced by itself.

A feed is opened from a :class:`Request` by a callable that is registered under a name (see
:mod:`stockpipe.feeds.registry` and docs/feeds.md). It runs in a thread of its own; it waits with
``request.clock.sleep`` and nothing else, for that wait ends at once when the user interrupts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.quote import Quote

if TYPE_CHECKING:
    from stockpipe.feeds.archive import Archive


@dataclass(frozen=True, slots=True)
class Round:
    """What one look at the source brought.

    ``unchanged`` counts quotes that were already sent (same symbol and quote time) and are
    therefore not in ``quotes``, ``refused`` what is no quote by the record's rules. ``states`` says
    per symbol what the source says of its market (``REGULAR``, ``CLOSED``, ...), ``next_open`` when
    it is expected to open, in UTC, and ``delayed_s`` by how many seconds its quotes come late,
    where the source tells. ``notices`` are for people, each said once.
    """

    quotes: tuple[Quote, ...] = ()
    unchanged: int = 0
    states: dict[str, str] = field(default_factory=dict)
    next_open: dict[str, datetime] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    refused: int = 0
    delayed_s: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """What the user wants of a feed; every feed takes what concerns it.

    ``symbols``: checked and upper-case, empty for all that the source has. ``argument``: what
    follows the colon of ``--source name:argument``. ``interval_s``: seconds between two rounds of
    a live feed, 0 for every tick. ``speed``: a factor on a recording's own pace, None for as fast
    as it goes. ``market_hours``: keep quiet while the market is closed. ``archive`` opens the
    pipeline's own raw archive.
    """

    symbols: tuple[str, ...] = ()
    argument: str = ""
    interval_s: float = 30.0
    speed: float | None = 1.0
    market_hours: bool = False
    clock: Clock = SYSTEM_CLOCK
    archive: Callable[[], Archive] | None = None


class Feed(Protocol):
    """A source of quotes. Raises :class:`~stockpipe.errors.FeedError` when it cannot go on."""

    source: str | None
    """The label that every quote carries; None where quotes keep the label they came with."""

    live: bool
    """Whether quotes tell the present: then a newer one may replace an older one that has not
    been sent yet. What is not live is sent to the last quote, and ends."""

    total: int | None
    """How many quotes there will be, where that is known."""

    def rounds(self) -> Iterator[Round]:
        """Rounds in time order, paced by the feed itself; a live feed never ends.

        A round without quotes and without unchanged ones is a look that failed: it is not counted.
        """
        ...


@runtime_checkable
class Resumable(Feed, Protocol):
    """A feed that brings the same quotes each time, and so can go on where it was cut off."""

    identity: str
    """The same for the same quotes in the same order, and for nothing else."""

    def skip(self, quotes: int) -> None:
        """Leave out the first ``quotes`` of :meth:`rounds`, which has not begun; lowers nothing
        else, ``total`` stays the whole number."""
        ...


Open = Callable[[Request], Feed]
"""Opens a feed; raises UsageError for a request that it cannot serve, FeedError for a source."""
