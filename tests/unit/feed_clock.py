"""A clock for feeds: time passes only where it is waited for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NOW = datetime(2022, 3, 14, 20, 0, tzinfo=UTC)


class FeedClock:
    """Starts at :data:`NOW`; a wait ends at once, and it is then that much later."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.passed_s += seconds
