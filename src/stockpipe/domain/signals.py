"""Crossovers: where the fast average changes sides of the slow one.

Let d = SMA_fast - SMA_slow over the last readings of one symbol in timestamp order. A **golden
cross** is d > 0 where the last non-zero d was < 0; a **death cross** is the mirror. Zeros change
nothing, the first sign only seeds the state, and fewer than ``slow`` readings say nothing. So
signals alternate, "equal, then above" fires once and a touch never fires twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from stockpipe.domain.indicators import SmaPair

GOLDEN = "golden"
DEATH = "death"


class Reading(NamedTuple):
    """A stored quote, as far as signals look: its normalised time and price in micro-units."""

    timestamp: str
    price: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """One crossover. ``price`` and both averages in micro-units."""

    timestamp: str
    kind: str
    price: int
    sma_fast: int
    sma_slow: int


class CrossoverScan:
    """The fold over a series: feed readings in time order, get a crossing where there is one."""

    def __init__(self, fast: int, slow: int) -> None:
        self._pair = SmaPair(fast, slow)
        self.last_sign = 0
        """The last non-zero sign of d, 0 before there was one."""

    def push(self, reading: Reading) -> Crossing | None:
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
        kind = GOLDEN if sign > 0 else DEATH
        return Crossing(reading.timestamp, kind, reading.price, fast, slow)

    @property
    def now(self) -> int | None:
        """The sign of d at the last reading; None before there are ``slow`` readings."""
        return self._pair.sign if self._pair.ready else None


def crossings(readings: Iterable[Reading], fast: int, slow: int) -> list[Crossing]:
    """Every crossover of a series in time order."""
    scan = CrossoverScan(fast, slow)
    return [crossing for reading in readings if (crossing := scan.push(reading))]
