"""What fired: the alerts of a stack, oldest first; and a test of who would be told."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stockpipe.aws import Aws
from stockpipe.domain import messages
from stockpipe.domain.alerts import Alert
from stockpipe.domain.exact import MICRO
from stockpipe.domain.rules import PriceRule
from stockpipe.domain.signals import DEATH, GOLDEN, MOVE, PRICE, SPIKE, Reading, Signal
from stockpipe.errors import NotProvisioned
from stockpipe.functions.alert_items import alert_of
from stockpipe.functions.alert_table import day_before
from stockpipe.functions.faults import error_code
from stockpipe.operate.records import Record, plain
from stockpipe.operate.subscribers import Subscriber, subscribers

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_SHOWN = (
    "symbol", "timestamp", "rule", "kind", "price", "sma_fast", "sma_slow",
    "change_percent", "level", "sigmas", "status", "sent_at",
)  # fmt: skip

TEST_MARK = "TEST: "
TEST_NOTE = "This is a test: nothing has happened, and the numbers are made up."
_SMS_LENGTH = 140
_PREVIOUS_CLOSE = 100 * MICRO
_SAMPLES: dict[str, dict[str, Any]] = {  # of a day that began at 100
    GOLDEN: {"price": 103, "sma_fast": 101, "sma_slow": 100},
    DEATH: {"price": 97, "sma_fast": 99, "sma_slow": 100},
    MOVE: {"price": 106},
    SPIKE: {"price": 106, "sigmas": "6.5"},
    PRICE: {"price": 106, "level": 105},
}


def history(
    dynamodb: DynamoDBClient,
    table: str,
    *,
    symbols: Sequence[str] = (),
    since: str | None = None,
    kinds: Collection[str] = (),
    statuses: Collection[str] = (),
) -> list[Record]:
    """Every alert of the symbols (empty: of all) whose quote is not older than ``since``, of
    these kinds and in these states (empty: of and in any).

    Each is ``symbol, timestamp, rule, kind, price``, what belongs to its kind (``sma_fast,
    sma_slow, change_percent, level, sigmas``; None where it does not), ``status`` and ``sent_at``
    (None until it was sent). Raises :class:`NotProvisioned`.
    """
    try:
        items = _of_symbols(dynamodb, table, symbols, since) if symbols else _all(dynamodb, table)
    except Exception as error:
        if error_code(error) == "ResourceNotFoundException":
            raise NotProvisioned(
                f"There is no table {table}.", hint="Run `stockpipe provision` first."
            ) from error
        raise
    alerts = []
    for item in items:
        record = plain(item) | {"change_percent": _change(item)}
        if (
            (since is None or record["timestamp"] >= since)
            and (not kinds or record["kind"] in kinds)
            and (not statuses or record["status"] in statuses)
        ):
            alerts.append({name: record.get(name) for name in _SHOWN})
    return sorted(alerts, key=lambda alert: (alert["timestamp"], alert["symbol"], alert["rule"]))


def _change(item: dict[str, Any]) -> Decimal | None:
    """Percent against the previous close, to 4 places."""
    if "previous_close" not in item:
        return None
    reading = alert_of(item).signal.reading
    return Decimal(reading.change_percent or 0)


def _all(dynamodb: DynamoDBClient, table: str) -> list[dict[str, Any]]:
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [item for page in pages for item in page["Items"]]


def _of_symbols(
    dynamodb: DynamoDBClient, table: str, symbols: Sequence[str], since: str | None
) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    first = day_before(since) if since else "0"
    for symbol in symbols:
        pages = dynamodb.get_paginator("query").paginate(
            TableName=table,
            # An id begins with the timestamp, or with the exchange's day alone.
            KeyConditionExpression="symbol = :symbol AND id >= :since",
            ExpressionAttributeValues={":symbol": {"S": symbol}, ":since": {"S": first}},
            ConsistentRead=True,
        )
        items += [item for page in pages for item in page["Items"]]
    return items


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A test message that SNS has taken, and what it does with it: whose filter lets it through
    (``told``), whose does not, who has not confirmed, and whose filter is not ours to judge."""

    message_id: str
    subject: str
    attributes: dict[str, str]
    told: list[Subscriber]
    filtered: list[Subscriber]
    pending: list[Subscriber]
    unknown: list[Subscriber]


def rehearse(aws: Aws, alert: Alert) -> Rehearsal:
    """Publish an alert in its real forms, marked as a test; the table of alerts is not touched.

    Raises :class:`NotProvisioned`.
    """
    found = subscribers(aws, operations=False)
    subject = (TEST_MARK + messages.subject(alert))[: messages.SUBJECT_LIMIT]
    answer = aws.client("sns").publish(
        TopicArn=aws.names.topic_arn,
        Subject=subject,
        Message=marked(alert),
        MessageStructure="json",
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value}
            for name, value in alert.attributes.items()
        },
    )
    confirmed = [one for one in found if one.confirmed]
    judged = [(one, one.filter.lets(alert.attributes)) for one in confirmed if one.filter]
    return Rehearsal(
        message_id=answer["MessageId"],
        subject=subject,
        attributes=alert.attributes,
        told=[one for one, lets in judged if lets],
        filtered=[one for one, lets in judged if not lets],
        pending=[one for one in found if not one.confirmed],
        unknown=[one for one in confirmed if one.filter is None],
    )


def sample(symbol: str, kind: str, rule: str, timestamp: str) -> Alert:
    """An alert of this kind with made-up numbers; ``timestamp`` normalised."""
    made_up = dict(_SAMPLES[kind])
    reading = Reading(timestamp, made_up.pop("price") * MICRO, _PREVIOUS_CLOSE)
    micro = {name: value * MICRO for name, value in made_up.items() if name != "sigmas"}
    return Alert(symbol, rule, Signal(reading, kind, **micro, sigmas=made_up.get("sigmas")))


def beyond(alert: Alert, rule: PriceRule) -> Alert:
    """A made-up alert with the level of a rule, and a price one percent beyond it."""
    hundredth = max(1, rule.level // 100)
    price = rule.level + (hundredth if rule.above else -hundredth)
    reading = alert.signal.reading._replace(price=price, previous_close=rule.level)
    return replace(alert, signal=replace(alert.signal, reading=reading, level=rule.level))


def marked(alert: Alert) -> str:
    """All forms of an alert's message, each saying first of all that it is a test."""
    forms: dict[str, str] = json.loads(messages.by_protocol(alert))
    shown = {}
    for protocol, form in forms.items():
        if protocol == "default":
            shown[protocol] = _marked_text(form)
        elif protocol == "sms":
            shown[protocol] = (TEST_MARK + form)[:_SMS_LENGTH]
        else:  # a document; its numbers are ours, and whole
            facts = json.loads(form)
            words = {"subject": TEST_MARK + facts["subject"], "text": _marked_text(facts["text"])}
            shown[protocol] = json.dumps({**facts, **words, "test": True})
    return json.dumps(shown)


def _marked_text(text: str) -> str:
    first, _, rest = text.partition("\n")
    return f"{TEST_MARK}{first}\n{TEST_NOTE}\n{rest}"
