"""What every rule is and has: a name, the symbols it covers, a bar, a cooldown, and a scan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from stockpipe.domain.rules import bars
from stockpipe.domain.signals import Reading, Signal


def span(seconds: int) -> str:
    """``300`` as ``5m``: the largest unit that leaves a whole number."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


class InvalidRule(ValueError):
    """A rule table that breaks a rule of its own; the message names the key."""


class Scan(Protocol):
    """The incremental form: readings in time order go in one by one, each may bring a signal."""

    def push(self, reading: Reading) -> Signal | None: ...


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """One rule. Subclasses add what makes up their kind.

    ``symbols``: those it covers, empty for all. ``bar_s``: judge only the last reading of each
    completed bar of so many seconds. ``cooldown_s``: after an alert, none of this rule and symbol
    for so long.
    """

    symbols: frozenset[str] = frozenset()
    bar_s: int | None = None
    cooldown_s: int | None = None

    kind: ClassVar[str]

    @property
    @abstractmethod
    def own_name(self) -> str:
        """Kind and parameters, as ``crossover-5-20``."""

    @property
    def name(self) -> str:
        """Names the rule in alerts and filters, with its bar; no two rules may have the same."""
        return self.own_name + (f"-{span(self.bar_s)}" if self.bar_s else "")

    @property
    def lead(self) -> int:
        """How many readings before a judged one its judgement needs at most."""
        return 0

    @property
    def reach(self) -> int:
        """How many readings after a changed one may have to be judged otherwise."""
        return 0

    @abstractmethod
    def judge(self) -> Scan:
        """A new scan over readings, bars apart."""

    @abstractmethod
    def own_table(self) -> dict[str, Any]:
        """The keys of this kind in the settings."""

    def covers(self, symbol: str) -> bool:
        return not self.symbols or symbol in self.symbols

    def scan(self) -> Scan:
        """A new scan over stored readings; with a bar, its last reading is judged once the next
        bar has begun."""
        return self.judge() if self.bar_s is None else bars.BarScan(self.judge(), self.bar_s)

    def as_table(self) -> dict[str, Any]:
        """The rule as it stands in the settings; :func:`parse_rule` reads it back."""
        table: dict[str, Any] = {"kind": self.kind, **self.own_table()}
        if self.symbols:
            table["symbols"] = sorted(self.symbols)
        for key, seconds in (("bar", self.bar_s), ("cooldown", self.cooldown_s)):
            if seconds is not None:
                table[key] = span(seconds)
        return table

    def series(self, readings: Sequence[Reading]) -> Sequence[Reading]:
        """What of the readings is judged: all, or the last one of every completed bar."""
        return readings if self.bar_s is None else bars.completed(readings, self.bar_s)

    def judged_from(self, readings: Sequence[Reading], changed: str) -> str:
        """The first timestamp whose judgement a change at ``changed`` may touch.

        With a bar that is the reading before it, which may be its bar's last one only since or
        only until the change.
        """
        return changed if self.bar_s is None else bars.before(readings, changed) or changed

    def judged_to(self, readings: Sequence[Reading]) -> str:
        """The last timestamp of which these readings tell what the rule says.

        With a bar not the newest: whether it is its bar's last one, only the next one tells.
        """
        return readings[max(0, len(readings) - (1 if self.bar_s is None else 2))].timestamp

    def judged_until(self, readings: Sequence[Reading], newest_changed: str) -> str:
        """The last timestamp whose judgement a change up to ``newest_changed`` may touch."""
        series = self.series(readings) or readings
        here = (at for at, one in enumerate(series) if one.timestamp >= newest_changed)
        return series[min(next(here, len(series)) + self.reach, len(series) - 1)].timestamp

    def settled(self, readings: Sequence[Reading], changed: str) -> bool:
        """Whether there are enough readings before ``changed`` to judge all from there on."""
        if not readings or readings[0].timestamp > changed:
            return False
        if self.bar_s is not None and bars.before(readings, changed) is None:
            return False
        series, edge = self.series(readings), self.judged_from(readings, changed)
        before = sum(reading.timestamp < edge for reading in series)
        return before >= self.lead and self.seeded(series, edge)

    def seeded(self, series: Sequence[Reading], edge: str) -> bool:
        """Whether what a scan remembers from before ``edge`` is known; most remember nothing."""
        return True

    def reached(self, readings: Sequence[Reading], newest_changed: str) -> bool:
        """Whether there are enough readings after ``newest_changed`` to judge all it touches."""
        if self.bar_s and not (readings and readings[-1].timestamp > newest_changed):
            return False  # the next reading tells whether its bar is complete
        series = self.series(readings)
        behind = sum(reading.timestamp > newest_changed for reading in series)
        return behind >= self.reach and self.unaffected(series, newest_changed)

    def unaffected(self, series: Sequence[Reading], newest_changed: str) -> bool:
        """Whether what a scan remembers at the end no longer depends on the change."""
        return True
