"""The Yahoo feed over a scripted Yahoo and a clock that only counts its waits."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from stockpipe.domain.exact import normalise_timestamp
from stockpipe.domain.quote import Quote
from stockpipe.errors import FeedError, UsageError
from stockpipe.feeds.base import Feed, Request, Round
from stockpipe.feeds.registry import open_feed
from stockpipe.feeds.yahoo import LONGEST_PAUSE_S, YahooFeed, next_tick
from stockpipe.feeds.yahoo_answers import in_pieces
from stockpipe.feeds.yahoo_api import Entry, Trouble, quote_of_entry

NOW = datetime(2025, 10, 29, 20, 15, tzinfo=UTC)
CLOSE = 1761768001
RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "market-data" / "yahoo"

LIMITED = Trouble("limited", "HTTP 429")
OFFLINE = Trouble("unreachable", "Could not resolve host: query1.finance.yahoo.com")
REFUSED = Trouble("unusable", "HTTP 401")
UNKNOWN = Trouble("unknown", "Yahoo has no quote of it")


class CountingClock:
    """Moves by its waits, which it remembers, and where somebody passes time."""

    def __init__(self, now: datetime = NOW) -> None:
        self.slept: list[float] = []
        self._begun = now
        self._passed = 0.0

    def now(self) -> datetime:
        return self._begun + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        return self._passed

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._passed += seconds

    def passes(self, seconds: float) -> None:
        self._passed += seconds


class ScriptedYahoo:
    """Gives the batch answers in turn (the last one repeats), where callable by what is asked, and
    today's answers and the hours by symbol."""

    def __init__(
        self,
        *answers: Any,
        today: dict[str, Entry | Trouble] | None = None,
        hours: dict[str, Entry] | None = None,
    ) -> None:
        self.asked: list[str] = []
        self.asked_hours: list[str] = []
        self._answers = list(answers)
        self.histories = today or {}
        self.hours = hours or {}

    def batch(self, symbols: Sequence[str]) -> Any:
        self.asked.append(",".join(symbols))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Trouble):
            raise answer
        return answer(symbols) if callable(answer) else answer

    def today(self, symbol: str) -> Entry:
        self.asked.append(f"today {symbol}")
        answer = self.histories[symbol]
        if isinstance(answer, Trouble):
            raise answer
        return answer

    def metadata(self, symbol: str) -> Entry:
        self.asked_hours.append(symbol)
        if symbol not in self.hours:
            raise Trouble("unusable", "HTTP 404")
        return self.hours[symbol]


def entry(symbol: str, **fields: Any) -> Entry:
    return {
        "symbol": symbol,
        "marketState": "REGULAR",
        "regularMarketTime": CLOSE,
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


def feed(
    yahoo: ScriptedYahoo,
    *symbols: str,
    clock: CountingClock | None = None,
    interval_s: float = 30,
    market_hours: bool = False,
) -> YahooFeed:
    chosen = symbols or ("AAPL",)
    return YahooFeed(chosen, interval_s, clock or CountingClock(), yahoo, market_hours=market_hours)


def looks(source: YahooFeed, number: int) -> list[Round]:
    return list(islice(source.rounds(), number))


def symbols_of(round_: Round) -> list[str]:
    return [quote.symbol for quote in round_.quotes]


def test_a_batch_entry_becomes_a_quote() -> None:
    source: Feed = feed(ScriptedYahoo(batch(entry("AAPL", regularMarketPrice=0.1))))
    assert (source.source, source.live, source.total) == ("yahoo", True, None)
    assert next(source.rounds()) == Round(
        quotes=(
            Quote(
                symbol="AAPL",
                open=269_280_000,
                high=271_410_000,
                low=267_110_000,
                price=100_000,
                previous_close=269_000_000,
                volume=43_332_154,
                timestamp="2025-10-29T20:00:01.000Z",
                ingested_at="2025-10-29T20:15:00.000Z",
                source="yahoo",
                utc_offset_s=-14_400,
            ),
        ),
        states={"AAPL": "REGULAR"},
    )


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


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"regularMarketOpen": None}, "open: must not be null"),
        ({"regularMarketDayHigh": float("nan")}, "high: must not be null"),
        ({"regularMarketDayLow": float("inf")}, "low: must not be null"),
        ({"regularMarketPrice": 0}, "price: must be above 0"),
        ({"regularMarketPrice": -3.5}, "price: must be above 0"),
        ({"regularMarketPrice": "269.7"}, "price: must be a number"),
        ({"regularMarketVolume": None}, "volume: must not be null"),
        ({"regularMarketVolume": 1.5}, "volume: must be an integer"),
        ({"regularMarketTime": 0}, "timestamp: must be Unix seconds"),
        ({"regularMarketTime": 10**300}, "timestamp: must be Unix seconds"),
        ({"regularMarketTime": "now"}, "timestamp: must be Unix seconds"),
        ({"regularMarketTime": CLOSE + 90_000}, "timestamp: lies more than a day after"),
        ({"regularMarketTime": None}, "timestamp: must be Unix seconds, got None"),
        ({"regularMarketTime": True}, "timestamp: must be Unix seconds"),
        ({"gmtOffSetMilliseconds": 10**9}, "utc_offset_s: must lie in"),
        ({"regularMarketPrice": {"raw": -1, "fmt": "-1.00"}}, "price: must be above 0"),
        ({"regularMarketOpen": {"fmt": "269.28"}}, "open: must not be null"),
        ({"regularMarketOpen": {"raw": [1]}}, "open: must be a number"),
    ],
)
def test_a_bad_entry_is_left_out_and_the_others_go_on(fields: Entry, says: str) -> None:
    yahoo = ScriptedYahoo(
        batch(entry("BAD", **fields), entry("AAPL")),
        batch(entry("BAD", **fields), entry("AAPL", regularMarketTime=CLOSE + 1)),
        batch(entry("BAD"), entry("AAPL", regularMarketTime=CLOSE + 2)),
    )
    clock = CountingClock()
    rounds = looks(feed(yahoo, "BAD", "AAPL", clock=clock), 3)
    assert [symbols_of(round_) for round_ in rounds] == [["AAPL"], ["AAPL"], ["BAD", "AAPL"]]
    assert len(rounds[0].notices) == 1
    assert rounds[0].notices[0].startswith(f"BAD is left out for now ({says}")
    assert [round_.notices for round_ in rounds[1:]] == [(), ("BAD has quotes again.",)]
    assert clock.slept == [30, 30]


@pytest.mark.parametrize(
    ("symbol", "fields", "expected"),
    [
        pytest.param(
            "^GSPC",
            {"regularMarketPrice": 6890.59, "regularMarketVolume": 5_636_950_000},
            {"price": 6_890_590_000, "volume": 5_636_950_000},
            id="an index",
        ),
        pytest.param(
            "EURUSD=X",
            {"regularMarketPrice": 1.1598237, "regularMarketVolume": 0, "gmtOffSetMilliseconds": 0},
            {"price": 1_159_824, "volume": 0, "utc_offset_s": 0},
            id="a rate of exchange, without volume",
        ),
        pytest.param("ES=F", {"regularMarketPrice": 6921}, {"price": 6_921_000_000}, id="a future"),
        pytest.param(
            "7203.T", {"gmtOffSetMilliseconds": 32_400_000}, {"utc_offset_s": 32_400}, id="Tokyo"
        ),
        pytest.param(
            "SHIB-USD", {"regularMarketPrice": 1.0241e-05}, {"price": 10}, id="a tiny price"
        ),
        pytest.param(
            "AAPL",
            {
                "regularMarketPrice": {"raw": 269.7, "fmt": "269.70"},
                "regularMarketTime": {"raw": CLOSE, "fmt": "4:00PM EDT"},
                "regularMarketVolume": {"raw": 43332154, "fmt": "43.332M", "longFmt": "43,332,154"},
                "regularMarketPreviousClose": {},
            },
            {"price": 269_700_000, "volume": 43_332_154, "previous_close": None},
            id="formatted, though we ask for raw numbers",
        ),
        pytest.param(
            "AAPL", {"regularMarketTime": CLOSE + 0.25}, {"price": 269_700_000}, id="a fraction"
        ),
        pytest.param("AAPL", {"gmtOffSetMilliseconds": None}, {"utc_offset_s": None}, id="no zone"),
        pytest.param("AAPL", {"marketState": None, "market": 7}, {"volume": 43_332_154}, id="odd"),
    ],
)
def test_an_entry_of_another_kind_is_a_quote_too(
    symbol: str, fields: Entry, expected: dict[str, Any]
) -> None:
    round_ = looks(feed(ScriptedYahoo(batch(entry(symbol, **fields))), symbol), 1)[0]
    assert {name: getattr(round_.quotes[0], name) for name in expected} == expected
    assert (round_.quotes[0].symbol, round_.notices) == (symbol, ())


def test_whoever_has_an_entry_can_make_the_quote() -> None:
    quote = quote_of_entry("AAPL", entry("AAPL"), NOW, "elsewhere")
    assert (quote.source, quote.ingested_at) == ("elsewhere", "2025-10-29T20:15:00.000Z")


@pytest.mark.parametrize("nonsense", [None, 7, [], {}, {"symbol": 7}, {"regularMarketPrice": 1}])
def test_an_entry_that_is_none_spares_its_neighbours(nonsense: Any) -> None:
    round_ = looks(feed(ScriptedYahoo(batch(nonsense, entry("AAPL")))), 1)[0]
    assert symbols_of(round_) == ["AAPL"]


@pytest.mark.parametrize("previous", [None, 0, 0.0, float("nan")])
def test_a_first_day_of_trading_has_no_previous_close(previous: float | None) -> None:
    yahoo = ScriptedYahoo(batch(entry("NEW", regularMarketPreviousClose=previous)))
    assert looks(feed(yahoo, "NEW"), 1)[0].quotes[0].previous_close is None


def test_no_network_at_the_start_is_one_error_with_the_alternative() -> None:
    with pytest.raises(FeedError) as caught:
        looks(feed(ScriptedYahoo(OFFLINE)), 1)
    assert caught.value.message == (
        "Yahoo could not be reached: Could not resolve host: query1.finance.yahoo.com."
    )
    assert "stockpipe stream --source replay:sample --speed max" in str(caught.value.hint)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("trouble", "says"),
    [(LIMITED, "Yahoo limits our requests (HTTP 429)"), (OFFLINE, "Yahoo cannot be reached")],
)
def test_trouble_is_waited_out_and_said_once(trouble: Trouble, says: str) -> None:
    clock = CountingClock()
    yahoo = ScriptedYahoo(
        batch(entry("AAPL")),
        *[trouble] * 12,
        batch(entry("AAPL", regularMarketTime=CLOSE + 400)),
        batch(entry("AAPL", regularMarketTime=CLOSE + 430)),
    )
    rounds = looks(feed(yahoo, clock=clock), 15)
    assert all(round_ == Round(()) for round_ in rounds[2:13])
    assert [len(round_.quotes) for round_ in rounds] == [1, *[0] * 12, 1, 1]
    assert rounds[1].notices[0].startswith(says)
    assert rounds[13].notices == ("Yahoo answers as usual again.",)
    assert rounds[14].notices == ()
    assert clock.slept[0] == clock.slept[-1] == 30
    for number, waited in enumerate(clock.slept[1:-1]):
        assert 30 <= waited <= 30 + min(30 * 2**number, LONGEST_PAUSE_S)


def test_a_limit_at_the_start_ends_nothing() -> None:
    yahoo = ScriptedYahoo(LIMITED, LIMITED, OFFLINE, batch(entry("AAPL")))
    rounds = looks(feed(yahoo), 4)
    assert [len(round_.notices) for round_ in rounds] == [1, 0, 1, 1]
    assert symbols_of(rounds[3]) == ["AAPL"]


def test_pauses_grow_from_a_second_where_the_interval_is_tiny() -> None:
    clock = CountingClock()
    looks(feed(ScriptedYahoo(LIMITED), clock=clock, interval_s=0.5), 30)
    assert all(0.5 <= waited <= 0.5 + LONGEST_PAUSE_S for waited in clock.slept)
    assert sum(clock.slept) > 300


@pytest.mark.parametrize(
    "answer",
    [
        REFUSED,
        None,
        [],
        "Will be right back",
        {"finance": {"result": None, "error": {"code": "Unauthorized"}}},
        {"quoteResponse": None},
        {"quoteResponse": {"result": None}},
        {"quoteResponse": {"result": [None]}},
        {"quoteResponse": {"result": [{"regularMarketPrice": 1}]}},
    ],
)
def test_where_the_batch_quote_fails_each_symbol_is_asked_for(answer: Any) -> None:
    today = {symbol: {**entry(symbol), "marketState": None} for symbol in ("AAPL", "MSFT")}
    clock = CountingClock()
    yahoo = ScriptedYahoo(answer, answer, batch(entry("AAPL"), entry("MSFT")), today={**today})
    rounds = looks(feed(yahoo, "AAPL", "MSFT", clock=clock), 3)
    assert yahoo.asked == [*["AAPL,MSFT", "today AAPL", "today MSFT"] * 2, "AAPL,MSFT"]
    assert symbols_of(rounds[0]) == ["AAPL", "MSFT"]
    assert rounds[0].states == {}
    assert [round_.unchanged for round_ in rounds] == [0, 2, 2]
    assert rounds[0].notices[0].startswith("Yahoo refuses to quote all symbols at once (")
    assert rounds[1].notices == ()
    assert rounds[2].notices == ("Yahoo answers as usual again.",)
    assert clock.slept == [30, 30]


def test_an_empty_batch_is_no_answer_once_the_symbols_are_known() -> None:
    later = entry("AAPL", regularMarketTime=CLOSE + 60)
    yahoo = ScriptedYahoo(batch(entry("AAPL")), batch(), today={"AAPL": later})
    rounds = looks(feed(yahoo), 2)
    assert symbols_of(rounds[1]) == ["AAPL"]
    assert len(rounds[1].notices) == 1


def test_one_bad_history_does_not_stop_the_others() -> None:
    no_bars = Trouble("unusable", "no prices of today")
    yahoo = ScriptedYahoo(REFUSED, today={"BAD": no_bars, "AAPL": entry("AAPL")})
    rounds = looks(feed(yahoo, "BAD", "AAPL"), 2)
    assert symbols_of(rounds[0]) == ["AAPL"]
    assert rounds[0].notices[1:] == ("BAD is left out for now (no prices of today).",)
    assert rounds[1].notices == ()


def test_a_history_tells_of_a_symbol_that_does_not_exist() -> None:
    yahoo = ScriptedYahoo(REFUSED, today={"AAPL": entry("AAPL"), "ZZZZ": UNKNOWN})
    with pytest.raises(UsageError, match="ZZZZ"):
        looks(feed(yahoo, "AAPL", "ZZZZ"), 1)


def test_where_every_history_fails_too_it_waits_longer() -> None:
    clock = CountingClock()
    yahoo = ScriptedYahoo(
        batch(entry("AAPL"), entry("MSFT")), REFUSED, today={"AAPL": REFUSED, "MSFT": UNKNOWN}
    )
    rounds = looks(feed(yahoo, "AAPL", "MSFT", clock=clock), 4)
    assert [len(round_.notices) for round_ in rounds] == [0, 2, 0, 0]
    assert clock.slept[0] == 30
    assert sum(clock.slept) > 90


def test_a_limit_among_the_histories_keeps_what_came_and_goes_on_from_there() -> None:
    clock = CountingClock()
    later = CLOSE + 60
    yahoo = ScriptedYahoo(
        REFUSED, today={"A": entry("A"), "B": entry("B"), "C": LIMITED, "D": entry("D")}
    )
    rounds = feed(yahoo, "A", "B", "C", "D", clock=clock).rounds()
    first = next(rounds)
    assert symbols_of(first) == ["A", "B"]
    assert [notice.split(" (")[0] for notice in first.notices] == [
        "Yahoo refuses to quote all symbols at once",
        "Yahoo limits our requests",
    ]
    yahoo.histories.update(A=LIMITED, C=entry("C", regularMarketTime=later))
    second = next(rounds)
    assert symbols_of(second) == ["C", "D"]
    assert second.notices == ()
    assert yahoo.asked[-4:] == ["A,B,C,D", "today C", "today D", "today A"]
    assert clock.slept[0] > 30


@pytest.mark.parametrize("trouble", [LIMITED, OFFLINE])
def test_a_limit_at_the_first_history_is_an_outage_and_no_error(trouble: Trouble) -> None:
    yahoo = ScriptedYahoo(REFUSED, today={"AAPL": trouble})
    rounds = looks(feed(yahoo), 3)
    assert [len(round_.notices) for round_ in rounds] == [2, 0, 0]


@pytest.mark.parametrize(
    ("file", "symbols"),
    [
        ("quote_AAPL.json", ["AAPL"]),
        ("quote_AAPL-BABA.json", ["AAPL", "BABA"]),
        ("yfrs_quote_v7_AAPL.json", ["AAPL"]),
        ("yfrs_quote_v7_AAPL-MSFT.json", ["AAPL", "MSFT"]),
    ],
)
def test_recorded_answers(file: str, symbols: list[str]) -> None:
    round_ = looks(feed(ScriptedYahoo(recorded(file)), *symbols), 1)[0]
    assert symbols_of(round_) == symbols
    assert round_.states.keys() == set(symbols)
    assert round_.notices == ()
    assert all(quote.previous_close and quote.utc_offset_s for quote in round_.quotes)


def test_a_recorded_answer_to_the_cent() -> None:
    quote = looks(feed(ScriptedYahoo(recorded("quote_AAPL.json"))), 1)[0].quotes[0]
    assert (quote.open, quote.high, quote.low) == (241_070_000, 245_410_000, 241_000_000)
    assert (quote.price, quote.previous_close) == (244_600_000, 241_530_000)
    assert (quote.volume, quote.timestamp) == (40_896_227, "2025-02-14T21:00:00.000Z")
    assert (quote.day, quote.change_percent) == ("2025-02-14", "1.2711")


def test_a_recorded_answer_without_the_day_range_is_left_out() -> None:
    round_ = looks(feed(ScriptedYahoo(recorded("quote_MSFT_fields.json")), "MSFT"), 1)[0]
    assert round_.quotes == ()
    assert round_.states == {"MSFT": "CLOSED"}
    assert round_.notices == ("MSFT is left out for now (open: must not be null).",)


def test_a_recorded_answer_about_an_unknown_symbol() -> None:
    with pytest.raises(UsageError, match="GS2C"):
        looks(feed(ScriptedYahoo(recorded("yfrs_quote_v7_GS2C.json")), "GS2C"), 1)


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


def test_two_hundred_long_symbols_fit_one_request_and_more_take_the_fewest() -> None:
    def long(number: int) -> list[str]:
        return [f"{index:014d}.XYZ=F" for index in range(number)]

    assert in_pieces(long(200), 500) == [tuple(long(200))]
    assert [len(piece) for piece in in_pieces([f"S{n}" for n in range(1001)], 500)] == [500, 500, 1]
    pieces = in_pieces(long(700), 500)
    assert [symbol for piece in pieces for symbol in piece] == long(700)
    assert len(pieces) == 3
    assert in_pieces(["AAPL"], 500) == [("AAPL",)]


def echo(symbols: Sequence[str]) -> Any:
    return batch(*map(entry, symbols))


def at_most(limit: int, refusal: Trouble = LIMITED) -> Callable[[Sequence[str]], Any]:
    def answer(symbols: Sequence[str]) -> Any:
        if len(symbols) > limit:
            raise refusal
        return echo(symbols)

    return answer


def test_more_symbols_than_one_request_holds() -> None:
    symbols = [f"S{number}" for number in range(600)]
    yahoo = ScriptedYahoo(echo)
    rounds = looks(feed(yahoo, *symbols), 2)
    assert symbols_of(rounds[0]) == symbols
    assert [asked.count(",") + 1 for asked in yahoo.asked] == [500, 100] * 2


def test_a_limit_between_two_requests_keeps_what_came_and_goes_on_from_there() -> None:
    symbols = [f"S{number}" for number in range(600)]
    yahoo = ScriptedYahoo(echo, LIMITED, echo)
    rounds = looks(feed(yahoo, *symbols), 2)
    assert symbols_of(rounds[0]) == symbols[:500]
    assert rounds[0].notices[0].startswith("Yahoo limits our requests")
    assert symbols_of(rounds[1]) == symbols[500:]
    assert rounds[1].unchanged == 500
    assert rounds[1].notices == ("Yahoo answers as usual again.",)


def test_where_yahoo_refuses_so_many_at_once_it_is_asked_for_fewer() -> None:
    symbols = [f"S{number}" for number in range(200)]
    yahoo = ScriptedYahoo(at_most(99))
    clock = CountingClock()
    rounds = looks(feed(yahoo, *symbols, clock=clock), 40)
    assert [len(round_.quotes) + round_.unchanged for round_ in rounds[:6]] == [
        *[0, 0, 200, 0, 200, 200]
    ]
    assert [asked.count(",") + 1 for asked in yahoo.asked[:10]] == [
        *[200, 200, 99, 99, 2, 200, 99, 99, 2, 99]
    ]
    assert [notice for round_ in rounds for notice in round_.notices][2:] == [
        "Yahoo refuses 200 symbols at once; asking for 99 at a time."
    ]


def test_all_at_once_is_tried_again_after_an_hour() -> None:
    symbols = [f"S{number}" for number in range(200)]
    yahoo = ScriptedYahoo(*[LIMITED] * 2, *[echo] * 3, LIMITED, echo)
    clock = CountingClock()
    rounds = looks(feed(yahoo, *symbols, clock=clock, interval_s=600), 14)
    assert [asked.count(",") + 1 for asked in yahoo.asked[:6]] == [200, 200, 99, 99, 2, 200]
    assert yahoo.asked[-1].count(",") + 1 == 200
    assert len(rounds[-1].quotes) + rounds[-1].unchanged == 200


def test_an_ordinary_limit_does_not_split_the_request_for_long() -> None:
    symbols = [f"S{number}" for number in range(200)]
    yahoo = ScriptedYahoo(echo, *[LIMITED] * 4, echo)
    looks(feed(yahoo, *symbols), 8)
    assert [asked.count(",") + 1 for asked in yahoo.asked] == [
        *[200, 200, 200, 99, 99, 99, 99, 2, 200, 200]
    ]


def test_a_symbol_that_one_answer_forgot_is_asked_for_again_at_the_start() -> None:
    yahoo = ScriptedYahoo(batch(entry("AAPL")), batch(entry("MSFT")), echo)
    rounds = looks(feed(yahoo, "AAPL", "MSFT"), 2)
    assert symbols_of(rounds[0]) == ["AAPL", "MSFT"]
    assert yahoo.asked == ["AAPL,MSFT", "MSFT", "AAPL,MSFT"]


def test_a_symbol_that_disappears_later_never_ends_the_feed() -> None:
    yahoo = ScriptedYahoo(
        REFUSED, batch(entry("AAPL")), today={"AAPL": entry("AAPL"), "IDLE": REFUSED}
    )
    rounds = looks(feed(yahoo, "AAPL", "IDLE"), 2)
    assert rounds[1].unchanged == 1


def test_yahoo_is_left_alone_for_as_long_as_it_asks_for() -> None:
    clock = CountingClock()
    yahoo = ScriptedYahoo(Trouble("limited", "HTTP 429", retry_after_s=900), echo)
    looks(feed(yahoo, clock=clock), 2)
    assert clock.slept == [900]


def test_a_trouble_that_comes_and_goes_is_not_said_each_time() -> None:
    answers = [LIMITED if number % 2 else batch(entry("AAPL")) for number in range(20)]
    rounds = looks(feed(ScriptedYahoo(*answers), interval_s=5), 20)
    assert len([notice for round_ in rounds for notice in round_.notices]) == 2


def test_a_trouble_that_comes_back_to_stay_is_said_in_the_end() -> None:
    clock = CountingClock()
    yahoo = ScriptedYahoo(echo, LIMITED, echo, *[LIMITED] * 30)
    rounds = looks(feed(yahoo, clock=clock), 33)
    said = [notice for round_ in rounds[3:] for notice in round_.notices]
    assert len(said) == 1
    assert said[0].startswith("Yahoo limits our requests")


# Wednesday 29 October 2025, 09:30 to 16:00 in New York; asked at 16:15 (NOW).
WALL_STREET: Entry = {
    "currentTradingPeriod": {"regular": {"start": 1761744600, "end": 1761768000}},
    "exchangeTimezoneName": "America/New_York",
}
TOMORROW = datetime(2025, 10, 30, 13, 30, tzinfo=UTC)


def closed(symbol: str, state: str = "CLOSED", **fields: Any) -> Entry:
    zone = {"market": "us_market", "exchangeTimezoneName": "America/New_York"}
    return entry(symbol, **{"marketState": state, **zone, **fields})


def test_a_closed_market_sends_one_quote_and_says_when_it_opens() -> None:
    yahoo = ScriptedYahoo(
        batch(closed("AAPL", "POST"), closed("MSFT"), entry("BTC-USD")), hours={"AAPL": WALL_STREET}
    )
    rounds = looks(feed(yahoo, "AAPL", "MSFT", "BTC-USD"), 3)
    assert [len(round_.quotes) for round_ in rounds] == [3, 0, 0]
    for round_ in rounds:
        assert round_.states == {"AAPL": "POST", "MSFT": "CLOSED", "BTC-USD": "REGULAR"}
        assert round_.next_open == {"AAPL": TOMORROW, "MSFT": TOMORROW}
        assert round_.notices == ()
    assert yahoo.asked_hours == ["AAPL"]
    assert len(yahoo.asked) == 3


def test_an_open_market_is_never_asked_for_its_hours() -> None:
    yahoo = ScriptedYahoo(batch(entry("AAPL", exchangeTimezoneName="America/New_York")))
    assert looks(feed(yahoo), 3)[2].next_open == {}
    assert yahoo.asked_hours == []


def test_hours_that_cannot_be_learnt_are_no_trouble() -> None:
    clock = CountingClock()
    yahoo = ScriptedYahoo(batch(closed("AAPL")))
    rounds = looks(feed(yahoo, clock=clock), 3)
    assert all((round_.next_open, round_.notices) == ({}, ()) for round_ in rounds)
    assert clock.slept == [30, 30]
    assert yahoo.asked_hours == ["AAPL"]


def test_histories_tell_state_and_opening_by_themselves() -> None:
    history = entry("AAPL", **WALL_STREET)
    del history["marketState"]
    yahoo = ScriptedYahoo(REFUSED, today={"AAPL": history})
    round_ = looks(feed(yahoo), 1)[0]
    assert (round_.states, round_.next_open) == ({"AAPL": "CLOSED"}, {"AAPL": TOMORROW})
    assert yahoo.asked_hours == []


def test_in_market_hours_nothing_is_sent_while_the_market_is_closed() -> None:
    clock = CountingClock()
    yahoo = ScriptedYahoo(batch(closed("AAPL"), closed("MSFT", "PRE")), hours={"AAPL": WALL_STREET})
    rounds = looks(feed(yahoo, "AAPL", "MSFT", clock=clock, market_hours=True), 4)
    assert [(round_.quotes, round_.unchanged) for round_ in rounds] == [((), 2)] * 4
    assert [round_.notices for round_ in rounds] == [
        ("Every market is closed: looking every 5 minutes, and when one is expected to open.",),
        *[()] * 3,
    ]
    assert rounds[3].next_open == {"AAPL": TOMORROW, "MSFT": TOMORROW}
    assert clock.slept == [300, 300, 300]


def test_in_market_hours_it_is_there_when_the_market_opens() -> None:
    clock = CountingClock(TOMORROW - timedelta(minutes=7))
    opened = int(TOMORROW.timestamp())
    shut, late = batch(closed("AAPL")), batch(closed("AAPL", "PRE"))
    yahoo = ScriptedYahoo(
        *[shut, shut, late, late],
        *[batch(entry("AAPL", regularMarketTime=opened + passed)) for passed in (60, 90)],
        hours={"AAPL": WALL_STREET},
    )
    rounds = looks(feed(yahoo, clock=clock, market_hours=True), 6)
    assert clock.slept == [300, 120, 30, 30, 30]
    assert [len(round_.quotes) for round_ in rounds] == [0, 0, 0, 0, 1, 1]


def test_in_market_hours_the_closing_price_is_sent_although_it_comes_after_the_close() -> None:
    yahoo = ScriptedYahoo(
        batch(entry("AAPL", regularMarketTime=CLOSE - 30)),
        batch(closed("AAPL", "POST", regularMarketTime=CLOSE)),
        batch(closed("AAPL", "POST", regularMarketTime=CLOSE + 60)),
        batch(closed("AAPL", "POST", regularMarketTime=CLOSE + 60)),
    )
    clock = CountingClock()
    rounds = looks(feed(yahoo, clock=clock, market_hours=True), 4)
    assert [len(round_.quotes) for round_ in rounds] == [1, 1, 1, 0]
    assert clock.slept == [30, 300, 300]


def test_in_market_hours_one_open_market_keeps_the_pace_and_spares_the_closed_one() -> None:
    clock = CountingClock()
    yahoo = ScriptedYahoo(
        *[
            batch(closed("AAPL"), entry("BTC-USD", regularMarketTime=CLOSE + number))
            for number in range(3)
        ]
    )
    rounds = looks(feed(yahoo, "AAPL", "BTC-USD", clock=clock, market_hours=True), 3)
    assert [symbols_of(round_) for round_ in rounds] == [["BTC-USD"]] * 3
    assert clock.slept == [30, 30]


def test_in_market_hours_a_market_of_unknown_state_counts_as_open() -> None:
    yahoo = ScriptedYahoo(batch(entry("AAPL", marketState=None)))
    clock = CountingClock()
    rounds = looks(feed(yahoo, clock=clock, market_hours=True), 2)
    assert symbols_of(rounds[0]) == ["AAPL"]
    assert clock.slept == [30]


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

    symbols = [f"S{number}" for number in range(50)]
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
        assert send(rounds, 100) == 100 * 50
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 5_000  # a byte a quote


def recorded(name: str) -> Any:
    """The body of a recorded answer; skips where the recordings are not at hand."""
    if not (RECORDED / name).is_file():
        pytest.skip("no recorded answers beside this checkout")
    return json.loads((RECORDED / name).read_text(encoding="utf-8"))["body"]
