"""Alert once: claim, publish, mark.

A conditional write claims an alert for the length of a lease; only the claimant publishes, then
marks it sent. A crash after the claim loses nothing: the lease ends and the record is delivered
again. A message goes out twice only where nobody can know that it went out once: after a crash, or
minutes of throttling, between publish and mark, and after a publish without an answer. SNS has no
idempotency token for standard topics.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from stockpipe.domain import messages
from stockpipe.domain.alerts import MUTED, PENDING, SENT, SUPERSEDED, Alert
from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import moment_text, parse_moment
from stockpipe.domain.retry import retry
from stockpipe.functions.alert_items import Item
from stockpipe.functions.alert_table import ABANDONED, FREE, AlertTable, Standing, Taken
from stockpipe.functions.faults import is_transient

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sns import SNSClient

MARK_BUDGET_S = 5.0
LEASED = "leased"
KNOWN = "known"


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
        self._table, self._sns, self._clock = AlertTable(dynamodb, table), sns, clock
        self._topic_arn, self._max_age_s = topic_arn, max_age_s

    def settle(
        self,
        alert: Alert,
        cooldown_s: int | None = None,
        still_true: Callable[[], bool] | None = None,
    ) -> str:
        """Bring one alert to its end: ``sent``, ``muted``, ``known`` (it was before) or ``leased``.

        ``leased``: another invocation is publishing it; ask again later. It is muted when it comes
        too late, or its quote lies less than ``cooldown_s`` after another alert of the same rule.

        Whoever judges without an event gives ``still_true``, which is asked after the claim: what
        changed before it is seen, and who changes something later sees the claim. What is not true
        any more is ``superseded``, and one of another kind is left to the event that made it so.
        """
        muted = self._is_too_late(alert) or (
            cooldown_s is not None and self._is_within(alert, cooldown_s)
        )
        try:
            before = self._claim(alert, muted=muted, turns=still_true is None)
        except Taken as taken:
            return LEASED if taken.pending else KNOWN
        if still_true is not None and not self._holds(alert, still_true):
            return SUPERSEDED
        return self._finish(alert, before, muted=muted)

    def _claim(self, alert: Alert, *, muted: bool, turns: bool) -> Item:
        now = self._clock.now()
        try:
            return self._table.claim(alert, FREE, now, muted=muted)
        except Taken as taken:
            if not turns or taken.kind in (None, alert.signal.kind):
                raise
            return self._table.turn_around(alert, taken.found, now, muted=muted)

    def _holds(self, alert: Alert, still_true: Callable[[], bool]) -> bool:
        """Gives up the claim of what is not true, or cannot be told to be."""
        holds = False
        try:
            holds = still_true()
        finally:
            if not holds:
                self._table.supersede(Standing.of(alert))
        return holds

    def resume(self, alert: Alert) -> str:
        """Bring an alert whose claimant is gone to its end: like :meth:`settle`.

        Whether it is still true is not known here, so unlike there nothing but such an alert is
        touched: ``known`` is also one that was superseded meanwhile.
        """
        muted = self._is_too_late(alert)
        try:
            before = self._table.claim(alert, ABANDONED, self._clock.now(), muted=muted)
        except Taken as taken:
            return LEASED if taken.pending else KNOWN
        return self._finish(alert, before, muted=muted)

    def _is_too_late(self, alert: Alert) -> bool:
        """Of a bar the clock runs from the reading that completed it: the first of Monday tells
        what Friday's bar was."""
        age = self._clock.now() - parse_moment(alert.signal.known_at or alert.signal.timestamp)
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
            for item in self._table.between(alert.symbol, since, now)
        )

    def _finish(self, alert: Alert, before: Item, *, muted: bool) -> str:
        """What follows a claim of what was ``before``."""
        sent_at = before.get("sent_at", {}).get("S")
        if muted and not sent_at:
            return MUTED
        if not sent_at:  # else it is true again after having been superseded
            self._publish(alert)
            sent_at = moment_text(self._clock.now())
        marked_at = sent_at
        self._insist(lambda: self._table.mark_sent(alert, marked_at))
        return SENT

    def standing(self, symbol: str, rule: str, first: str, last: str) -> list[Standing]:
        """What was alerted for readings between two timestamps (inclusive), and not superseded."""
        return [
            Standing(
                symbol,
                item["id"]["S"],
                item["kind"]["S"],
                item["timestamp"]["S"],
                item.get("utc_offset_s", {}).get("N"),
            )
            for item in self._table.between(symbol, first, last)
            if item["rule"]["S"] == rule
            and item["status"]["S"] != SUPERSEDED
            and first <= item["timestamp"]["S"] <= last
        ]

    def supersede(self, told: Standing) -> bool:
        """Mark an alert that is no longer true; False where somebody changed it meanwhile."""
        return self._table.supersede(told)

    def correct(self, alert: Alert) -> bool:
        """Describe anew an alert of a day that is true by another reading than it was made of;
        False where somebody changed it meanwhile."""
        return self._table.correct(alert)

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
            # An answer that says no; without one it may have gone out.
            self._insist(lambda: self._table.release(alert))
            raise

    def _insist(self, write: Callable[[], None]) -> None:
        """Tried again on the spot: what is not released waits for its lease to end, and what is
        not marked is published again after it."""
        retry(write, transient=is_transient, budget_s=MARK_BUDGET_S, clock=self._clock)
