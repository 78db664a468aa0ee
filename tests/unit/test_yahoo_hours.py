"""The Yahoo feed when the market is closed, opens or closes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from yahoo_script import (
    CLOSE,
    REFUSED,
    CountingClock,
    ScriptedYahoo,
    batch,
    entry,
    feed,
    looks,
    symbols_of,
)

from stockpipe.feeds.yahoo_api import Entry

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
