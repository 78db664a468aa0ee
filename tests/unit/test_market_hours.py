"""When markets open again, by the trading day that their exchange told us of."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from stockpipe.feeds.market_hours import Openings, TradingDay, trading_day

NEW_YORK, TOKYO, BERLIN = "America/New_York", "Asia/Tokyo", "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def day(opens: str, closes: str, zone: str) -> TradingDay:
    return TradingDay(at(opens), at(closes), ZoneInfo(zone))


WALL_STREET = day("2025-10-29T13:30Z", "2025-10-29T20:00Z", NEW_YORK)  # a Wednesday, in summer time
KABUTOCHO = day("2025-10-29T00:00Z", "2025-10-29T06:30Z", TOKYO)
XETRA = day("2025-10-24T07:00Z", "2025-10-24T15:30Z", BERLIN)
RIYADH = day("2025-10-29T07:00Z", "2025-10-29T12:00Z", "Asia/Riyadh")


@pytest.mark.parametrize(
    ("told", "now", "opens"),
    [
        pytest.param(
            WALL_STREET, "2025-10-29T10:00Z", "2025-10-29T13:30Z", id="before the open, same day"
        ),
        pytest.param(
            WALL_STREET, "2025-10-29T20:00Z", "2025-10-30T13:30Z", id="after the close, tomorrow"
        ),
        pytest.param(
            WALL_STREET, "2025-10-30T03:00Z", "2025-10-30T13:30Z", id="at night, by New York's date"
        ),
        pytest.param(
            WALL_STREET, "2025-10-29T13:30Z", "2025-10-30T13:30Z", id="as it opens, the one after"
        ),
        pytest.param(
            WALL_STREET,
            "2025-10-31T20:05Z",
            "2025-11-03T14:30Z",
            id="Friday evening, across the end of summer time",
        ),
        pytest.param(
            WALL_STREET, "2025-11-02T12:00Z", "2025-11-03T14:30Z", id="the Sunday of that weekend"
        ),
        pytest.param(
            WALL_STREET, "2026-03-07T12:00Z", "2026-03-09T13:30Z", id="summer time begins"
        ),
        pytest.param(
            WALL_STREET,
            "2025-12-25T15:00Z",
            "2025-12-26T14:30Z",
            id="a holiday is not known: the next day once its own opening has passed",
        ),
        pytest.param(
            KABUTOCHO,
            "2025-10-30T23:00Z",
            "2025-10-31T00:00Z",
            id="Tokyo, where Friday is Thursday in UTC",
        ),
        pytest.param(
            KABUTOCHO, "2025-10-31T07:00Z", "2025-11-03T00:00Z", id="Tokyo's weekend, in no winter"
        ),
        pytest.param(
            XETRA, "2025-10-25T10:00Z", "2025-10-27T08:00Z", id="Europe's winter, a week earlier"
        ),
        pytest.param(
            RIYADH, "2025-10-30T13:00Z", "2025-11-02T07:00Z", id="Riyadh opens on Sundays"
        ),
        pytest.param(
            day("2025-11-03T14:30Z", "2025-11-03T21:00Z", NEW_YORK),
            "2025-10-31T21:00Z",
            "2025-11-03T14:30Z",
            id="a day to come is believed",
        ),
        pytest.param(
            day("2025-11-28T14:30Z", "2025-11-28T18:00Z", NEW_YORK),
            "2025-11-28T19:00Z",
            "2025-12-01T14:30Z",
            id="after half a day",
        ),
    ],
)
def test_the_next_opening(told: TradingDay, now: str, opens: str) -> None:
    assert told.next_opening(at(now)) == at(opens)


@pytest.mark.parametrize(
    ("opens", "closes", "zone"),
    [
        ("2025-02-20T00:00Z", "2025-02-20T23:59Z", "UTC"),
        ("2025-02-20T00:00Z", "2025-02-20T23:59Z", "Europe/London"),
        ("2025-02-20T05:00Z", "2025-02-21T04:59Z", NEW_YORK),
    ],
)
def test_a_market_around_the_clock_has_no_opening(opens: str, closes: str, zone: str) -> None:
    assert day(opens, closes, zone).next_opening(at("2025-02-22T12:00Z")) is None


@pytest.mark.parametrize(
    ("now", "state"),
    [
        ("2025-10-29T13:29:59Z", "CLOSED"),
        ("2025-10-29T13:30Z", "REGULAR"),
        ("2025-10-29T19:59:59Z", "REGULAR"),
        ("2025-10-29T20:00Z", "CLOSED"),
        ("2025-10-30T15:00Z", "CLOSED"),
    ],
)
def test_the_state_within_that_day(now: str, state: str) -> None:
    assert WALL_STREET.state(at(now)) == state


def metadata(**fields: Any) -> dict[str, Any]:
    regular = {"timezone": "EDT", "start": 1761744600, "end": 1761768000, "gmtoffset": -14400}
    return {
        "currentTradingPeriod": {"regular": regular},
        "exchangeTimezoneName": NEW_YORK,
        **fields,
    }


def test_a_trading_day_is_read_from_raw_and_from_formatted_metadata() -> None:
    formatted = {"start": at("2025-10-29T09:30-04:00"), "end": at("2025-10-29T16:00-04:00")}
    assert trading_day(metadata()) == WALL_STREET
    assert trading_day(metadata(currentTradingPeriod={"regular": formatted})) == WALL_STREET


@pytest.mark.parametrize(
    "fields",
    [
        {"currentTradingPeriod": None},
        {"currentTradingPeriod": {}},
        {"currentTradingPeriod": {"regular": {"start": 1761744600}}},
        {"currentTradingPeriod": {"regular": {"start": "now", "end": "then"}}},
        {"currentTradingPeriod": {"regular": {"start": 1e300, "end": 1e300}}},
        {"currentTradingPeriod": {"regular": {"start": float("nan"), "end": 0}}},
        {"exchangeTimezoneName": None},
        {"exchangeTimezoneName": ""},
        {"exchangeTimezoneName": "Mars/Olympus"},
        {"exchangeTimezoneName": "../etc/passwd"},
    ],
)
def test_metadata_of_another_form_has_no_trading_day(fields: dict[str, Any]) -> None:
    assert trading_day(metadata(**fields)) is None


class Exchange:
    """Tells the trading days that it has, and notes who asked."""

    def __init__(self, **days: TradingDay) -> None:
        self.days: dict[str, TradingDay] = days
        self.asked: list[str] = []

    def __call__(self, symbol: str) -> TradingDay | None:
        self.asked.append(symbol)
        return self.days.get(symbol)


def test_each_market_is_asked_for_once_and_one_at_a_time() -> None:
    exchange = Exchange(AAPL=WALL_STREET, SONY=KABUTOCHO)
    openings = Openings(exchange)
    markets = {"AAPL": "us", "MSFT": "us", "SONY": "jp"}
    night = at("2025-10-29T21:00Z")
    wall_street, tokyo = at("2025-10-30T13:30Z"), at("2025-10-30T00:00Z")
    assert openings.next_open(markets, night) == {"AAPL": wall_street, "MSFT": wall_street}
    assert openings.next_open(markets, night) == {
        "AAPL": wall_street,
        "MSFT": wall_street,
        "SONY": tokyo,
    }
    assert openings.next_open({"MSFT": "us"}, at("2025-10-31T21:00Z")) == {
        "MSFT": at("2025-11-03T14:30Z")
    }
    assert exchange.asked == ["AAPL", "SONY"]


def test_a_market_that_does_not_tell_is_asked_again_an_hour_later() -> None:
    exchange = Exchange()
    openings = Openings(exchange)
    for minute in range(0, 60, 5):
        assert openings.next_open({"AAPL": "us"}, at(f"2025-10-29T21:{minute:02d}Z")) == {}
    assert exchange.asked == ["AAPL"]
    exchange.days["AAPL"] = WALL_STREET
    assert openings.next_open({"AAPL": "us"}, at("2025-10-29T22:00Z")) == {
        "AAPL": at("2025-10-30T13:30Z")
    }


def test_a_market_that_never_tells_does_not_keep_others_from_being_asked() -> None:
    exchange = Exchange(SONY=KABUTOCHO)
    openings = Openings(exchange)
    markets = {"AAPL": "us", "SONY": "jp"}
    now = at("2025-10-29T21:00Z")
    assert openings.next_open(markets, now) == {}
    assert openings.next_open(markets, now).keys() == {"SONY"}


@pytest.mark.parametrize(
    ("now", "interval_s", "pause_s"),
    [
        pytest.param("2025-10-30T02:00Z", 30, 300, id="at night, rarely"),
        pytest.param("2025-10-30T13:28Z", 30, 120, id="up to the opening, not beyond"),
        pytest.param("2025-10-30T13:29:50Z", 30, 30, id="never sooner than the interval"),
        pytest.param("2025-10-30T13:30:00Z", 30, 30, id="the source may be late to call it open"),
        pytest.param("2025-10-30T13:34:59Z", 30, 30, id="for some minutes"),
        pytest.param("2025-10-30T13:36Z", 30, 300, id="then it is a holiday"),
        pytest.param("2025-10-30T02:00Z", 900, 900, id="an interval that is longer anyway"),
    ],
)
def test_the_pause_while_every_market_is_closed(
    now: str, interval_s: float, pause_s: float
) -> None:
    openings = Openings(Exchange())
    assert openings.quiet_s(interval_s, at(now)) == max(interval_s, 300)
    openings.learn("us", WALL_STREET)
    assert openings.quiet_s(interval_s, at(now)) == pause_s
