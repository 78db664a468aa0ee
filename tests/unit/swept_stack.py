"""An alerts table with claims that nobody publishes, and the sweep over it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from stores import Table, Topic

from stockpipe.domain.alerts import Alert
from stockpipe.domain.clock import SystemClock
from stockpipe.domain.exact import moment_text
from stockpipe.domain.signals import GOLDEN, Reading, Signal
from stockpipe.functions.alert_table import LEASE_S
from stockpipe.functions.alerts import AlertBook
from stockpipe.functions.sweep import Sweeper, Swept

NOW = datetime(2022, 3, 14, 20, 0, tzinfo=UTC)
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


class Now(SystemClock):
    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self.moment.timestamp()


class Crash(BaseException):
    """The function's process ends here."""


def alert(symbol: str = "AAPL", kind: str = GOLDEN, at: str = "19:50") -> Alert:
    return alert_of_time(symbol, f"2022-03-14T{at}:00.000Z", kind)


def alert_of_time(symbol: str, timestamp: str, kind: str = GOLDEN) -> Alert:
    crossing = Signal(Reading(timestamp, 150_000_000), kind, 149_500_001, 149_499_999)
    return Alert(symbol, "crossover-5-20", crossing)


def alert_aged(symbol: str, age_s: float) -> Alert:
    """One whose quote is older than NOW by this."""
    return alert_of_time(symbol, moment_text(NOW - timedelta(seconds=age_s)))


class Stack:
    """An alerts table, its topic, and a function that may crash."""

    def __init__(self, max_age_s: float | None = HOUR_S, known_after_s: float = 0.0) -> None:
        self.known_after_s = known_after_s
        self.clock, self.alerts, self.topic = Now(), Table("symbol", "id"), Topic()
        self.max_age_s = max_age_s
        self.book = AlertBook(
            self.alerts,  # type: ignore[arg-type]
            self.topic,  # type: ignore[arg-type]
            table="alerts",
            topic_arn="arn",
            max_age_s=max_age_s,
            clock=self.clock,
        )
        self._sweeper = self.sweeper()

    def sweeper(self) -> Sweeper:
        """That of a new execution environment."""
        return Sweeper(
            self.alerts,  # type: ignore[arg-type]
            self.book,
            table="alerts",
            max_age_s=self.max_age_s,
            known_after_s=self.known_after_s,
            clock=self.clock,
        )

    def crash(self, *alerts: Alert) -> None:
        """Claim these, and end before they are published."""
        self.topic.fault = lambda operation, request: Crash()
        for one in alerts:
            with pytest.raises(Crash):
                self.book.settle(one)
        self.topic.fault = lambda operation, request: None

    def history(self, *symbols: str, each: int = 1) -> None:
        """Alerts of these, sent long ago: an hour apart, and the last one a month old."""
        for symbol in symbols:
            for number in range(each):
                one = alert_aged(symbol, 30 * DAY_S + number * HOUR_S)
                self.book.settle(one)
                self.alerts.items[symbol, one.id]["status"] = {"S": "sent"}

    def left_behind(self, one: Alert) -> None:
        """Claimed when its quote was young, and pending ever since."""
        now, self.clock.moment = self.clock.moment, datetime.fromisoformat(one.signal.timestamp)
        self.crash(one)
        self.clock.moment = now

    def lease_ends(self) -> None:
        self.clock.sleep(LEASE_S + 1)

    def sweep(self, left: Callable[[], float] = lambda: 50.0) -> Swept:
        return self._sweeper.run(left)

    def statuses(self) -> dict[str, str]:
        return {key[0]: item["status"]["S"] for key, item in sorted(self.alerts.items.items())}

    def sent(self) -> list[str]:
        """The symbols of what was published, in order."""
        return [message["Subject"].removeprefix("Stock Alert: ") for message in self.topic.messages]


def having(times: int) -> Callable[[], float]:
    """Time left as often as it is asked for, up to this."""
    left = iter([10.0] * times)
    return lambda: next(left, 0.0)
