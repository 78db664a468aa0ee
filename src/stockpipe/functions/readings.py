"""The stored readings around some changed rows of one symbol: enough to judge, never a scan.

Judging a row needs the window before it; a late row also changes the windows of the readings
after it. One consistent Query from the newest reading backwards covers both while the pipeline
keeps up; where it lags behind, each cluster of changed rows is read from its own newest row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from stockpipe.domain.exact import InvalidQuote, to_micro
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


class Gap(NamedTuple):
    """A row that is not visible, and the row that tells so; both by timestamp."""

    missing: str
    named_by: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """Changed rows that lie together, and the readings around them in time order.

    ``from_start``: there is no older reading.
    """

    changed: tuple[str, ...]
    stored: tuple[Stored, ...]
    from_start: bool

    def gap(self, closed: Collection[str] = ()) -> Gap | None:
        """The first row that is missing among the readings; ``closed`` ones are given up on.

        A row that names a predecessor which is not visible yet, or a changed row that is not
        there itself.
        """
        seen = {one.reading.timestamp for one in self.stored}
        oldest = self.stored[0].reading.timestamp if self.stored else ""
        for one in self.stored:
            known = one.after in seen or one.after in closed
            if one.after and not known and (self.from_start or one.after > oldest):
                return Gap(one.after, one.reading.timestamp)
        gone = [t for t in self.changed if t not in seen and t not in closed]
        return Gap(gone[0], gone[0]) if gone else None

    def before(self, gap: Gap) -> Cluster:
        """The readings before a gap. Those behind it have events of their own."""
        whole = tuple(one for one in self.stored if one.reading.timestamp < gap.named_by)
        return replace(self, stored=whole)

    def holds_all_changed(self) -> bool:
        return set(self.changed) <= {one.reading.timestamp for one in self.stored}

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
            readings = [one.reading for one in backward[::-1]]
            if start is None or _settled(readings, group[0], rules, slow):
                break
            page *= 2  # a flat price may have to be followed far back, once
        stored = backward[::-1]
        if at_end:
            return Cluster(tuple(group), tuple(stored), start is None)
        forward = self._forward(symbol, newest, stored, rules, slow)
        return Cluster(tuple(group), (*stored, *forward), start is None)

    def _forward(
        self,
        symbol: str,
        newest: str,
        stored: Sequence[Stored],
        rules: Sequence[CrossoverRule],
        slow: int,
    ) -> list[Stored]:
        """The next ``slow - 1`` readings, and on through the next one that has a sign.

        Beyond them no window holds a changed row, and the sign seeds whatever follows.
        """
        forward: list[Stored] = []
        page = slow + 5
        start: dict[str, Any] | None = None
        while True:
            rows, start = self._query(symbol, limit=page, since=newest, start=start)
            forward += rows
            if start is None:
                return forward
            readings = [one.reading for one in (*stored, *forward)]
            last_changed = len(stored) + slow - 1
            if all(_sign_after(readings, rule, last_changed) for rule in rules):
                return forward
            page *= 2

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
        rows = [row for item in answer["Items"] if (row := _stored(item))]
        return rows, answer.get("LastEvaluatedKey") or None


def _stored(item: dict[str, Any]) -> Stored | None:
    """A row as a reading. One that somebody else wrote without a price is none: it has no say, and
    must not stop the others."""
    try:
        price = to_micro(item["price"]["N"])
    except (KeyError, InvalidQuote):
        return None
    after = item[AFTER]["S"] if AFTER in item else None
    return Stored(Reading(item["timestamp"]["S"], price), after)


def _settled(
    readings: Sequence[Reading], first_changed: str, rules: Sequence[CrossoverRule], slow: int
) -> bool:
    """Whether the readings tell for every rule on which side the averages were before.

    Where no judged reading has a sign there is nothing to cross, and no need to know.
    """
    if sum(reading.timestamp < first_changed for reading in readings) < slow:
        return False
    for rule in rules:
        scan = CrossoverScan(rule.fast, rule.slow)
        for reading in readings:
            scan.push(reading)
            if scan.now:
                if reading.timestamp >= first_changed:
                    return False
                break
    return True


def _sign_after(readings: Sequence[Reading], rule: CrossoverRule, index: int) -> bool:
    """Whether d is non-zero at some reading from ``index`` on."""
    scan = CrossoverScan(rule.fast, rule.slow)
    for position, reading in enumerate(readings):
        scan.push(reading)
        if position >= index and scan.now:
            return True
    return False
