"""What an alert says: a mail for people, one line for a phone, a document for programs.

The first line alone is enough to act on; what follows lets one judge it.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

from stockpipe.domain.alerts import Alert
from stockpipe.domain.exact import parse_moment, price_text
from stockpipe.domain.signals import DEATH, GOLDEN, MOVE, PRICE, Signal

DISCLAIMER = "An observation of past prices, not investment advice."
STOP = "To stop these: follow the link below, or run\n    stockpipe alerts unsubscribe YOUR-ADDRESS"
SUBJECT_LIMIT = 100
"""https://docs.aws.amazon.com/sns/latest/api/API_Publish.html"""


def subject(alert: Alert) -> str:
    return f"Stock Alert: {alert.symbol}"[:SUBJECT_LIMIT]


def headline(alert: Alert) -> str:
    """What has happened, in one line."""
    symbol, signal = alert.symbol, alert.signal
    price, change = price_text(signal.price), _signed(signal)
    if signal.kind == GOLDEN:
        return f"{symbol} is in an Uptrend! Consider a buy opportunity."
    if signal.kind == DEATH:
        return f"{symbol} is in a Downtrend! Consider selling."
    if signal.kind == MOVE:
        return f"{symbol} has moved {change} since the previous close, to {price}."
    if signal.kind == PRICE and signal.level is not None:
        side = "above" if signal.price > signal.level else "below"
        return f"{symbol} is {side} {price_text(signal.level)}, at {price}."
    return f"{symbol} has jumped to {price}: {signal.sigmas} standard deviations at once."


def text(alert: Alert) -> str:
    """The mail."""
    signal = alert.signal
    change = _signed(signal)
    lines = [
        headline(alert),
        "",
        f"Price: {price_text(signal.price)}",
        *([f"Change: {change} against the previous close"] if change else []),
        *_averages(signal),
        f"Time of the quote: {_moment(signal)}",
        f"Rule: {alert.rule}",
        "",
        STOP,
        "",
        DISCLAIMER,
    ]
    return "\n".join(lines)


def short(alert: Alert) -> str:
    """An SMS: the headline, price and time in at most 140 characters of plain ASCII."""
    signal = alert.signal
    line = headline(alert).partition("! ")[0].removesuffix(".")
    if signal.kind in (GOLDEN, DEATH):  # the others' headlines have the price
        line += f" at {price_text(signal.price)}"
    return f"{line}, {_local(signal):%d %b %H:%M}. {alert.rule}"[:140]


def document(alert: Alert) -> str:
    """JSON for queues and webhooks: the facts as numbers, and the words that people get."""
    signal = alert.signal
    numbers = {
        "price": price_text(signal.price),
        "change_percent": signal.reading.change_percent,
        "sma_fast": price_text(signal.sma_fast),
        "sma_slow": price_text(signal.sma_slow),
        "level": price_text(signal.level),
        "sigmas": signal.sigmas,
    }
    head = {
        "symbol": alert.symbol,
        "timestamp": signal.timestamp,
        "rule": alert.rule,
        "kind": signal.kind,
    }
    words = {"subject": subject(alert), "text": text(alert)}
    # Numbers are written as their text: a float could not hold 18 digits.
    inner = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    inner += [f"{json.dumps(name)}: {value or 'null'}" for name, value in numbers.items()]
    inner += [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in words.items()]
    return "{" + ", ".join(inner) + "}"


def by_protocol(alert: Alert) -> str:
    """All of them as one SNS message with ``MessageStructure=json``.

    https://docs.aws.amazon.com/sns/latest/dg/sns-send-custom-platform-specific-payloads-mobile-devices.html
    """
    machine = document(alert)
    forms = {"default": text(alert), "sms": short(alert)}
    forms |= dict.fromkeys(("http", "https", "sqs", "lambda", "firehose"), machine)
    return json.dumps(forms)


def _signed(signal: Signal) -> str:
    """``+5.26 %``, empty without a previous close."""
    change = signal.reading.change_percent
    return "" if change is None else f"{round(float(change), 2) + 0.0:+.2f} %"


def _averages(signal: Signal) -> list[str]:
    if signal.sma_fast is None or signal.sma_slow is None:
        return []
    return [
        f"Fast average: {price_text(signal.sma_fast)}",
        f"Slow average: {price_text(signal.sma_slow)}",
    ]


def _local(signal: Signal) -> datetime:
    zone = timezone(timedelta(seconds=signal.reading.utc_offset_s))
    return parse_moment(signal.timestamp).astimezone(zone)


def _moment(signal: Signal) -> str:
    """The exchange's own time where its offset is known, and UTC."""
    utc = signal.timestamp
    if not signal.reading.utc_offset_s:
        return utc
    return f"{_local(signal):%Y-%m-%d %H:%M:%S} at the exchange, {utc}"
