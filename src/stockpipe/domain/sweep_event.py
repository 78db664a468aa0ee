"""The event that the sweep's rule sends to the trend function; an operator may send it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from stockpipe.domain.quote import parse_symbol

EVENT = {"stockpipe": "sweep"}
"""What the rule sends, with ``symbols`` and ``look_back_s`` where stored rows are judged again."""
MOST_LOOK_BACK_S = 86_400


class LookBack(NamedTuple):
    """Whose rows of the last ``seconds`` are judged again."""

    symbols: tuple[str, ...]
    seconds: float


def payload(look_back: LookBack | None) -> dict[str, Any]:
    """The event that asks for a sweep, and for a look back where there is one."""
    if look_back is None:
        return dict(EVENT)
    return {**EVENT, "symbols": list(look_back.symbols), "look_back_s": look_back.seconds}


def look_back_of(event: Mapping[str, Any]) -> LookBack | None:
    """What a sweep's event asks for besides; it may be an operator's.

    Raises ValueError with the rule that it breaks.
    """
    known = {*EVENT, "symbols", "look_back_s"}
    if unknown := sorted(set(event) - known):
        raise ValueError(f"a sweep does not know {unknown[0]!r}, only symbols and look_back_s")
    symbols, seconds = event.get("symbols"), event.get("look_back_s")
    if symbols is None and seconds is None:
        return None
    if not isinstance(symbols, list) or not symbols:
        raise ValueError(f"symbols: must be a list of some, got {symbols!r}")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ValueError(f"look_back_s: must be a number of seconds, got {seconds!r}")
    if not 0 < seconds <= MOST_LOOK_BACK_S:
        raise ValueError(f"look_back_s: must lie above 0 and up to {MOST_LOOK_BACK_S}")
    return LookBack(tuple(dict.fromkeys(parse_symbol(one) for one in symbols)), seconds)
