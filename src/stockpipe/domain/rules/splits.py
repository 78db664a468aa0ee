"""Splits: a price that jumps by a ratio such as 7:1 has moved nobody.

A feed that adjusts yesterday's close for a split never shows one. Where it does not, the day opens
at a simple ratio of the previous close. What tells a split from a crash is how exactly: AAPL opened
at 0.499 (2000-06-21) and 0.502 (2005-02-28) of the close before, both splits, and at 0.527 on
2000-09-29, which was real.
"""

from __future__ import annotations

from fractions import Fraction

from stockpipe.domain.signals import Reading

RATIOS = tuple(
    sorted(
        {Fraction(3, 2), *(Fraction(n) for n in (*range(2, 11), 12, 15, 20, 25, 30, 40, 50, 100))}
    )
)
"""Old price : new price of a split; a reverse split is the inverse."""
OPEN_WITHIN = Fraction(25, 1000)
"""A night's ordinary news on top of the ratio."""
PRICE_WITHIN = Fraction(5, 1000)
"""Closer, for it is another reading every few seconds."""


def split_ratio(reading: Reading) -> Fraction | None:
    """The ratio (old : new, below 1 for a reverse split) that a reading looks split by, or None."""
    before = reading.previous_close
    if before is None:
        return None
    for price, within in ((reading.open, OPEN_WITHIN), (reading.price, PRICE_WITHIN)):
        if price is None:
            continue
        for ratio in RATIOS:
            for one in (ratio, 1 / ratio):
                # before : price = one, exactly in integers.
                off = abs(before * one.denominator - price * one.numerator)
                if off * within.denominator <= within.numerator * price * one.numerator:
                    return one
    return None
