"""Rules are data: what a stack looks for, as ``[[rules]]`` tables in the settings.

A rule is a pure function over stored readings. It travels to the trend function as
``stockpipe/rules.json`` inside the zip (the environment of a function holds 4 KB for everything),
so that changing a rule is a provision and the code's hash tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stockpipe.domain.exact import InvalidQuote
from stockpipe.domain.quote import parse_symbol

MAX_SLOW = 200
"""The longest window: what one Query of the trend function reads stays a single page."""


class InvalidRule(ValueError):
    """A rule table that breaks a rule of its own; the message names the key."""


@dataclass(frozen=True, slots=True)
class CrossoverRule:
    """``fast`` and ``slow`` count readings; an empty ``symbols`` means every symbol."""

    fast: int = 5
    slow: int = 20
    symbols: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return f"crossover-{self.fast}-{self.slow}"

    def covers(self, symbol: str) -> bool:
        return not self.symbols or symbol in self.symbols

    def as_table(self) -> dict[str, Any]:
        """The rule as it stands in the settings; :func:`parse_rule` reads it back."""
        table: dict[str, Any] = {"kind": "crossover", "fast": self.fast, "slow": self.slow}
        return table | ({"symbols": sorted(self.symbols)} if self.symbols else {})


DEFAULT_RULES = (CrossoverRule(),)


def parse_rule(table: Mapping[str, Any]) -> CrossoverRule:
    """Read one ``[[rules]]`` table; raises :class:`InvalidRule`."""
    kind = table.get("kind", "crossover")
    if kind != "crossover":
        raise InvalidRule(f"kind: must be crossover, got {kind!r}")
    unknown = sorted(set(table) - {"kind", "fast", "slow", "symbols"})
    if unknown:
        raise InvalidRule(f"{unknown[0]}: unknown key (known: kind, fast, slow, symbols)")
    fast, slow = table.get("fast", 5), table.get("slow", 20)
    for key, value in (("fast", fast), ("slow", slow)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidRule(f"{key}: must be a whole number of readings, got {value!r}")
    if not 1 <= fast < slow <= MAX_SLOW:
        raise InvalidRule(f"fast, slow: must be 1 <= fast < slow <= {MAX_SLOW}, got {fast}, {slow}")
    symbols = table.get("symbols", [])
    if isinstance(symbols, str) or not isinstance(symbols, Iterable):
        raise InvalidRule("symbols: must be a list of symbols")
    try:
        return CrossoverRule(fast, slow, frozenset(parse_symbol(str(s)) for s in symbols))
    except InvalidQuote as error:
        raise InvalidRule(f"symbols: {error.rule}") from None


def parse_rules(tables: Iterable[Mapping[str, Any]]) -> tuple[CrossoverRule, ...]:
    """Read all tables. Two rules of one name would claim each other's alerts: refused."""
    rules = tuple(parse_rule(table) for table in tables)
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRule(f"two rules are named {name}: merge their symbols into one")
    return rules


def rules_json(rules: Iterable[CrossoverRule]) -> str:
    """The rules as the document that the zip carries."""
    return json.dumps([rule.as_table() for rule in rules], indent=1) + "\n"
