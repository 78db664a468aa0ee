"""The comparison of what is granted with what is used: pure functions over data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from stockpipe.local.emulator.ledger import Entry


class Right(NamedTuple):
    """One action on one resource pattern, granted to one principal (or patterns of all three)."""

    principal: str
    action: str
    resource: str


def rights(principal: str, document: Mapping[str, Any]) -> set[Right]:
    return {
        Right(principal, action, resource)
        for statement in document["Statement"]
        for action in statement["Action"]
        for resource in statement["Resource"]
    }


def compare_rights(
    granted: Iterable[Right], judged: Iterable[Entry], reviewed: Iterable[Right]
) -> list[str]:
    """What is wrong, in words; the principals of ``judged`` are names, as those of ``granted``.

    ``reviewed``: patterns of what the embedded cloud does not check.
    """
    granted, judged = set(granted), set(judged)
    allowed = {entry for entry in judged if entry.decision == "Allow"}
    covered = {entry for entry in allowed if any(_covers(right, entry) for right in granted)}
    found = [f"missing: {' '.join(entry[:3])}" for entry in judged - covered]
    used = {right for right in granted if any(_covers(right, entry) for entry in allowed)}
    unused = granted - used
    for pattern in reviewed:
        if not any(_matches(pattern, right) for right in granted):
            found.append(f"reviewed, but not granted: {' '.join(pattern)}")
    for right in used:
        if any(_matches(pattern, right) for pattern in reviewed):
            found.append(f"reviewed as unchecked, but checked: {' '.join(right)}")
    for right in unused:
        if not any(_matches(pattern, right) for pattern in reviewed):
            found.append(f"unused: {' '.join(right)}")
    return sorted(found)


def compare_calls(
    granted: Iterable[tuple[str, str]], called: Iterable[tuple[str, str]]
) -> list[str]:
    """The same of (caller, operation), without exceptions."""
    granted, called = set(granted), set(called)
    return sorted(
        [f"called, but not granted: {' '.join(one)}" for one in called - granted]
        + [f"granted, but not called: {' '.join(one)}" for one in granted - called]
    )


def _covers(right: Right, entry: Entry) -> bool:
    same = (right.principal, right.action) == (entry.principal, entry.action)
    return same and fnmatchcase(entry.resource, right.resource)


def _matches(pattern: Right, right: Right) -> bool:
    return all(fnmatchcase(text, part) for text, part in zip(right, pattern, strict=True))
