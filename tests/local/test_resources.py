"""What every kind of resource must do, told once and held for each against the embedded cloud.

A kill after a call that only reads leaves what the kill after the last change before it leaves, so
those are skipped, but for STOCKPIPE_LONG=1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from itertools import count

import pytest
from embedded import cleaned
from resource_cases import CASES
from resource_hands import Case
from resource_world import Cloud, Killed, converge, standing

from stockpipe.domain.names import STACK_TAG
from stockpipe.infra.apply import apply
from stockpipe.infra.plan import difference, plan_provision
from stockpipe.infra.resource import Resource
from stockpipe.local import daemon

pytest.importorskip("ministack")

TAGGED = sorted(name for name, case in CASES.items() if case.stranger)
DELETED = [name for name in CASES if name != "subscription"]
"""What is deleted by itself: a subscription goes with its topic."""
DRIFT = [(name, setting) for name, case in CASES.items() for setting in case.by_hand]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cleaned(tmp_path_factory.mktemp("resources")) as home:
        yield Cloud(daemon.ensure_running(home), reads_count="STOCKPIPE_LONG" in os.environ)


@dataclass
class Shelf:
    """Resources that a test has left as they should be, for the next one that needs its kind."""

    cloud: Cloud
    kept: dict[str, Resource] = field(default_factory=dict)

    def take(self, name: str) -> Resource:
        if name in self.kept:
            return self.kept.pop(name)
        resource = CASES[name].make(self.cloud.world())
        resource.create()
        return resource


@pytest.fixture(scope="module")
def shelf(cloud: Cloud) -> Shelf:
    return Shelf(cloud)


@pytest.fixture(autouse=True)
def as_aws_would_take_it(cloud: Cloud) -> Iterator[None]:
    yield
    cloud.calls_left = None
    refused, cloud.models.refused = cloud.models.refused, []
    assert refused == []


@pytest.mark.parametrize("name", CASES)
def test_what_was_made_is_as_desired_and_ours(cloud: Cloud, shelf: Shelf, name: str) -> None:
    resource = CASES[name].make(cloud.world())
    assert resource.read() is None
    resource.create()
    live = standing(resource)
    assert difference(resource, live) == {}
    assert live.ours
    assert live.out_of_reach is None
    shelf.kept[name] = resource


@pytest.mark.parametrize("name", TAGGED)
def test_the_tags_go_in_the_call_that_creates_it(cloud: Cloud, name: str) -> None:
    world = cloud.world()
    resource = CASES[name].make(world)
    world.sent()
    resource.create()
    first, *others = [request for request in world.sent() if request.writes]
    assert STACK_TAG in str(first.params)
    assert [other for other in others if STACK_TAG in str(other.params)] == []


@pytest.mark.parametrize("name", CASES)
def test_every_setting_that_can_change_in_place_has_its_drift_below(
    shelf: Shelf, name: str
) -> None:
    shelf.kept[name] = resource = shelf.take(name)
    settings = set(resource.desired()) - set(resource.replace_on) - {"mappings"}
    assert settings == set(CASES[name].by_hand)


@pytest.mark.parametrize(("name", "setting"), DRIFT)
def test_a_change_by_hand_is_seen_and_mended(shelf: Shelf, name: str, setting: str) -> None:
    resource = shelf.take(name)
    CASES[name].by_hand[setting](resource)
    changes = difference(resource, standing(resource))
    assert set(changes) == {setting}
    resource.update(changes)
    assert difference(resource, standing(resource)) == {}
    shelf.kept[name] = resource


@pytest.mark.parametrize("name", TAGGED)
def test_a_stranger_of_the_same_name_is_not_ours(cloud: Cloud, name: str) -> None:
    resource = CASES[name].make(cloud.world())
    stranger = CASES[name].stranger
    assert stranger is not None
    stranger(resource)
    assert not standing(resource).ours


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_made_by_somebody_else_after_the_plan_it_is_brought_to_what_it_should_be(
    cloud: Cloud, case: Case
) -> None:
    resource = case.make(cloud.world())
    plan = plan_provision([resource])
    faster = copy(resource)
    faster.tags = {**resource.tags, "team": "another"} if resource.tags else {}
    faster.create()
    apply(plan, lambda step: None)
    assert difference(resource, standing(resource)) == {}


@pytest.mark.parametrize("name", DELETED)
def test_it_can_be_deleted_twice(shelf: Shelf, name: str) -> None:
    resource = shelf.take(name)
    resource.delete()
    assert resource.read() is None
    resource.delete()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_killed_after_any_call_the_next_run_completes_it(cloud: Cloud, case: Case) -> None:
    for calls in count(1):
        resource = case.make(cloud.world())
        cloud.calls_left = calls
        try:
            converge(resource)
        except Killed:
            cloud.calls_left = None
        else:
            break
        left = converge(resource)
        assert left is None or left.ours
        assert difference(resource, standing(resource)) == {}
    assert calls > 1


@pytest.mark.parametrize("name", DELETED)
def test_killed_in_a_deletion_the_next_one_completes_it(cloud: Cloud, name: str) -> None:
    for calls in count(1):
        resource = CASES[name].make(cloud.world())
        resource.create()
        cloud.calls_left = calls
        try:
            resource.delete()
        except Killed:
            cloud.calls_left = None
        else:
            break
        resource.delete()
        assert resource.read() is None
    assert calls > 1
