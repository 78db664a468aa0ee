"""Rules are data: what a stack looks for, as ``[[rules]]`` tables in the settings.

Four kinds, each a pure function over the stored readings of one symbol:

* :mod:`~stockpipe.domain.rules.crossover`: the fast average changes sides of the slow one;
* :mod:`~stockpipe.domain.rules.move`: so many percent against the previous close;
* :mod:`~stockpipe.domain.rules.price`: a level is passed;
* :mod:`~stockpipe.domain.rules.spike`: a jump that is large for this symbol at this time.

They travel to the trend function as ``stockpipe/rules.json`` inside the zip (the environment of a
function holds 4 KB for everything), so changing a rule is a provision and the code's hash tells.
"""

from stockpipe.domain.rules.base import InvalidRule, Rule, Scan
from stockpipe.domain.rules.crossover import CrossoverRule
from stockpipe.domain.rules.move import MoveRule
from stockpipe.domain.rules.price import PriceRule
from stockpipe.domain.rules.spike import SpikeRule
from stockpipe.domain.rules.tables import DEFAULT_RULES, parse_rule, parse_rules, rules_json

__all__ = [
    "DEFAULT_RULES", "CrossoverRule", "InvalidRule", "MoveRule", "PriceRule", "Rule", "Scan",
    "SpikeRule", "parse_rule", "parse_rules", "rules_json",
]  # fmt: skip
