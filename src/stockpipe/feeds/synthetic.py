"""Made-up prices, said to be made up in every record, whose crossings are known beforehand.

A symbol's prices are a random walk of a seed: stretches that rise, fall or stand still, so that
averages cross, touch and are exactly equal. The same seed and symbol give the same prices on every
machine, whichever other symbols there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from random import Random
from typing import NamedTuple

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import MICRO, moment_text
from stockpipe.domain.quote import Quote
from stockpipe.domain.signals import DEATH, GOLDEN
from stockpipe.errors import UsageError
from stockpipe.feeds.base import Request, Round
from stockpipe.feeds.ndjson import SYNTHETIC
from stockpipe.feeds.pacing import paced

FORMS = "synthetic, synthetic:7 or synthetic:seed=7,rounds=1000"
SYMBOLS = ("SIM-A", "SIM-B", "SIM-C")
"""Where none are asked for: names that no exchange has."""
SEED = 1
START = datetime(2000, 1, 3, 14, 30, tzinfo=UTC)
"""The first timestamp, but for a feed at 1x, whose timestamps are the present."""

CENT = MICRO // 100
_NUMBER = re.compile(r"\d{1,15}", re.ASCII)


class Bar(NamedTuple):
    """One reading of a walk; prices in micro-units, whole cents."""

    open: int
    high: int
    low: int
    price: int
    volume: int


class KnownCrossing(NamedTuple):
    """``round`` counts from 0; ``kind`` as in :mod:`stockpipe.domain.signals`."""

    symbol: str
    round: int
    kind: str


def open_feed(request: Request) -> SyntheticFeed:
    """The feed of ``synthetic[:SEED]`` or ``synthetic:seed=N,rounds=N``; raises UsageError."""
    seed, rounds = _parse(request.argument)
    return SyntheticFeed(
        request.symbols or SYMBOLS,
        seed=seed,
        rounds=rounds,
        interval_s=request.interval_s,
        speed=request.speed,
        clock=request.clock,
    )


class SyntheticFeed:
    """One quote per symbol and round, all of one timestamp; without ``rounds`` it goes on and on.

    At ``speed`` 1 it is like a live source: a round per interval, stamped with the present. At any
    other speed (None: as fast as it goes) it is a recording that begins at :data:`START` with an
    interval between two rounds, the same each time, and ends with the present at the latest.
    Raises :class:`UsageError` for more rounds than there is past.
    """

    source: str | None = SYNTHETIC
    live = False

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        seed: int = SEED,
        rounds: int | None = None,
        interval_s: float = 30.0,
        speed: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.symbols, self._seed, self._rounds = tuple(symbols), seed, rounds
        self._speed, self._clock = speed, clock
        # 0 asks for every tick, and here are none; a timestamp shows no less than a millisecond.
        self._step = timedelta(seconds=max(interval_s or 1.0, 0.001))
        self.total: int | None = rounds and rounds * len(self.symbols)
        if rounds and speed != 1 and rounds > (clock.now() - START) // self._step:
            raise UsageError(
                f"{rounds:,} rounds from {START:%Y-%m-%d} on would reach into the future.",
                hint="Ask for fewer rounds or a shorter --interval.",
            )

    def rounds(self) -> Iterator[Round]:
        if self._speed == 1:
            return self._made(self._present())
        return paced(self._made(self._past()), self._speed, self._clock)

    def _made(self, moments: Iterator[datetime]) -> Iterator[Round]:
        """A round for each moment."""
        walks = [(symbol, walk(self._seed, symbol)) for symbol in self.symbols]
        today, closes, prices = "", dict[str, int](), dict[str, int]()
        notices: tuple[str, ...] = (f"Made-up prices of seed {self._seed}, labelled {SYNTHETIC}.",)
        for moment in islice(moments, self._rounds):
            timestamp, now = moment_text(moment), moment_text(self._clock.now())
            if timestamp[:10] != today:
                today, closes = timestamp[:10], dict(prices)
            quotes = []
            for symbol, bars in walks:
                bar = next(bars)
                prices[symbol] = bar.price
                previous_close = closes.setdefault(symbol, bar.open)
                quotes.append(
                    Quote(
                        symbol, bar.open, bar.high, bar.low, bar.price, previous_close, bar.volume,
                        timestamp, now, SYNTHETIC,
                    )
                )  # fmt: skip
            yield Round(tuple(quotes), notices=notices)
            notices = ()

    def _past(self) -> Iterator[datetime]:
        moment = START
        while moment <= self._clock.now():  # the processor refuses quotes of the future
            yield moment
            moment += self._step

    def _present(self) -> Iterator[datetime]:
        """Now, at every interval; strictly rising even where the clock is set back."""
        begun, latest = self._clock.monotonic(), START
        for number in count():
            due = begun + number * self._step.total_seconds()
            if (wait := due - self._clock.monotonic()) > 0:
                self._clock.sleep(wait)
            latest = max(self._clock.now(), latest + timedelta(milliseconds=1))
            yield latest


def walk(seed: int, symbol: str) -> Iterator[Bar]:
    """The endless walk of a symbol: between a fifth and the fourfold of its first price."""
    # Of all that a Random draws, only random() is promised to stay the same between versions of
    # Python: https://docs.python.org/3/library/random.html#notes-on-reproducibility
    draw = Random(f"{seed}:{symbol}").random  # noqa: S311 - to be repeated, not to be a secret

    def between(low: int, high: int) -> int:
        return low + int(draw() * (high - low + 1))

    first = price = CENT * between(2_000, 50_000)
    while True:
        trend = between(-1, 1)
        if not first < 3 * price < 9 * first:
            trend = 1 if price < first else -1
        slope = between(5, 40)  # in hundredths of a percent of the price, for each round
        for _ in range(between(8, 45)):
            step = trend * slope + between(-15, 15) if trend else 0
            opened, price = price, price + CENT * round_half_up(price * step, 10_000 * CENT)
            yield Bar(
                opened,
                max(opened, price) + CENT * between(0, 5),
                min(opened, price) - CENT * between(0, 5),
                price,
                between(1_000, 9_000) * (10 + abs(step)),
            )


def round_half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def known_crossings(
    seed: int, symbols: Iterable[str], rounds: int, fast: int = 5, slow: int = 20
) -> list[KnownCrossing]:
    """Every crossing in the first ``rounds`` rounds, by symbol and then by round.

    Worked out from the definition in integers, window by window, and on purpose without the code
    that the pipeline finds crossings with.
    """
    found = []
    for symbol in symbols:
        prices = [bar.price for bar in islice(walk(seed, symbol), rounds)]
        side = 0
        for number in range(slow - 1, rounds):
            fast_sum = sum(prices[number + 1 - fast : number + 1])
            slow_sum = sum(prices[number + 1 - slow : number + 1])
            distance = slow * fast_sum - fast * slow_sum
            if distance * side < 0:
                found.append(KnownCrossing(symbol, number, GOLDEN if distance > 0 else DEATH))
            side = distance or side
    return found


def _parse(argument: str) -> tuple[int, int | None]:
    """Seed and rounds."""
    values: dict[str, int] = {}
    for part in argument.split(",") if argument else ():
        name, equals, text = part.partition("=")
        if not equals:
            name, text = "seed", name
        if name not in ("seed", "rounds") or name in values or not _NUMBER.fullmatch(text):
            raise UsageError(f"synthetic:{argument} is not understood.", hint=f"As in {FORMS}.")
        values[name] = int(text)
    if values.get("rounds") == 0:
        raise UsageError("synthetic with no rounds makes no quotes.", hint=f"As in {FORMS}.")
    return values.get("seed", SEED), values.get("rounds")
