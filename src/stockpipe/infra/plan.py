"""The plan as data: what provisioning or teardown would do, before anything is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stockpipe.errors import ForeignResource
from stockpipe.infra.resource import Live, Resource

PARALLEL_READS = 16


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    KEEP = "keep"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one resource; ``settings`` maps each changed setting to (old, new)."""

    action: Action
    resource: Resource
    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def as_document(self) -> dict[str, Any]:
        return {
            "action": str(self.action),
            "kind": self.resource.kind,
            "name": self.resource.name,
            "settings": {name: list(pair) for name, pair in self.settings.items()},
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes in the order of the blueprint."""

    changes: tuple[Change, ...]

    @property
    def summary(self) -> dict[str, int]:
        counted = Counter(change.action for change in self.changes)
        return {str(action): counted[action] for action in Action}

    @property
    def pending(self) -> list[Change]:
        return [change for change in self.changes if change.action is not Action.KEEP]

    def as_document(self) -> dict[str, Any]:
        """The JSON shape that scripts rely on."""
        return {
            "summary": self.summary,
            "changes": [change.as_document() for change in self.changes],
        }


def read_all(resources: Sequence[Resource]) -> list[Live | None]:
    """The live state of all resources, read at the same time."""
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return list(pool.map(lambda resource: resource.read(), resources))


def difference(resource: Resource, live: Live) -> dict[str, tuple[Any, Any]]:
    """Desired settings that differ from the live ones; what we do not set is not compared."""
    return {
        name: (live.settings.get(name), wanted)
        for name, wanted in resource.desired().items()
        if live.settings.get(name) != wanted
    }


def change_for(resource: Resource, live: Live | None) -> Change:
    """What brings one resource to what it should be."""
    if live is None:
        return Change(
            Action.CREATE,
            resource,
            {name: (None, value) for name, value in resource.desired().items()},
        )
    settings = difference(resource, live)
    if not settings:
        return Change(Action.KEEP, resource)
    replace = resource.replace_on & set(settings)
    return Change(Action.REPLACE if replace else Action.UPDATE, resource, settings)


def plan_provision(resources: Sequence[Resource]) -> Plan:
    """Compare every resource with what is live.

    Raises :class:`ForeignResource`, naming all collisions, where something of our name is not ours.
    """
    lives = read_all(resources)
    _refuse_foreign(zip(resources, lives, strict=True))
    return Plan(tuple(change_for(r, live) for r, live in zip(resources, lives, strict=True)))


def plan_teardown(resources: Sequence[Resource]) -> Plan:
    """Delete what is ours and there; what is foreign is not even mentioned."""
    lives = read_all(resources)
    return Plan(
        tuple(
            Change(Action.DELETE, resource)
            for resource, live in zip(resources, lives, strict=True)
            if live is not None and live.ours
        )
    )


def _refuse_foreign(pairs: Iterable[tuple[Resource, Live | None]]) -> None:
    foreign = [resource for resource, live in pairs if live is not None and not live.ours]
    if foreign:
        listed = ", ".join(f"{resource.kind} {resource.name}" for resource in foreign)
        raise ForeignResource(
            f"Not ours, but of our name: {listed}. Nothing was changed.",
            hint="Choose another copy of the pipeline with --stack NAME.",
        )
