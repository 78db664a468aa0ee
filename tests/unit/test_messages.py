"""What people and programs are told."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpipe.domain import messages
from stockpipe.domain.alerts import Alert, alert_from
from stockpipe.domain.signals import DEATH, GOLDEN, KINDS, MOVE, PRICE, SPIKE, Reading, Signal

UNIT = 10**6
WHEN = "14 Mar 09:57. the-rule"
PRICED = "152.110001"


def alert(kind: str, **values: Any) -> Alert:
    reading = Reading("2022-03-14T13:57:00.000Z", 152_110_001, 144_500_000, utc_offset_s=-14_400)
    return Alert("AAPL", "the-rule", Signal(reading, kind, **values))


HONG_KONG = Alert(
    "9988.HK", "the-rule", Signal(Reading("2022-03-14T13:57:00.000Z", 88 * UNIT), GOLDEN)
)
CROSS = alert(GOLDEN, sma_fast=151_750_001, sma_slow=151_650_001)


@pytest.mark.parametrize(
    ("one", "line"),
    [
        (CROSS, "AAPL is in an Uptrend! Consider a buy opportunity."),
        (alert(DEATH), "AAPL is in a Downtrend! Consider selling."),
        (alert(MOVE), "AAPL has moved +5.27 % since the previous close, to 152.110001."),
        (alert(PRICE, level=150 * UNIT), "AAPL is above 150, at 152.110001."),
        (alert(PRICE, level=155 * UNIT), "AAPL is below 155, at 152.110001."),
        (alert(SPIKE, sigmas="6"), f"AAPL has jumped to {PRICED}: 6 standard deviations at once."),
    ],
)  # fmt: skip
def test_the_first_line_alone_says_what_happened(one: Alert, line: str) -> None:
    assert messages.text(one).splitlines()[0] == line


def test_the_mail_says_all_that_one_needs_to_judge_it() -> None:
    mail = messages.text(CROSS)
    for part in (
        "Price: 152.110001",
        "Change: +5.27 % against the previous close",
        "Fast average: 151.750001",
        "Slow average: 151.650001",
        "Time of the quote: 2022-03-14 09:57:00 at the exchange, 2022-03-14T13:57:00.000Z",
        "Rule: the-rule",
        "stockpipe alerts unsubscribe",
        "not investment advice",
    ):
        assert part in mail
    assert messages.subject(CROSS) == "Stock Alert: AAPL"


def test_a_change_too_small_for_two_places_is_none() -> None:
    for price in (999_999_999, 1_000_000_001):
        reading = Reading("2022-03-14T13:57:00.000Z", price, 1_000_000_000)
        change = "Change: +0.00 % against the previous close"
        assert change in messages.text(Alert("AAPL", "r", Signal(reading, MOVE)))


def test_what_is_not_known_is_not_in_the_mail() -> None:
    reading = Reading("2022-03-14T13:57:00.000Z", 152_110_001)
    mail = messages.text(Alert("AAPL", "r", Signal(reading, GOLDEN)))
    assert "Change" not in mail
    assert "average" not in mail
    assert "Time of the quote: 2022-03-14T13:57:00.000Z" in mail
    assert "None" not in mail


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (CROSS, f"AAPL is in an Uptrend at {PRICED}, {WHEN}"),
        (alert(MOVE), f"AAPL has moved +5.27 % since the previous close, to {PRICED}, {WHEN}"),
        (alert(PRICE, level=150 * UNIT), f"AAPL is above 150, at {PRICED}, {WHEN}"),
        (HONG_KONG, "9988.HK is in an Uptrend at 88, 14 Mar 13:57. the-rule"),
    ],
)  # fmt: skip
def test_a_phone_gets_one_line(one: Alert, text: str) -> None:
    assert messages.short(one) == text


prices = st.integers(1, 10**18 - 1)
alerts = st.builds(
    lambda symbol, kind, price, close, level, offset, rule: Alert(
        symbol,
        rule,
        Signal(
            Reading("2022-03-14T13:57:00.000Z", price, close, utc_offset_s=offset),
            kind,
            sma_fast=price,
            sma_slow=level,
            level=level,
            sigmas="123.4",
        ),
    ),
    st.text("ABC^=.-0", min_size=1, max_size=20),
    st.sampled_from(KINDS),
    prices,
    prices,
    prices,
    st.sampled_from([0, 19_800, -14_400]),
    st.sampled_from(["crossover-5-20", "price-above-999999999999.999999-15m"]),
)


@given(alerts)
def test_a_text_message_is_at_most_140_characters_of_ascii_on_one_line(one: Alert) -> None:
    text = messages.short(one)
    assert len(text) <= 140
    assert text.isascii()
    assert text.isprintable()


@given(alerts)
def test_programs_get_a_document_whose_numbers_lose_no_digit(one: Alert) -> None:
    found = json.loads(messages.document(one), parse_float=Decimal, parse_int=Decimal)
    signal = one.signal
    assert {name: found[name] for name in ("symbol", "timestamp", "rule", "kind")} == {
        "symbol": one.symbol,
        "timestamp": signal.timestamp,
        "rule": one.rule,
        "kind": signal.kind,
    }
    assert found["price"] * UNIT == signal.price
    assert found["level"] * UNIT == signal.level
    assert found["subject"] == messages.subject(one)
    assert found["text"] == messages.text(one)


@given(alerts)
def test_each_protocol_gets_its_form(one: Alert) -> None:
    forms = json.loads(messages.by_protocol(one))
    assert forms.pop("default") == messages.text(one)  # e-mail among others
    assert forms.pop("sms") == messages.short(one)
    assert forms == dict.fromkeys(
        ("http", "https", "sqs", "lambda", "firehose"), messages.document(one)
    )


@given(alerts)
def test_what_is_stored_tells_the_same_message_again(one: Alert) -> None:
    again = alert_from(one.symbol, {name: str(value) for name, value in one.facts().items()})
    assert again.id == one.id
    assert messages.by_protocol(again) == messages.by_protocol(one)
