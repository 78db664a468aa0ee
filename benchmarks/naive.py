"""What the usual designs of this pipeline lose on real prices, and how many alerts ours makes.

PYTHONPATH=tests python benchmarks/naive.py
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from real_bars import RECORDED, daily_bars
from stockpipe.domain.rules import CrossoverRule
from stockpipe.domain.rules.crossover import crossings
from stockpipe.domain.rules.history import reading_of, signals
from stockpipe.domain.signals import DEATH, Reading
from stockpipe.feeds.csv_bars import read_csv

FAST, SLOW = 5, 20
BARS = {"none": None, "1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600}
COOLDOWNS = {"none": None, "30m": 1800, "1h": 3600, "4h": 14_400}

Series = list[Reading]


def series(file: Path) -> list[Series]:
    """The readings of each symbol of a file."""
    found: defaultdict[str, Series] = defaultdict(list)
    for quote in read_csv(str(file)):
        found[quote.symbol].append(reading_of(quote))
    return list(found.values())


def everything() -> list[Series]:
    """All recorded bars; without them bokeh's daily ones."""
    if files := sorted(RECORDED.glob("*.csv.gz")):
        return [one for file in files for one in series(file)]
    with tempfile.TemporaryDirectory() as directory:
        return series(daily_bars(Path(directory)))


def found_by_newest_pair(readings: Series, batch: int) -> int:
    """Crossings seen by one look at the newest two windows after each batch."""
    true = {one.timestamp for one in crossings(readings, FAST, SLOW)}
    newest = (
        readings[min(end, len(readings)) - 1] for end in range(batch, len(readings) + batch, batch)
    )
    return sum(one.timestamp in true for one in newest)


def says_downtrend_at_start(readings: Series) -> bool:
    """At 20 readings, where the window before has 19 rows.

    Such code takes an average of too few rows to be 0, so the fast one was above it; if it is
    below the slow one now, that is told as a Downtrend. Nothing was crossed.
    """
    closes = [one.price for one in readings[:SLOW]]
    return sum(closes[-FAST:]) * (SLOW // FAST) < sum(closes)


def rolling(prices: list[float]) -> list[float]:
    """d by pandas, which compensates its running sums."""
    values = pd.Series(prices)
    return list((values.rolling(FAST).mean() - values.rolling(SLOW).mean()).to_numpy())


def summed_anew(prices: list[float]) -> list[float]:
    """d by a sum over each window."""
    ends = range(1, len(prices) + 1)
    return [
        sum(prices[end - FAST : end]) / FAST - sum(prices[end - SLOW : end]) / SLOW
        if end >= SLOW
        else 0.0
        for end in ends
    ]


def running(prices: list[float]) -> list[float]:
    """d by two running sums."""
    fast = slow = 0.0
    found = []
    for at, price in enumerate(prices):
        fast += price - (prices[at - FAST] if at >= FAST else 0.0)
        slow += price - (prices[at - SLOW] if at >= SLOW else 0.0)
        found.append(fast / FAST - slow / SLOW if at >= SLOW - 1 else 0.0)
    return found


def float_crossings(
    readings: Series, method: Callable[[list[float]], list[float]]
) -> set[tuple[str, int]]:
    """Crossings of averages of float prices, compared as they come."""
    d = method([one.price / 1e6 for one in readings])
    found: set[tuple[str, int]] = set()
    last = 0
    for reading, value in zip(readings, d, strict=True):
        sign = int(value > 0) - int(value < 0)
        if sign and last and sign != last:
            found.add((reading.timestamp, sign))
        last = sign or last
    return found


def exact_crossings(readings: Series) -> set[tuple[str, int]]:
    return {
        (one.timestamp, -1 if one.kind == DEATH else 1) for one in crossings(readings, FAST, SLOW)
    }


def lost_by_design(data: list[Series]) -> Iterator[str]:
    total = sum(len(crossings(one, FAST, SLOW)) for one in data)
    rows = sum(map(len, data))
    yield f"{len(data)} series, {rows:,} readings, {total:,} crossings"
    yield "\n| looks at the newest pair only | crossings found | lost |\n|---|---|---|"
    for batch in (1, 2, 10, 100):
        found = sum(found_by_newest_pair(one, batch) for one in data)
        yield f"| records in batches of {batch} | {found:,} | {1 - found / total:.1%} |"
    starts = [one for one in data if len(one) >= SLOW]
    false = sum(map(says_downtrend_at_start, starts))
    yield f"\n19-row windows: a false Downtrend at {false} of {len(starts)} starts"
    # More starts: each series begun anew at every hundredth reading.
    more = [one[at:] for one in data for at in range(0, len(one) - SLOW, 100)]
    false = sum(map(says_downtrend_at_start, more))
    yield f"and begun at every hundredth reading: {false} of {len(more)} ({false / len(more):.0%})"
    yield "\n| float averages | missed | invented |\n|---|---|---|"
    for method in (rolling, summed_anew, running):
        missed = invented = 0
        for one in data:
            exact, floating = exact_crossings(one), float_crossings(one, method)
            missed += len(exact - floating)
            invented += len(floating - exact)
        yield f"| {method.__name__} | {missed} | {invented} |"
    yield f"\nno state of alerts, every batch delivered twice: {2 * total:,} alerts for {total:,}"


def alerts_by_setting(data: list[Series]) -> Iterator[str]:
    """Alerts of crossover 5/20 a symbol and day."""
    days = sum(len({one.day for one in readings}) for readings in data)
    yield f"\n{len(data)} symbols, {days} days of symbols\n"
    yield "| bar | cooldown " + " | ".join(COOLDOWNS) + " |"
    yield "|---|" + "---|" * len(COOLDOWNS)
    for name, bar_s in BARS.items():
        cells = []
        for cooldown_s in COOLDOWNS.values():
            rule = dataclasses.replace(CrossoverRule(), bar_s=bar_s, cooldown_s=cooldown_s)
            found = sum(len(list(signals(rule, readings))) for readings in data)
            cells.append(f"{found / days:.1f}")
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    for line in lost_by_design(everything()):
        print(line)
    minutes = [one for file in sorted(RECORDED.glob("intraday_1m_*")) for one in series(file)]
    if minutes:
        for line in alerts_by_setting(minutes):
            print(line)


if __name__ == "__main__":
    main()
