"""What a feed is: something that yields rounds of quotes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from stockpipe.domain.quote import Quote


@dataclass(frozen=True, slots=True)
class Round:
    """What one look at the source brought.

    ``unchanged`` counts quotes that were already sent (same symbol and quote time) and are
    therefore not in ``quotes``; ``states`` says per symbol what the source says of its market
    (``REGULAR``, ``CLOSED``, ...); ``notices`` are for people, each said once.
    """

    quotes: tuple[Quote, ...]
    unchanged: int = 0
    states: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


class Feed(Protocol):
    """A source of quotes. Raises :class:`~stockpipe.errors.FeedError` when it cannot go on."""

    source: str
    """The label that every quote carries."""

    live: bool
    """Whether quotes tell the present; only then does waiting for the next round make sense."""

    total: int | None
    """How many quotes there will be, where that is known."""

    def rounds(self) -> Iterator[Round]:
        """Rounds in time order, paced by the feed itself; a live feed never ends."""
        ...
