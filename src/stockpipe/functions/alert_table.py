"""The requests on the alerts table: conditional writes, of which one of several callers wins."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from stockpipe.domain.alerts import MUTED, PENDING, SENT, SUPERSEDED, Alert
from stockpipe.domain.exact import EARLIEST, moment_text, parse_moment
from stockpipe.functions.alert_items import OPTIONAL, Item, values_of
from stockpipe.functions.faults import error_code
from stockpipe.functions.readings import Day

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LEASE_S = 90
"""Longer than the function's timeout (60 s): a claimant past its lease is no longer running."""

ABANDONED = "#status = :pending AND #lease_until < :now AND #kind = :kind"
"""A claimant that is gone left it behind."""
FREE = (
    f"attribute_not_exists(#status) OR (#status = :superseded AND #kind = :kind) OR ({ABANDONED})"
)
_OF_A_CLAIM = ["lease_until", "pending_since"]
_REFUSED = "ConditionalCheckFailedException"


class Standing(NamedTuple):
    """An alert that was told, as far as it takes to find out whether it is still true."""

    symbol: str
    id: str
    kind: str
    timestamp: str
    utc_offset_s: str | None

    @classmethod
    def of(cls, alert: Alert) -> Standing:
        signal = alert.signal
        return cls(
            alert.symbol, alert.id, signal.kind, signal.timestamp, str(signal.reading.utc_offset_s)
        )

    @property
    def day(self) -> Day | None:
        """The day that it is told once for; None for one of a single reading."""
        occasion = self.id.partition("#")[0]
        return Day(occasion, int(self.utc_offset_s or 0)) if len(occasion) == 10 else None


class Taken(Exception):
    """The item is not as a claim wants it; ``found`` is how it is."""

    def __init__(self, found: Item) -> None:
        super().__init__(found)
        self.found = found

    @property
    def kind(self) -> str | None:
        kind: dict[str, str] = self.found.get("kind", {})
        return kind.get("S")

    @property
    def pending(self) -> bool:
        return bool(self.found.get("status", {}).get("S") == PENDING)


class AlertTable:
    """One table of alerts. What DynamoDB refuses or cannot do now is raised as it came."""

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb, self._table = dynamodb, table

    def claim(self, alert: Alert, condition: str, now: datetime, *, muted: bool) -> Item:
        """Claim where the condition holds; returns the item as it was before. Raises Taken.

        ``pending_since`` stays what it was, however often the alert is claimed again.
        """
        return self._claim(alert, condition, now, muted=muted)

    def turn_around(self, alert: Alert, found: Item, now: datetime, *, muted: bool) -> Item:
        """Claim the item of a signal that a late reading turned into another kind. Raises Taken.

        The other one keeps a place in the history, under an id of its own. Where this kind was
        told before it was turned around, such a place says so. Returns what is known of it.
        """
        other = found["kind"]["S"]
        superseded = {"id": {"S": f"{alert.id}#{other}"}, "status": {"S": SUPERSEDED}}
        kept = {name: value for name, value in found.items() if name not in _OF_A_CLAIM}
        self._dynamodb.put_item(TableName=self._table, Item={**kept, **superseded})
        told = self._dynamodb.get_item(
            TableName=self._table,
            Key=_key(alert.symbol, f"{alert.id}#{alert.signal.kind}"),
            ConsistentRead=True,
        ).get("Item", {})
        self._claim(alert, "#kind = :other", now, muted=muted, instead_of=other, told=told)
        return dict(told)

    def _claim(
        self,
        alert: Alert,
        condition: str,
        now: datetime,
        *,
        muted: bool,
        instead_of: str | None = None,
        told: Mapping[str, Any] | None = None,
    ) -> Item:
        values = {**values_of(alert), "status": {"S": MUTED if muted else PENDING}}
        gone = [name for name in OPTIONAL if name not in values]
        since = "if_not_exists(#pending_since, :now)" if instead_of is None else ":now"
        assigned = [] if muted else [f"#pending_since = {since}"]
        if muted:
            gone += _OF_A_CLAIM
        else:
            values["lease_until"] = {"N": str(int(now.timestamp()) + LEASE_S)}
        if told and "sent_at" in told:
            values["sent_at"] = told["sent_at"]
        elif instead_of is not None:
            gone.append("sent_at")
        assigned += [f"#{name} = :{name}" for name in values]
        return self._update(
            alert.symbol,
            alert.id,
            _expression(assigned, gone),
            condition,
            {
                **{f":{name}": value for name, value in values.items()},
                ":pending": {"S": PENDING},
                ":superseded": {"S": SUPERSEDED},
                ":other": {"S": instead_of or ""},
                ":now": {"N": str(int(now.timestamp()))},
            },
        )

    def mark_sent(self, alert: Alert, sent_at: str) -> None:
        """Mark what was published. Where it was superseded or turned around meanwhile, only when
        it went out is noted: true again, it must not go out again."""
        try:
            self._update(
                alert.symbol,
                alert.id,
                "SET #status = :sent, #sent_at = :at REMOVE #lease_until, #pending_since",
                "#status IN (:pending, :muted) AND #kind = :kind",
                {
                    ":sent": {"S": SENT},
                    ":at": {"S": sent_at},
                    ":pending": {"S": PENDING},
                    ":muted": {"S": MUTED},
                    ":kind": {"S": alert.signal.kind},
                },
            )
        except Taken as taken:
            turned = taken.kind not in (None, alert.signal.kind)
            self._if_there(
                alert.symbol,
                f"{alert.id}#{alert.signal.kind}" if turned else alert.id,
                "SET #sent_at = :at",
                "#kind = :kind",
                {":at": {"S": sent_at}, ":kind": {"S": alert.signal.kind}},
            )

    def release(self, alert: Alert) -> None:
        """End the lease now, so that the next delivery need not wait for it."""
        self._if_there(
            alert.symbol,
            alert.id,
            "SET #lease_until = :over",
            "#status = :pending AND #kind = :kind",
            {
                ":over": {"N": "0"},
                ":pending": {"S": PENDING},
                ":kind": {"S": alert.signal.kind},
            },
        )

    def supersede(self, told: Standing) -> bool:
        """Mark an alert that is no longer true; whether it still was the one that is meant."""
        return self._if_there(
            told.symbol,
            told.id,
            "SET #status = :superseded REMOVE #pending_since",
            "#kind = :kind",
            {":superseded": {"S": SUPERSEDED}, ":kind": {"S": told.kind}},
        )

    def correct(self, alert: Alert) -> bool:
        """Describe anew an alert of a day that is true by another reading than it was made of."""
        values = values_of(alert)
        return self._if_there(
            alert.symbol,
            alert.id,
            _expression(
                [f"#{name} = :{name}" for name in values],
                [name for name in OPTIONAL if name not in values],
            ),
            "#kind = :kind",
            {f":{name}": value for name, value in values.items()},
        )

    def between(self, symbol: str, first: str, last: str) -> Iterator[Item]:
        """The alerts of a symbol whose occasion lies between two timestamps, inclusive.

        An id begins with the timestamp, or for what is told once a day with the day alone.
        """
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="symbol = :symbol AND id BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":symbol": {"S": symbol},
                ":first": {"S": day_before(first)},
                ":last": {"S": f"{day_after(last)}#~"},
            },
            ConsistentRead=True,
        )
        for page in pages:
            yield from page["Items"]

    def _if_there(
        self, symbol: str, alert_id: str, update: str, condition: str, values: Mapping[str, Any]
    ) -> bool:
        try:
            self._update(symbol, alert_id, update, condition, values)
        except Taken:
            return False
        return True

    def _update(
        self, symbol: str, alert_id: str, update: str, condition: str, values: Mapping[str, Any]
    ) -> Item:
        """The item as it was before. DynamoDB refuses names and values that are not used."""
        used = set(re.findall(r"[#:]\w+", f"{update} {condition}"))
        try:
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key=_key(symbol, alert_id),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeNames={name: name[1:] for name in used if name[0] == "#"},
                ExpressionAttributeValues={name: values[name] for name in used if name[0] == ":"},
                ReturnValues="ALL_OLD",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error_code(error) != _REFUSED:
                raise
            found: Any = error.response.get("Item")  # not in botocore's typed response
            raise Taken(dict(found or {})) from error
        return dict(answer.get("Attributes") or {})


def _expression(assigned: Sequence[str], gone: Sequence[str]) -> str:
    removed = ", ".join(f"#{name}" for name in gone)
    return f"SET {', '.join(assigned)}" + (f" REMOVE {removed}" if removed else "")


def _key(symbol: str, alert_id: str) -> Item:
    return {"symbol": {"S": symbol}, "id": {"S": alert_id}}


def day_before(timestamp: str) -> str:
    """A day at an exchange may be another than in UTC: the range begins one earlier."""
    moment = max(parse_moment(timestamp) - timedelta(days=1), parse_moment(EARLIEST))
    return moment_text(moment)[:10]


def day_after(timestamp: str) -> str:
    return moment_text(parse_moment(timestamp) + timedelta(days=1))[:10]
