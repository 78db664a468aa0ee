"""Rules over history: the pipeline's own code, every signal that it would have found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

from stockpipe.domain.exact import price_text
from stockpipe.domain.quote import Quote
from stockpipe.domain.rules import MoveRule, Rule
from stockpipe.domain.rules.history import reading_of, signals
from stockpipe.domain.rules.splits import split_ratio
from stockpipe.domain.signals import Reading, Signal
from stockpipe.operate.records import Record


@dataclass(frozen=True, slots=True)
class Found:
    """One signal of one symbol by the rule of this name."""

    symbol: str
    rule: str
    signal: Signal

    def record(self) -> Record:
        """As in the history of alerts; None for what does not belong to its kind."""
        signal = self.signal
        return {
            "symbol": self.symbol,
            "timestamp": signal.timestamp,
            "rule": self.rule,
            "kind": signal.kind,
            "price": _number(price_text(signal.price)),
            "sma_fast": _number(price_text(signal.sma_fast)),
            "sma_slow": _number(price_text(signal.sma_slow)),
            "change_percent": _number(signal.reading.change_percent),
            "level": _number(price_text(signal.level)),
            "sigmas": _number(signal.sigmas),
        }


@dataclass(slots=True)
class Backtest:
    """What a history brought. ``days``: exchange days with readings, summed over the symbols.

    ``splits``: symbol and day of the jumps that were taken for splits.
    """

    found: list[Found] = field(default_factory=list)
    bars: int = 0
    symbols: int = 0
    days: int = 0
    splits: list[tuple[str, str]] = field(default_factory=list)

    def by_day(self) -> list[tuple[str, str, int]]:
        """Day at the exchange, rule, and how many signals of all symbols."""
        counted = Counter((one.signal.reading.day, one.rule) for one in self.found)
        return [(day, rule, number) for (day, rule), number in sorted(counted.items())]

    def by_rule(self) -> dict[str, int]:
        return dict(Counter(one.rule for one in self.found))


def backtest(quotes: Iterable[Quote], rules: Sequence[Rule]) -> Backtest:
    """Every signal of the rules, in time order. Of two quotes of one key the later one counts."""
    result = Backtest()
    for symbol, readings in _series(quotes).items():
        result.symbols += 1
        result.bars += len(readings)
        result.days += len({reading.day for reading in readings})
        covering = [rule for rule in rules if rule.covers(symbol)]
        for rule in covering:
            result.found += (Found(symbol, rule.name, one) for one in signals(rule, readings))
        moves = [rule for rule in covering if isinstance(rule, MoveRule)]
        result.splits += ((symbol, day) for day in _split_days(moves, readings))
    result.found.sort(key=lambda one: (one.signal.timestamp, one.symbol, one.rule))
    return result


def _series(quotes: Iterable[Quote]) -> dict[str, list[Reading]]:
    """The readings of each symbol in time order."""
    series: dict[str, list[Reading]] = {}
    for quote in quotes:
        series.setdefault(quote.symbol, []).append(reading_of(quote))
    for symbol, readings in series.items():
        if any(a.timestamp >= b.timestamp for a, b in pairwise(readings)):
            last = {reading.timestamp: reading for reading in readings}
            series[symbol] = [last[timestamp] for timestamp in sorted(last)]
    return series


def _split_days(rules: Sequence[MoveRule], readings: Sequence[Reading]) -> Iterator[str]:
    """The days on which nothing but a split kept a move from being told."""
    seen: set[str] = set()
    for reading in readings:
        if any(rule.exceeded(reading) for rule in rules) and reading.day not in seen:
            seen.add(reading.day)
            if split_ratio(reading) is not None:
                yield reading.day


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
