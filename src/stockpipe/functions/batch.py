"""What an event source mapping hands over, and what it wants back."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.config import Config

SEQ_WIDTH = 64
"""Kinesis sequence numbers have 56 digits; padded to one width, text order is number order."""

MARGIN_S = 10.0
"""With less function time left than this, what is not done is handed back."""

CLIENT_CONFIG = Config(
    connect_timeout=1,
    read_timeout=4,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=16,
)
"""No call takes longer than the margin; what fails longer is retried by redelivery."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One Kinesis record. ``data`` is None where the event's base64 is broken."""

    seq: str
    shard: str
    data: bytes | None
    raw: str
    arrived_at: datetime

    @property
    def padded_seq(self) -> str:
        return self.seq.zfill(SEQ_WIDTH)


def kinesis_records(event: dict[str, Any]) -> list[Arrived]:
    """The records of a Kinesis event, in stream order. Raises ValueError for any other event."""
    try:
        return [_arrived(record) for record in event["Records"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no Kinesis event: {error!r} is missing") from None


def _arrived(record: dict[str, Any]) -> Arrived:
    kinesis = record["kinesis"]
    raw = kinesis["data"]
    try:
        data = base64.b64decode(raw, validate=True)
    except ValueError:
        data = None
    return Arrived(
        seq=kinesis["sequenceNumber"],
        shard=record["eventID"].split(":", 1)[0],
        data=data,
        raw=raw,
        arrived_at=datetime.fromtimestamp(kinesis["approximateArrivalTimestamp"], UTC),
    )


def lowest(sequence_numbers: Iterable[str]) -> str | None:
    """The earliest of some sequence numbers; they are integers, their text has no fixed width."""
    return min(sequence_numbers, key=int, default=None)


def batch_response(failed: str | None) -> dict[str, Any]:
    """Lambda's partial batch response: everything from ``failed`` on is delivered again.

    https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    """
    return {"batchItemFailures": [{"itemIdentifier": failed}] if failed else []}


def time_left(context: Any) -> Callable[[], float]:
    """Seconds of function time left before the margin; asked anew at each call."""

    def left() -> float:
        return float(context.get_remaining_time_in_millis()) / 1000 - MARGIN_S

    return left


def account_of(context: Any) -> str:
    """The account that the function runs in, from its own ARN."""
    return str(context.invoked_function_arn).split(":")[4]
