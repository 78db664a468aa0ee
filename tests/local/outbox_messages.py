"""Messages of an outbox that differ in their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stockpipe.local.outbox import Message

MAIL = "me@example.com"


SAMPLE = Message(
    time="2026-01-02T03:04:05.678Z",
    type="Notification",
    protocol="email",
    to=MAIL,
    subject="Stock Alert: AAPL",
    text="AAPL is in an Uptrend!\n\nPrice: 1 \N{EURO SIGN}",
    topic="arn:aws:sns:us-east-2:000000000000:t",
    attributes={"symbol": "AAPL"},
    message_id="m-1",
    status="kept",
)


def numbered(*numbers: int) -> list[Message]:
    return [replace(SAMPLE, message_id=str(number)) for number in numbers]


def ids(messages: Sequence[Message]) -> list[int]:
    return [int(message.message_id) for message in messages]
