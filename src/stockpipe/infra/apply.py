"""Carry a plan out: independent resources at the same time, dependents after what they need.

Resuming is running again: each step reads before it acts, and "already exists" means that someone
else was faster, so read again and converge.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from graphlib import TopologicalSorter

from botocore.exceptions import ClientError

from stockpipe.domain.retry import retry
from stockpipe.errors import ProvisionError, StockpipeError
from stockpipe.functions.faults import error_code, is_transient
from stockpipe.infra.plan import Action, Change, Plan, change_for
from stockpipe.infra.resource import Resource

PARALLEL = 12
STEP_BUDGET_S = 300.0
"""How long one resource may take to converge, retries and waits included."""

_EXISTS = frozenset(
    {
        "AlreadyExistsException",
        "BucketAlreadyOwnedByYou",
        "EntityAlreadyExists",
        "ResourceAlreadyExistsException",
        "ResourceConflictException",
        "ResourceInUseException",
    }
)
_EVENTUAL = (
    # (error code, part of the message): eventual consistency that ends by itself.
    ("InvalidParameterValueException", "cannot be assumed by Lambda"),
    ("InvalidParameterValueException", "execution role does not have permissions"),
    ("InvalidParameterValueException", "Cannot access stream"),
    ("InvalidParameterValueException", "Please ensure the role can perform"),
    ("ResourceInUseException", ""),
    ("ResourceConflictException", ""),
    ("OperationAborted", ""),
    ("OperationAbortedException", ""),
    ("BucketNotEmpty", ""),
    ("ConcurrentAccess", ""),
    ("EntityTemporarilyUnmodifiable", ""),
    ("LimitExceededException", "Rate exceeded"),
    ("ConcurrentModificationException", ""),
    ("ConcurrentModification", ""),
    ("DeleteConflict", ""),
)


@dataclass(frozen=True, slots=True)
class Step:
    """Something happened to one resource: ``start``, ``done`` or ``failed`` with the reason."""

    change: Change
    phase: str
    reason: str = ""


def is_eventual(error: Exception) -> bool:
    """Whether an AWS error passes by itself: throttling, or state that is still settling."""
    if is_transient(error):
        return True
    code = error_code(error)
    return isinstance(error, ClientError) and any(
        code == known and part in str(error) for known, part in _EVENTUAL
    )


def apply(plan: Plan, on_step: Callable[[Step], None]) -> None:
    """Carry out the plan; ``on_step`` is called from this thread, as things happen.

    Dependents of a failed resource are left alone, everything else is still done; then
    :class:`ProvisionError` names what failed. KeyboardInterrupt stops between calls: steps that
    run are finished, none is begun.
    """
    failed: list[Step] = []
    for step in _run(plan.pending):
        on_step(step)
        if step.phase == "failed":
            failed.append(step)
    if failed:
        listed = "; ".join(
            f"{step.change.resource.kind} {step.change.resource.name}: {step.reason}"
            for step in failed
        )
        raise ProvisionError(
            f"{len(failed)} of {len(plan.pending)} steps failed: {listed}",
            hint="Correct the cause and run the same command again: it resumes where it stopped.",
        )


def _run(changes: Sequence[Change]) -> Iterator[Step]:
    """Steps in dependency order; for deletions the arrows are turned around."""
    by_id = {change.resource.id: change for change in changes}
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for change in changes:
        sorter.add(change.resource.id)
        for need in change.resource.needs:
            if need not in by_id:
                continue
            if change.action is Action.DELETE:
                sorter.add(need, change.resource.id)
            else:
                sorter.add(change.resource.id, need)
    sorter.prepare()
    finished: queue.SimpleQueue[tuple[str, Future[None]]] = queue.SimpleQueue()
    stopping = threading.Event()
    running = 0
    with ThreadPoolExecutor(PARALLEL) as pool:
        try:
            while sorter.is_active():
                for ready in sorter.get_ready():
                    yield Step(by_id[ready], "start")
                    future = pool.submit(_carry_out, by_id[ready], stopping)
                    future.add_done_callback(lambda f, ready=ready: finished.put((ready, f)))  # type: ignore[misc]
                    running += 1
                if not running:
                    return  # what is left depends on what failed
                done, future = finished.get()
                running -= 1
                error = future.exception()
                if error is None:
                    sorter.done(done)
                    yield Step(by_id[done], "done")
                elif isinstance(error, (StockpipeError, ClientError, OSError)) or is_transient(
                    error  # type: ignore[arg-type]
                ):
                    yield Step(by_id[done], "failed", str(error))
                else:
                    raise error
        finally:
            stopping.set()


def _carry_out(change: Change, stopping: threading.Event) -> None:
    """One step, retried while AWS is still settling."""

    def attempt() -> None:
        if stopping.is_set():
            raise StockpipeError("interrupted before it was begun")
        _act(change)

    retry(attempt, transient=is_eventual, budget_s=STEP_BUDGET_S, base_s=0.2)


def _act(change: Change) -> None:
    resource = change.resource
    if change.action is Action.DELETE:
        resource.delete()
    elif change.action is Action.REPLACE:
        _replace(resource)
    elif change.action is Action.UPDATE:
        resource.update(change.settings)
    elif change.action is Action.CREATE:
        _create(resource)


def _create(resource: Resource) -> None:
    try:
        resource.create()
    except ClientError as error:
        # Athena says it in the message only.
        if error_code(error) not in _EXISTS and "already exists" not in str(error):
            raise
        live = resource.read()
        if live is None or not live.ours:
            raise
        now = change_for(resource, live)
        if now.action is Action.UPDATE:
            resource.update(now.settings)


def _replace(resource: Resource) -> None:
    if resource.holds_data:
        raise ProvisionError(
            f"{resource.kind} {resource.name} holds data and can only be replaced, not changed.",
            hint="Undo the change of the setting, or use another --stack.",
        )
    resource.delete()
    resource.create()
