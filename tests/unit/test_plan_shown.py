"""How a difference is shown: as far down as it can be named."""

from __future__ import annotations

from typing import Any

import pytest

from stockpipe.cli.converge import leaves

ALLOW = {"Sid": "Read", "Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["a"]}
WIDENED = {**ALLOW, "Action": ["s3:GetObject", "s3:*"]}

SHOWN: list[tuple[Any, Any, list[tuple[str, Any, Any]]]] = [
    (1, 2, [("x", 1, 2)]),
    (None, {"a": 1}, [("x", None, {"a": 1})]),
    ({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}, [("x.b", 2, 3), ("x.c", None, 4)]),
    ({"a": {"b": 1}}, {"a": {"b": 2}}, [("x.a.b", 1, 2)]),
    (["a", "b"], ["b", "c"], [("x", ["a"], ["c"])]),
    (["a", "b"], ["b", "a"], [("x", ["a", "b"], ["b", "a"])]),
    ({"Statement": [WIDENED]}, {"Statement": [ALLOW]}, [("x.Statement.Read.Action", ["s3:*"], [])]),
    ([ALLOW], [], [("x", [ALLOW], [])]),
]


@pytest.mark.parametrize(("old", "new", "shown"), SHOWN)
def test_only_what_differs_is_shown(old: Any, new: Any, shown: list[tuple[str, Any, Any]]) -> None:
    assert list(leaves("x", old, new)) == shown
