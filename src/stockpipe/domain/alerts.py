"""What an alert is called, what it says, and the states it passes through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stockpipe.domain.exact import price_text
from stockpipe.domain.signals import GOLDEN, Crossing

PENDING = "pending"
"""Claimed by a function that is about to publish it, until its lease ends."""
SENT = "sent"
MUTED = "muted"
"""Recorded, not published: its quote was older than ``notify_max_age``."""
SUPERSEDED = "superseded"
"""A late reading changed the averages; the crossing is no longer there."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One crossing of one symbol by one rule. Prices in micro-units."""

    symbol: str
    rule: str
    crossing: Crossing

    @property
    def id(self) -> str:
        """The range key: deriving it again from the same data finds the same alert."""
        return f"{self.crossing.timestamp}#{self.rule}"

    @property
    def subject(self) -> str:
        return f"Stock Alert: {self.symbol}"

    @property
    def text(self) -> str:
        """The message, its first line alone enough to act on."""
        crossing = self.crossing
        trend = (
            f"{self.symbol} is in an Uptrend! Consider a buy opportunity."
            if crossing.kind == GOLDEN
            else f"{self.symbol} is in a Downtrend! Consider selling."
        )
        return "\n".join(
            (
                trend,
                "",
                f"Price: {price_text(crossing.price)}",
                f"Fast average: {price_text(crossing.sma_fast)}",
                f"Slow average: {price_text(crossing.sma_slow)}",
                f"Time of the quote: {crossing.timestamp}",
                f"Rule: {self.rule}",
                "",
                "An observation of past prices, not investment advice.",
            )
        )

    @property
    def attributes(self) -> dict[str, str]:
        """What subscription filters can match on."""
        return {"symbol": self.symbol, "signal": self.crossing.kind, "rule": self.rule}

    def facts(self) -> dict[str, Any]:
        """The stored description: numbers as decimal text."""
        crossing = self.crossing
        return {
            "rule": self.rule,
            "kind": crossing.kind,
            "timestamp": crossing.timestamp,
            "price": price_text(crossing.price),
            "sma_fast": price_text(crossing.sma_fast),
            "sma_slow": price_text(crossing.sma_slow),
        }
