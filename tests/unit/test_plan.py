"""The plan: what would be done, as data, from a picture of what stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from world import AWS, NAMES, Thing, World, adopted, store, thing

from stockpipe.errors import ForeignResource, ProvisionError
from stockpipe.infra.apply import apply
from stockpipe.infra.plan import Action, Plan, plan_provision, plan_teardown
from stockpipe.infra.resource import Live, Resource


@pytest.fixture
def world() -> World:
    return World()


def actions(plan: Plan) -> dict[str, str]:
    return {change.resource.name: str(change.action) for change in plan.changes}


def test_what_is_not_there_is_created_with_all_its_settings(world: World) -> None:
    plan = plan_provision([thing(world, "a", size=1)])
    assert plan.as_document() == {
        "summary": {"create": 1, "update": 0, "replace": 0, "keep": 0, "delete": 0},
        "changes": [
            {
                "action": "create",
                "kind": "thing",
                "name": "a",
                "settings": {"size": [None, 1], "tags": [None, NAMES.tags]},
                "reason": None,
            }
        ],
    }


LIVE_AND_DESIRED: list[tuple[dict[str, Any], dict[str, Any], str, dict[str, Any]]] = [
    ({"size": 1}, {"size": 1}, "keep", {}),
    ({"size": 1}, {"size": 2}, "update", {"size": (1, 2)}),
    ({"size": 1, "other": 9}, {"size": 1}, "keep", {}),
    ({}, {"size": 2}, "update", {"size": (None, 2)}),
    ({"key": "x"}, {"key": "y"}, "replace", {"key": ("x", "y")}),
    ({"key": "x", "size": 1}, {"key": "y", "size": 2}, "replace",
     {"key": ("x", "y"), "size": (1, 2)}),
]  # fmt: skip


@pytest.mark.parametrize(("live", "desired", "action", "settings"), LIVE_AND_DESIRED)
def test_only_desired_settings_are_compared(
    world: World,
    live: dict[str, Any],
    desired: dict[str, Any],
    action: str,
    settings: dict[str, Any],
) -> None:
    one = thing(world, "a", **desired)
    world.holds(one, live)
    (change,) = plan_provision([one]).changes
    assert (change.action, change.settings) == (action, settings)
    assert change.reason == ("a key is for life" if action == "replace" else "")


def test_an_upgrade_alone_changes_nothing(world: World) -> None:
    one = thing(world, "a")
    one.tags = {**one.tags, "stockpipe:version": "9"}
    world.holds(one, {})
    assert not plan_provision([one]).pending


def test_what_the_settings_switch_off_is_deleted_if_it_is_ours(world: World) -> None:
    ours, foreign, absent = (thing(world, name, wanted=False) for name in ("a", "b", "c"))
    world.holds(ours, {})
    world.holds(foreign, {}, ours=False)
    plan = plan_provision([ours, foreign, absent])
    assert actions(plan) == {"a": "delete"}
    assert plan.changes[0].reason == "switched off"


def test_all_collisions_are_named_at_once_and_nothing_is_done(world: World) -> None:
    ours, first, second = thing(world, "a"), thing(world, "b"), store(world, "c")
    world.holds(first, {}, ours=False)
    world.holds(second, {}, ours=False)
    with pytest.raises(ForeignResource) as refused:
        plan_provision([ours, first, second])
    assert "thing b, store c" in refused.value.message
    assert "--stack" in str(refused.value.hint)
    assert "--adopt" in str(refused.value.hint)
    assert world.done == []


def test_adopting_tags_what_is_there_and_the_next_plan_is_empty(world: World) -> None:
    one = store(world, "a", size=2)
    world.holds(one, {"size": 1}, ours=False)
    plan = plan_provision([one], adopt=True)
    (change,) = plan.changes
    assert change.action == "update"
    assert set(change.settings) == {"size", "tags"}
    apply(plan, lambda step: None)
    assert adopted(world, one)
    assert not plan_provision([store(world, "a", size=2)]).pending


def test_what_could_only_be_replaced_cannot_be_adopted(world: World) -> None:
    one = store(world, "a", key="x")
    world.holds(one, {"key": "y"}, ours=False)
    with pytest.raises(ForeignResource, match="cannot be adopted: a key is for life"):
        plan_provision([one], adopt=True)


def test_what_should_not_be_adopted_says_why(world: World) -> None:
    one = store(world, "a")
    one.against = "it holds objects"
    world.holds(one, {}, ours=False)
    with pytest.raises(ForeignResource, match=r"store a \(it holds objects\)"):
        plan_provision([one], adopt=True)


def test_a_change_that_does_more_than_it_says_has_a_warning(world: World) -> None:
    one = thing(world, "a", size=1)
    world.holds(one, {"size": 2})
    assert plan_provision([one]).changes[0].reason == "it shrinks"


def test_what_holds_something_of_others_is_kept(world: World) -> None:
    one = thing(world, "a")
    one.holding = "it holds a table of others"
    world.holds(one, {})
    (change,) = plan_teardown([one]).changes
    assert (change.action, change.reason) == ("keep", "it holds a table of others")


def test_teardown_deletes_what_is_ours_and_does_not_mention_the_rest(world: World) -> None:
    ours, foreign, absent = thing(world, "a"), thing(world, "b"), thing(world, "c")
    world.holds(ours, {})
    world.holds(foreign, {}, ours=False)
    assert actions(plan_teardown([ours, foreign, absent])) == {"a": "delete"}


def test_teardown_includes_what_the_settings_switched_off_meanwhile(world: World) -> None:
    off = thing(world, "a", wanted=False)
    world.holds(off, {})
    assert actions(plan_teardown([off])) == {"a": "delete"}


def test_kept_data_are_listed_with_the_reason(world: World) -> None:
    table, function = store(world, "a"), thing(world, "b")
    for one in (table, function):
        world.holds(one, {})
    plan = plan_teardown([table, function], keep_data=True)
    assert actions(plan) == {"a": "keep", "b": "delete"}
    assert plan.changes[0].reason == "its data are kept"


def test_adopted_stores_survive_unless_they_are_named(world: World) -> None:
    table, role = store(world, "a"), thing(world, "b")
    for one in (table, role):
        world.holds(one, {}, ours=False)
    apply(plan_provision([table, role], adopt=True), lambda step: None)
    again = [store(world, "a"), thing(world, "b")]
    assert actions(plan_teardown(again)) == {"a": "keep", "b": "delete"}
    assert actions(plan_teardown(again, include=["a"])) == {"a": "delete", "b": "delete"}


def test_one_protected_thing_stops_the_whole_teardown_before_it_begins(world: World) -> None:
    table, function = store(world, "a"), thing(world, "b")
    world.holds(table, {"protected": True})
    world.holds(function, {})
    with pytest.raises(ProvisionError, match="store a: it says so"):
        plan_teardown([function, table])
    assert actions(plan_teardown([function, table], keep_data=True)) == {"b": "delete", "a": "keep"}


@dataclass
class MadeMeanwhile(Thing):
    """Another provision makes it between the call that reads its tags and the one that finds it."""

    reads: int = 0

    def read(self) -> Live | None:
        self.reads += 1
        self.world.holds(self, {}, ours=self.reads > 1)
        return super().read()


@pytest.mark.parametrize("make", [plan_provision, plan_teardown])
def test_what_is_made_while_it_is_read_is_not_taken_for_foreign(
    world: World, make: Callable[[list[Resource]], Plan]
) -> None:
    one = MadeMeanwhile(AWS, "a", world=world, tags=dict(NAMES.tags))
    (change,) = make([one]).changes
    assert change.action is (Action.KEEP if make is plan_provision else Action.DELETE)
