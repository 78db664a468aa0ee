"""Rules out of the settings' tables, and into the document that the zip carries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from stockpipe.domain.exact import InvalidQuote, to_micro
from stockpipe.domain.quote import parse_symbol
from stockpipe.domain.rules.base import InvalidRule, Rule
from stockpipe.domain.rules.crossover import CrossoverRule
from stockpipe.domain.rules.move import MoveRule
from stockpipe.domain.rules.price import PriceRule
from stockpipe.domain.rules.spike import SpikeRule

MAX_SLOW = 200
"""The longest window: what one Query of the trend function reads stays a single page."""
LONGEST_S = 7 * 86_400
_OWN_KEYS = {
    "crossover": ("fast", "slow"),
    "move": ("percent",),
    "price": ("above", "below"),
    "spike": ("sigmas",),
}
_COMMON_KEYS = ("kind", "symbols", "bar", "cooldown")
_TIME = re.compile(r"(\d{1,6})(s|m|h|d)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

DEFAULT_RULES: tuple[Rule, ...] = (CrossoverRule(), MoveRule())


def parse_rule(table: Mapping[str, Any]) -> Rule:
    """Read one ``[[rules]]`` table; raises :class:`InvalidRule`."""
    kind = table.get("kind", "crossover")
    if kind not in _OWN_KEYS:
        raise InvalidRule(f"kind: must be {', '.join(_OWN_KEYS)}, got {kind!r}")
    known = (*_COMMON_KEYS, *_OWN_KEYS[kind])
    if unknown := sorted(set(table) - set(known)):
        raise InvalidRule(f"{unknown[0]}: unknown key of {kind} (known: {', '.join(known)})")
    common: dict[str, Any] = {
        "symbols": _symbols(table["symbols"]) if "symbols" in table else frozenset(),
        "bar_s": _seconds(table, "bar", most_s=86_400),
        "cooldown_s": _seconds(table, "cooldown", most_s=LONGEST_S),
    }
    if kind == "crossover":
        return _crossover(table, common)
    if kind == "move":
        return MoveRule(percent=_number(table, "percent", 5, most=1000), **common)
    if kind == "spike":
        return SpikeRule(sigmas=_number(table, "sigmas", "5", most=100), **common)
    return _price(table, common)


def parse_rules(tables: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Read all tables. Two rules of one name would claim each other's alerts: refused."""
    rules = tuple(parse_rule(table) for table in tables)
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRule(f"two rules are named {name}: merge their symbols into one")
    return rules


def rules_json(rules: Iterable[Rule]) -> str:
    """The rules as the document that the zip carries."""
    return json.dumps([rule.as_table() for rule in rules], indent=1) + "\n"


def _crossover(table: Mapping[str, Any], common: dict[str, Any]) -> CrossoverRule:
    fast, slow = table.get("fast", 5), table.get("slow", 20)
    for key, value in (("fast", fast), ("slow", slow)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidRule(f"{key}: must be a whole number of readings, got {value!r}")
    if not 1 <= fast < slow <= MAX_SLOW:
        raise InvalidRule(f"fast, slow: must be 1 <= fast < slow <= {MAX_SLOW}, got {fast}, {slow}")
    return CrossoverRule(fast=fast, slow=slow, **common)


def _price(table: Mapping[str, Any], common: dict[str, Any]) -> PriceRule:
    sides = [key for key in ("above", "below") if key in table]
    if len(sides) != 1:
        raise InvalidRule("above, below: exactly one must be there")
    side = sides[0]
    try:
        level = to_micro(_places(_decimal(table[side], side), side), side)
    except InvalidQuote as error:
        raise InvalidRule(str(error)) from None
    return PriceRule(level=level, above=side == "above", **common)


def _symbols(value: Any) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidRule("symbols: must be a list of symbols")
    if not value:
        raise InvalidRule("symbols: must name some; a rule without it covers all")
    try:
        return frozenset(parse_symbol(symbol) for symbol in value)
    except InvalidQuote as error:
        raise InvalidRule(f"symbols: {error.rule}") from None


def _number(table: Mapping[str, Any], key: str, default: int | str, *, most: int) -> Decimal:
    """Above 0, at most ``most``, of at most 6 places."""
    number = _decimal(table.get(key, default), key)
    if not 0 < number <= most:
        raise InvalidRule(f"{key}: must lie above 0 and up to {most}, got {number}")
    return _places(number, key)


def _places(number: Decimal, key: str) -> Decimal:
    """As many as prices have: rounding would judge by another number than the one that is set."""
    if number != round(number, 6):
        raise InvalidRule(f"{key}: must have at most 6 places, got {number}")
    return number


def _decimal(value: Any, key: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise InvalidRule(f"{key}: must be a number, got {value!r}")
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        raise InvalidRule(f"{key}: must be a number, got {value!r}") from None
    if not number.is_finite():
        raise InvalidRule(f"{key}: must be finite, got {value!r}")
    return number


def _seconds(table: Mapping[str, Any], key: str, *, most_s: int) -> int | None:
    value = table.get(key)
    if value is None:
        return None
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= most_s:
        raise InvalidRule(
            f"{key}: must be a time like 5m or 1h, at most {most_s // 86_400}d, got {value!r}"
        )
    return seconds
