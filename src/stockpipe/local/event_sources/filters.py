"""FilterCriteria of an event source mapping: the operators that AWS documents, no others.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html#filtering-syntax and
https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis-filtering.html. The emulator's own
matcher is not used: it skips patterns that it cannot read (which lets everything pass), compares
strings as numbers and lets ``anything-but`` match a missing key.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

Accepts = Callable[[Mapping[str, Any]], bool]
"""Whether an event record (as the function would receive it) passes."""

_MISSING = object()
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def compile_criteria(criteria: Mapping[str, Any] | None) -> Accepts | None:
    """The test for a FilterCriteria, None when it has no filters.

    Raises ValueError, naming the pattern, for what AWS would refuse or we do not know.
    """
    patterns = []
    for entry in (criteria or {}).get("Filters") or []:
        text = entry.get("Pattern") or ""
        try:
            pattern = json.loads(text)
            _check(pattern)
        except ValueError as error:
            raise ValueError(f"filter pattern {text!r}: {error}") from None
        patterns.append(pattern)
    if not patterns:
        return None

    def accepts(record: Mapping[str, Any]) -> bool:
        view = _kinesis_view(record) if "kinesis" in record else record
        return any(_matches(view, pattern) for pattern in patterns)  # filters are ORed

    return accepts


def _kinesis_view(record: Mapping[str, Any]) -> dict[str, Any]:
    """Kinesis patterns name the metadata directly, and ``data`` decoded, when that is JSON."""
    view: dict[str, Any] = {key: value for key, value in record.items() if key != "kinesis"}
    view |= record["kinesis"]
    data = view.pop("data", "")
    # Data that is no JSON cannot match a pattern on it; one on the metadata still can.
    with contextlib.suppress(binascii.Error, ValueError):
        view["data"] = json.loads(base64.b64decode(data, validate=True))
    return view


def _check(pattern: Any) -> None:
    if not isinstance(pattern, dict):
        raise ValueError("must be a JSON object")
    for key, rule in pattern.items():
        if key == "$or":
            if not isinstance(rule, list) or len(rule) < 2:
                raise ValueError("$or takes a list of at least two patterns")
            for branch in rule:
                _check(branch)
        elif isinstance(rule, dict):
            _check(rule)
        elif isinstance(rule, list) and rule:
            for alternative in rule:
                if isinstance(alternative, dict):
                    _check_operator(alternative)
                elif isinstance(alternative, list):
                    raise ValueError(f"{key}: a list inside a list")
        else:
            raise ValueError(f"{key}: a rule is a non-empty list or an object")


def _check_operator(rule: dict[str, Any]) -> None:
    if len(rule) != 1:
        raise ValueError(f"{json.dumps(rule)}: exactly one operator")
    operator, operand = next(iter(rule.items()))
    if operator in ("prefix", "suffix", "equals-ignore-case"):
        good = isinstance(operand, str)
    elif operator == "exists":
        good = isinstance(operand, bool)
    elif operator == "anything-but":
        values = operand if isinstance(operand, list) else [operand]
        good = bool(values) and all(isinstance(value, str) or _number(value) for value in values)
    elif operator == "numeric":
        good = (
            isinstance(operand, list)
            and len(operand) in (2, 4)
            and all(name in _COMPARE for name in operand[::2])
            and all(_number(value) for value in operand[1::2])
        )
    else:
        raise ValueError(f"operator {operator!r} is not supported")
    if not good:
        raise ValueError(f"{operator}: {json.dumps(operand)} is not a valid operand")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _matches(value: Any, pattern: Mapping[str, Any]) -> bool:
    if isinstance(value, list):
        return any(_matches(element, pattern) for element in value)
    if not isinstance(value, Mapping):
        value = {}  # nothing below exists, which `exists: false` may ask for
    for key, rule in pattern.items():
        if key == "$or":
            if not any(_matches(value, branch) for branch in rule):
                return False
        elif isinstance(rule, dict):
            if not _matches(value.get(key), rule):
                return False
        else:
            found = value.get(key, _MISSING)
            # An array matches when one of its elements does.
            candidates = found if isinstance(found, list) else [found]
            if not any(_passes(item, test) for item in candidates for test in rule):
                return False
    return True


def _passes(value: Any, test: Any) -> bool:
    if not isinstance(test, dict):
        if _number(test):
            return _number(value) and bool(value == test)  # True is not 1
        return type(value) is type(test) and bool(value == test)
    operator, operand = next(iter(test.items()))
    if operator == "exists":
        # Only leaves exist, as in EventBridge: an object in its place does not count.
        return bool(operand) is (value is not _MISSING and not isinstance(value, Mapping))
    if operator == "numeric":
        pairs = zip(operand[::2], operand[1::2], strict=True)
        return _number(value) and all(_COMPARE[name](value, bound) for name, bound in pairs)
    if operator == "anything-but":
        banned = operand if isinstance(operand, list) else [operand]
        return (isinstance(value, str) or _number(value)) and value not in banned
    if not isinstance(value, str):
        return False
    if operator == "prefix":
        return value.startswith(operand)
    if operator == "suffix":
        return value.endswith(operand)
    return value.casefold() == str(operand).casefold()
