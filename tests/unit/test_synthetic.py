"""Made-up prices: the same for a seed, said to be made up, with crossings that are known."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice, pairwise

import pytest
from feed_clock import FeedClock
from hypothesis import given
from hypothesis import strategies as st

from stockpipe.domain.exact import moment_text, parse_moment
from stockpipe.domain.quote import Quote, parse_quote, quote_json
from stockpipe.domain.rules.crossover import crossings
from stockpipe.domain.signals import Reading
from stockpipe.errors import UsageError
from stockpipe.feeds.base import Request, Round
from stockpipe.feeds.synthetic import (
    START,
    SYMBOLS,
    KnownCrossing,
    SyntheticFeed,
    known_crossings,
    open_feed,
    walk,
)

SLOW = 20
seeds = st.integers(0, 10**15 - 1)


def feed(argument: str = "seed=7,rounds=100", **settings: object) -> SyntheticFeed:
    given = {"speed": None, "clock": FeedClock(), **settings}
    return open_feed(Request(argument=argument, **given))  # type: ignore[arg-type]


def quotes_of(rounds: Iterator[Round]) -> list[Quote]:
    return [quote for taken in rounds for quote in taken.quotes]


def found_by_the_pipeline(quotes: list[Quote], fast: int, slow: int) -> list[KnownCrossing]:
    """The crossings that the signal code finds in stored quotes, by symbol."""
    times = {time: number for number, time in enumerate(sorted({q.timestamp for q in quotes}))}
    return [
        KnownCrossing(symbol, times[crossing.timestamp], crossing.kind)
        for symbol in dict.fromkeys(quote.symbol for quote in quotes)
        for crossing in crossings(
            [Reading(q.timestamp, q.price) for q in quotes if q.symbol == symbol], fast, slow
        )
    ]


@given(seeds, st.integers(1, 10), st.integers(1, 20))
def test_the_pipeline_finds_exactly_the_known_crossings(seed: int, fast: int, more: int) -> None:
    slow = fast + more
    quotes = quotes_of(feed(f"seed={seed},rounds=400").rounds())
    known = known_crossings(seed, SYMBOLS, 400, fast, slow)
    assert found_by_the_pipeline(quotes, fast, slow) == known


def test_a_known_list_does_not_change_between_machines_and_versions() -> None:
    assert known_crossings(1, ["SIM-A"], 250) == [
        ("SIM-A", 67, "golden"), ("SIM-A", 98, "death"), ("SIM-A", 247, "golden"),
    ]  # fmt: skip
    assert next(walk(1, "SIM-A")) == (210_840_000, 210_870_000, 210_220_000, 210_270_000, 191_697)


def test_the_averages_cross_touch_and_are_exactly_equal() -> None:
    signs: dict[tuple[int, ...], int] = {}
    for symbol in SYMBOLS:
        prices = [bar.price for bar in islice(walk(1, symbol), 2000)]
        sides = [
            4 * sum(prices[end - 5 : end]) - sum(prices[end - SLOW : end])
            for end in range(SLOW, len(prices))
        ]
        for three in zip(sides, sides[1:], sides[2:], strict=False):
            key = tuple((side > 0) - (side < 0) for side in three)
            signs[key] = signs.get(key, 0) + 1
    assert signs[(0, 0, 0)] > 10
    for into_equal in ((1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1), (1, -1, -1), (-1, 1, 1)):
        assert signs[into_equal] > 0
    assert len(known_crossings(1, SYMBOLS, 2000)) > 50


@given(seeds, st.sampled_from(["AAPL", "^GSPC", "X"]))
def test_bars_are_whole_positive_bounded_and_join(seed: int, symbol: str) -> None:
    bars = list(islice(walk(seed, symbol), 500))
    for bar in bars:
        assert bar.low <= min(bar.open, bar.price) <= max(bar.open, bar.price) <= bar.high
        assert all(price % 10_000 == 0 and price > 0 for price in bar[:4])
        assert 1_000 <= bar.volume < 10**6
    assert all(one.price == next_.open for one, next_ in pairwise(bars))
    first = bars[0].open
    assert all(first // 5 < bar.price < 4 * first for bar in bars)


def test_a_long_walk_stays_within_its_bounds() -> None:
    prices = [bar.price for bar in islice(walk(3, "SIM-B"), 50_000)]
    assert max(prices) < 4 * prices[0]
    assert min(prices) > prices[0] // 5


def test_every_record_says_that_it_is_made_up_and_is_one_that_the_pipeline_takes() -> None:
    made = feed()
    quotes = quotes_of(made.rounds())
    assert (made.source, made.live, made.total) == ("synthetic", False, len(quotes))
    for quote in quotes:
        assert quote.source == "synthetic"
        assert parse_quote(quote_json(quote), arrived_at=FeedClock().now()) == quote


def test_it_is_said_once_to_people_too() -> None:
    notices = [taken.notices for taken in feed().rounds()]
    assert notices[0] == ("Made-up prices of seed 7, labelled synthetic.",)
    assert not any(notices[1:])


def test_the_same_seed_is_the_same_and_another_one_is_another() -> None:
    assert list(feed().rounds()) == list(feed().rounds())
    other = quotes_of(feed("seed=8,rounds=100").rounds())
    assert [quote.price for quote in other] != [q.price for q in quotes_of(feed().rounds())]


def test_a_symbol_is_the_same_whichever_others_there_are() -> None:
    together = quotes_of(feed(symbols=("AAPL", "MSFT")).rounds())
    alone = quotes_of(feed(symbols=("MSFT",)).rounds())
    assert [quote for quote in together if quote.symbol == "MSFT"] == alone


@pytest.mark.parametrize(("speed", "waited_s"), [(None, 0.0), (60.0, 10.0), (0.5, 1200.0)])
def test_but_for_the_pace_every_other_speed_gives_the_same(
    speed: float | None, waited_s: float
) -> None:
    clock = FeedClock()
    rounds = list(feed("rounds=21", speed=speed, clock=clock).rounds())
    assert clock.passed_s == pytest.approx(waited_s)
    stamps = [parse_moment(taken.quotes[0].timestamp) for taken in rounds]
    assert stamps == [START + timedelta(seconds=30 * number) for number in range(21)]
    assert [taken.quotes[0].price for taken in rounds] == [
        bar.price for bar in islice(walk(1, SYMBOLS[0]), 21)
    ]


def test_at_its_own_speed_it_is_like_a_live_source() -> None:
    clock = FeedClock()
    begun = clock.now()
    rounds = feed("", speed=1.0, interval_s=2.0, clock=clock)
    assert rounds.total is None
    for number, taken in enumerate(islice(rounds.rounds(), 100)):
        assert clock.passed_s == 2 * number
        due = moment_text(begun + timedelta(seconds=2 * number))
        assert {quote.timestamp for quote in taken.quotes} == {due}


def test_like_a_live_source_it_has_the_known_crossings() -> None:
    quotes = quotes_of(feed("seed=2,rounds=500", speed=1.0).rounds())
    assert found_by_the_pipeline(quotes, 5, SLOW) == known_crossings(2, SYMBOLS, 500)


def test_a_clock_that_is_set_back_gives_no_timestamp_twice() -> None:
    class SetBack(FeedClock):
        def now(self) -> datetime:
            return super().now() - timedelta(hours=self.passed_s > 5)

    made = feed("rounds=10", speed=1.0, interval_s=1.0, clock=SetBack())
    stamps = [taken.quotes[0].timestamp for taken in made.rounds()]
    assert len(set(stamps)) == 10
    assert stamps == sorted(stamps)


def test_the_previous_close_is_the_day_befores_last_price() -> None:
    quotes = quotes_of(feed("rounds=60", symbols=("A",), interval_s=3600.0).rounds())
    days: dict[str, list[Quote]] = {}
    for quote in quotes:
        days.setdefault(quote.day, []).append(quote)
    assert len(days) == 4
    assert {quote.previous_close for quote in days.pop(quotes[0].day)} == {quotes[0].open}
    last = {quote.day: quote.price for quote in quotes}
    for day, of_day in days.items():
        before = moment_text(parse_moment(f"{day}T00:00:00Z") - timedelta(days=1))[:10]
        assert {quote.previous_close for quote in of_day} == {last[before]}


def test_it_ends_where_the_future_begins() -> None:
    made = feed("", interval_s=86_400.0)
    last = quotes_of(made.rounds())[-1]
    assert timedelta(0) <= FeedClock().now() - parse_moment(last.timestamp) < timedelta(days=1)
    with pytest.raises(UsageError, match="reach into the future") as refused:
        feed("rounds=10000", interval_s=86_400.0)
    assert "--interval" in str(refused.value.hint)


def test_an_interval_of_every_tick_still_moves_on() -> None:
    stamps = [taken.quotes[0].timestamp for taken in feed(interval_s=0.0).rounds()]
    assert len(set(stamps)) == 100


@pytest.mark.parametrize(
    ("argument", "total", "seed"),
    [
        ("", None, 1), ("7", None, 7), ("seed=7", None, 7), ("rounds=5", 15, 1),
        ("rounds=5,seed=9", 15, 9),
    ],
)  # fmt: skip
def test_seed_and_rounds_are_optional(argument: str, total: int | None, seed: int) -> None:
    made = feed(argument)
    assert made.total == total
    assert next(made.rounds()).quotes[0].price == next(walk(seed, SYMBOLS[0])).price


@pytest.mark.parametrize(
    "argument", ["x", "-1", "seed=", "sead=7", "7,8", "rounds=0", "rounds=5,", "rounds=1.5", "=7"]
)
def test_another_argument_is_refused_with_the_forms(argument: str) -> None:
    with pytest.raises(UsageError) as refused:
        feed(argument)
    assert "synthetic:seed=7,rounds=1000" in str(refused.value.hint)
