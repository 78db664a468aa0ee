"""Killed at any moment, the next run completes what was begun, and touches nothing else.

Nor does it matter that another run is at work at the same moment.

A process is killed right after the k-th of its calls that change something, counted over all of
its threads. A kill after a call that only reads leaves what the kill after the last change before
it leaves, so those are skipped, and one call stands for all, early in the work or amid it.
STOCKPIPE_LONG=1 takes more of them, always the first and the last, STOCKPIPE_EVERY_CALL=writes
all that change something, STOCKPIPE_EVERY_CALL=1 really all.

Every test begins by bringing about what it needs, which the test before it has mostly left.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
import strangers
from embedded import cleaned
from inventory import difference, inventory, kinds
from provision_child import Job, Outcome, Warm, warm
from provision_here import Here

from stockpipe.local import daemon

pytest.importorskip("ministack")

EVERY_CALL = os.environ.get("STOCKPIPE_EVERY_CALL")
LONG = "STOCKPIPE_LONG" in os.environ
SEED = 20260101
EVERYTHING = {
    "emails": ["one@example.com", "two@example.com"],
    "sms": ["+12025550123"],
    "ttl_days": 30,
    "point_in_time_recovery": True,
}
"""Settings that leave no resource out."""


@dataclass
class World:
    """An account in which other people live too, and how it looks with and without our stack."""

    here: Here
    """For what is not killed."""
    processes: Warm
    without: list[str]
    whole: list[str] = field(default_factory=list)
    provision_writes: int = 0
    teardown_writes: int = 0
    left: str | None = None
    """``provision`` or ``teardown``: what was done, and found to be done, last of all."""

    def both(self, do: str) -> None:
        """The same in two processes at the same moment."""
        self.left = None
        outcomes = self.processes(*[Job(do, settings=EVERYTHING)] * 2)
        assert [(one.code, one.said) for one in outcomes] == [(0, "")] * 2

    def killed(self, do: str, number: int) -> bool:
        """Whether the kill came before the work was done."""
        self.left = None
        outcome = self.processes.one(
            do, settings=EVERYTHING, kill_after=number, writes_only=EVERY_CALL != "1"
        )
        assert outcome.killed or outcome.code == 0, outcome.said
        return outcome.killed

    def completes(self, do: str) -> Outcome:
        self.left = None
        outcome = self.here.one(do, settings=EVERYTHING)
        assert outcome.code == 0, outcome.said
        return outcome

    def is_whole(self, after: object = "") -> None:
        """All is made, and nothing is left to do."""
        assert self.completes("plan").pending == [], f"after call {after}"
        self._check(self.whole, after)
        self.left = "provision"

    def is_gone(self, after: object = "") -> None:
        self._check(self.without, after)
        self.left = "teardown"

    def begin(self, after: str) -> None:
        """With the whole stack, or without it."""
        if self.left != after:
            self.completes(after)
            (self.is_whole if after == "provision" else self.is_gone)()

    def _check(self, expected: list[str], after: object) -> None:
        found = inventory(self.here.aws().client)
        assert difference(found, expected) == [], f"after call {after}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cleaned(tmp_path_factory.mktemp("resume")) as home:
        endpoint = daemon.ensure_running(home)
        here = Here(endpoint)
        strangers.arrive(endpoint, here.aws().names)
        with warm(endpoint) as processes:
            world = World(here, processes, inventory(here.aws().client))
            world.provision_writes = len(world.completes("provision").writes)
            world.whole = inventory(here.aws().client)
            world.teardown_writes = len(world.completes("teardown").writes)
            yield world


def moments(writes: int, *, early: bool) -> Iterator[int]:
    """After which calls to kill: all, for ever; a spread with the first and the last; or one."""
    if EVERY_CALL:
        return count(1)
    chosen = random.Random(SEED)
    if LONG:
        return iter(sorted({1, writes, *chosen.sample(range(2, writes), 2)}))
    begun, amid = chosen.randrange(1, 6), chosen.randrange(writes // 3, writes * 2 // 3)
    return iter([begun if early else amid])


def test_teardown_leaves_what_was_there_before_and_nothing_else(world: World) -> None:
    world.is_gone()


def test_the_listing_sees_every_kind_of_thing_that_we_make(world: World) -> None:
    ours = [line for line in world.whole if line not in world.without]
    assert kinds(ours) | {"object"} == kinds(world.without)


def test_a_provision_killed_after_any_call_is_completed_by_the_next(world: World) -> None:
    for number in moments(world.provision_writes, early=False):
        world.begin("teardown")
        killed = world.killed("provision", number)
        world.completes("provision")
        world.is_whole(number)
        if not killed:
            break


def test_a_half_removed_stack_can_be_provisioned_again_instead(world: World) -> None:
    for number in moments(world.teardown_writes, early=True):
        world.begin("provision")
        killed = world.killed("teardown", number)
        world.completes("provision")
        world.is_whole(number)
        if not killed:
            break


def test_a_teardown_killed_after_any_call_is_completed_by_the_next(world: World) -> None:
    for number in moments(world.teardown_writes, early=False):
        world.begin("provision")
        killed = world.killed("teardown", number)
        world.completes("teardown")
        world.is_gone(number)
        if not killed:
            break


def test_a_half_made_stack_can_be_torn_down_instead(world: World) -> None:
    for number in moments(world.provision_writes, early=True):
        world.begin("teardown")
        killed = world.killed("provision", number)
        world.completes("teardown")
        world.is_gone(number)
        if not killed:
            break


def test_two_at_the_same_moment_end_in_one_correct_stack_or_in_none(world: World) -> None:
    world.begin("teardown")
    world.both("provision")
    world.is_whole()
    world.both("teardown")
    world.is_gone()
