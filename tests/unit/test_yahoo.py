"""The Yahoo feed over a scripted Yahoo and a clock that only counts its waits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from stockpipe.domain.quote import Quote
from stockpipe.errors import FeedError, UsageError
from stockpipe.feeds.base import Feed, Round
from stockpipe.feeds.yahoo import LONGEST_PAUSE_S, YahooFeed
from stockpipe.feeds.yahoo_api import Entry, Trouble

NOW = datetime(2025, 10, 29, 20, 15, tzinfo=UTC)
CLOSE = 1761768001
RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "market-data" / "yahoo"

LIMITED = Trouble("limited", "HTTP 429")
OFFLINE = Trouble("unreachable", "Could not resolve host: query1.finance.yahoo.com")
REFUSED = Trouble("unusable", "HTTP 401")
UNKNOWN = Trouble("unknown", "Yahoo has no quote of it")


class CountingClock:
    """Stands still and remembers the waits."""

    def __init__(self, now: datetime = NOW) -> None:
        self.slept: list[float] = []
        self._now = now

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class ScriptedYahoo:
    """Gives the batch answers in turn (the last one repeats) and today's answers by symbol."""

    def __init__(self, *answers: Any, today: dict[str, Entry | Trouble] | None = None) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)
        self.histories = today or {}

    def batch(self, symbols: Sequence[str]) -> Any:
        self.asked.append(",".join(symbols))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Trouble):
            raise answer
        return answer

    def today(self, symbol: str) -> Entry:
        self.asked.append(f"today {symbol}")
        answer = self.histories[symbol]
        if isinstance(answer, Trouble):
            raise answer
        return answer


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
    yahoo: ScriptedYahoo, *symbols: str, clock: CountingClock | None = None, interval_s: float = 30
) -> YahooFeed:
    return YahooFeed(symbols or ("AAPL",), interval_s, clock or CountingClock(), yahoo)


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
        ({"gmtOffSetMilliseconds": 10**9}, "utc_offset_s: must lie in"),
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


def recorded(name: str) -> Any:
    """The body of a recorded answer; skips where the recordings are not at hand."""
    if not (RECORDED / name).is_file():
        pytest.skip("no recorded answers beside this checkout")
    return json.loads((RECORDED / name).read_text(encoding="utf-8"))["body"]
