"""Bars: of each stretch of time the last reading, judged once the next stretch has begun.

At an interval of 30 s a crossover of 5 and 20 readings looks back ten minutes and fires some 50
times a day and symbol. With a bar of five minutes it looks back 100 minutes. Bars begin at whole
multiples of their length in the exchange's own time, so a bar of a day is the exchange's day.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stockpipe.domain.exact import parse_moment
from stockpipe.domain.signals import Reading, Signal

if TYPE_CHECKING:
    from stockpipe.domain.rules.base import Scan


LONGEST_BREAK_S = 8 * 86_400.0
"""Between two sessions. A bar is completed by the next reading, so it is known that much later."""


def bar_of(reading: Reading, bar_s: int) -> int:
    """The number of the reading's bar; later bars have higher numbers."""
    return (int(parse_moment(reading.timestamp).timestamp()) + reading.utc_offset_s) // bar_s


class BarScan:
    """Passes on the last reading of each bar when a reading of another one arrives."""

    def __init__(self, judge: Scan, bar_s: int) -> None:
        self._judge, self._bar_s = judge, bar_s
        self._last: Reading | None = None
        self._bar = 0

    def push(self, reading: Reading) -> Signal | None:
        bar = bar_of(reading, self._bar_s)
        last, complete = self._last, self._last is not None and bar != self._bar
        self._last, self._bar = reading, bar
        found = self._judge.push(last) if complete and last else None
        return replace(found, known_at=reading.timestamp) if found else None


def completed(readings: Sequence[Reading], bar_s: int) -> list[Reading]:
    """The last reading of every bar but the newest, which may still go on."""
    numbers = [bar_of(reading, bar_s) for reading in readings]
    return [
        reading
        for reading, bar, following in zip(readings, numbers, numbers[1:], strict=False)
        if bar != following
    ]


def before(readings: Sequence[Reading], changed: str) -> str | None:
    """The timestamp of the last reading before ``changed``, which need not be one of them."""
    older = bisect_left(readings, changed, key=lambda reading: reading.timestamp)
    return readings[older - 1].timestamp if older else None
