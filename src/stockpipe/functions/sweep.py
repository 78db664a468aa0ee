"""The sweep: alerts that were claimed and never sent are brought to their end after all.

What a crash leaves pending comes back with its record, usually. It does not when the record is past
its age, or its stream or mapping is gone; and nothing else would tell that alerts cannot be
published for long. So an EventBridge rule sends the trend function an event.

The first sweep of an execution environment looks at the whole table. Later ones look at what may
have been claimed since, and at what they saw pending before: reading a history every five minutes
would cost dollars a month for finding, usually, nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stockpipe.domain.alerts import MUTED, SENT
from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import moment_text
from stockpipe.functions.alert_items import Item, Key, alert_of, key_of
from stockpipe.functions.alerts import LEASED, AlertBook
from stockpipe.functions.faults import error_code, is_transient
from stockpipe.functions.pending import Page, PendingAlerts
from stockpipe.functions.telemetry import metrics_line

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

OUT_OF_TIME = "out of time"


@dataclass
class Swept:
    """What one sweep did. ``pending_s``: age of the oldest alert that it left pending.

    One that earlier sweeps left, and that it had no time to look at, counts as it was last seen.
    """

    settled: dict[str, int] = field(default_factory=dict)
    alerts: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Why, by symbol and id; these stay pending for the next sweep."""
    pending_s: float = 0.0
    stopped: str | None = None
    """Why it did not come to its end; the next sweep goes on from there."""

    @property
    def swept(self) -> int:
        return self.settled.get(SENT, 0) + self.settled.get(MUTED, 0)


class OutOfTime(Exception):
    """What is left is left to the next sweep."""


class Sweeper:
    """Sweeps one table of alerts, in one execution environment.

    ``max_age_s``: as the book's. Without it alerts of any age are sent, as those of a replay, and
    every sweep looks at the whole table. ``known_after_s``: how long after its quote an alert may
    come to be known.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        book: AlertBook,
        *,
        table: str,
        max_age_s: float | None,
        known_after_s: float = 0.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._alerts, self._book = PendingAlerts(dynamodb, table), book
        self._max_age_s, self._known_after_s, self._clock = max_age_s, known_after_s, clock
        self._after: Key | None = None
        """The key that the next sweep starts behind, so that a slow start starves no later one."""
        self._saw_all = False
        self._pending: dict[Key, float] = {}
        """What was left pending, and since when in epoch seconds. What was tried last is last."""

    def run(self, left: Callable[[], float]) -> Swept:
        """Sweep, or as much of it as ``left()`` seconds allow.

        Raises what reading the table raises, unless it is transient.
        """
        swept = Swept()
        before = list(self._pending)
        try:
            seen = self._sweep_table(swept, left)
            self._sweep_again([key for key in before if key not in seen], swept, left)
        except OutOfTime:
            swept.stopped = OUT_OF_TIME
        except Exception as error:
            if not is_transient(error):
                raise
            swept.stopped = error_code(error)
        now = self._clock.now().timestamp()
        swept.pending_s = max([0.0, *(now - since for since in self._pending.values())])
        return swept

    def _sweep_table(self, swept: Swept, left: Callable[[], float]) -> set[Key]:
        """From where the last sweep stopped to the end; returns what was found pending."""
        seen: set[Key] = set()
        while True:
            page = self._page()
            for item in page.items:
                self._remember(item)
                seen.add(key_of(item))
            for item in page.items:
                _check_time(left)
                self._after = key_of(item)
                self._settle(item, swept)
            self._after = page.after
            if page.after is None:
                self._saw_all = True
                return seen
            _check_time(left)

    def _page(self) -> Page:
        if self._max_age_s is None or not self._saw_all:
            return self._alerts.all(self._after)
        since = self._clock.now().timestamp() - self._max_age_s - self._known_after_s
        # No quote is older than 1970, and a longer age than that is no datetime.
        moment = datetime.fromtimestamp(max(since, 0.0), UTC)
        return self._alerts.young(self._after, moment_text(moment))

    def _sweep_again(self, keys: list[Key], swept: Swept, left: Callable[[], float]) -> None:
        """What earlier sweeps left pending and this one did not meet: too old, or before its start.

        Without this they would wait for a new environment, and nobody would say so.
        """
        for key in keys:
            _check_time(left)
            item = self._alerts.one(key)
            if item is None:
                del self._pending[key]
            else:
                self._remember(item)
                self._settle(item, swept)

    def _remember(self, item: Item) -> None:
        since = item.get("pending_since", {"N": self._clock.now().timestamp()})["N"]
        self._pending[key_of(item)] = float(since)

    def _settle(self, item: Item, swept: Swept) -> None:
        """Bring one pending alert to its end, if nobody else is at it."""
        if int(item.get("lease_until", {"N": "0"})["N"]) >= self._clock.now().timestamp():
            return
        became = self._resume(item, swept)
        since = self._pending.pop(key_of(item))
        if became == LEASED:
            self._pending[key_of(item)] = since

    def _resume(self, item: Item, swept: Swept) -> str:
        """What became of it; LEASED is also what failed and stays pending."""
        name = " ".join(key_of(item))
        try:
            became = self._book.resume(alert_of(item))
        except Exception as error:  # noqa: BLE001 - one alert must not stop the others
            swept.failed[name] = f"{type(error).__name__}: {error}"
            return LEASED
        swept.settled[became] = swept.settled.get(became, 0) + 1
        swept.alerts.append(f"{name} {became}")
        return became


def _check_time(left: Callable[[], float]) -> None:
    if left() <= 0:
        raise OutOfTime


def summary(swept: Swept, clock: Clock) -> str:
    """The log line of one sweep, under the function that it runs in."""
    return metrics_line(
        os.environ["STACK"],
        "trend",
        {"swept": swept.swept, "pending_s": swept.pending_s},
        {
            "settled": swept.settled,
            "alerts": swept.alerts,
            "failed": swept.failed,
            "stopped": swept.stopped,
        },
        clock=clock,
    )
