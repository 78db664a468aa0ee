"""Crossovers: where the fast average changes sides of the slow one.

Let d = SMA_fast - SMA_slow over the last readings of one symbol in timestamp order. A **golden
cross** is d > 0 where the last non-zero d was < 0; a **death cross** is the mirror. Zeros change
nothing, the first sign only seeds the state, and fewer than ``slow`` readings say nothing. So
signals alternate, "equal, then above" fires once and a touch never fires twice.

Source: Murphy, Technical Analysis of the Financial Markets (1999), chapter 9, the double crossover
method; the treatment of equality is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from stockpipe.domain.indicators import SmaPair
from stockpipe.domain.rules.base import Rule
from stockpipe.domain.signals import DEATH, GOLDEN, Reading, Signal


class CrossoverScan:
    """The fold over a series: feed readings in time order, get a signal where there is one."""

    def __init__(self, fast: int, slow: int) -> None:
        self._pair = SmaPair(fast, slow)
        self.last_sign = 0
        """The last non-zero sign of d, 0 before there was one."""

    def push(self, reading: Reading) -> Signal | None:
        pair = self._pair
        pair.push(reading.price)
        if not pair.ready:
            return None
        sign = pair.sign
        if sign == 0 or sign == self.last_sign:
            return None
        previous, self.last_sign = self.last_sign, sign
        if previous == 0:
            return None
        fast, slow = pair.averages
        return Signal(reading, GOLDEN if sign > 0 else DEATH, sma_fast=fast, sma_slow=slow)

    @property
    def now(self) -> int | None:
        """The sign of d at the last reading; None before there are ``slow`` readings."""
        return self._pair.sign if self._pair.ready else None


@dataclass(frozen=True)
class CrossoverRule(Rule):
    """``fast`` and ``slow`` count readings, or bars."""

    fast: int = 5
    slow: int = 20
    kind: ClassVar[str] = "crossover"

    @property
    def own_name(self) -> str:
        return f"crossover-{self.fast}-{self.slow}"

    @property
    def lead(self) -> int:
        return self.slow

    @property
    def reach(self) -> int:
        return self.slow - 1

    def judge(self) -> CrossoverScan:
        return CrossoverScan(self.fast, self.slow)

    def own_table(self) -> dict[str, Any]:
        return {"fast": self.fast, "slow": self.slow}

    def judged_until(self, readings: Sequence[Reading], newest_changed: str) -> str:
        """All of them: a side that is taken later holds until the next one."""
        return readings[-1].timestamp

    def seeded(self, series: Sequence[Reading], edge: str) -> bool:
        """Whether it is known on which side the averages were before ``edge``.

        Where no judged reading has a sign there is nothing to cross, and no need to know.
        """
        scan = self.judge()
        for reading in series:
            scan.push(reading)
            if scan.now:
                return reading.timestamp < edge
        return True

    def unaffected(self, series: Sequence[Reading], newest_changed: str) -> bool:
        """Whether d is non-zero at some reading whose window lies behind the change.

        That sign seeds whatever follows.
        """
        scan, behind = self.judge(), 0
        for reading in series:
            scan.push(reading)
            behind += reading.timestamp > newest_changed
            if behind >= self.slow and scan.now:
                return True
        return False


def crossings(readings: Iterable[Reading], fast: int, slow: int) -> list[Signal]:
    """Every crossover of a series in time order."""
    scan = CrossoverScan(fast, slow)
    return [signal for reading in readings if (signal := scan.push(reading))]
