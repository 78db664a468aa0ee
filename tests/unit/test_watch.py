"""What a person is told of each symbol: its market's state, its quote's age, what was sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stockpipe.domain.exact import moment_text
from stockpipe.domain.quote import Quote
from stockpipe.feeds.base import Round
from stockpipe.producer.sender import Sent
from stockpipe.producer.watch import STALE_S, Line, Watch

NOW = datetime(2022, 3, 14, 15, 0, tzinfo=UTC)
OPENS = NOW + timedelta(hours=22)


def quote(symbol: str = "AAPL", *, age_s: float = 0.0) -> Quote:
    time = moment_text(NOW - timedelta(seconds=age_s))
    return Quote(symbol, 1, 1, 1, 1, None, 0, time, None, "yahoo")


def acknowledged(symbol: str = "AAPL", waited_s: float = 0.1) -> Sent:
    return Sent(0, quote(symbol), "shardId-000000000000", "1", waited_s)


def line(watch: Watch, symbol: str = "AAPL") -> Line:
    (found,) = [one for one in watch.lines() if one.symbol == symbol]
    return found


def state(
    market: str = "REGULAR", *, age_s: float = 0.0, delayed_s: int = 0, interval_s: float = 30.0
) -> str:
    watch = Watch()
    watch.read(Round((quote(age_s=age_s),), states={"AAPL": market}, delayed_s={"AAPL": delayed_s}))
    return line(watch).state(NOW, interval_s)


@pytest.mark.parametrize("market", ["CLOSED", "PRE", "POST"])
@pytest.mark.parametrize("age_s", [0.0, 86_400.0])
def test_a_market_that_is_not_open_is_called_what_the_source_calls_it(
    market: str, age_s: float
) -> None:
    assert state(market, age_s=age_s, delayed_s=900) == market


@pytest.mark.parametrize("market", ["REGULAR", ""])
def test_of_an_open_market_nothing_is_said_while_its_quotes_are_fresh(market: str) -> None:
    assert state(market) == ""
    assert state(market, age_s=STALE_S) == ""


@pytest.mark.parametrize(
    ("interval_s", "age_s", "expected"),
    [(30, 300, ""), (30, 301, "STALE"), (600, 1800, ""), (600, 1801, "STALE"), (0, 301, "STALE")],
)
def test_an_old_quote_of_an_open_market_is_stale_after_three_intervals_and_five_minutes(
    interval_s: float, age_s: float, expected: str
) -> None:
    assert state(age_s=age_s, interval_s=interval_s) == expected


@pytest.mark.parametrize(
    ("age_s", "expected"), [(900, "DELAYED"), (1200, "DELAYED"), (1201, "STALE")]
)
def test_an_exchange_that_tells_late_is_delayed_and_stale_so_much_later(
    age_s: float, expected: str
) -> None:
    assert state(age_s=age_s, delayed_s=900) == expected


def test_the_age_is_that_of_the_quote_and_never_negative() -> None:
    assert Line("AAPL", quote(age_s=12.5)).age_s(NOW) == 12.5
    assert Line("AAPL", quote(age_s=-2)).age_s(NOW) == 0.0
    assert Line("AAPL").age_s(NOW) is None
    assert Line("AAPL").state(NOW, 30) == ""


def test_a_symbol_has_one_line_in_the_order_of_the_request_then_of_appearance() -> None:
    watch = Watch(["MSFT", "AAPL"])
    assert [one.symbol for one in watch.lines()] == ["MSFT", "AAPL"]
    watch.read(Round((quote("GOOG"), quote("AAPL"), quote("GOOG", age_s=-1))))
    assert [one.symbol for one in watch.lines()] == ["MSFT", "AAPL", "GOOG"]
    assert line(watch, "GOOG").quote == quote("GOOG", age_s=-1)
    assert line(watch, "MSFT").quote is None


def test_a_symbol_without_a_quote_has_a_state_too() -> None:
    watch = Watch(["AAPL"])
    watch.read(Round(states={"AAPL": "CLOSED"}, next_open={"AAPL": OPENS}))
    assert line(watch).state(NOW, 30) == "CLOSED"
    assert line(watch).next_open == OPENS


def test_a_market_that_opens_is_not_expected_to_any_more() -> None:
    watch = Watch()
    watch.read(Round((quote(),), states={"AAPL": "CLOSED"}, next_open={"AAPL": OPENS}))
    watch.read(Round(unchanged=1, states={"AAPL": "REGULAR"}))
    assert (line(watch).market, line(watch).next_open) == ("REGULAR", None)
    assert line(watch).quote == quote()


def test_a_look_that_failed_leaves_what_is_known() -> None:
    watch = Watch()
    watch.read(Round((quote(),), states={"AAPL": "CLOSED"}, next_open={"AAPL": OPENS}))
    before = watch.lines()
    watch.read(Round(notices=("Yahoo limits requests.",)))
    assert watch.lines() == before


def test_rounds_unchanged_and_refused_quotes_are_counted() -> None:
    watch = Watch()
    watch.read(Round((quote(),), unchanged=3, refused=1))
    watch.read(Round(unchanged=4))
    assert (watch.rounds, watch.unchanged, watch.refused) == (2, 7, 1)


def test_what_was_acknowledged_is_counted_per_symbol_with_its_latest_lag() -> None:
    watch = Watch()
    for sent in (acknowledged(waited_s=0.2), acknowledged("MSFT"), acknowledged(waited_s=0.5)):
        watch.sent(sent)
    assert (line(watch).sent, line(watch).lag_s) == (2, 0.5)
    assert line(watch, "MSFT").sent == 1


def test_readings_are_those_stored_and_those_sent_since_whichever_is_told_first() -> None:
    watch = Watch(["AAPL", "MSFT"])
    watch.sent(acknowledged())
    assert line(watch).readings is None
    watch.stored("AAPL", 11)
    assert line(watch).readings == 12
    watch.sent(acknowledged())
    assert line(watch).readings == 13
    assert line(watch, "MSFT").readings is None
    watch.stored("GOOG", 5)
    assert line(watch, "GOOG").readings == 5
