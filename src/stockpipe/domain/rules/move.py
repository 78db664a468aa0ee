"""Moves: a price that lies more than so many percent from the previous close, either way.

``|price - previous_close| / previous_close * 100 > percent``, exactly, in integers. A reading
without a previous close says nothing, nor does one that looks split
(:mod:`~stockpipe.domain.rules.splits`). Each such reading is a signal; of a day's the first counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from stockpipe.domain.exact import MICRO
from stockpipe.domain.rules.base import Rule
from stockpipe.domain.rules.splits import split_ratio
from stockpipe.domain.signals import MOVE, Reading, Signal


@dataclass(frozen=True)
class MoveRule(Rule):
    """``percent`` is above 0, of at most 6 places."""

    percent: Decimal = Decimal(5)
    kind: ClassVar[str] = "move"

    @property
    def own_name(self) -> str:
        return f"move-{self.percent.normalize():f}"

    def judge(self) -> MoveRule:
        return self

    def own_table(self) -> dict[str, Any]:
        return {"percent": f"{self.percent.normalize():f}"}

    def exceeded(self, reading: Reading) -> bool:
        """Whether the move is large enough, split or not."""
        before = reading.previous_close
        if before is None:
            return False
        return abs(reading.price - before) * 100 * MICRO > int(self.percent * MICRO) * before

    def push(self, reading: Reading) -> Signal | None:
        if self.exceeded(reading) and split_ratio(reading) is None:
            return Signal(reading, MOVE)
        return None
