"""Killed at any moment, the next run completes what was begun, and touches nothing else.

A process is killed right after the k-th of its calls that change something, counted over all of
its threads. A kill after a call that only reads leaves what the kill after the last change before
it leaves, so those are skipped, and a few calls stand for all: one that comes early in the work,
and one amid it. STOCKPIPE_LONG=1 takes more of them, always the first and the last,
STOCKPIPE_EVERY_CALL=writes all that change something, STOCKPIPE_EVERY_CALL=1 really all.

Every test begins by bringing about what it needs, which the test before it has mostly left.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest
import strangers
from embedded import cleaned
from inventory import difference, inventory, kinds
from provision_child import Outcome, Warm, warm

from stockpipe.aws import Aws
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

    aws: Aws
    run: Warm
    without: list[str]
    whole: list[str]
    provision_writes: int
    teardown_writes: int

    def __call__(self, do: str, **job: object) -> Outcome:
        return self.run.one(do, settings=EVERYTHING, **job)

    def killed(self, do: str, number: int) -> bool:
        """Whether the kill came before the work was done."""
        outcome = self(do, kill_after=number, writes_only=EVERY_CALL != "1")
        assert outcome.killed or outcome.code == 0, outcome.said
        return outcome.killed

    def completes(self, do: str) -> None:
        outcome = self(do)
        assert outcome.code == 0, outcome.said

    def check(self, expected: list[str], after: object = "") -> None:
        assert difference(inventory(self.aws.client), expected) == [], f"after call {after}"

    def is_whole(self, after: object = "") -> None:
        """All is made, and nothing is left to do."""
        assert self("plan").pending == [], f"after call {after}"
        self.check(self.whole, after)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cleaned(tmp_path_factory.mktemp("resume")) as home:
        endpoint = daemon.ensure_running(home)
        aws = Aws(region="us-east-2", endpoint=endpoint)
        strangers.arrive(endpoint, aws.names)
        with warm(endpoint) as run:
            world = World(aws, run, inventory(aws.client), [], 0, 0)
            made = world("provision")
            assert made.code == 0, made.said
            world.whole = inventory(aws.client)
            removed = world("teardown")
            assert removed.code == 0, removed.said
            world.provision_writes, world.teardown_writes = len(made.writes), len(removed.writes)
            yield world


def moments(writes: int, *, early: bool = True, spread: int = 4) -> Iterator[int]:
    """After which calls to kill: all, for ever; a spread with the first and the last; or a few."""
    if EVERY_CALL:
        return count(1)
    chosen = random.Random(SEED)
    if LONG:
        between = range(2, writes)
        return iter(sorted({1, writes, *chosen.sample(between, min(spread - 2, len(between)))}))
    amid = chosen.randrange(writes // 3, writes * 2 // 3)
    return iter([chosen.randrange(1, 6), amid] if early else [amid])


def test_the_listing_sees_every_kind_of_thing_that_we_make(world: World) -> None:
    ours = [line for line in world.whole if line not in world.without]
    assert kinds(ours) | {"object"} == kinds(world.without)


def test_teardown_leaves_what_was_there_before_and_nothing_else(world: World) -> None:
    world.check(world.without)


def test_a_provision_killed_after_any_call_is_completed_by_the_next(world: World) -> None:
    for number in moments(world.provision_writes):
        world.completes("teardown")
        world.check(world.without, number)
        killed = world.killed("provision", number)
        world.completes("provision")
        world.is_whole(number)
        if not killed:
            break


def test_a_half_removed_stack_can_be_provisioned_again_instead(world: World) -> None:
    for number in moments(world.teardown_writes, early=False):
        world.completes("provision")
        killed = world.killed("teardown", number)
        world.completes("provision")
        world.is_whole(number)
        if not killed:
            break


def test_a_teardown_killed_after_any_call_is_completed_by_the_next(world: World) -> None:
    for number in moments(world.teardown_writes):
        world.completes("provision")
        killed = world.killed("teardown", number)
        world.completes("teardown")
        world.check(world.without, number)
        if not killed:
            break


def test_a_half_made_stack_can_be_torn_down_instead(world: World) -> None:
    world.completes("teardown")
    for number in moments(world.provision_writes, early=False):
        killed = world.killed("provision", number)
        world.completes("teardown")
        world.check(world.without, number)
        if not killed:
            break
