"""Carrying a plan out: order, parallelism, patience, interruption."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Iterator
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from world import World, store, thing, upsert

from stockpipe.errors import ProvisionError
from stockpipe.infra.apply import Step, apply, is_eventual
from stockpipe.infra.plan import plan_provision, plan_teardown
from stockpipe.infra.waiting import await_state


@pytest.fixture
def world() -> World:
    return World()


def silent(step: Step) -> None:
    """Nobody listens."""


def aws_error(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


class Failing:
    """Fails the first ``times`` writes with an error, then lets them pass."""

    def __init__(self, error: Exception, times: int = 1) -> None:
        self.error, self.left = error, times

    def __call__(self, what: str) -> None:
        if self.left:
            self.left -= 1
            raise self.error


def test_dependents_are_made_after_and_deleted_before_what_they_need(world: World) -> None:
    a = thing(world, "a")
    b = thing(world, "b", a)
    c = thing(world, "c", a, b)
    apply(plan_provision([c, b, a]), silent)
    assert world.done == ["create a", "create b", "create c"]
    world.done.clear()
    apply(plan_teardown([a, b, c]), silent)
    assert world.done == ["delete c", "delete b", "delete a"]


def test_independent_things_are_made_at_the_same_time(world: World) -> None:
    together = threading.Barrier(3, timeout=10)  # passes only when three are there at once
    things = [thing(world, name, act=lambda what: together.wait()) for name in "abc"]
    apply(plan_provision(things), silent)
    assert len(world.done) == 3


def test_what_is_settling_is_retried_and_says_why(world: World) -> None:
    error = aws_error("InvalidParameterValueException", "role cannot be assumed by Lambda")
    told: list[Step] = []
    apply(plan_provision([thing(world, "a", act=Failing(error, 2))]), told.append)
    phases = [step.phase for step in told]
    assert phases == ["start", "waiting", "start", "waiting", "start", "done"]
    assert "cannot be assumed" in told[1].reason


def test_what_was_not_begun_is_named(world: World) -> None:
    a = thing(world, "a", act=Failing(aws_error("AccessDenied", "no"), 99))
    b = thing(world, "b", a)
    with pytest.raises(ProvisionError, match="Not begun, because they need these: thing b"):
        apply(plan_provision([a, b]), silent)


def test_expired_credentials_fail_at_once(world: World) -> None:
    expired = thing(world, "a", act=Failing(aws_error("ExpiredToken", "the token has expired")))
    with pytest.raises(ProvisionError, match="ExpiredToken"):
        apply(plan_provision([expired]), silent)


def test_what_became_foreign_since_the_plan_is_not_deleted(world: World) -> None:
    one = thing(world, "a")
    world.holds(one, {})
    plan = plan_teardown([one])
    world.holds(one, {}, ours=False)
    with pytest.raises(ProvisionError, match="somebody else made one of this name"):
        apply(plan, silent)
    assert world.done == []


def test_what_overwrites_looks_again_before_it_does(world: World) -> None:
    foreign, ours = upsert(world, "a", size=2), upsert(world, "b", size=2)
    plan = plan_provision([foreign, ours])
    world.holds(foreign, {"size": 1}, ours=False)
    world.holds(ours, {"size": 1})
    with pytest.raises(ProvisionError, match="upsert a: meanwhile somebody else"):
        apply(plan, silent)
    assert world.done == ["update b: size"]


EVENTUAL = [
    ("ThrottlingException", "Rate exceeded", True),
    ("InvalidParameterValueException", "The role cannot be assumed by Lambda.", True),
    ("InvalidParameterValueException", "Batch size must be positive", False),
    ("ResourceInUseException", "mapping is being deleted", True),
    ("OperationAborted", "A conflicting conditional operation is in progress", True),
    ("LimitExceededException", "Rate exceeded for stream", True),
    ("LimitExceededException", "Subscriber limit exceeded: only 10 tables simultaneously", True),
    ("LimitExceededException", "The limit of tables per account is reached", False),
    ("AccessDenied", "not authorized", False),
]


@pytest.mark.parametrize(("code", "message", "passes"), EVENTUAL)
def test_code_and_message_decide_what_passes_by_itself(
    code: str, message: str, passes: bool
) -> None:
    assert is_eventual(aws_error(code, message)) is passes


def test_a_permanent_error_fails_its_branch_and_spares_the_rest(world: World) -> None:
    denied = Failing(aws_error("AccessDenied", "not authorized to create b"), 99)
    a = thing(world, "a")
    b = thing(world, "b", act=denied)
    c = thing(world, "c", b)
    with pytest.raises(ProvisionError) as failed:
        apply(plan_provision([a, b, c]), silent)
    assert "1 of 3 steps failed: thing b:" in failed.value.message
    assert "not authorized" in failed.value.message
    assert world.done == ["create a"]

    apply(plan_provision([a, thing(world, "b"), c]), silent)
    assert world.done == ["create a", "create b", "create c"]


def test_already_exists_means_that_another_was_faster(world: World) -> None:
    one = thing(world, "a", size=2)

    def other(what: str) -> None:
        if what == "create":
            world.holds(one, {"size": 1})
            raise aws_error("ResourceInUseException", "Stream a already exists")

    one.act = other
    apply(plan_provision([one]), silent)
    assert world.done == ["update a: size"]


def test_already_exists_is_an_error_where_a_stranger_was_faster(world: World) -> None:
    one = thing(world, "a")

    def stranger(what: str) -> None:
        world.holds(one, {}, ours=False)
        raise aws_error("BucketAlreadyOwnedByYou")

    one.act = stranger
    with pytest.raises(ProvisionError, match="BucketAlreadyOwnedByYou"):
        apply(plan_provision([one]), silent)
    assert world.done == []


def test_replacing_a_source_replaces_what_follows_it_in_the_same_run(world: World) -> None:
    table = thing(world, "table", key="old")
    mapping = thing(world, "mapping", table, follows=table)
    apply(plan_provision([table, mapping]), silent)
    world.done.clear()

    table = thing(world, "table", key="new")
    mapping = thing(world, "mapping", table, follows=table)
    apply(plan_provision([table, mapping]), silent)
    assert world.done == ["delete table", "create table", "update mapping: source"]
    assert not plan_provision([table, mapping]).pending


def test_replacing_what_holds_data_needs_permission_before_anything_is_done(world: World) -> None:
    table, other = store(world, "table", key="new"), thing(world, "other")
    world.holds(table, {"key": "old"})
    with pytest.raises(ProvisionError, match="store table: a key is for life") as refused:
        apply(plan_provision([table, other]), silent)
    assert "--allow-replace" in str(refused.value.hint)
    assert world.done == []

    apply(plan_provision([table, other]), silent, allow_replace=True)
    assert sorted(world.done) == ["create other", "create table", "delete table"]


def test_an_interrupt_ends_waits_begins_nothing_and_tells_what_was_begun(world: World) -> None:
    waiting = threading.Event()

    def never(what: str) -> None:
        waiting.set()
        await_state("thing a", lambda: "CREATING", "ACTIVE")

    a, c = thing(world, "a", act=never), thing(world, "c")
    b = thing(world, "b", a)
    told: list[tuple[str, str]] = []

    def listener(step: Step) -> Any:
        told.append((step.change.resource.name, step.phase))
        if step.phase == "waiting":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        apply(plan_provision([a, b, c]), listener)
    assert waiting.is_set()
    assert ("a", "stopped") in told
    assert all(name != "b" for name, _ in told)
    assert world.done == ["create c"]


@pytest.fixture
def patience() -> Iterator[None]:
    """Whoever waits for ever fails after ten seconds."""

    def give_up(_: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"still waits in {frame.f_code.co_qualname if frame else None}")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_an_interrupt_while_a_step_is_being_heard_of_is_not_waited_for_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    taken: list[object] = []

    class Interrupted(queue.SimpleQueue[object]):
        def get(self, block: bool = True, timeout: float | None = None) -> object:
            taken.append(super().get(block, timeout))
            if len(taken) == nth:
                os.kill(os.getpid(), signal.SIGINT)
            return taken[-1]

    one = SimpleNamespace(SimpleQueue=Interrupted)
    monkeypatch.setattr("stockpipe.infra.apply.queue", one)
    with pytest.raises(KeyboardInterrupt):
        apply(plan_provision([thing(world, "a"), thing(world, "b")]), silent)
