"""An in-memory picture of live state: resources without a cloud, for planner and executor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from stockpipe.aws import Aws
from stockpipe.domain.names import ADOPTED_TAG, Names
from stockpipe.infra.resource import Live, Resource

T = TypeVar("T", bound="Thing")
NAMES = Names("default", "us-east-2", "123456789012")


@dataclass
class World:
    """What stands: settings and tags by id; and what was done, in order."""

    things: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str) -> None:
        with self.lock:
            self.done.append(what)

    def holds(self, thing: Resource, settings: Mapping[str, Any], *, ours: bool = True) -> None:
        self.things[thing.id] = dict(settings)
        self.tags[thing.id] = dict(NAMES.tags) if ours else {}


@dataclass
class Thing(Resource):
    """A resource of the picture. ``act`` is called before each write, and may fail or wait."""

    kind: ClassVar[str] = "thing"
    replace_on: ClassVar[Mapping[str, str]] = {"key": "a key is for life"}

    world: World = field(default_factory=World)
    settings: dict[str, Any] = field(default_factory=dict)
    act: Callable[[str], None] = lambda what: None
    against: str | None = None
    holding: str | None = None
    follows: Resource | None = None
    """A thing whose live ``id`` this one's settings contain, as a mapping contains an ARN."""

    def desired(self) -> dict[str, Any]:
        found = dict(self.settings)
        if self.follows:
            found["source"] = self.world.things.get(self.follows.id, {}).get("serial")
        return {**found, "tags": self.stable_tags}

    def read(self) -> Live | None:
        with self.world.lock:
            settings = self.world.things.get(self.id)
        if settings is None:
            return None
        return self.standing(settings, self.world.tags[self.id], f"arn:{self.id}")

    def create(self) -> None:
        self.act("create")
        self.world.note(f"create {self.name}")
        with self.world.lock:
            serial = len(self.world.done)
            self.world.things[self.id] = {**self.desired(), "serial": serial}
            self.world.tags[self.id] = dict(self.tags)

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        self.act("update")
        self.world.note(f"update {self.name}: {', '.join(sorted(changes))}")
        with self.world.lock:
            self.world.things[self.id].update(
                {name: new for name, (_, new) in changes.items() if name != "tags"}
            )
            if "tags" in changes:
                self.world.tags[self.id] |= self.tags

    def delete(self) -> None:
        self.act("delete")
        self.world.note(f"delete {self.name}")
        with self.world.lock:
            self.world.things.pop(self.id, None)

    def warning(self, changes: Mapping[str, tuple[Any, Any]]) -> str:
        old, new = changes.get("size", (0, 0))
        return "it shrinks" if old and new < old else ""

    def against_adoption(self) -> str | None:
        return self.against

    def guests(self) -> str | None:
        return self.holding

    def protection(self, live: Live) -> str | None:
        return "it says so" if live.settings.get("protected") else None


@dataclass
class Upsert(Thing):
    """One whose create call overwrites what is there."""

    kind: ClassVar[str] = "upsert"
    upserts: ClassVar[bool] = True


@dataclass
class Store(Thing):
    """One that holds data."""

    kind: ClassVar[str] = "store"
    holds_data: ClassVar[bool] = True
    precious: ClassVar[bool] = True


AWS = Aws(region=NAMES.region, account=NAMES.account)
AWS.__dict__["account_id"] = NAMES.account  # what a cached property holds once it was asked


def thing(world: World, name: str, *needs: Resource, **options: Any) -> Thing:
    """A thing of this stack; ``options`` beyond the fields are its settings."""
    return _make(Thing, world, name, needs, options)


def upsert(world: World, name: str, *needs: Resource, **options: Any) -> Upsert:
    return _make(Upsert, world, name, needs, options)


def store(world: World, name: str, *needs: Resource, **options: Any) -> Store:
    return _make(Store, world, name, needs, options)


def _make(
    kind: type[T], world: World, name: str, needs: tuple[Resource, ...], options: dict[str, Any]
) -> T:
    fields = {key: options.pop(key) for key in ("act", "follows", "wanted") if key in options}
    return kind(
        AWS,
        name,
        world=world,
        settings=options,
        needs=tuple(need.id for need in needs),
        tags=dict(NAMES.tags),
        **fields,
    )


def adopted(world: World, thing: Resource) -> bool:
    return ADOPTED_TAG in world.tags[thing.id]
