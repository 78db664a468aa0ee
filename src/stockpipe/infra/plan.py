"""The plan as data: what provisioning or teardown would do, before anything is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stockpipe.domain.names import ADOPTED_TAG
from stockpipe.domain.retry import retry
from stockpipe.errors import ForeignResource, ProvisionError
from stockpipe.functions.faults import is_transient
from stockpipe.infra.resource import Live, Resource

PARALLEL_READS = 24
READ_BUDGET_S = 60.0


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    KEEP = "keep"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one resource, and why where that is not plain.

    ``settings`` maps each changed setting to (old, new).
    """

    action: Action
    resource: Resource
    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    reason: str = ""

    @property
    def loses_data(self) -> bool:
        """Whether it needs ``--allow-replace``."""
        return self.action is Action.REPLACE and self.resource.holds_data

    def as_document(self) -> dict[str, Any]:
        return {
            "action": str(self.action),
            "kind": self.resource.kind,
            "name": self.resource.name,
            "settings": {name: list(pair) for name, pair in self.settings.items()},
            "reason": self.reason or None,
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

    @property
    def kept(self) -> list[Change]:
        return [change for change in self.changes if change.action is Action.KEEP]

    @property
    def losing_data(self) -> list[Change]:
        return [change for change in self.changes if change.loses_data]

    def as_document(self) -> dict[str, Any]:
        """The JSON shape that scripts rely on."""
        return {
            "summary": self.summary,
            "changes": [change.as_document() for change in self.changes],
        }


def read_all(resources: Sequence[Resource]) -> list[Live | None]:
    """The live state of all resources, read at the same time; a read that is throttled waits."""

    def read(resource: Resource) -> Live | None:
        return retry(resource.read, transient=is_transient, budget_s=READ_BUDGET_S, base_s=0.2)

    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return list(pool.map(read, resources))


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
        settings = {name: (None, value) for name, value in resource.desired().items()}
        return Change(Action.CREATE, resource, settings)
    settings = difference(resource, live)
    reasons = [why for name, why in resource.replace_on.items() if name in settings]
    if reasons:
        return Change(Action.REPLACE, resource, settings, "; ".join(reasons))
    return Change(Action.UPDATE if settings else Action.KEEP, resource, settings)


def plan_provision(resources: Sequence[Resource], *, adopt: bool = False) -> Plan:
    """Compare every resource with what is live.

    Something of our name that is not ours is a collision. ``adopt`` takes it over, where that is
    possible without replacing it; otherwise :class:`ForeignResource` names all collisions.
    """
    changes, collisions = [], []
    for resource, live in zip(resources, read_all(resources), strict=True):
        if not resource.wanted:
            if live and live.ours:
                changes.append(Change(Action.DELETE, resource, reason="switched off"))
            continue
        if live is None or live.ours:
            changes.append(change_for(resource, live))
            continue
        found = _adoption(resource, live) if adopt else live.out_of_reach or ""
        if isinstance(found, Change):
            changes.append(found)
        else:
            collisions.append(_named(resource) + (f" ({found})" if found else ""))
    if collisions:
        raise ForeignResource(
            f"Not ours, but of our name: {', '.join(collisions)}. Nothing was changed.",
            hint="Choose another copy of the pipeline with --stack NAME"
            + ("." if adopt else ", or take over what is there with --adopt."),
        )
    return Plan(tuple(changes))


def _adoption(resource: Resource, live: Live) -> Change | str:
    """The change that makes it ours, or why there is none."""
    if live.out_of_reach:
        return live.out_of_reach
    resource.tags = {**resource.tags, ADOPTED_TAG: "true"}
    change = change_for(resource, live)
    if change.action is Action.REPLACE:
        return f"cannot be adopted: {change.reason}"
    return Change(change.action, resource, change.settings, "adopted: it was there before")


def plan_teardown(
    resources: Sequence[Resource], *, keep_data: bool = False, include: Collection[str] = ()
) -> Plan:
    """Delete what is ours and there; what is foreign is not even mentioned.

    Kept are, with ``keep_data``, whatever holds data, and adopted stores of data that
    ``include`` does not name, and what holds something of others. Raises
    :class:`ProvisionError` where something is protected.
    """
    changes, protected = [], []
    for resource, live in zip(resources, read_all(resources), strict=True):
        if live is None or not live.ours:
            continue
        if resource.holds_data and keep_data:
            changes.append(Change(Action.KEEP, resource, reason="its data are kept"))
        elif resource.holds_data and live.adopted and resource.name not in include:
            reason = f"adopted; --include {resource.name} deletes it"
            changes.append(Change(Action.KEEP, resource, reason=reason))
        elif guests := resource.guests():
            changes.append(Change(Action.KEEP, resource, reason=guests))
        else:
            changes.append(Change(Action.DELETE, resource))
            if why := resource.protection(live):
                protected.append(f"{_named(resource)}: {why}")
    if protected:
        raise ProvisionError(
            f"Protected from being deleted: {'; '.join(protected)}. Nothing was deleted.",
            hint="Switch the protection off in the settings and provision, or use --keep-data.",
        )
    return Plan(tuple(changes))


def _named(resource: Resource) -> str:
    return f"{resource.kind} {resource.name}"
