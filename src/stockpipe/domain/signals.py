"""What rules look at and what they find: readings in, signals out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from stockpipe.domain.exact import decimal_text, divide_half_even, parse_moment

GOLDEN, DEATH = "golden", "death"
MOVE, SPIKE, PRICE = "move", "spike", "price"
KINDS = (GOLDEN, DEATH, MOVE, SPIKE, PRICE)


class Reading(NamedTuple):
    """A stored quote, as far as rules look. Prices in micro-units, ``timestamp`` normalised."""

    timestamp: str
    price: int
    previous_close: int | None = None
    open: int | None = None
    utc_offset_s: int = 0

    @property
    def day(self) -> str:
        """The day at the exchange, ``YYYY-MM-DD``; in UTC where its offset is not known."""
        if not self.utc_offset_s:
            return self.timestamp[:10]
        local = parse_moment(self.timestamp) + timedelta(seconds=self.utc_offset_s)
        return f"{local:%Y-%m-%d}"

    @property
    def change_percent(self) -> str | None:
        """Percent against the previous close, as decimal text of at most 4 places."""
        if self.previous_close is None:
            return None
        difference = self.price - self.previous_close
        return decimal_text(divide_half_even(difference * 1_000_000, self.previous_close), 4)


@dataclass(frozen=True, slots=True)
class Signal:
    """What a rule found at a reading.

    ``sma_fast`` and ``sma_slow`` (micro-units) of a crossover; ``level`` (micro-units) of a price
    rule; ``sigmas``, how many standard deviations the jump of a spike is, as decimal text.
    ``known_at``: with a bar, the timestamp of the reading that completed it; nobody could have been
    told before.
    """

    reading: Reading
    kind: str
    sma_fast: int | None = None
    sma_slow: int | None = None
    level: int | None = None
    sigmas: str | None = None
    known_at: str | None = None

    @property
    def timestamp(self) -> str:
        return self.reading.timestamp

    @property
    def price(self) -> int:
        return self.reading.price

    @property
    def occasion(self) -> str:
        """What happens once: the reading, or for moves and price levels the exchange's day."""
        return self.reading.day if self.kind in (MOVE, PRICE) else self.timestamp
