"""What fired: the alerts of a stack, oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stockpipe.errors import NotProvisioned
from stockpipe.functions.faults import error_code
from stockpipe.functions.pending import alert_of
from stockpipe.operate.records import Record, plain

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_SHOWN = (
    "symbol", "timestamp", "rule", "kind", "price", "sma_fast", "sma_slow",
    "change_percent", "level", "sigmas", "status", "sent_at",
)  # fmt: skip


def history(
    dynamodb: DynamoDBClient,
    table: str,
    *,
    symbols: Sequence[str] = (),
    since: str | None = None,
) -> list[Record]:
    """Every alert of the symbols (empty: of all) whose quote is not older than ``since``.

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
        if since is None or record["timestamp"] >= since:
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
    for symbol in symbols:
        pages = dynamodb.get_paginator("query").paginate(
            TableName=table,
            # An id begins with the timestamp, so that a period is a range of ids.
            KeyConditionExpression="symbol = :symbol AND id >= :since",
            ExpressionAttributeValues={":symbol": {"S": symbol}, ":since": {"S": since or "0"}},
            ConsistentRead=True,
        )
        items += [item for page in pages for item in page["Items"]]
    return items
