"""Which alerts a recipient is told of: the filter policy of a subscription.

https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import Self

from stockpipe.errors import UsageError

COMBINATIONS = 150
"""https://docs.aws.amazon.com/sns/latest/dg/subscription-filter-policy-constraints.html"""
_ATTRIBUTES = {"symbols": "symbol", "signals": "signal", "rules": "rule"}
BY_ATTRIBUTES = "MessageAttributes"


@dataclass(frozen=True, slots=True)
class Filter:
    """What a recipient wants to be told: any of each, and all three at once; empty means any."""

    symbols: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    @classmethod
    def of(cls, attributes: Mapping[str, str]) -> Self | None:
        """That of a subscription; None where it says something that this class cannot."""
        policy = json.loads(attributes.get("FilterPolicy") or "{}")
        if policy and attributes.get("FilterPolicyScope", BY_ATTRIBUTES) != BY_ATTRIBUTES:
            return None
        values = [one for wanted in policy.values() for one in wanted]
        if policy.keys() - set(_ATTRIBUTES.values()) or not all(isinstance(v, str) for v in values):
            return None
        return cls(**{ours: tuple(policy.get(key, ())) for ours, key in _ATTRIBUTES.items()})

    @property
    def policy(self) -> dict[str, list[str]]:
        """The filter policy; ``{}`` lets everything through, and takes an older one away."""
        return {
            _ATTRIBUTES[one.name]: sorted(getattr(self, one.name))
            for one in fields(self)
            if getattr(self, one.name)
        }

    def widened(self, more: Filter) -> Filter:
        """What lets through all that either does. As one policy cannot tie values of different
        attributes together, that may be more than both: each attribute is widened by itself."""
        both = {}
        for one in fields(self):
            mine, other = getattr(self, one.name), getattr(more, one.name)
            both[one.name] = tuple(sorted({*mine, *other})) if mine and other else ()
        return Filter(**both)

    def lets(self, attributes: Mapping[str, str]) -> bool:
        return all(attributes[name] in wanted for name, wanted in self.policy.items())

    def check(self) -> None:
        """Raises :class:`UsageError` where SNS would refuse it for its size."""
        combinations = prod(map(len, self.policy.values()))
        if combinations > COMBINATIONS:
            raise UsageError(
                f"This filter has {combinations} combinations of values; SNS takes {COMBINATIONS}.",
                hint="Leave out the signals or the rules, or the symbols.",
            )
