"""What the people who run it may do: policies for provision, produce, read, teardown and alerts.

Nobody needs to be an administrator. Where the settings name a permissions boundary, roles are
written only within it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stockpipe.domain.names import Names
from stockpipe.infra.areas import data, functions, watching
from stockpipe.infra.areas.area import Area
from stockpipe.infra.permissions import Grant
from stockpipe.infra.policies import granting
from stockpipe.settings import Settings

MANAGED_POLICY_LIMIT = 6144
"""Characters of a customer managed policy, white space not counted."""

OPERATORS: Mapping[str, tuple[str, ...]] = {
    "provision": ("read", "write"),
    "produce": ("produce",),
    "read": ("read", "ask"),
    "teardown": ("read", "delete"),
    "alerts": ("notify",),
}
"""Who there is, and which columns of every :class:`Area` each is granted.

provision also plans; read runs tail, query, status, alerts history and subscribers, and both plans;
alerts runs alerts subscribe, unsubscribe and test.
"""


def operator_policies(names: Names, settings: Settings) -> dict[str, dict[str, Any]]:
    """Every operator's documents by name, for one stack in one region of one account.

    What an operator needs does not always fit into one managed policy, so it has one for the data
    and what watches over them, and one for the functions, where it needs both.
    """
    documents = {}
    for operator in OPERATORS:
        parts = {part: _grants(operator, found) for part, found in _parts(names, settings).items()}
        needed = {part: grants for part, grants in parts.items() if grants}
        for part, grants in needed.items():
            name = operator if len(needed) == 1 else f"{operator}-{part}"
            documents[name] = granting(grants)
    return documents


def operator_grants(operator: str, names: Names, settings: Settings) -> list[Grant]:
    """What the documents of one of :data:`OPERATORS` are written from."""
    parts = _parts(names, settings).values()
    return [grant for found in parts for grant in _grants(operator, found)]


def _parts(names: Names, settings: Settings) -> dict[str, list[Area]]:
    return {
        "data": [*data.areas(names), *watching.areas(names, settings)],
        "functions": functions.areas(names, settings),
    }


def _grants(operator: str, found: Iterable[Area]) -> list[Grant]:
    grants = (area.grant(OPERATORS[operator]) for area in found)
    return [grant for grant in grants if grant]
