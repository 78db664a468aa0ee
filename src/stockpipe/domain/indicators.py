"""Simple moving averages, exactly.

With prices as integers, ``slow * S_fast - fast * S_slow`` has the sign of ``SMA_fast - SMA_slow``
and no rounding at all (S is the sum over the last n prices). Averages in floats misplace hundreds
of crossings in real data, because "equal" then depends on the order of the additions.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from stockpipe.domain.exact import divide_half_even


@dataclass(slots=True)
class SmaPair:
    """Two running averages over one series of prices in micro-units."""

    fast: int
    slow: int
    _window: deque[int] = field(default_factory=deque)
    _fast_sum: int = 0
    _slow_sum: int = 0

    def push(self, price: int) -> None:
        """Take the next price, O(1)."""
        window = self._window
        window.append(price)
        self._fast_sum += price
        self._slow_sum += price
        if len(window) > self.fast:
            self._fast_sum -= window[-1 - self.fast]
        if len(window) > self.slow:
            self._slow_sum -= window.popleft()

    @property
    def ready(self) -> bool:
        """Whether ``slow`` prices have been seen."""
        return len(self._window) >= self.slow

    @property
    def sign(self) -> int:
        """-1, 0 or 1: the exact sign of ``SMA_fast - SMA_slow``."""
        spread = self.slow * self._fast_sum - self.fast * self._slow_sum
        return (spread > 0) - (spread < 0)

    @property
    def averages(self) -> tuple[int, int]:
        """Both averages in micro-units, rounded half to even: for showing, never for comparing."""
        return (
            divide_half_even(self._fast_sum, self.fast),
            divide_half_even(self._slow_sum, self.slow),
        )
