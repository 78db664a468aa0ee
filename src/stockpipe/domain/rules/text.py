"""A rule in one word, for a command line: ``crossover-5-20``, ``move-5``, ``price-above-200``.

The name that a rule has in alerts, its bar included (``crossover-5-20-15m``); or a kind and keys as
in the settings: ``spike:sigmas=4,bar=5m,cooldown=1h,symbols=AAPL MSFT``.
"""

from __future__ import annotations

import re
from typing import Any

from stockpipe.domain.rules.base import InvalidRule, Rule
from stockpipe.domain.rules.tables import parse_rule

FORMS = "crossover-5-20, move-5, price-above-200, spike-5, or crossover:fast=5,slow=20,bar=15m"
_BAR = re.compile(r"-(\d+[smhd])$", re.ASCII)
_NAMES = {
    "crossover": re.compile(r"(?P<fast>\d+)-(?P<slow>\d+)", re.ASCII),
    "move": re.compile(r"(?P<percent>\d+(\.\d+)?)", re.ASCII),
    "spike": re.compile(r"(?P<sigmas>\d+(\.\d+)?)", re.ASCII),
    "price": re.compile(r"(?P<side>above|below)-(?P<level>\d+(\.\d+)?)", re.ASCII),
}
_WHOLE = frozenset({"fast", "slow"})


def rule_of(text: str) -> Rule:
    """The rule that ``text`` names; raises :class:`InvalidRule`."""
    kind, colon, rest = text.partition(":")
    return parse_rule(_table_of_keys(kind, rest) if colon else _table_of_name(text))


def _table_of_keys(kind: str, text: str) -> dict[str, Any]:
    table: dict[str, Any] = {"kind": kind}
    for part in text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not key or key in table:
            raise InvalidRule(f"{kind}:{text} is no rule; there are {FORMS}")
        table[key] = value.split() if key == "symbols" else _value(key, value)
    return table


def _table_of_name(text: str) -> dict[str, Any]:
    kind, _, rest = text.partition("-")
    table: dict[str, Any] = {"kind": kind}
    if not rest and kind in _NAMES:
        return table
    if bar := _BAR.search(rest):
        table["bar"], rest = bar[1], rest[: bar.start()]
    match = _NAMES[kind].fullmatch(rest) if kind in _NAMES else None
    if match is None:
        raise InvalidRule(f"{text!r} is no rule; there are {FORMS}")
    found = match.groupdict()
    if kind == "price":
        table[found["side"]] = found["level"]
    else:
        table |= {key: _value(key, value) for key, value in found.items()}
    return table


def _value(key: str, text: str) -> Any:
    return int(text) if key in _WHOLE and text.isdecimal() else text
