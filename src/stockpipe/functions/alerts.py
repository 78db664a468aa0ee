"""Alert once: claim, publish, mark.

A conditional write claims an alert for the length of a lease; only the claimant publishes, then
marks it sent. A crash after the claim loses nothing: the lease ends and the record is delivered
again. A message goes out twice only where nobody can know that it went out once: after a crash, or
minutes of throttling, between publish and mark, and after a publish without an answer. SNS has no
idempotency token for standard topics.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from stockpipe.domain import messages
from stockpipe.domain.alerts import MUTED, PENDING, SENT, SUPERSEDED, Alert
from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import EARLIEST, moment_text, parse_moment
from stockpipe.domain.retry import retry
from stockpipe.functions.alert_items import Item, values_of
from stockpipe.functions.faults import error_code, is_transient
from stockpipe.functions.readings import Day

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sns import SNSClient

LEASE_S = 90
"""Longer than the function's timeout (60 s): a claimant past its lease is no longer running."""

MARK_BUDGET_S = 5.0
LEASED = "leased"
KNOWN = "known"

_ABANDONED = "#status = :pending AND #lease_until < :now AND #kind = :kind"
"""A claimant that is gone left it behind."""
_FREE = (
    f"attribute_not_exists(#status) OR (#status = :superseded AND #kind = :kind) OR ({_ABANDONED})"
)


class Standing(NamedTuple):
    """An alert that was told, as far as it takes to find out whether it is still true."""

    id: str
    timestamp: str
    utc_offset_s: str | None

    @property
    def day(self) -> Day | None:
        """The day that it is told once for; None for one of a single reading."""
        occasion = self.id.partition("#")[0]
        return Day(occasion, int(self.utc_offset_s or 0)) if len(occasion) == 10 else None


class AlertBook:
    """The alerts of one stack: a table and the topic that they go out on."""

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        sns: SNSClient,
        *,
        table: str,
        topic_arn: str,
        max_age_s: float | None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._dynamodb, self._sns, self._clock = dynamodb, sns, clock
        self._table, self._topic_arn, self._max_age_s = table, topic_arn, max_age_s

    def settle(self, alert: Alert, cooldown_s: int | None = None) -> str:
        """Bring one alert to its end: ``sent``, ``muted``, ``known`` (it was before) or ``leased``.

        ``leased``: another invocation is publishing it; ask again later. It is muted when its
        quote is too old, or lies less than ``cooldown_s`` after another alert of the same rule.
        """
        muted = self._is_too_old(alert) or (
            cooldown_s is not None and self._is_within(alert, cooldown_s)
        )
        try:
            before = self._claim(alert, _FREE, muted=muted)
        except ClientError as error:
            return self._refused(alert, _found(error))
        return self._finish(alert, before, muted=muted)

    def resume(self, alert: Alert) -> str:
        """Bring an alert whose claimant is gone to its end: like :meth:`settle`.

        Whether it is still true is not known here, so unlike there nothing but such an alert is
        touched: ``known`` is also one that was superseded meanwhile.
        """
        muted = self._is_too_old(alert)
        try:
            before = self._claim(alert, _ABANDONED, muted=muted)
        except ClientError as error:
            return LEASED if _is_pending(_found(error)) else KNOWN
        return self._finish(alert, before, muted=muted)

    def _is_too_old(self, alert: Alert) -> bool:
        age = self._clock.now() - parse_moment(alert.signal.timestamp)
        return self._max_age_s is not None and age.total_seconds() > self._max_age_s

    def _is_within(self, alert: Alert, cooldown_s: int) -> bool:
        """Whether an alert of the rule went out, or is about to, for a quote so shortly before."""
        now = alert.signal.timestamp
        since = moment_text(parse_moment(now) - timedelta(seconds=cooldown_s))
        return any(
            item["rule"]["S"] == alert.rule
            and item["id"]["S"] != alert.id
            and item["status"]["S"] in (SENT, PENDING)
            and since < item["timestamp"]["S"] < now
            for item in self._between(alert.symbol, since, now)
        )

    def _between(self, symbol: str, first: str, last: str) -> Iterator[Item]:
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

    def _finish(self, alert: Alert, before: Item, *, muted: bool) -> str:
        """What follows a claim of what was ``before``."""
        sent_at = before.get("sent_at", {}).get("S")
        if muted and not sent_at:
            return MUTED
        if not sent_at:  # else it is true again after having been superseded
            self._publish(alert)
            sent_at = moment_text(self._clock.now())
        self._mark_sent(alert, sent_at)
        return SENT

    def standing(self, symbol: str, rule: str, first: str, last: str) -> list[Standing]:
        """What was alerted for readings between two timestamps (inclusive), and not superseded."""
        return [
            Standing(item["id"]["S"], item["timestamp"]["S"], item.get("utc_offset_s", {}).get("N"))
            for item in self._between(symbol, first, last)
            if item["rule"]["S"] == rule
            and item["status"]["S"] != SUPERSEDED
            and first <= item["timestamp"]["S"] <= last
        ]

    def supersede(self, symbol: str, alert_id: str) -> None:
        """Mark an alert that is no longer true."""
        self._dynamodb.update_item(
            TableName=self._table,
            Key=self._key(symbol, alert_id),
            UpdateExpression="SET #status = :superseded REMOVE pending_since",
            ConditionExpression="attribute_exists(id)",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":superseded": {"S": SUPERSEDED}},
        )

    def correct(self, alert: Alert) -> None:
        """Describe anew an alert of a day that is true by another reading than it was made of."""
        values = values_of(alert)
        self._dynamodb.update_item(
            TableName=self._table,
            Key=self._key(alert.symbol, alert.id),
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
            ConditionExpression="attribute_exists(id)",
            ExpressionAttributeNames={f"#{name}": name for name in values},
            ExpressionAttributeValues={f":{name}": value for name, value in values.items()},
        )

    def _claim(self, alert: Alert, condition: str, *, muted: bool) -> Item:
        """Claim where the condition holds; returns the item as it was before.

        ``pending_since`` stays what it was, however often the alert is claimed again.
        """
        now = int(self._clock.now().timestamp())
        values = values_of(alert)
        values["status"] = {"S": MUTED if muted else PENDING}
        if not muted:
            values["lease_until"] = {"N": str(now + LEASE_S)}
        assignments = [f"#{name} = :{name}" for name in values]
        names = {f"#{name}": name for name in (*values, "lease_until", "status", "kind")}
        if not muted:
            assignments.append("pending_since = if_not_exists(pending_since, :now)")
        compared = {":superseded": {"S": SUPERSEDED}} if ":superseded" in condition else {}
        answer = self._dynamodb.update_item(
            TableName=self._table,
            Key=self._key(alert.symbol, alert.id),
            UpdateExpression=f"SET {', '.join(assignments)}",
            ConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={
                **{f":{name}": value for name, value in values.items()},
                **compared,
                ":pending": {"S": PENDING},
                ":now": {"N": str(now)},
            },
            ReturnValues="ALL_OLD",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        return dict(answer.get("Attributes") or {})

    def _refused(self, alert: Alert, found: Item) -> str:
        """What a refused claim means."""
        if found and found["kind"]["S"] != alert.signal.kind:
            # A late reading turned this very signal around. The old one keeps a place in the
            # history under an id of its own, and the way is free for the new one.
            self._dynamodb.put_item(
                TableName=self._table,
                Item={
                    **found,
                    "id": {"S": f"{alert.id}#{found['kind']['S']}"},
                    "status": {"S": SUPERSEDED},
                },
            )
            self._dynamodb.delete_item(TableName=self._table, Key=self._key(alert.symbol, alert.id))
            return self.settle(alert)
        return LEASED if _is_pending(found) else KNOWN

    def _publish(self, alert: Alert) -> None:
        try:
            self._sns.publish(
                TopicArn=self._topic_arn,
                Subject=messages.subject(alert),
                Message=messages.by_protocol(alert),
                MessageStructure="json",
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value}
                    for name, value in alert.attributes.items()
                },
            )
        except ClientError:
            self._release(alert)  # an answer that says no; without one it may have gone out
            raise

    def _release(self, alert: Alert) -> None:
        """End the lease now, so that the next delivery need not wait for it."""
        self._dynamodb.update_item(
            TableName=self._table,
            Key=self._key(alert.symbol, alert.id),
            UpdateExpression="SET lease_until = :over",
            ConditionExpression="#status = :pending",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":over": {"N": "0"}, ":pending": {"S": PENDING}},
        )

    def _mark_sent(self, alert: Alert, sent_at: str) -> None:
        """Tried on the spot: giving up here would publish the alert again after the lease."""

        def mark() -> None:
            self._dynamodb.update_item(
                TableName=self._table,
                Key=self._key(alert.symbol, alert.id),
                UpdateExpression=(
                    "SET #status = :sent, sent_at = :at REMOVE lease_until, pending_since"
                ),
                # Another invocation may have superseded it, or turned it around, meanwhile.
                ConditionExpression="#status IN (:pending, :muted) AND #kind = :kind",
                ExpressionAttributeNames={"#status": "status", "#kind": "kind"},
                ExpressionAttributeValues={
                    ":sent": {"S": SENT},
                    ":at": {"S": sent_at},
                    ":pending": {"S": PENDING},
                    ":muted": {"S": MUTED},
                    ":kind": {"S": alert.signal.kind},
                },
            )

        try:
            retry(mark, transient=is_transient, budget_s=MARK_BUDGET_S, clock=self._clock)
        except ClientError as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise

    @staticmethod
    def _key(symbol: str, alert_id: str) -> Item:
        return {"symbol": {"S": symbol}, "id": {"S": alert_id}}


def day_before(timestamp: str) -> str:
    """A day at an exchange may be another than in UTC: the range begins one earlier."""
    moment = max(parse_moment(timestamp) - timedelta(days=1), parse_moment(EARLIEST))
    return moment_text(moment)[:10]


def day_after(timestamp: str) -> str:
    return moment_text(parse_moment(timestamp) + timedelta(days=1))[:10]


def _is_pending(item: Item) -> bool:
    return bool(item.get("status", {}).get("S") == PENDING)


def _found(error: ClientError) -> Item:
    """The item that refused a claim, empty where there is none; raises any other error again."""
    if error_code(error) != "ConditionalCheckFailedException":
        raise error
    found: Any = error.response.get("Item")  # not in botocore's typed response
    return dict(found or {})
