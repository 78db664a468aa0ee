"""Provisioning again changes nothing; stacks, regions and simultaneous runs do not meet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
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
ELSEWHERE = "eu-west-1"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with cleaned(tmp_path / "home") as home:
        home.mkdir()
        yield home


@dataclass(frozen=True)
class Cloud:
    endpoint: Endpoint
    run: Warm

    def lines(self, region: str = "us-east-2") -> list[str]:
        return inventory(Aws(region=region, endpoint=self.endpoint).client)

    def all_done(self, *jobs: Job) -> list[Outcome]:
        outcomes = self.run(*jobs)
        assert [(one.code, one.said) for one in outcomes] == [(0, "")] * len(jobs)
        return outcomes

    def pending(self, **where: str) -> list[str]:
        (plan,) = self.all_done(Job("plan", **where))  # type: ignore[arg-type]
        return plan.pending


@pytest.fixture
def cloud(home: Path) -> Iterator[Cloud]:
    endpoint = daemon.ensure_running(home)
    with warm(endpoint) as run:
        yield Cloud(endpoint, run)


def plan_of(cli: Cli, *flags: str) -> dict[str, Any]:
    """The plan as a document; fails the test where it has changes."""
    shown = cli("provision", "--plan", "--json", "--detailed-exitcode", *flags)
    document: dict[str, Any] = json.loads(shown.out)
    return document


@pytest.mark.parametrize(
    ("stack", "flags"),
    [("default", ()), ("dev", ()), ("default", ("--region", ELSEWHERE))],
    ids=["the default stack", "another stack", "another region"],
)
def test_a_second_provision_has_nothing_to_do_in_a_new_process_and_after_a_restart(
    home: Path, stack: str, flags: tuple[str, ...]
) -> None:
    cli = Cli(home, stack)
    cli("provision", *flags)
    kept = {change["action"] for change in plan_of(cli, *flags)["changes"]}
    assert kept == {"keep"}
    daemon.stop(home)
    assert plan_of(cli, *flags)["summary"]["keep"] > 0
    again = cli("provision", *flags)
    assert "Nothing to do" in again.err


def test_a_second_provision_makes_no_call_that_changes_anything(cloud: Cloud) -> None:
    cloud.all_done(Job("provision"))
    (second,) = cloud.all_done(Job("provision"))
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
