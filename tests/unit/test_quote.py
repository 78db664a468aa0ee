"""The record: what is a quote, what is refused and with which words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpipe.domain.exact import (
    InvalidQuote,
    decimal_text,
    divide_half_even,
    normalise_timestamp,
    to_micro,
)
from stockpipe.domain.quote import Quote, parse_quote, quote_json

GOOD: dict[str, Any] = {
    "symbol": "AAPL",
    "open": 151.449997,
    "high": 152,
    "low": 151.3,
    "price": 151.830002,
    "previous_close": 150.5,
    "change": 0,
    "change_percent": 99,
    "volume": 5767560,
    "timestamp": "2022-03-14T13:30:00Z",
}


def record(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def raw(field: str, text: str) -> bytes:
    """The good record with one value written as it stands, JSON or not."""
    return json.dumps({**GOOD, field: "@@"}).replace('"@@"', text).encode()


def test_a_tutorials_record_is_accepted_and_normalised() -> None:
    quote = parse_quote(record(symbol="aapl"))
    assert quote.symbol == "AAPL"
    assert quote.price == 151_830_002
    assert quote.timestamp == "2022-03-14T13:30:00.000Z"
    assert (quote.source, quote.ingested_at, quote.utc_offset_s) == (None, None, None)


def test_the_senders_change_is_not_trusted() -> None:
    quote = parse_quote(record())
    assert quote.change == "1.33"
    assert quote.change_percent == "0.8837"


@pytest.mark.parametrize(
    ("data", "field", "rule"),
    [
        (b"not json", "record", "is not JSON"),
        (b"\xff\xfe", "record", "is not UTF-8"),
        (b"[1]", "record", "is not a JSON object"),
        (b'"AAPL"', "record", "is not a JSON object"),
        (b"", "record", "is not JSON"),
        (b"[" * 100_000, "record", "is nested too deeply"),
        (raw("price", "NaN"), "record", "contains NaN"),
        (raw("price", "Infinity"), "record", "contains Infinity"),
        (raw("price", "-Infinity"), "record", "contains -Infinity"),
        (raw("price", "1e400"), "price", "must be below 10^12"),
        (raw("price", "1" * 5000), "record", "is not JSON"),
        (raw("price", "1e-400"), "price", "must lie in"),
        (raw("price", "1e999999999"), "price", "must be below 10^12"),
        (raw("price", "1e99999999999999999999"), "record", "without measure"),
        (record()[:-1] + b', "price": 2}', "price", "appears twice"),
        (record(price=-1), "price", "must be above 0"),
        (record(price=0), "price", "must be above 0"),
        (record(price=10**12), "price", "must be below 10^12"),
        (record(price="151.83"), "price", "must be a number"),
        (record(price=True), "price", "must be a number"),
        (record(price=None), "price", "must not be null"),
        (record(open=None), "open", "must not be null"),
        (record(previous_close=0), "previous_close", "must be above 0"),
        (record(change="much"), "change", "must be a number"),
        (record(volume=-1), "volume", "must lie in 0"),
        (record(volume=10**15), "volume", "must lie in 0"),
        (record(volume=1.5), "volume", "must be an integer"),
        (record(symbol=""), "symbol", "1 to 20"),
        (record(symbol="A" * 21), "symbol", "1 to 20"),
        (record(symbol="AAPL "), "symbol", "1 to 20"),
        (record(symbol="\u017f"), "symbol", "1 to 20"),  # a long s, which upper-cases to S
        (record(symbol="A\n"), "symbol", "1 to 20"),
        (record(symbol=7), "symbol", "must be a string"),
        (record(timestamp="2022-03-14T13:30:00"), "timestamp", "has no time zone"),
        (record(timestamp="2022-03-14"), "timestamp", "must be ISO 8601"),
        (record(timestamp="2022-02-30T13:30:00Z"), "timestamp", "is no date"),
        (record(timestamp="1969-12-31T23:59:59Z"), "timestamp", "lies before 1970"),
        (record(timestamp="9999-12-31T23:59:59-10:00"), "timestamp", "is no date"),
        (record(timestamp="0001-01-01T00:00:00+10:00"), "timestamp", "is no date"),
        (record(timestamp=1647264600), "timestamp", "must be a string"),
        (record(source=""), "source", "printable"),
        (record(source="x" * 33), "source", "printable"),
        (record(source="a\tb"), "source", "printable"),
        (record(utc_offset_s=90_000), "utc_offset_s", "must lie in"),
        (record(ingested_at="now"), "ingested_at", "must be ISO 8601"),
    ],
)
def test_poison_is_named_by_field_and_rule(data: bytes, field: str, rule: str) -> None:
    with pytest.raises(InvalidQuote) as refused:
        parse_quote(data)
    assert refused.value.field == field
    assert rule in refused.value.rule


@pytest.mark.parametrize(
    "missing", ["symbol", "open", "high", "low", "price", "volume", "timestamp"]
)
def test_a_missing_field_is_poison(missing: str) -> None:
    data = json.dumps({key: value for key, value in GOOD.items() if key != missing})
    with pytest.raises(InvalidQuote, match=f"{missing}: is missing"):
        parse_quote(data)


@pytest.mark.parametrize("symbol", ["AAPL", "BRK-B", "^GSPC", "EURUSD=X", "7203.T", "A" * 20])
def test_symbols_of_all_kinds_are_accepted(symbol: str) -> None:
    assert parse_quote(record(symbol=symbol)).symbol == symbol


def test_a_quote_of_the_far_future_is_refused_by_its_arrival() -> None:
    arrived = datetime(2022, 3, 13, 13, 29, tzinfo=UTC)
    with pytest.raises(InvalidQuote, match="more than a day after its arrival"):
        parse_quote(record(), arrived_at=arrived)
    assert parse_quote(record(), arrived_at=arrived.replace(minute=30))


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("2022-03-14T13:30:00Z", "2022-03-14T13:30:00.000Z"),
        ("2022-03-14T09:30:00-04:00", "2022-03-14T13:30:00.000Z"),
        ("2022-03-14T09:30:00-0400", "2022-03-14T13:30:00.000Z"),
        ("2022-03-14 13:30:00+00:00", "2022-03-14T13:30:00.000Z"),
        ("2022-03-14T13:30:00.123456Z", "2022-03-14T13:30:00.123Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
    ],
)
def test_timestamps_become_utc_of_one_width(text: str, normalised: str) -> None:
    assert normalise_timestamp(text) == normalised


prices = st.integers(1, 10**18 - 1)


@given(
    prices, prices, prices, prices, st.none() | prices, st.integers(0, 10**15 - 1),
    st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001 - made aware below
    st.sampled_from([None, "yahoo", "replay", 'quo"ted']), st.none() | st.integers(-50_400, 50_400),
)  # fmt: skip
def test_writing_and_reading_a_quote_changes_nothing(
    opened: int, high: int, low: int, price: int, previous: int | None, volume: int,
    moment: datetime, source: str | None, offset: int | None,
) -> None:  # fmt: skip
    quote = Quote(
        "AAPL", opened, high, low, price, previous, volume,
        normalise_timestamp(f"{moment:%Y-%m-%dT%H:%M:%S}Z"), None, source, offset,
    )  # fmt: skip
    text = quote_json(quote)
    assert parse_quote(text) == quote
    assert list(json.loads(text))[:10] == list(GOOD)


@given(prices, prices)
def test_changes_equal_exact_decimal_arithmetic(price: int, previous: int) -> None:
    quote = Quote("A", price, price, price, price, previous, 0, "2022-03-14T13:30:00.000Z")
    exact = (Decimal(price) - previous) / 10**6
    assert Decimal(str(quote.change)) == exact.quantize(Decimal("0.0001"), ROUND_HALF_EVEN)
    percent = Fraction(price - previous, previous) * 100
    assert abs(Fraction(str(quote.change_percent)) - percent) <= Fraction(1, 20000)
    assert quote.is_anomaly(5_000_000) == (abs(percent) > 5)


@pytest.mark.parametrize(("price", "anomaly"), [(1_050_000, False), (1_050_001, True)])
def test_five_percent_exactly_is_no_anomaly(price: int, anomaly: bool) -> None:
    one = 10**6
    quote = Quote("A", one, one, one, price, one, 0, "2022-03-14T13:30:00.000Z")
    assert quote.is_anomaly(5_000_000) is anomaly


@given(st.integers(-(10**20), 10**20), st.integers(1, 10**10))
def test_division_rounds_half_to_even(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@given(st.integers(-(10**20), 10**20), st.integers(1, 8))
def test_decimal_text_is_exact_and_short(scaled: int, places: int) -> None:
    text = decimal_text(scaled, places)
    assert Decimal(text) * 10**places == scaled
    assert not ("." in text and text.endswith("0"))


@pytest.mark.parametrize(
    ("value", "micro"),
    [
        (151.8300018310547, 151_830_002),
        (Decimal("0.0000015"), 2),
        (Decimal("0.0000025"), 2),
        (1, 10**6),
    ],
)
def test_prices_keep_six_decimals(value: Any, micro: int) -> None:
    assert to_micro(value) == micro
