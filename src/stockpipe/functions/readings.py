"""The stored readings around some changed rows of one symbol: enough to judge, never a scan.

Judging a row needs the window before it; a late row also changes the windows of the readings
after it. One consistent Query from the newest reading backwards covers both while the pipeline
keeps up; where it lags behind, each cluster of changed rows is read from its own newest row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from stockpipe.domain.exact import moment_text, parse_moment, to_micro
from stockpipe.domain.rules import Rule
from stockpipe.domain.signals import Reading, Signal
from stockpipe.functions.table import AFTER

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


MOST_ROWS = 25_000
"""Some ten pages of 1 MB: what a rule whose bars hold very many rows may cost at most."""
_PROJECTION = "#ts, price, previous_close, #open, utc_offset_s, #after, expires_at"


class TooFarBack(Exception):
    """A rule would need more rows than anybody wants to pay for; the text says so."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One reading and the row that its batch wrote before it; ``kept_s``: how many seconds after
    their quotes such rows expire, None for never."""

    reading: Reading
    after: str | None
    kept_s: float | None = None

    def awaits(self, now: float) -> bool:
        """Whether the row before it, if it is missing, may still come: not where it has expired.

        ``now`` in epoch seconds.
        """
        if self.after is None or self.kept_s is None:
            return self.after is not None
        return parse_moment(self.after).timestamp() + self.kept_s > now


class Gap(NamedTuple):
    """A row that is not visible, and the row that tells so; both by timestamp."""

    missing: str
    named_by: str


class Day(NamedTuple):
    """A day at an exchange, ``YYYY-MM-DD``, and the exchange's offset in seconds."""

    date: str
    utc_offset_s: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """Changed rows that lie together, and the readings around them in time order.

    ``from_start``: there is no older reading.
    """

    changed: tuple[str, ...]
    stored: tuple[Stored, ...]
    from_start: bool

    def gap(self, closed: Collection[str], now: float) -> Gap | None:
        """The first row that is missing among the readings; ``closed`` ones are given up on.

        A row that names a predecessor which is not visible yet, or a changed row that is not
        there itself.
        """
        seen = {one.reading.timestamp for one in self.stored}
        oldest = self.stored[0].reading.timestamp if self.stored else ""
        for one in self.stored:
            known = one.after in seen or one.after in closed or not one.awaits(now)
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

    def judged(self, rule: Rule) -> tuple[str, str]:
        """First and last timestamp that the changes may touch, and of which this cluster tells
        for certain what the rule says."""
        readings = [one.reading for one in self.stored]
        last = min(rule.judged_to(readings), rule.judged_until(readings, self.changed[-1]))
        return rule.judged_from(readings, self.changed[0]), last

    def signals(self, rule: Rule) -> list[Signal]:
        """Every signal among the judged readings."""
        first, last = self.judged(rule)
        scan = rule.scan()
        found = [signal for one in self.stored if (signal := scan.push(one.reading))]
        return [signal for signal in found if first <= signal.timestamp <= last]


class Readings:
    """Reads one table."""

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb, self._table = dynamodb, table

    def clusters(self, symbol: str, changed: Iterable[str], rules: Sequence[Rule]) -> list[Cluster]:
        """The clusters of the changed timestamps of a symbol, oldest first."""
        lead = max(rule.lead for rule in rules)
        waiting = sorted(set(changed))
        clusters: list[Cluster] = []
        at_end = True
        while waiting:
            cluster = self._cluster(symbol, waiting, rules, lead, at_end=at_end)
            at_end = False
            if cluster:
                clusters.append(cluster)
                waiting = [t for t in waiting if t not in cluster.changed]
        return clusters[::-1]

    def timestamps_of(self, symbol: str, day: Day) -> list[str]:
        """Those of all readings on a day, at the exchange or in UTC; and some before or after it,
        since readings need not agree on their exchange's offset."""
        midnight = parse_moment(f"{day.date}T00:00:00Z")
        offset = timedelta(seconds=day.utc_offset_s)
        first, last = sorted((midnight, midnight - offset))
        return self.timestamps_since(
            symbol, moment_text(first), moment_text(last + timedelta(days=1))
        )

    def timestamps_since(self, symbol: str, since: str, until: str | None = None) -> list[str]:
        """Those of all readings behind ``since``, up to ``until``, oldest first; with ``until``
        also that of ``since`` itself."""
        found: list[str] = []
        start: dict[str, Any] | None = None
        while True:
            rows, start = self._query(symbol, since=since, until=until, start=start)
            found += (row.reading.timestamp for row in rows)
            if start is None:
                return found

    def _cluster(
        self,
        symbol: str,
        waiting: Sequence[str],
        rules: Sequence[Rule],
        lead: int,
        *,
        at_end: bool,
    ) -> Cluster | None:
        """The newest cluster; None when the newest readings hold none of the changed rows."""
        newest = waiting[-1]
        page = len(waiting) + 2 * lead + 5
        backward: list[Stored] = []
        forward: list[Stored] | None = [] if at_end else None
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
            if forward is None:
                forward = self._forward(symbol, newest, backward[::-1], rules)
            # Of a flat price only what follows tells whether its past has to be known.
            readings = [one.reading for one in (*backward[::-1], *forward)]
            if start is None or all(rule.settled(readings, group[0]) for rule in rules):
                break
            if len(backward) > MOST_ROWS:
                raise TooFarBack(f"{MOST_ROWS:,} rows are not enough to judge it")
            page *= 2  # a flat price may have to be followed far back, once
        return Cluster(tuple(group), (*backward[::-1], *forward), start is None)

    def _forward(
        self,
        symbol: str,
        newest: str,
        stored: Sequence[Stored],
        rules: Sequence[Rule],
    ) -> list[Stored]:
        """The next readings, until those behind them no longer depend on the changed ones."""
        forward: list[Stored] = []
        page = max(rule.reach for rule in rules) + 6
        start: dict[str, Any] | None = None
        while True:
            rows, start = self._query(symbol, limit=page, since=newest, start=start)
            forward += rows
            if start is None:
                return forward
            readings = [one.reading for one in (*stored, *forward)]
            if all(rule.reached(readings, newest) for rule in rules):
                return forward
            if len(forward) > MOST_ROWS:
                raise TooFarBack(f"{MOST_ROWS:,} rows are not enough to judge it")
            page *= 2

    def _query(
        self,
        symbol: str,
        *,
        limit: int | None = None,
        until: str | None = None,
        since: str | None = None,
        start: dict[str, Any] | None,
    ) -> tuple[list[Stored], dict[str, Any] | None]:
        """One page: newest first up to ``until``; with ``since``, oldest first from behind it."""
        condition = "symbol = :symbol"
        values: dict[str, Any] = {":symbol": {"S": symbol}}
        if since and until:
            condition += " AND #ts BETWEEN :since AND :until"
        elif since or until:
            condition += " AND #ts > :since" if since else " AND #ts <= :until"
        values |= {f":{n}": {"S": t} for n, t in (("since", since), ("until", until)) if t}
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": {
                "#ts": "timestamp",
                "#open": "open",
                "#after": AFTER,
            },
            "ExpressionAttributeValues": values,
            "ProjectionExpression": _PROJECTION,
            "ConsistentRead": True,
            "ScanIndexForward": bool(since),
        }
        if limit:
            request["Limit"] = limit
        if start:
            request["ExclusiveStartKey"] = start
        answer = self._dynamodb.query(**request)
        rows = [row for item in answer["Items"] if (row := _stored(item))]
        return rows, answer.get("LastEvaluatedKey") or None


def _stored(item: dict[str, Any]) -> Stored | None:
    """A row as a reading. One that somebody else wrote without a price is none: it has no say, and
    must not stop the others."""
    try:
        reading = Reading(
            item["timestamp"]["S"],
            to_micro(item["price"]["N"]),
            _optional(item, "previous_close"),
            _optional(item, "open"),
            int(item["utc_offset_s"]["N"]) if "utc_offset_s" in item else 0,
        )
    except (KeyError, ValueError):  # InvalidQuote is one
        return None
    return Stored(reading, item[AFTER]["S"] if AFTER in item else None, _kept_s(item))


def _kept_s(item: dict[str, Any]) -> float | None:
    expires_at = item.get("expires_at", {}).get("N")
    if expires_at is None:
        return None
    return float(expires_at) - parse_moment(item["timestamp"]["S"]).timestamp()


def _optional(item: dict[str, Any], name: str) -> int | None:
    return to_micro(item[name]["N"], name) if "N" in item.get(name, {}) else None
