"""Spikes: a jump that is large for this symbol at this time.

r = ln(price / price before), without the ratio of a split. The variance v of a symbol is the
exponentially weighted mean of r squared, with each square clipped at ``CLIP`` standard deviations
so that a jump does not hide the next one::

    v' = LAMBDA * v + (1 - LAMBDA) * min(r^2, CLIP^2 * max(v, FLOOR^2))

seeded with the median of the first ``WARM_UP`` squares over the chi-squared median. A reading is
a spike where |r| > ``sigmas`` * max(sqrt(v), FLOOR), v being that of before the reading, and no
other was one within ``REFRACTORY`` readings. All of it is a fold over the last ``WINDOW``
readings, which is the definition: the incremental form keeps them and folds them again, so what is
found does not depend on where a window begins.

Sources: RiskMetrics Technical Document (J. P. Morgan, 1996), 5.2, for the weights; Huber (1981),
Robust Statistics, for the clipping.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Any, ClassVar

from stockpipe.domain.rules.base import Rule
from stockpipe.domain.rules.splits import RATIOS, split_ratio
from stockpipe.domain.signals import SPIKE, Reading, Signal

LAMBDA = 0.97
CLIP = 3.0
WARM_UP = 20
WINDOW = 256
FLOOR = 0.0005
"""Of a price: five basis points, below which nothing is a jump however still it was before."""
REFRACTORY = 5
_CHI2_MEDIAN = 0.4549
"""The median of a squared standard normal: turns a median of squares into a variance."""
_HALF_A_SPLIT = math.log(min(RATIOS)) / 2
"""A return below this is no split's."""


def step(variance: float, square: float) -> float:
    """The variance after one more squared return."""
    most = CLIP**2 * max(variance, FLOOR**2)
    return LAMBDA * variance + (1 - LAMBDA) * min(square, most)


def judged(squares: Sequence[float], sigmas: float) -> float | None:
    """The last return in standard deviations where it is a spike, else None.

    ``squares``: the squared log returns of the window in time order.
    """
    if len(squares) <= WARM_UP:
        return None
    limit, least, quiet = sigmas**2, FLOOR**2, 0
    variance = median(squares[:WARM_UP]) / _CHI2_MEDIAN
    for size in squares[WARM_UP:-1]:
        if quiet:
            quiet -= 1
        elif size > limit * max(variance, least):
            quiet = REFRACTORY
        variance = step(variance, size)
    base = max(variance, least)
    if quiet or squares[-1] <= limit * base:
        return None
    return math.sqrt(squares[-1] / base)


def square(before: int, reading: Reading) -> float:
    """The squared log return from the price before; of a split, of what it left."""
    size = math.log(reading.price / before)
    if abs(size) > _HALF_A_SPLIT and (ratio := split_ratio(reading)):
        rest = size + math.log(ratio)
        # A later reading of a split day looks split too, but has not jumped by the ratio.
        size = rest if abs(rest) < abs(size) / 2 else size
    return size * size


class _LeastVariance:
    """At most the variance that the window's fold would come to, at the cost of two steps.

    A fold grows with what it starts from. So one that starts from nothing, later than the window's
    warm-up, stays below the window's. Two that start in turn: one is always far enough on.
    """

    _EVERY = (WINDOW - 1 - WARM_UP) // 2 - 1

    def __init__(self) -> None:
        self.value = 0.0
        self._next, self._pushed = 0.0, -WARM_UP

    def push(self, square: float) -> None:
        self._pushed += 1
        if self._pushed <= 0:
            return
        self.value, self._next = step(self.value, square), step(self._next, square)
        if self._pushed % self._EVERY == 0:
            self.value, self._next = self._next, 0.0


class SpikeScan:
    """Keeps the window's squared returns."""

    def __init__(self, sigmas: float) -> None:
        self._sigmas = sigmas
        # Below the limit by more than what additions in another order can differ.
        self._limit = sigmas**2 * (1 - 1e-9)
        self._squares: deque[float] = deque(maxlen=WINDOW - 1)
        self._least = _LeastVariance()
        self._before: int | None = None

    def push(self, reading: Reading) -> Signal | None:
        before, self._before = self._before, reading.price
        if before is None:
            return None
        size = square(before, reading)
        self._squares.append(size)
        ordinary = size <= self._limit * max(self._least.value, FLOOR**2)
        self._least.push(size)
        if ordinary:
            return None
        found = judged(list(self._squares), self._sigmas)
        return None if found is None else Signal(reading, SPIKE, sigmas=f"{found:.1f}")


@dataclass(frozen=True)
class SpikeRule(Rule):
    """``sigmas``: how many standard deviations a jump must exceed."""

    sigmas: Decimal = Decimal(5)
    kind: ClassVar[str] = "spike"

    @property
    def own_name(self) -> str:
        return f"spike-{self.sigmas.normalize():f}"

    @property
    def lead(self) -> int:
        return WINDOW - 1

    @property
    def reach(self) -> int:
        return WINDOW - 1

    def judge(self) -> SpikeScan:
        return SpikeScan(float(self.sigmas))

    def own_table(self) -> dict[str, Any]:
        return {"sigmas": f"{self.sigmas.normalize():f}"}
