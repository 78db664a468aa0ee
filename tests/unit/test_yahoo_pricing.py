"""Frames of Yahoo's stream as ticks, and ticks with their session as the record's fields."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from stockpipe.feeds.yahoo_pricing import (
    Session,
    Tick,
    Unreadable,
    quote_fields,
    read_frame,
    session_after,
    session_of,
)
from yahoo_socket import message, pricing

NOON = 1761753600_000
"""Wednesday 2025-10-29, 12:00 in New York, in milliseconds."""
HOUR = 3_600_000
DAY = 20_390
"""That day, in days since 1970."""
RECORDED = (
    "CgdCVEMtVVNEFYoMuUcYwLCVgIplIgNVU0QqA0NDQzApOAFFPWrEP0iAgOrxvANVx/25R12csrRHZYD8skR9/"
    "7i0R7ABgIDq8bwD2AEE4AGAgOrxvAPoAYCA6vG8A/IBA0JUQ4ECAAAAwPrjckGJAgAA2P5ZT3tC"
)
"""A message of Yahoo's, out of yfinance's own tests."""


def tick(price: str = "270", hours: float = 0, **fields: Any) -> Tick:
    return Tick("AAPL", NOON + int(hours * HOUR), Decimal(price), **fields)


def session(**fields: Any) -> Session:
    known: dict[str, Any] = {
        "day": DAY,
        "open": Decimal("269.28"),
        "high": Decimal("271.41"),
        "low": Decimal("267.11"),
        "close": Decimal("269.7"),
        "previous_close": Decimal(269),
        "volume": 43_332_154,
        "utc_offset_s": -14_400,
    }
    return Session(**known | fields)


def test_a_recorded_message() -> None:
    expected = Tick(
        symbol="BTC-USD",
        time_ms=1736509140000,
        price=Decimal("94745.08"),
        state="REGULAR",
        open=Decimal("92529.99"),
        high=Decimal("95227.555"),
        low=Decimal("92517.22"),
        previous_close=None,
        volume=59_712_028_672,
    )
    assert read_frame(RECORDED) == expected
    assert read_frame(json.dumps({"type": "pricing", "message": RECORDED})) == expected
    assert read_frame(json.dumps({"message": RECORDED})) == expected


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (246.89999389648438, "246.9"),
        (0.1, "0.1"),
        (1.08765, "1.08765"),
        (0.000012345, "0.000012345"),
        (67123.45, "67123.45"),
        (745123.4375, "745123.44"),
        (16777217.0, "16777216"),
    ],
)
def test_a_single_precision_price_is_the_decimal_that_was_meant(sent: float, meant: str) -> None:
    read = read_frame(pricing(id="AAPL", price=sent, time=NOON))
    assert read is not None
    assert read.price == Decimal(meant)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, {"state": "PRE", "volume": None, "open": None, "previous_close": None}),
        ({"market_hours": 0, "day_volume": 0}, {"state": "PRE", "volume": None}),
        ({"market_hours": 1, "day_volume": 10**12}, {"state": "REGULAR", "volume": 10**12}),
        ({"market_hours": 2}, {"state": "POST"}),
        ({"market_hours": 3}, {"state": "EXTENDED"}),
        ({"market_hours": 4}, {"state": "OVERNIGHT"}),
        ({"market_hours": 99}, {"state": "EXTENDED"}),
        ({"day_volume": -5}, {"volume": None}),
        ({"day_high": float("inf"), "day_low": float("nan")}, {"high": None, "low": None}),
        ({"id": "brk-b"}, {"symbol": "BRK-B"}),
    ],
)
def test_what_is_left_out_is_not_told(fields: dict[str, Any], told: dict[str, Any]) -> None:
    read = read_frame(pricing(**{"id": "AAPL", "price": 270.5, "time": NOON} | fields))
    assert {name: getattr(read, name) for name in told} == told


@pytest.mark.parametrize(
    "frame",
    [
        pricing(quote_type=7),
        pricing(id="AAPL", time=NOON, bid=1.5),
        pricing(id="AAPL", price=1.5),
        pricing(id="AAPL", price=1.5, time=-1),
        pricing(id="AAPL", price=1.5, time=2**62),
        pricing(id="AAPL", price=float("nan"), time=NOON),
        pricing(id="AAPL", price=3.4e38, time=NOON),
    ],
    ids=["heartbeat", "no price", "no time", "negative time", "no such time", "NaN", "huge"],
)
def test_a_frame_without_a_price_is_no_tick(frame: str) -> None:
    assert read_frame(frame) is None


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        ("", "no symbol"),
        (pricing(price=1.5, time=NOON), "no symbol"),
        ("%%%", "no PricingData in base64"),
        ("Zm9v", "no PricingData in base64"),
        ("[1, 2]", "no PricingData in base64"),
        ('{"type": "pricing"', "no JSON"),
        ("{" + '"a":{' * 100_000, "no JSON"),
        ('{"type": "pricing"}', "another kind"),
        ('{"type": "pricing", "message": 5}', "another kind"),
        ('{"type": "error", "message": "AAAA"}', 'another kind: \'{"type": "error"'),
        (b"\x00\x01", "a binary frame"),
        (message(id="AAPL", price=1.5, time=NOON)[:-6] + "====", "no PricingData in base64"),
    ],
)
def test_a_frame_that_is_none_says_why(frame: str | bytes, why: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read_frame(frame)
    assert why in str(refused.value)
    assert len(str(refused.value)) < 120


def test_a_batch_quote_tells_the_session() -> None:
    told = {
        "regularMarketTime": 1761768001,
        "regularMarketPrice": 269.7,
        "regularMarketOpen": 269.28,
        "regularMarketDayHigh": {"raw": 271.41, "fmt": "271.41"},
        "regularMarketDayLow": 267.11,
        "regularMarketPreviousClose": 269,
        "regularMarketVolume": 43332154,
        "gmtOffSetMilliseconds": -14400000,
    }
    assert session_of(told) == session()
    assert session_of(told | {"regularMarketOpen": 0, "regularMarketVolume": None}) == session(
        open=None, volume=None
    )
    assert session_of({}) is None
    assert session_of({"regularMarketTime": True}) is None
    assert session_of({"regularMarketTime": float("nan")}) is None


def test_the_exchange_s_day_is_not_the_one_of_utc() -> None:
    tokyo = session_of({"regularMarketTime": 1761690600, "gmtOffSetMilliseconds": 32400000})
    assert tokyo is not None
    assert tokyo.day == DAY  # 2025-10-28 22:30 UTC is the 29th there


@pytest.mark.parametrize(
    ("happened", "after"),
    [
        (tick("270"), {"close": Decimal(270)}),
        (tick("272"), {"close": Decimal(272), "high": Decimal(272)}),
        (tick("266"), {"close": Decimal(266), "low": Decimal(266)}),
        (tick("270", volume=5), {"close": Decimal(270), "volume": 5}),
        (
            tick("270", high=Decimal(280), low=Decimal(260), open=Decimal(265)),
            {"close": Decimal(270), "high": 280, "low": 260, "open": 265},
        ),
        (tick("300", state="PRE", volume=9), {}),
        (tick("300", state="POST"), {}),
        (tick("300", state="OVERNIGHT"), {}),
        (
            tick("300", hours=24),
            {
                "day": DAY + 1,
                "open": None,
                "high": None,
                "low": None,
                "volume": None,
                "close": Decimal(300),
                "previous_close": Decimal("269.7"),
            },
        ),
    ],
)
def test_a_tick_moves_its_session(happened: Tick, after: dict[str, Any]) -> None:
    assert session().after(happened) == session(**after)


@pytest.mark.parametrize(
    ("happened", "fields"),
    [
        (
            tick("270.5"),
            {"price": Decimal("270.5"), "open": Decimal("269.28"), "previous_close": 269},
        ),
        (tick("270.5", volume=7), {"volume": 7}),
        (tick("270.5"), {"volume": 43_332_154, "timestamp": "2025-10-29T16:00:00.000Z"}),
        (tick("280", hours=5, state="POST"), {"high": Decimal("271.41"), "previous_close": 269}),
        (
            tick("280", hours=20, state="PRE"),
            {"high": Decimal("271.41"), "previous_close": Decimal("269.7")},
        ),
        (tick("270", previous_close=Decimal(268)), {"previous_close": 268}),
    ],
    ids=["regular", "volume", "known volume", "post-market", "next pre-market", "told"],
)
def test_the_fields_of_a_tick(happened: Tick, fields: dict[str, Any]) -> None:
    told = quote_fields(happened, session_after(session(), happened))
    assert told is not None
    assert {name: told[name] for name in fields} == fields


@pytest.mark.parametrize("missing", ["open", "high", "low", "volume"])
def test_nothing_that_is_missing_is_made_up(missing: str) -> None:
    assert quote_fields(tick(), session(**{missing: None})) is None


def test_a_tick_that_tells_everything_needs_no_batch_quote() -> None:
    whole = tick("270", open=Decimal(1), high=Decimal(271), low=Decimal(1), volume=3)
    fields = quote_fields(whole, session_after(None, whole))
    assert fields == {
        "symbol": "AAPL",
        "open": 1,
        "high": 271,
        "low": 1,
        "price": 270,
        "previous_close": None,
        "volume": 3,
        "timestamp": "2025-10-29T16:00:00.000Z",
        "utc_offset_s": None,
    }
    assert quote_fields(tick(), session_after(None, tick())) is None
