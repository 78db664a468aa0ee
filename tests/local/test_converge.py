"""Provisioning again changes nothing; stacks, regions and simultaneous runs do not meet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from embedded import cleaned
from inventory import difference, inventory
from provision_child import Job, Outcome, Warm, warm
from stockpipe_cli import Cli

from stockpipe.aws import Aws, Endpoint
from stockpipe.local import daemon

pytest.importorskip("ministack")

ROUNDS = 1
HERE, ELSEWHERE = "us-east-2", "eu-west-1"


@dataclass(frozen=True)
class Cloud:
    endpoint: Endpoint
    run: Warm
    clients: dict[str, Aws] = field(default_factory=dict)

    def lines(self, region: str = HERE) -> list[str]:
        if region not in self.clients:
            self.clients[region] = Aws(region=region, endpoint=self.endpoint)
        return inventory(self.clients[region].client)

    def all_done(self, *jobs: Job) -> list[Outcome]:
        outcomes = self.run(*jobs)
        assert [(one.code, one.said) for one in outcomes] == [(0, "")] * len(jobs)
        return outcomes

    def pending(self, **where: str) -> list[str]:
        (plan,) = self.all_done(Job("plan", **where))  # type: ignore[arg-type]
        return plan.pending


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One for the tests that leave it as empty as they find it."""
    with cleaned(tmp_path_factory.mktemp("converge")) as home:
        endpoint = daemon.ensure_running(home)
        with warm(endpoint) as run:
            yield Cloud(endpoint, run)


PLACES = {
    "the default stack": ("default", ()),
    "another stack": ("dev", ()),
    "another region": ("default", ("--region", ELSEWHERE)),
}


def plan_of(home: Path, place: str) -> dict[str, Any]:
    """The plan as a document; fails the test where it has changes."""
    stack, flags = PLACES[place]
    shown = Cli(home, stack)("provision", "--plan", "--json", "--detailed-exitcode", *flags)
    document: dict[str, Any] = json.loads(shown.out)
    return document


@dataclass(frozen=True)
class Restarted:
    """A cloud in which all the places were provisioned, planned again, and that was restarted."""

    home: Path
    planned_before: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restarted]:
    with cleaned(tmp_path_factory.mktemp("restarted")) as home:
        for stack, flags in PLACES.values():
            Cli(home, stack)("provision", *flags)
        plans = {place: plan_of(home, place) for place in PLACES}
        assert daemon.stop(home)
        yield Restarted(home, plans)


@pytest.mark.parametrize("place", PLACES)
def test_a_second_provision_has_nothing_to_do_in_a_new_process(
    restarted: Restarted, place: str
) -> None:
    actions = {change["action"] for change in restarted.planned_before[place]["changes"]}
    assert actions == {"keep"}


@pytest.mark.parametrize("place", PLACES)
def test_a_second_provision_has_nothing_to_do_after_a_restart(
    restarted: Restarted, place: str
) -> None:
    assert plan_of(restarted.home, place)["summary"]["keep"] > 0
    stack, flags = PLACES[place]
    assert "Nothing to do" in Cli(restarted.home, stack)("provision", *flags).err


def test_a_second_provision_makes_no_call_that_changes_anything(cloud: Cloud) -> None:
    cloud.all_done(Job("provision"))
    (second,) = cloud.all_done(Job("provision"))
    cloud.all_done(Job("teardown"))
    assert second.calls
    assert second.writes == []


def test_stacks_and_regions_stand_side_by_side_and_fall_alone(cloud: Cloud) -> None:
    places: list[dict[str, str]] = [{}, {"stack": "dev"}, {"region": ELSEWHERE}]
    looks = [(cloud.lines(), cloud.lines(ELSEWHERE))]
    for place in places:
        cloud.all_done(Job("provision", **place))  # type: ignore[arg-type]
        looks.append((cloud.lines(), cloud.lines(ELSEWHERE)))
    assert [cloud.pending(**place) for place in places] == [[]] * len(places)

    for left in reversed(range(len(places))):
        cloud.all_done(Job("teardown", **places[left]))  # type: ignore[arg-type]
        assert [cloud.pending(**place) for place in places[:left]] == [[]] * left
        here, there = looks[left]
        assert difference(cloud.lines(), here) == []
        assert difference(cloud.lines(ELSEWHERE), there) == []


def test_two_at_the_same_moment_end_in_one_correct_stack_or_in_none(cloud: Cloud) -> None:
    before = cloud.lines()
    cloud.all_done(Job("provision"))
    whole = cloud.lines()
    cloud.all_done(Job("teardown"))
    for number in range(ROUNDS):
        cloud.all_done(Job("provision"), Job("provision"))
        assert cloud.pending() == []
        assert difference(cloud.lines(), whole) == [], f"round {number}"
        cloud.all_done(Job("teardown"), Job("teardown"))
        assert difference(cloud.lines(), before) == [], f"round {number}"
