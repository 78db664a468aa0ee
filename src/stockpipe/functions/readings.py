"""The stored readings around some changed rows of one symbol: enough to judge, never a scan.

Judging a row needs the window before it; a late row also changes the windows of the readings
after it. One consistent Query from the newest reading backwards covers both while the pipeline
keeps up; where it lags behind, each cluster of changed rows is read from its own newest row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stockpipe.domain.quote import to_micro
from stockpipe.domain.rules import CrossoverRule
from stockpipe.domain.signals import Crossing, CrossoverScan, Reading
from stockpipe.functions.table import AFTER

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True, slots=True)
class Stored:
    """One reading and the row that its batch wrote before it."""

    reading: Reading
    after: str | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """Changed rows that lie together, and the readings around them in time order.

    ``from_start``: there is no older reading. ``to_end``: there is no newer one.
    """

    changed: tuple[str, ...]
    stored: tuple[Stored, ...]
    from_start: bool
    to_end: bool

    def visible(self) -> tuple[Cluster, str | None]:
        """The readings before the first gap, and the missing row that a changed row waits for.

        A gap is a row whose predecessor in its batch is not visible yet.
        """
        seen = {one.reading.timestamp for one in self.stored}
        oldest = self.stored[0].reading.timestamp if self.stored else ""
        whole, missing = self.stored, None
        for index, one in enumerate(self.stored):
            if one.after and one.after not in seen and (self.from_start or one.after > oldest):
                whole, missing = self.stored[:index], one.after
                break
        seen = {one.reading.timestamp for one in whole}
        waits = next((timestamp for timestamp in self.changed if timestamp not in seen), None)
        return replace(self, stored=whole), waits and (missing or waits)

    @property
    def judged(self) -> tuple[str, str]:
        """First and last timestamp whose crossings this cluster tells for certain."""
        return self.changed[0], self.stored[-1].reading.timestamp

    def crossings(self, rule: CrossoverRule) -> list[Crossing]:
        """Every crossing among the judged readings."""
        scan = CrossoverScan(rule.fast, rule.slow)
        found = [crossing for one in self.stored if (crossing := scan.push(one.reading))]
        return [crossing for crossing in found if crossing.timestamp >= self.changed[0]]


class Readings:
    """Reads one table."""

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb, self._table = dynamodb, table

    def clusters(
        self, symbol: str, changed: Iterable[str], rules: Sequence[CrossoverRule]
    ) -> list[Cluster]:
        """The clusters of the changed timestamps of a symbol, oldest first."""
        slow = max(rule.slow for rule in rules)
        waiting = sorted(set(changed))
        clusters: list[Cluster] = []
        at_end = True
        while waiting:
            cluster = self._cluster(symbol, waiting, rules, slow, at_end=at_end)
            at_end = False
            if cluster:
                clusters.append(cluster)
                waiting = [t for t in waiting if t not in cluster.changed]
        return clusters[::-1]

    def _cluster(
        self,
        symbol: str,
        waiting: Sequence[str],
        rules: Sequence[CrossoverRule],
        slow: int,
        *,
        at_end: bool,
    ) -> Cluster | None:
        """The newest cluster; None when the newest readings hold none of the changed rows."""
        newest = waiting[-1]
        page = len(waiting) + 2 * slow
        backward: list[Stored] = []
        start: dict[str, Any] | None = None
        while True:
            rows, start = self._query(
                symbol, limit=page, until=None if at_end else newest, start=start
            )
            backward += rows
            oldest = backward[-1].reading.timestamp if backward else newest
            if at_end and start and oldest > newest:
                return None  # far behind the newest reading
            group = [t for t in waiting if t >= oldest] or [newest]
            before = [one.reading for one in backward[::-1] if one.reading.timestamp < group[0]]
            if start is None or _settled(before, rules, slow):
                break
        stored = backward[::-1]
        if at_end:
            return Cluster(tuple(group), tuple(stored), start is None, True)
        forward, to_end = self._forward(symbol, newest, stored, rules, slow)
        return Cluster(tuple(group), (*stored, *forward), start is None, to_end)

    def _forward(
        self,
        symbol: str,
        newest: str,
        stored: Sequence[Stored],
        rules: Sequence[CrossoverRule],
        slow: int,
    ) -> tuple[list[Stored], bool]:
        """The next ``slow - 1`` readings, and on through the next one that has a sign.

        Beyond them no window holds a changed row, and the sign seeds whatever follows.
        """
        forward: list[Stored] = []
        start: dict[str, Any] | None = None
        while True:
            rows, start = self._query(symbol, limit=slow + 5, since=newest, start=start)
            forward += rows
            if start is None:
                return forward, True
            readings = [one.reading for one in (*stored, *forward)]
            last_changed = len(stored) + slow - 1
            if all(_sign_after(readings, rule, last_changed) for rule in rules):
                return forward, False

    def _query(
        self,
        symbol: str,
        *,
        limit: int,
        until: str | None = None,
        since: str | None = None,
        start: dict[str, Any] | None,
    ) -> tuple[list[Stored], dict[str, Any] | None]:
        """One page: newest first up to ``until``, or oldest first after ``since``."""
        condition = "symbol = :symbol"
        values: dict[str, Any] = {":symbol": {"S": symbol}}
        if until or since:
            condition += " AND #ts <= :edge" if until else " AND #ts > :edge"
            values[":edge"] = {"S": until or since or ""}
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": {"#ts": "timestamp", "#after": AFTER},
            "ExpressionAttributeValues": values,
            "ProjectionExpression": "#ts, price, #after",
            "ConsistentRead": True,
            "ScanIndexForward": bool(since),
            "Limit": limit,
        }
        if start:
            request["ExclusiveStartKey"] = start
        answer = self._dynamodb.query(**request)
        rows = [
            Stored(
                Reading(item["timestamp"]["S"], to_micro(item["price"]["N"])),
                item[AFTER]["S"] if AFTER in item else None,
            )
            for item in answer["Items"]
        ]
        return rows, answer.get("LastEvaluatedKey") or None


def _settled(before: Sequence[Reading], rules: Sequence[CrossoverRule], slow: int) -> bool:
    """Whether every rule has a non-zero sign among the readings before the changed rows."""
    if len(before) < slow:
        return False
    for rule in rules:
        scan = CrossoverScan(rule.fast, rule.slow)
        for reading in before:
            scan.push(reading)
        if not scan.last_sign:
            return False
    return True


def _sign_after(readings: Sequence[Reading], rule: CrossoverRule, index: int) -> bool:
    """Whether d is non-zero at some reading from ``index`` on."""
    scan = CrossoverScan(rule.fast, rule.slow)
    for position, reading in enumerate(readings):
        scan.push(reading)
        if position >= index and scan.now:
            return True
    return False
