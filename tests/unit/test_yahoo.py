"""The Yahoo feed over a scripted Yahoo: which quotes come, and when it asks for them."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pytest
from yahoo_script import (
    CLOSE,
    LIMITED,
    REFUSED,
    CountingClock,
    ScriptedYahoo,
    batch,
    entry,
    feed,
    looks,
    symbols_of,
)

from stockpipe.domain.exact import normalise_timestamp
from stockpipe.errors import UsageError
from stockpipe.feeds.base import Request, Round
from stockpipe.feeds.registry import open_feed
from stockpipe.feeds.yahoo import YahooFeed, next_tick
from stockpipe.feeds.yahoo_api import Entry


def test_one_request_asks_for_every_symbol_once() -> None:
    symbols = [f"S{number}" for number in range(200)]
    yahoo = ScriptedYahoo(batch(*map(entry, symbols)))
    rounds = looks(feed(yahoo, *symbols, "s7"), 3)
    assert yahoo.asked == [",".join(symbols)] * 3
    assert symbols_of(rounds[0]) == symbols


def test_a_quote_is_yielded_once() -> None:
    yahoo = ScriptedYahoo(
        batch(entry("AAPL"), entry("MSFT", marketState="CLOSED")),
        batch(entry("AAPL", regularMarketTime=CLOSE + 5), entry("MSFT", marketState="CLOSED")),
        # A server that lags behind, then one that does not.
        batch(entry("AAPL"), entry("MSFT", marketState="CLOSED")),
        batch(entry("AAPL", regularMarketTime=CLOSE + 5), entry("MSFT", marketState="CLOSED")),
    )
    rounds = looks(feed(yahoo, "AAPL", "MSFT"), 4)
    assert [symbols_of(round_) for round_ in rounds] == [["AAPL", "MSFT"], ["AAPL"], [], []]
    assert [round_.unchanged for round_ in rounds] == [0, 1, 2, 2]
    assert {round_.states["MSFT"] for round_ in rounds} == {"CLOSED"}
    assert not any(round_.notices for round_ in rounds)


def test_the_first_round_comes_at_once_and_nothing_follows_the_last() -> None:
    clock = CountingClock()
    rounds = feed(ScriptedYahoo(batch(entry("AAPL"))), clock=clock, interval_s=2.5).rounds()
    next(rounds)
    assert clock.slept == []
    next(rounds)
    next(rounds)
    assert clock.slept == [2.5, 2.5]


@pytest.mark.parametrize(
    "answer", [[], [entry("ZZZZ", regularMarketPrice=None)], [{"symbol": "X"}]]
)
def test_a_symbol_that_does_not_exist_is_an_error_at_the_start(answer: list[Entry]) -> None:
    with pytest.raises(UsageError, match="Yahoo has no quote for ZZZZ") as caught:
        looks(feed(ScriptedYahoo(batch(entry("AAPL"), *answer)), "AAPL", "ZZZZ"), 1)
    assert caught.value.exit_code == 2
    assert "finance.yahoo.com" in str(caught.value.hint)


def test_only_symbols_that_do_not_exist_are_an_error_too() -> None:
    with pytest.raises(UsageError, match="YYYY, ZZZZ"):
        looks(feed(ScriptedYahoo(batch()), "ZZZZ", "YYYY"), 1)


def test_a_symbol_that_cannot_exist_is_an_error_before_any_request() -> None:
    with pytest.raises(UsageError, match="symbol: must be 1 to 20 of"):
        YahooFeed(["AA/PL"], 30)


def test_a_known_symbol_that_goes_missing_is_left_out_and_comes_back() -> None:
    without = batch(entry("AAPL", regularMarketTime=CLOSE + 1))
    yahoo = ScriptedYahoo(
        batch(entry("AAPL"), entry("MSFT")),
        without,
        without,
        batch(entry("AAPL"), entry("MSFT", regularMarketTime=CLOSE + 2)),
    )
    rounds = looks(feed(yahoo, "AAPL", "MSFT"), 4)
    assert [symbols_of(round_) for round_ in rounds] == [["AAPL", "MSFT"], ["AAPL"], [], ["MSFT"]]
    assert [round_.notices for round_ in rounds] == [
        (),
        ("MSFT is left out for now (Yahoo has no quote of it).",),
        (),
        ("MSFT has quotes again.",),
    ]


def test_it_is_opened_by_name() -> None:
    request = Request(symbols=("AAPL", "^GSPC"), interval_s=0.5, clock=CountingClock())
    assert open_feed("yahoo", request).source == "yahoo"


@pytest.mark.parametrize(
    ("source", "request_", "says"),
    [
        ("yahoo:xyz", Request(symbols=("AAPL",)), "takes no argument; got 'xyz'"),
        ("yahoo", Request(), "needs symbols"),
        ("yahoo", Request(symbols=("AAPL",), interval_s=0), "--interval above 0"),
        ("yahoo", Request(symbols=("AA/PL",)), "symbol: must be 1 to 20 of"),
    ],
)
def test_a_request_that_it_cannot_serve_is_refused(
    source: str, request_: Request, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        open_feed(source, request_)


def test_asking_very_often_is_allowed_and_commented_once() -> None:
    rounds = looks(feed(ScriptedYahoo(batch(entry("AAPL"))), interval_s=0.5), 3)
    assert [len(round_.notices) for round_ in rounds] == [1, 0, 0]
    assert rounds[0].notices[0].startswith("Asking Yahoo every 0.5 s: it limits")


@pytest.mark.parametrize(
    ("due", "now", "tick"),
    [
        (100.0, 100.0, 130.0),
        (100.0, 112.5, 130.0),
        (100.0, 130.0, 130.0),
        (100.0, 130.1, 160.0),
        (100.0, 1000.0, 1000.0),
        (100.0, 99.9, 130.0),
    ],
)
def test_ticks_keep_their_beat_and_missed_ones_are_left_out(
    due: float, now: float, tick: float
) -> None:
    assert next_tick(due, 30.0, now) == tick


def test_what_a_look_and_its_consumer_take_is_no_part_of_the_pause() -> None:
    clock = CountingClock()

    def slow(symbols: Sequence[str]) -> Any:
        clock.passes(2)
        return batch(entry("AAPL"))

    begun: list[float] = []
    for number, _ in enumerate(feed(ScriptedYahoo(slow), clock=clock).rounds()):
        begun.append(clock.monotonic() - 2)
        clock.passes(95 if number == 1 else 3)
        if number == 3:
            break
    assert begun == [0, 30, 150, 180]
    assert clock.slept == [25, 23, 25]


def test_an_interrupt_during_the_wait_comes_out() -> None:
    class Interrupted(Exception):
        pass

    class InterruptingClock(CountingClock):
        def sleep(self, seconds: float) -> None:
            raise Interrupted

    with pytest.raises(Interrupted):
        looks(feed(ScriptedYahoo(batch(entry("AAPL"))), clock=InterruptingClock()), 2)
    with pytest.raises(Interrupted):
        looks(feed(ScriptedYahoo(LIMITED), clock=InterruptingClock()), 2)


def test_delayed_quotes_are_named_once() -> None:
    late = [entry(symbol, exchangeDataDelayedBy=20) for symbol in ("7203.T", "6758.T")]
    yahoo = ScriptedYahoo(batch(*late, entry("AAPL", exchangeDataDelayedBy=0)))
    rounds = looks(feed(yahoo, "7203.T", "6758.T", "AAPL"), 2)
    assert [round_.notices for round_ in rounds] == [
        ("Their exchanges delay 7203.T (20 min), 6758.T (20 min).",),
        (),
    ]


class Ticking:
    """A new quote of every symbol at each look; keeps no list of what was asked."""

    def __init__(self) -> None:
        self._time = CLOSE - 5_000

    def batch(self, symbols: Sequence[str]) -> Any:
        self._time += 1
        return batch(*[entry(symbol, regularMarketTime=self._time) for symbol in symbols])

    def today(self, symbol: str) -> Entry:
        raise REFUSED

    def metadata(self, symbol: str) -> Entry:
        raise REFUSED


class ForgetfulClock(CountingClock):
    def sleep(self, seconds: float) -> None:
        self.passes(seconds)


def test_memory_does_not_grow_with_the_ticks() -> None:
    def send(rounds: Iterator[Round], number: int) -> int:
        return sum(len(round_.quotes) for round_ in islice(rounds, number))

    symbols = [f"S{number}" for number in range(20)]
    # What other tests left in caches of bounded size would go unseen, and what follows it not.
    normalise_timestamp.cache_clear()
    tracemalloc.start()
    try:
        # Fills them: they hold some thousand times.
        times = normalise_timestamp.cache_parameters()["maxsize"] + 100
        send(YahooFeed(["S0"], 1, ForgetfulClock(), Ticking()).rounds(), times)
        rounds = YahooFeed(symbols, 1, ForgetfulClock(), Ticking()).rounds()
        send(rounds, 10)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        assert send(rounds, 50) == 50 * 20
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1_000  # a byte a quote
