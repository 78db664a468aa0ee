"""Price levels: a reading beyond the level whose stored predecessor was not.

``above``: price > level and the reading before it <= level; ``below`` is the mirror. The first
reading of a symbol has no predecessor and says nothing. Of one day's signals the first counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from stockpipe.domain.exact import price_text
from stockpipe.domain.rules.base import Rule
from stockpipe.domain.signals import PRICE, Reading, Signal


class PriceScan:
    """Remembers the side of the last reading."""

    def __init__(self, level: int, *, above: bool) -> None:
        self._level, self._above = level, above
        self._before: bool | None = None

    def push(self, reading: Reading) -> Signal | None:
        beyond = reading.price > self._level if self._above else reading.price < self._level
        before, self._before = self._before, beyond
        return Signal(reading, PRICE, level=self._level) if beyond and before is False else None


@dataclass(frozen=True)
class PriceRule(Rule):
    """``level`` in micro-units."""

    level: int
    above: bool
    kind: ClassVar[str] = "price"

    @property
    def own_name(self) -> str:
        return f"price-{'above' if self.above else 'below'}-{price_text(self.level)}"

    @property
    def lead(self) -> int:
        return 1

    @property
    def reach(self) -> int:
        return 1

    def judge(self) -> PriceScan:
        return PriceScan(self.level, above=self.above)

    def own_table(self) -> dict[str, Any]:
        return {"above" if self.above else "below": price_text(self.level)}
