"""Provisioning again changes nothing; stacks and regions do not meet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from embedded import cleaned
from inventory import difference, inventory
from provision_child import Outcome
from provision_here import Here
from stockpipe_cli import Cli

from stockpipe.local import daemon

pytest.importorskip("ministack")

HERE, ELSEWHERE = "us-east-2", "eu-west-1"
PLACES: dict[str, dict[str, str]] = {
    "the default stack": {},
    "another stack": {"stack": "dev"},
    "another region": {"region": ELSEWHERE},
}


@dataclass
class Cloud:
    """One cloud for all the tests, in which every place is provisioned, one after the other."""

    home: Path
    here: Here
    before: dict[str, list[list[str]]] = field(default_factory=dict)
    """What stood in both regions before a place was provisioned."""

    def lines(self) -> list[list[str]]:
        return [inventory(self.here.aws(region=region).client) for region in (HERE, ELSEWHERE)]

    def done(self, do: str, place: str) -> Outcome:
        outcome = self.here.one(do, **PLACES[place])
        assert (outcome.code, outcome.said) == (0, "")
        return outcome

    def command(self, place: str, *arguments: str) -> tuple[str, str]:
        """What the command itself says, on stdout and on stderr."""
        where = PLACES[place]
        region = ("--region", where["region"]) if "region" in where else ()
        said = Cli(self.home, where.get("stack", "default"))("provision", *arguments, *region)
        return said.out, said.err


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cleaned(tmp_path_factory.mktemp("converge")) as home:
        cloud = Cloud(home, Here(daemon.ensure_running(home)))
        for place in PLACES:
            cloud.before[place] = cloud.lines()
            cloud.done("provision", place)
        yield cloud


@pytest.fixture(scope="module")
def restarted(cloud: Cloud) -> Cloud:
    assert daemon.stop(cloud.home)
    assert daemon.ensure_running(cloud.home) == cloud.here.endpoint
    return cloud


@pytest.mark.parametrize("place", PLACES)
def test_a_second_provision_makes_no_call_that_changes_anything(cloud: Cloud, place: str) -> None:
    second = cloud.done("provision", place)
    assert second.pending == []
    assert second.calls
    assert second.writes == []


@pytest.mark.parametrize("place", PLACES)
def test_a_second_provision_has_nothing_to_do_in_a_new_process(cloud: Cloud, place: str) -> None:
    out, _ = cloud.command(place, "--plan", "--json", "--detailed-exitcode")
    document: dict[str, Any] = json.loads(out)
    assert {change["action"] for change in document["changes"]} == {"keep"}


@pytest.mark.parametrize("place", PLACES)
def test_a_second_provision_has_nothing_to_do_after_a_restart(restarted: Cloud, place: str) -> None:
    _, said = restarted.command(place)
    assert "Nothing to do" in said


def test_stacks_and_regions_that_stand_side_by_side_fall_alone(cloud: Cloud) -> None:
    left = list(PLACES)
    while left:
        fallen = left.pop()
        cloud.done("teardown", fallen)
        assert [cloud.done("plan", place).pending for place in left] == [[]] * len(left)
        for found, expected in zip(cloud.lines(), cloud.before[fallen], strict=True):
            assert difference(found, expected) == []
