"""What a KeyConditionExpression asks for, and where that lies among sorted keys."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

Token = tuple[str, str]
"""Kind and text, as ministack's tokenizer has them."""


class Condition(NamedTuple):
    """A part of a key condition. ``operator``: EQ, LT, LE, GT, GE, BETWEEN or BEGINS_WITH.
    ``operands`` refer to values of the request."""

    attribute: str
    operator: str
    operands: tuple[str, ...]


def parts(stock: ModuleType, expression: str, names: Mapping[str, Any]) -> dict[str, Condition]:
    """The conditions by attribute; none at all when one is in a form not known here.

    ``stock`` is ministack's DynamoDB, which takes the expression apart.
    """
    tokens = [token for token in stock._tokenize(expression) if token[0] != "EOF"]
    clauses = stock._key_condition_clauses(_bare(tokens))
    found = [_condition(_bare(clause), names) for clause in clauses]
    by_attribute = {one.attribute: one for one in found if one}
    return by_attribute if len(by_attribute) == len(found) else {}


def _bare(tokens: list[Token]) -> list[Token]:
    """Without the parentheses around all of it, which boto3's conditions have."""
    depth = 0
    for at, (kind, _) in enumerate(tokens):
        depth += (kind == "LPAREN") - (kind == "RPAREN")
        if depth == 0:
            return tokens[1:-1] if at and at == len(tokens) - 1 else tokens
    return tokens


def _condition(clause: Sequence[Token], names: Mapping[str, Any]) -> Condition | None:
    words = [text.upper() for kind, text in clause if kind == "IDENT"]
    operator: str
    operands: tuple[str, ...]
    match clause:
        case [path, (("EQ" | "LT" | "LE" | "GT" | "GE") as comparison, _), ("VALUE_REF", one)]:
            operator, operands = comparison, (one,)
        case [path, ("IDENT", _), ("VALUE_REF", one), ("IDENT", _), ("VALUE_REF", two)]:
            operator, operands = "BETWEEN", (one, two)
            if words[-2:] != ["BETWEEN", "AND"]:
                return None
        case [("IDENT", _), (_, "("), path, (_, ","), ("VALUE_REF", one), (_, ")")]:
            operator, operands = "BEGINS_WITH", (one,)
            if words[0] != "BEGINS_WITH":
                return None
        case _:
            return None
    kind, name = path
    attribute = names.get(name) if kind == "NAME_REF" else name if kind == "IDENT" else None
    return Condition(attribute, operator, operands) if isinstance(attribute, str) else None


def span(values: Sequence[Any], operator: str, bounds: Sequence[Any]) -> tuple[int, int]:
    """Where what fulfils a condition begins and ends among sorted values."""
    first, last = (bounds[0], bounds[-1]) if bounds else (None, None)
    match operator:
        case "EQ" | "BETWEEN":
            return bisect_left(values, first), bisect_right(values, last)
        case "LT":
            return 0, bisect_left(values, first)
        case "LE":
            return 0, bisect_right(values, first)
        case "GT":
            return bisect_right(values, first), len(values)
        case "GE":
            return bisect_left(values, first), len(values)
        case "BEGINS_WITH" if isinstance(first, str | bytes):
            size = len(first)
            end = bisect_right(values, first, key=lambda value: value[:size])
            return bisect_left(values, first), end
    return 0, len(values)
