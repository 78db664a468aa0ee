"""The live stream over scripted connections and batch quotes, on a clock that only counts."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest

from stockpipe.domain.quote import Quote
from stockpipe.errors import FeedError, UsageError
from stockpipe.feeds.base import Feed, Request, Round
from stockpipe.feeds.registry import open_feed
from stockpipe.feeds.yahoo_api import Entry, Trouble
from stockpipe.feeds.yahoo_socket import Broken, Socket
from stockpipe.feeds.yahoo_stream import (
    CLOSED_S,
    PATIENCE_S,
    REFRESH_S,
    SETTLED_S,
    SUBSCRIBE_S,
    YahooStreamFeed,
)
from yahoo_socket import pricing

NOW = datetime(2025, 10, 29, 20, 15, tzinfo=UTC)
NOON = 1761753600
"""Wednesday 2025-10-29, 12:00 in New York."""
DAY_S = 86_400

LIMITED = Trouble("limited", "HTTP 429")
OFFLINE = Trouble("unreachable", "Could not resolve host: query1.finance.yahoo.com")
BEAT = pricing(quote_type=7)
DROP = Broken("cut off without a close frame")


class Done(Exception):
    """The script is over; it ends the feed where an interruption would."""


class CountingClock:
    """Time passes by waiting only."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        if seconds:
            self.slept.append(seconds)


class ScriptedYahoo:
    """Batch answers in turn (the last one repeats), and connections in turn.

    A connection is a list of frames, of seconds of silence, and of exceptions; an exception in its
    place is one that cannot be opened. What does not break ends with a second of silence and
    :class:`Done`.
    """

    def __init__(self, *answers: Any, lines: Sequence[Any] = ()) -> None:
        self.clock = CountingClock()
        self.batches: list[float] = []
        self.asked: list[Sequence[str]] = []
        self.opened: list[float] = []
        self.closed = 0
        self.subscribed: list[tuple[float, tuple[str, ...]]] = []
        self._answers = list(answers or [batch(entry("AAPL"))])
        self._lines = list(lines)

    def batch(self, symbols: Sequence[str]) -> Any:
        self.batches.append(self.clock.time)
        self.asked.append(symbols)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Trouble):
            raise answer
        return answer

    @contextmanager
    def connect(self) -> Iterator[Socket]:
        line = self._lines.pop(0) if self._lines else Done()
        if isinstance(line, Exception):
            raise line
        self.opened.append(self.clock.time)
        try:
            yield ScriptedSocket(self, [*line, 1])
        finally:
            self.closed += 1


class ScriptedSocket:
    def __init__(self, yahoo: ScriptedYahoo, script: list[Any]) -> None:
        self._yahoo, self._script = yahoo, script

    def subscribe(self, symbols: Sequence[str]) -> None:
        self._yahoo.subscribed.append((self._yahoo.clock.time, tuple(symbols)))

    def receive(self, timeout_s: float) -> str | bytes | None:
        while self._script:
            match self._script.pop(0):
                case Exception() as end:
                    raise end
                case float() | int() as silence_s if silence_s > 0:
                    passed_s = min(timeout_s, silence_s)
                    self._yahoo.clock.time += passed_s
                    self._script.insert(0, silence_s - passed_s)
                    return None
                case str() | bytes() as frame:
                    return frame
        raise Done


def entry(symbol: str, **fields: Any) -> Entry:
    return {
        "symbol": symbol,
        "marketState": "REGULAR",
        "regularMarketTime": NOON,
        "regularMarketPrice": 269.7,
        "regularMarketOpen": 269.28,
        "regularMarketDayHigh": 271.41,
        "regularMarketDayLow": 267.11,
        "regularMarketPreviousClose": 269.0,
        "regularMarketVolume": 43332154,
        "gmtOffSetMilliseconds": -14400000,
        **fields,
    }


def batch(*entries: Any) -> dict[str, Any]:
    return {"quoteResponse": {"result": list(entries), "error": None}}


def tick(price: float, second: int = 0, symbol: str = "AAPL", **fields: Any) -> str:
    time_ms = (NOON + second) * 1000
    return pricing(**{"id": symbol, "price": price, "time": time_ms, "market_hours": 1} | fields)


def alive(seconds: float) -> list[Any]:
    """A part of a connection: at least so long without a tick, but with heartbeats."""
    return [PATIENCE_S / 2, BEAT] * math.ceil(seconds / (PATIENCE_S / 2))


def feed(yahoo: ScriptedYahoo, *symbols: str, **wanted: Any) -> YahooStreamFeed:
    options: dict[str, Any] = {"interval_s": 0.0, "clock": yahoo.clock} | wanted
    return YahooStreamFeed(Request(symbols or ("AAPL",), **options), yahoo, yahoo.connect)


def played(yahoo: ScriptedYahoo, *symbols: str, **wanted: Any) -> list[Round]:
    """The rounds until the script is over."""
    rounds: list[Round] = []
    with suppress(Done):
        for round_ in feed(yahoo, *symbols, **wanted).rounds():
            rounds.append(round_)
    assert yahoo.closed == len(yahoo.opened)
    return rounds


def quotes(rounds: list[Round]) -> list[Quote]:
    return [quote for round_ in rounds for quote in round_.quotes]


def prices(rounds: list[Round]) -> list[float]:
    return [quote.price / 1e6 for quote in quotes(rounds)]


def notices(rounds: list[Round]) -> list[str]:
    return [notice for round_ in rounds for notice in round_.notices]


def unchanged(rounds: list[Round]) -> int:
    return sum(round_.unchanged for round_ in rounds)


def test_a_tick_is_completed_by_the_batch_quote() -> None:
    yahoo = ScriptedYahoo(lines=[[tick(270.5, 1)]])
    source: Feed = feed(yahoo)
    assert (source.source, source.live, source.total) == ("yahoo-stream", True, None)
    assert list(islice(source.rounds(), 2)) == [
        Round(states={"AAPL": "REGULAR"}),
        Round(
            quotes=(
                Quote(
                    symbol="AAPL",
                    open=269_280_000,
                    high=271_410_000,
                    low=267_110_000,
                    price=270_500_000,
                    previous_close=269_000_000,
                    volume=43_332_154,
                    timestamp="2025-10-29T16:00:01.000Z",
                    ingested_at="2025-10-29T20:15:00.000Z",
                    source="yahoo-stream",
                    utc_offset_s=-14_400,
                ),
            ),
            states={"AAPL": "REGULAR"},
        ),
    ]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(("AAPL",), argument="x"), "takes no argument"),
        (Request(), "needs symbols"),
        (Request(("no good",)), "symbol: must be 1 to 20 of"),
    ],
)
def test_what_it_cannot_serve_is_refused(request_: Request, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_feed(f"yahoo-stream:{request_.argument}", request_)


def test_a_symbol_without_a_quote_is_an_error_at_the_start_only() -> None:
    with pytest.raises(UsageError, match=r"Yahoo has no quote for ZZZZ\."):
        next(feed(ScriptedYahoo(), "ZZZZ", "AAPL").rounds())
    yahoo = ScriptedYahoo(
        batch(entry("AAPL"), entry("MSFT")),
        batch(entry("AAPL")),
        lines=[[*alive(REFRESH_S), tick(1.5, 1, "MSFT")]],
    )
    assert prices(played(yahoo, "AAPL", "MSFT")) == [1.5]


def test_many_symbols_are_asked_for_in_parts_of_99() -> None:
    symbols = [f"S{number}" for number in range(200)]
    parts = [batch(*map(entry, symbols[part : part + 99])) for part in (0, 99, 198)]
    yahoo = ScriptedYahoo(*parts, lines=[[1]])
    played(yahoo, *symbols)
    assert [len(part) for part in yahoo.asked] == [99, 99, 2]
    assert yahoo.subscribed == [(0.0, tuple(symbols))]


def test_ticks_widen_the_day_and_extended_hours_do_not() -> None:
    yahoo = ScriptedYahoo(
        lines=[[tick(280, 1), tick(260, 2), tick(300, 3, market_hours=2), tick(270, 4)]]
    )
    spans = [(quote.high / 1e6, quote.low / 1e6) for quote in quotes(played(yahoo))]
    assert spans == [(280, 267.11), (280, 260), (280, 260), (280, 260)]


def test_before_the_opening_the_latest_session_stands_and_its_close_is_the_previous_one() -> None:
    yahoo = ScriptedYahoo(lines=[[tick(275, DAY_S - 4 * 3600, market_hours=0)]])
    rounds = played(yahoo)
    (quote,) = quotes(rounds)
    assert (quote.open, quote.high, quote.volume) == (269_280_000, 271_410_000, 43_332_154)
    assert quote.previous_close == 269_700_000
    assert rounds[-1].states == {"AAPL": "PRE"}


def test_the_first_tick_of_a_day_waits_for_that_day_s_open() -> None:
    tomorrow = entry("AAPL", regularMarketTime=NOON + DAY_S, regularMarketOpen=272.0)
    yahoo = ScriptedYahoo(
        batch(entry("AAPL")),
        batch(entry("AAPL")),
        batch(tomorrow),
        lines=[[tick(270, 1), 2, tick(273, DAY_S), tick(274, DAY_S + 1), 10, tick(275, DAY_S + 9)]],
    )
    rounds = played(yahoo)
    assert [(quote.price / 1e6, quote.open / 1e6) for quote in quotes(rounds)] == [
        (270, 269.28),
        (274, 272),
        (275, 272),
    ]
    assert yahoo.batches[1] == 2.0
    assert 3.0 <= yahoo.batches[2] <= 8.0


def test_who_gets_no_open_is_named_once() -> None:
    blank = batch(entry("AAPL", regularMarketOpen=None))
    yahoo = ScriptedYahoo(
        blank,
        blank,
        blank,
        blank,
        batch(entry("AAPL")),
        lines=[[2, tick(270), *alive(3600), tick(271, 1)]],
    )
    rounds = played(yahoo)
    assert prices(rounds) == [270, 271]
    assert notices(rounds) == [
        "Yahoo tells no open, high and low for AAPL yet.",
        "Yahoo tells opens, highs and lows for all symbols.",
    ]


def test_the_batch_quote_is_asked_again_now_and_then_and_has_the_last_word() -> None:
    yahoo = ScriptedYahoo(
        batch(entry("AAPL")),
        batch(entry("AAPL", regularMarketDayHigh=275.0)),
        lines=[[tick(270, 1), tick(280, 2), tick(271, 3), *alive(REFRESH_S), tick(272, 4)]],
    )
    rounds = played(yahoo)
    assert len(yahoo.batches) == 2
    assert REFRESH_S <= yahoo.batches[1] <= REFRESH_S + 1
    assert [quote.high / 1e6 for quote in quotes(rounds)] == [271.41, 280, 280, 275]


def test_ticks_wait_while_the_batch_quote_is_in_trouble() -> None:
    yahoo = ScriptedYahoo(
        LIMITED,
        Trouble("unusable", "HTTP 500"),
        Trouble("limited", "HTTP 429", retry_after_s=1000),
        batch(entry("AAPL")),
        lines=[[tick(270), tick(271, 1), tick(272, 2), *alive(1050), tick(273, 3)]],
    )
    rounds = played(yahoo)
    assert prices(rounds) == [272, 273]
    assert notices(rounds) == [
        "Yahoo does not tell opens, highs and lows (HTTP 429); asking again.",
        "Yahoo tells opens, highs and lows again.",
    ]
    assert 1000 <= yahoo.batches[3] - yahoo.batches[2] <= 1001


def test_what_is_already_known_is_counted() -> None:
    yahoo = ScriptedYahoo(
        lines=[[tick(270, 5), 1, tick(270, 5), tick(271, 5), tick(269, 4), tick(1, -DAY_S), 1]]
    )
    rounds = played(yahoo)
    assert prices(rounds) == [270]
    assert unchanged(rounds) == 4


def test_without_an_interval_every_tick_counts() -> None:
    yahoo = ScriptedYahoo(lines=[[*(tick(270 + second, second) for second in range(5)), 1]])
    rounds = played(yahoo)
    assert prices(rounds) == [270, 271, 272, 273, 274]


def test_of_one_time_the_last_price_counts_until_it_is_sent() -> None:
    yahoo = ScriptedYahoo(lines=[[tick(270, 5), tick(271, 5), 1, tick(272, 5), 1]])
    rounds = played(yahoo)
    assert prices(rounds) == [271]
    assert unchanged(rounds) == 1


def test_within_an_interval_the_newest_tick_of_each_symbol_counts() -> None:
    yahoo = ScriptedYahoo(
        batch(entry("AAPL"), entry("MSFT")),
        lines=[[
            tick(270, 0), 1, tick(271, 1), tick(541, 1, "MSFT"), 10, tick(272, 2), 18.5, 2,
            tick(273, 3), 40, tick(274, 4), *alive(30),
        ]],
    )  # fmt: skip
    rounds = [round_ for round_ in played(yahoo, "AAPL", "MSFT", interval_s=30) if round_.quotes]
    assert [[quote.price / 1e6 for quote in round_.quotes] for round_ in rounds] == [
        [270],
        [272, 541],
        [273],
        [274],
    ]


def test_a_price_that_is_none_is_left_out_and_said_once() -> None:
    yahoo = ScriptedYahoo(lines=[[tick(-1, 1), tick(-2, 2), tick(270, 3)]])
    rounds = played(yahoo)
    assert prices(rounds) == [270]
    assert notices(rounds) == [
        "AAPL is left out for now (price: must be above 0, got -1).",
        "AAPL has quotes again.",
    ]


def test_subscriptions_are_repeated() -> None:
    yahoo = ScriptedYahoo(lines=[[tick(270), 40, DROP], [1]])
    played(yahoo)
    times = [time for time, _ in yahoo.subscribed]
    assert times[:3] == [0.0, SUBSCRIBE_S, 2 * SUBSCRIBE_S]
    assert times[3] == yahoo.opened[1]


def test_an_outage_is_said_once_and_its_end_once() -> None:
    whole = [tick(271, 1), SETTLED_S, tick(272, 2)]
    yahoo = ScriptedYahoo(lines=[[tick(270)], DROP, [DROP], [tick(270.5), 1, DROP], whole])
    yahoo._lines[0].append(DROP)
    rounds = played(yahoo)
    assert notices(rounds) == [
        "Yahoo's stream broke off (cut off without a close frame); connecting again.",
        "Yahoo's stream is back.",
    ]
    assert prices(rounds) == [270, 271, 272]


def test_pauses_between_connections_grow_and_start_anew_after_a_long_one() -> None:
    long_one = [600, tick(270), DROP]
    yahoo = ScriptedYahoo(lines=[*[[DROP]] * 12, long_one, [DROP]])
    yahoo.batch = ScriptedYahoo(batch(entry("AAPL", marketState="CLOSED"))).batch  # type: ignore[method-assign]
    played(yahoo)
    pauses = yahoo.clock.slept
    assert len(pauses) == 14
    assert all(pause <= min(300, 2**n) for n, pause in enumerate(pauses[:12]))
    assert sum(pauses[:12]) > 15
    assert pauses[12] <= 1


def test_the_first_connection_needs_a_network() -> None:
    yahoo = ScriptedYahoo(lines=[Broken("Connection refused", unreachable=True)])
    rounds = feed(yahoo).rounds()
    next(rounds)
    with pytest.raises(FeedError, match="Yahoo's stream could not be reached: Connection refused"):
        next(rounds)
    for once in ([DROP], Broken("HTTP 429"), Broken("no answer in time")):
        offline = Broken("Connection refused", unreachable=True)
        yahoo = ScriptedYahoo(lines=[once, offline, [tick(1.5)]])
        assert prices(played(yahoo)) == [1.5]


def test_the_first_batch_quote_needs_a_network() -> None:
    with pytest.raises(FeedError, match="Yahoo could not be reached: Could not resolve host"):
        next(feed(ScriptedYahoo(OFFLINE)).rounds())
    yahoo = ScriptedYahoo(LIMITED, OFFLINE, batch(entry("AAPL")), lines=[[tick(270), 30]])
    assert prices(played(yahoo)) == [270]


def test_silence_is_borne_ever_longer_where_it_does_no_good_to_connect_again() -> None:
    yahoo = ScriptedYahoo(lines=[[10_000]] * 6)
    yahoo._lines.append([1])
    rounds = played(yahoo)
    lasted = [
        round((after - before) / PATIENCE_S)
        for before, after in zip(yahoo.opened, yahoo.opened[1:], strict=False)
    ]
    assert lasted == [1, 2, 4, 8, 10, 1]
    assert len(notices(rounds)) == 1


def test_nothing_but_garbage_is_silence() -> None:
    yahoo = ScriptedYahoo(lines=[["garbage", 20] * 10, [1]])
    rounds = played(yahoo)
    assert yahoo.opened[1] == pytest.approx(PATIENCE_S, abs=2)
    assert "silent for 60 s" in notices(rounds)[1]


def test_a_heartbeat_is_no_silence() -> None:
    yahoo = ScriptedYahoo(lines=[alive(10 * PATIENCE_S)])
    assert notices(played(yahoo)) == []
    assert len(yahoo.opened) == 1


def test_a_market_that_turns_out_to_be_closed_may_be_silent() -> None:
    closed = batch(entry("AAPL", marketState="POSTPOST"))
    yahoo = ScriptedYahoo(batch(entry("AAPL")), closed, lines=[[9 * PATIENCE_S]])
    rounds = played(yahoo)
    assert notices(rounds) == []
    assert yahoo.batches[1] == pytest.approx(PATIENCE_S, abs=1)


def test_in_market_hours_a_closed_market_takes_no_connection() -> None:
    states = ["REGULAR", "CLOSED", "CLOSED", "PREPRE", "PRE"]
    yahoo = ScriptedYahoo(
        *(batch(entry("AAPL", marketState=state)) for state in states),
        lines=[[tick(270), 10_000], [tick(271, 1), 1]],
    )
    rounds = played(yahoo, market_hours=True)
    assert prices(rounds) == [270, 271]
    assert notices(rounds) == [
        "The market is closed; the stream waits until it opens.",
        "The market is open.",
    ]
    assert yahoo.opened[1] - yahoo.batches[1] == 3 * CLOSED_S
    assert [round_.states["AAPL"] for round_ in rounds if not round_.quotes] == states[:4]


def test_an_interruption_closes_the_connection() -> None:
    yahoo = ScriptedYahoo(lines=[[tick(270), 100]])

    class Interrupting(CountingClock):
        def sleep(self, seconds: float) -> None:
            if self.time > 1:
                raise KeyboardInterrupt

    yahoo.clock = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        list(feed(yahoo).rounds())
    assert yahoo.closed == 1


def test_a_consumer_that_leaves_closes_the_connection() -> None:
    yahoo = ScriptedYahoo(lines=[[tick(270)]])
    rounds = feed(yahoo).rounds()
    next(rounds)
    next(rounds)
    rounds.close()  # type: ignore[attr-defined]
    assert yahoo.closed == 1


def test_memory_stays_flat_over_10_000_ticks() -> None:
    symbols = [f"S{number}" for number in range(100)]
    script = [tick(270, number // 100, symbols[number % 100]) for number in range(10_000)]
    yahoo = ScriptedYahoo(
        batch(*map(entry, symbols[:99])), batch(entry(symbols[99])), lines=[script]
    )
    sent, sizes = 0, []
    tracemalloc.start()
    try:
        with suppress(Done):
            for round_ in feed(yahoo, *symbols).rounds():
                sent += len(round_.quotes)
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sent == 10_000
    # The caches of parsed times are full after 4,096 of them; there are 100 here.
    assert sizes[-1] - sizes[len(sizes) // 3] < 50_000
