"""An alert as an item of its table, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockpipe.domain.alerts import Alert, alert_from

Item = dict[str, Any]
Key = tuple[str, str]
"""Symbol and id."""

OPTIONAL = (
    "previous_close", "sma_fast", "sma_slow", "level", "sigmas", "utc_offset_s", "known_at",
)  # fmt: skip
"""What only some alerts have."""
_NUMBERS = frozenset({"price", *OPTIONAL} - {"known_at"})


def key_of(item: Mapping[str, Any]) -> Key:
    return item["symbol"]["S"], item["id"]["S"]


def values_of(alert: Alert) -> Item:
    """The attributes that describe an alert, apart from its key and its state."""
    return {name: {"N" if name in _NUMBERS else "S": text} for name, text in alert.facts().items()}


def alert_of(item: Item) -> Alert:
    """The alert that an item of the table describes.

    Raises KeyError, or ValueError for a number that is none.
    """
    facts = {name: value.get("S") or value.get("N", "") for name, value in item.items()}
    return alert_from(facts["symbol"], facts)
