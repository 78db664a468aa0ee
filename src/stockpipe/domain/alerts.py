"""What an alert is called, what is stored of it, and the states it passes through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stockpipe.domain.exact import price_text, to_micro
from stockpipe.domain.signals import Reading, Signal

PENDING = "pending"
"""Claimed by a function that is about to publish it, until its lease ends."""
SENT = "sent"
MUTED = "muted"
"""Recorded, not published: its quote was older than ``notify_max_age``, or it came within the
cooldown of another alert."""
SUPERSEDED = "superseded"
"""A late or changed reading made it wrong."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One signal of one symbol by the rule of this name."""

    symbol: str
    rule: str
    signal: Signal

    @property
    def id(self) -> str:
        """The range key: deriving it again from the same data finds the same alert."""
        return f"{self.signal.occasion}#{self.rule}"

    @property
    def attributes(self) -> dict[str, str]:
        """What subscription filters can match on."""
        return {"symbol": self.symbol, "signal": self.signal.kind, "rule": self.rule}

    def facts(self) -> dict[str, Any]:
        """The stored description: numbers as decimal text, what does not apply left out."""
        signal, reading = self.signal, self.signal.reading
        facts = {
            "rule": self.rule,
            "kind": signal.kind,
            "timestamp": signal.timestamp,
            "price": price_text(signal.price),
            "previous_close": price_text(reading.previous_close),
            "sma_fast": price_text(signal.sma_fast),
            "sma_slow": price_text(signal.sma_slow),
            "level": price_text(signal.level),
            "sigmas": signal.sigmas,
            "known_at": signal.known_at,
            "utc_offset_s": str(reading.utc_offset_s) if reading.utc_offset_s else None,
        }
        return {name: value for name, value in facts.items() if value is not None}


def alert_from(symbol: str, facts: dict[str, str]) -> Alert:
    """The alert that :meth:`Alert.facts` describes; what else there is, is ignored.

    Raises KeyError, ValueError, or InvalidQuote for a price that is none.
    """

    def price(name: str) -> int | None:
        return to_micro(facts[name], name) if name in facts else None

    reading = Reading(
        facts["timestamp"],
        to_micro(facts["price"]),
        price("previous_close"),
        utc_offset_s=int(facts.get("utc_offset_s", 0)),
    )
    signal = Signal(
        reading,
        facts["kind"],
        sma_fast=price("sma_fast"),
        sma_slow=price("sma_slow"),
        level=price("level"),
        sigmas=facts.get("sigmas"),
        known_at=facts.get("known_at"),
    )
    return Alert(symbol, facts["rule"], signal)
