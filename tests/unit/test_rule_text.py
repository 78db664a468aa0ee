"""A rule in one word: the name that it has in alerts, or a kind and its keys."""

from __future__ import annotations

from decimal import Decimal

import pytest

from stockpipe.domain.rules import (
    CrossoverRule,
    InvalidRule,
    MoveRule,
    PriceRule,
    Rule,
    SpikeRule,
)
from stockpipe.domain.rules.text import rule_of


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("crossover", CrossoverRule()),
        ("crossover-3-9", CrossoverRule(3, 9)),
        ("crossover-5-20-15m", CrossoverRule(bar_s=900)),
        ("move", MoveRule()),
        ("move-2.5", MoveRule(Decimal("2.5"))),
        ("move-3-1h", MoveRule(Decimal(3), bar_s=3600)),
        ("spike-4", SpikeRule(Decimal(4))),
        ("price-above-200.5", PriceRule(200_500_000, above=True)),
        ("price-below-99", PriceRule(99_000_000, above=False)),
        ("crossover:fast=2,slow=4", CrossoverRule(2, 4)),
        ("price:below=99, bar=5m", PriceRule(99_000_000, above=False, bar_s=300)),
        (
            "spike:sigmas=4,cooldown=1h,symbols=AAPL brk-b",
            SpikeRule(Decimal(4), cooldown_s=3600, symbols=frozenset({"AAPL", "BRK-B"})),
        ),
    ],
)
def test_a_rule_is_named_in_one_word(text: str, rule: Rule) -> None:
    assert rule_of(text) == rule


@pytest.mark.parametrize(
    "rule",
    [
        CrossoverRule(2, 9, bar_s=60),
        MoveRule(Decimal("0.5")),
        PriceRule(1, above=True),
        SpikeRule(Decimal("4.25"), bar_s=86_400),
    ],
    ids=lambda rule: rule.name,
)
def test_the_name_of_a_rule_is_read_back(rule: Rule) -> None:
    assert rule_of(rule.name) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("crosover-5-20", "is no rule"),
        ("crossover-5", "is no rule"),
        ("crossover-20-5", "fast < slow"),
        ("price", "exactly one"),
        ("price-over-5", "is no rule"),
        ("move-0", "above 0"),
        ("move:percent", "is no rule"),
        ("move:percent=1,percent=2", "is no rule"),
        ("move:fast=1", "unknown key"),
        ("crossover:fast=a,slow=9", "whole number"),
        ("spike-5-2x", "is no rule"),
        ("", "is no rule"),
    ],
)
def test_what_is_no_rule_is_said_so(text: str, words: str) -> None:
    with pytest.raises(InvalidRule, match=words):
        rule_of(text)
