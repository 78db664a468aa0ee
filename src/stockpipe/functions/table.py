"""Processed items and how they get into DynamoDB: in batches, in time order, all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import parse_moment, price_text
from stockpipe.domain.quote import Quote
from stockpipe.domain.retry import backoff
from stockpipe.functions.archive import Row
from stockpipe.functions.faults import error_code, is_transient

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

BATCH_WRITE_LIMIT = 25
"""https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html"""

AFTER = "after"
"""The attribute in which an item names the row of its batch that comes before it. BatchWriteItem
has no order: a newer row may be visible before an older one, and a crossing computed in between
would be false. The trend function waits for the named row (docs/decisions/0003)."""


class Written(NamedTuple):
    """``unfinished`` rows to be delivered again; ``rejected`` rows that DynamoDB never takes."""

    unfinished: list[Row]
    rejected: list[tuple[Row, str]]


def item_of(
    quote: Quote, *, anomaly_micro: int, ttl_s: int | None = None, after: str | None = None
) -> dict[str, Any]:
    """The processed item in DynamoDB's typed form, numbers as exact decimal text.

    ``anomaly_micro`` in 10^-6 percent; ``ttl_s`` seconds from the quote's own time.
    """
    numbers: dict[str, str | None] = {
        "open": price_text(quote.open),
        "high": price_text(quote.high),
        "low": price_text(quote.low),
        "price": price_text(quote.price),
        "previous_close": price_text(quote.previous_close),
        "change": quote.change,
        "change_percent": quote.change_percent,
        "volume": str(quote.volume),
        "moving_average": quote.moving_average,
        "utc_offset_s": None if quote.utc_offset_s is None else str(quote.utc_offset_s),
        "expires_at": (
            None if ttl_s is None else str(int(parse_moment(quote.timestamp).timestamp()) + ttl_s)
        ),
    }
    texts = {
        "symbol": quote.symbol,
        "timestamp": quote.timestamp,
        "anomaly": "Yes" if quote.is_anomaly(anomaly_micro) else "No",
        "source": quote.source,
        AFTER: after,
    }
    return {
        **{name: {"N": value} for name, value in numbers.items() if value is not None},
        **{name: {"S": value} for name, value in texts.items() if value is not None},
    }


class QuoteTable:
    """Writes rows of one table."""

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        *,
        anomaly_micro: int,
        ttl_s: int | None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._dynamodb, self._table, self._clock = dynamodb, table, clock
        self._anomaly_micro, self._ttl_s = anomaly_micro, ttl_s

    def write(self, rows: Sequence[Row], left: Callable[[], float]) -> Written:
        """Write rows of distinct keys; at most ceil(n/25) calls where nothing is refused.

        A chunk starts only when the one before is wholly visible; at the first chunk that cannot
        be finished in time, it and all later ones are unfinished. Raises what is neither transient
        nor a ValidationException.
        """
        ordered = sorted(rows, key=lambda row: (row.quote.timestamp, row.quote.symbol))
        previous: dict[str, str] = {}
        puts = []
        for row in ordered:
            quote = row.quote
            item = item_of(
                quote,
                anomaly_micro=self._anomaly_micro,
                ttl_s=self._ttl_s,
                after=previous.get(quote.symbol),
            )
            previous[quote.symbol] = quote.timestamp
            puts.append((row, {"PutRequest": {"Item": item}}))
        rejected: list[tuple[Row, str]] = []
        for start in range(0, len(puts), BATCH_WRITE_LIMIT):
            chunk = puts[start : start + BATCH_WRITE_LIMIT]
            try:
                finished = self._write_chunk([put for _, put in chunk], left)
            except Exception as error:
                if error_code(error) != "ValidationException":
                    raise
                # DynamoDB refuses a whole call for one item: find it by writing singly.
                refused, finished = self._write_singly(chunk, left)
                rejected += refused
            if not finished:
                return Written([row for row, _ in puts[start:]], rejected)
        return Written([], rejected)

    def _write_singly(
        self, chunk: Sequence[tuple[Row, dict[str, Any]]], left: Callable[[], float]
    ) -> tuple[list[tuple[Row, str]], bool]:
        rejected: list[tuple[Row, str]] = []
        for row, put in chunk:
            try:
                if not self._write_chunk([put], left):
                    return rejected, False
            except Exception as error:
                if error_code(error) != "ValidationException":
                    raise
                rejected.append((row, f"DynamoDB refuses the item: {error}"))
        return rejected, True

    def _write_chunk(self, puts: list[dict[str, Any]], left: Callable[[], float]) -> bool:
        """Write until nothing is unprocessed; False when the time is over before that."""
        pending: dict[str, Any] = {self._table: puts}
        for wait in backoff(base_s=0.02, cap_s=2.0):
            if left() <= 0:
                return False
            try:
                answer = self._dynamodb.batch_write_item(RequestItems=pending)
            except Exception as error:
                if not is_transient(error):
                    raise
            else:
                pending = dict(answer.get("UnprocessedItems") or {})
                if not pending:
                    return True
            self._clock.sleep(min(wait, max(0.0, left())))
        raise AssertionError("backoff never ends")
