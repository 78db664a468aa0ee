"""Spikes: a jump that is large for this symbol at this time.

r = ln(price / price before). The variance v of a symbol is the exponentially weighted mean of r
squared, with each square clipped at ``CLIP`` standard deviations so that a jump does not hide the
next one::

    v' = LAMBDA * v + (1 - LAMBDA) * min(r^2, CLIP^2 * v)

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
from stockpipe.domain.rules.splits import split_ratio
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


def judged(squares: Sequence[float], sigmas: float) -> float | None:
    """The last return in standard deviations where it is a spike, else None.

    ``squares``: the squared log returns of the window in time order.
    """
    if len(squares) <= WARM_UP or squares[-1] <= (sigmas * FLOOR) ** 2:
        return None
    floor, limit, clip = FLOOR**2, sigmas**2, CLIP**2
    variance = median(squares[:WARM_UP]) / _CHI2_MEDIAN
    keep, take, quiet = LAMBDA, 1 - LAMBDA, 0
    for square in squares[WARM_UP:-1]:
        base = variance if variance > floor else floor
        if quiet:
            quiet -= 1
        elif square > limit * base:
            quiet = REFRACTORY
        most = clip * base
        variance = keep * variance + take * (square if square < most else most)
    base = variance if variance > floor else floor
    if quiet or squares[-1] <= limit * base:
        return None
    return math.sqrt(squares[-1] / base)


class SpikeScan:
    """Keeps the window's squared returns."""

    def __init__(self, sigmas: float) -> None:
        self._sigmas = sigmas
        self._squares: deque[float] = deque(maxlen=WINDOW - 1)
        self._before: int | None = None

    def push(self, reading: Reading) -> Signal | None:
        before, self._before = self._before, reading.price
        if before is None:
            return None
        self._squares.append(math.log(reading.price / before) ** 2)
        # Most are smaller than the floor allows, and need no fold.
        if self._squares[-1] <= (self._sigmas * FLOOR) ** 2:
            return None
        size = judged(list(self._squares), self._sigmas)
        if size is None or split_ratio(reading) is not None:
            return None
        return Signal(reading, SPIKE, sigmas=f"{size:.1f}")


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
