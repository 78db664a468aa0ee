"""Reading processed records: the newest of some symbols, and those that arrive.

DynamoDB Streams serve two readers per shard and the trend function is one of them, so following
means Query: the newest rows with an overlap, minus what was seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import moment_text, parse_moment
from stockpipe.errors import NotProvisioned
from stockpipe.functions.faults import error_code
from stockpipe.functions.table import AFTER

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Record = dict[str, Any]
"""A processed item as plain values: str, and int or Decimal for numbers."""

OVERLAP_S = 60.0
"""Rows this much older than the newest are read again: a late row is shown too."""
DISCOVER_S = 5.0
CALLS_PER_S = 20.0

_ORDER = (
    "symbol", "timestamp", "price", "previous_close", "change", "change_percent", "open", "high",
    "low", "volume", "moving_average", "anomaly", "source", "utc_offset_s", "expires_at",
)  # fmt: skip


def plain(item: dict[str, Any]) -> Record:
    """An item out of DynamoDB's typed form; the pipeline's own bookkeeping is left out."""
    record: Record = {}
    for name in sorted(item, key=lambda name: (*_ORDER, name).index(name)):
        if name != AFTER:
            kind, value = next(iter(item[name].items()))
            record[name] = _number(value) if kind == "N" else value
    return record


def _number(text: str) -> int | Decimal:
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else number


class Records:
    """Reads one stack's table."""

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb, self._table = dynamodb, table

    def symbols(self) -> list[str]:
        """Every symbol that has records: one small read each, not a scan of the rows.

        A Scan of Limit 1 whose start key is the symbol's last row jumps to the next partition key.
        Raises :class:`NotProvisioned`.
        """
        found: list[str] = []
        start: dict[str, Any] | None = None
        while True:
            request: dict[str, Any] = {"TableName": self._table, "Limit": 1}
            request["ProjectionExpression"] = "symbol, #ts"
            request["ExpressionAttributeNames"] = {"#ts": "timestamp"}
            if start:
                request["ExclusiveStartKey"] = start
            items = self._call("scan", request)["Items"]
            if not items:
                return sorted(found)
            symbol = items[0]["symbol"]["S"]
            if symbol not in found:  # again where a row arrived between two reads
                found.append(symbol)
            newest = self.newest(symbol, 1)
            last = newest[0]["timestamp"] if newest else items[0]["timestamp"]["S"]
            start = {"symbol": {"S": symbol}, "timestamp": {"S": last}}

    def newest(
        self, symbol: str, count: int, *, since: str | None = None, anomalies: bool = False
    ) -> list[Record]:
        """The newest rows of a symbol, oldest first; ``since`` is a normalised timestamp.

        ``anomalies``: only those, however far back they lie.
        """
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "symbol = :symbol" + (" AND #ts >= :since" if since else ""),
            "ExpressionAttributeValues": {":symbol": {"S": symbol}},
            "ScanIndexForward": False,
        }
        if since:
            request["ExpressionAttributeNames"] = {"#ts": "timestamp"}
            request["ExpressionAttributeValues"][":since"] = {"S": since}
        if anomalies:
            request["FilterExpression"] = "anomaly = :yes"
            request["ExpressionAttributeValues"][":yes"] = {"S": "Yes"}
        rows: list[Record] = []
        while len(rows) < count:
            # A Limit counts what is read, before the filter.
            request["Limit"] = 1000 if anomalies else min(count - len(rows), 1000)
            answer = self._call("query", request)
            rows += [plain(item) for item in answer["Items"]][: count - len(rows)]
            if not answer.get("LastEvaluatedKey"):
                break
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        return rows[::-1]

    def _call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._dynamodb, operation)(**request)
        except Exception as error:
            if error_code(error) == "ResourceNotFoundException":
                raise NotProvisioned(
                    f"There is no table {self._table}.", hint="Run `stockpipe provision` first."
                ) from error
            raise
        return answer


@dataclass
class Follower:
    """Yields records as they appear; ``symbols`` empty means all, discovered as they come."""

    records: Records
    symbols: Sequence[str] = ()
    anomalies: bool = False
    clock: Clock = SYSTEM_CLOCK
    _seen: dict[str, dict[str, Record]] = field(default_factory=dict)
    _known: list[str] = field(default_factory=list)
    _discovered: float = float("-inf")

    def first(
        self, count: int, since: str | None = None, *, context: int = 0
    ) -> tuple[list[Record], list[Record]]:
        """The newest ``count`` rows across the symbols, oldest first; :meth:`follow` goes on there.

        Before them come the rows that tell what was: at least ``context`` of each symbol.
        """
        rows: list[Record] = []
        for symbol in self._current():
            newest = self.records.newest(symbol, max(count, context, 1))
            self._seen[symbol] = {row["timestamp"]: row for row in newest}
            rows += newest
        rows.sort(key=lambda row: (row["timestamp"], row["symbol"]))
        young = [row for row in rows if since is None or row["timestamp"] >= since]
        if self.anomalies:
            far = [
                r for s in self._current() for r in self.records.newest(s, count, anomalies=True)
            ]
            young = [row for row in far if since is None or row["timestamp"] >= since]
            young.sort(key=lambda row: (row["timestamp"], row["symbol"]))
        shown = young[-count:] if count else []
        return [row for row in rows if row not in shown], shown

    def follow(self) -> Iterator[list[Record]]:
        """Lists of new or changed rows, for ever; an empty list is a look that found none."""
        while True:
            begun = self.clock.monotonic()
            rows: list[Record] = []
            calls = 0
            for symbol in self._current():
                rows += self._look(symbol)
                calls += 1
            yield sorted(rows, key=lambda row: (row["timestamp"], row["symbol"]))
            pause = max(0.25, calls / CALLS_PER_S) - (self.clock.monotonic() - begun)
            if pause > 0:
                self.clock.sleep(pause)

    def _current(self) -> Sequence[str]:
        if self.symbols:
            return self.symbols
        if self.clock.monotonic() - self._discovered >= DISCOVER_S:
            self._known = self.records.symbols()
            self._discovered = self.clock.monotonic()
        return self._known

    def _look(self, symbol: str) -> list[Record]:
        seen = self._seen.setdefault(symbol, {})
        since = None
        if seen:
            since = moment_text(parse_moment(max(seen)) - timedelta(seconds=OVERLAP_S))
        found = self.records.newest(symbol, 1000, since=since)
        fresh = [row for row in found if seen.get(row["timestamp"]) != row]
        kept = {row["timestamp"]: row for row in found}
        self._seen[symbol] = kept or seen
        return fresh
