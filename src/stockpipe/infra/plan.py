"""The plan as data: what provisioning or teardown would do, before anything is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from stockpipe.domain.names import ADOPTED_TAG
from stockpipe.domain.retry import retry
from stockpipe.errors import ForeignResource, ProvisionError
from stockpipe.functions.faults import EXPIRED, error_code, is_transient
from stockpipe.infra.resource import Live, Resource

T = TypeVar("T")
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
    """The live state of all resources."""
    return _each(resources, lambda resource: resource.read())


def _each(resources: Sequence[Resource], look: Callable[[Resource], T]) -> list[T]:
    """What ``look`` sees of each, all at the same time; one that is throttled waits."""

    def patiently(resource: Resource) -> T:
        return retry(
            lambda: look(resource),
            transient=lambda error: is_transient(error) and error_code(error) not in EXPIRED,
            budget_s=READ_BUDGET_S,
            base_s=0.2,
        )

    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return list(pool.map(patiently, resources))


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
    if not settings:
        return Change(Action.KEEP, resource)
    return Change(Action.UPDATE, resource, settings, resource.warning(settings))


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why there can be no plan."""

    why: str


def plan_provision(resources: Sequence[Resource], *, adopt: bool = False) -> Plan:
    """Compare every resource with what is live.

    Something of our name that is not ours is a collision. ``adopt`` takes it over, where that is
    possible without replacing it; otherwise :class:`ForeignResource` names all collisions.
    """

    def look(resource: Resource) -> Change | _Refused | None:
        live = _seen(resource)
        if not resource.wanted:
            ours = live is not None and live.ours
            return Change(Action.DELETE, resource, reason="switched off") if ours else None
        if live is None or live.ours:
            return change_for(resource, live)
        return _adoption(resource, live) if adopt else _Refused(live.out_of_reach or "")

    found = list(zip(resources, _each(resources, look), strict=True))
    collisions = [
        _named(resource) + (f" ({one.why})" if one.why else "")
        for resource, one in found
        if isinstance(one, _Refused)
    ]
    if collisions:
        raise ForeignResource(
            f"Not ours, but of our name: {', '.join(collisions)}. Nothing was changed.",
            hint="Choose another copy of the pipeline with --stack NAME"
            + ("." if adopt else ", or take over what is there with --adopt."),
        )
    return Plan(tuple(one for _, one in found if isinstance(one, Change)))


def _seen(resource: Resource) -> Live | None:
    """What stands. Tags are read by a call of their own: what somebody else makes between the two
    calls looks foreign, so what does is looked at again."""
    live = resource.read()
    return live if live is None or live.ours else resource.read()


def _adoption(resource: Resource, live: Live) -> Change | _Refused:
    """The change that makes it ours, or why there is none."""
    if why := live.out_of_reach or resource.against_adoption():
        return _Refused(why)
    resource.tags = {**resource.tags, ADOPTED_TAG: "true"}
    change = change_for(resource, live)
    if change.action is Action.REPLACE:
        return _Refused(f"cannot be adopted: {change.reason}")
    return Change(change.action, resource, change.settings, "adopted: it was there before")


def plan_teardown(
    resources: Sequence[Resource], *, keep_data: bool = False, include: Collection[str] = ()
) -> Plan:
    """Delete what is ours and there; what is foreign is not even mentioned.

    Kept are, with ``keep_data``, whatever holds data; what was adopted, is precious, and is not
    named by ``include``; and what holds something of others. Raises :class:`ProvisionError` where
    something is protected.
    """

    def look(resource: Resource) -> Change | _Refused | None:
        live = _seen(resource)
        if live is None or not live.ours:
            return None
        if resource.holds_data and keep_data:
            return Change(Action.KEEP, resource, reason="its data are kept")
        if live.adopted and resource.precious and resource.name not in include:
            reason = f"adopted; --include {resource.name} deletes it"
            return Change(Action.KEEP, resource, reason=reason)
        if guests := resource.guests():
            return Change(Action.KEEP, resource, reason=guests)
        if why := resource.protection(live):
            return _Refused(why)
        return Change(Action.DELETE, resource)

    found = list(zip(resources, _each(resources, look), strict=True))
    protected = [
        f"{_named(resource)}: {one.why}" for resource, one in found if isinstance(one, _Refused)
    ]
    if protected:
        raise ProvisionError(
            f"Protected from being deleted: {'; '.join(protected)}. Nothing was deleted.",
            hint="Switch the protection off in the settings and provision, or use --keep-data.",
        )
    return Plan(tuple(one for _, one in found if isinstance(one, Change)))


def _named(resource: Resource) -> str:
    return f"{resource.kind} {resource.name}"
