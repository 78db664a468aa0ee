"""Carry a plan out: independent resources at the same time, dependents after what they need.

Resuming is running again. "Already exists" means that someone else was faster, so read again and
converge. What deletes, or would overwrite without a word, looks again at its turn: hours may have
passed since the plan.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from graphlib import TopologicalSorter

from botocore.exceptions import BotoCoreError, ClientError

from stockpipe.domain.retry import retry, wait_until
from stockpipe.errors import ForeignResource, ProvisionError, StockpipeError
from stockpipe.functions.faults import EXPIRED, error_code, is_transient
from stockpipe.infra.plan import Action, Change, Plan, change_for
from stockpipe.infra.resource import Live, Resource
from stockpipe.infra.waiting import Stopped, Watch, watch

PARALLEL = 24
STEP_BUDGET_S = 300.0
"""How long one resource may take to converge, retries and waits included."""

LOOK_BUDGET_S = 3.0

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
    ("ContinuousBackupsUnavailableException", ""),
    ("ResourceInUseException", ""),
    ("ResourceConflictException", ""),
    ("OperationAborted", ""),
    ("OperationAbortedException", ""),
    ("BucketNotEmpty", ""),
    ("ConcurrentAccess", ""),
    ("EntityTemporarilyUnmodifiable", ""),
    ("LimitExceededException", "Rate exceeded"),
    # More tables or streams at once than a region makes: "Subscriber limit exceeded: ...".
    ("LimitExceededException", "simultaneous"),
    ("LimitExceededException", "concurrently"),
    ("ConcurrentModificationException", ""),
    ("ConcurrentModification", ""),
    ("DeleteConflict", ""),
)


@dataclass(frozen=True, slots=True)
class Step:
    """Something happened to one resource.

    ``phase``: ``start``, ``waiting`` (``reason``: for what), ``done``, ``stopped`` (begun, and
    not finished) or ``failed`` (``reason``: why).
    """

    change: Change
    phase: str
    reason: str = ""


def is_eventual(error: Exception) -> bool:
    """Whether an AWS error passes by itself: throttling, or state that is still settling.

    Expired credentials do not: somebody has to log in again.
    """
    if is_transient(error):
        return error_code(error) not in EXPIRED
    code = error_code(error)
    return isinstance(error, ClientError) and any(
        code == known and part in str(error) for known, part in _EVENTUAL
    )


def apply(plan: Plan, on_step: Callable[[Step], None], *, allow_replace: bool = False) -> None:
    """Carry out the plan; ``on_step`` is called from one thread, not
    the caller's, as things happen.

    Dependents of a failed resource are left alone, everything else is still done; then
    :class:`ProvisionError` names what failed. Nothing at all is done where data would be lost
    and ``allow_replace`` does not say so. KeyboardInterrupt stops between calls: waits end, calls
    that run are finished, nothing is begun; it is raised after the last step was told.
    """
    refused = plan.losing_data
    if refused and not allow_replace:
        raise ProvisionError(
            "Replacing loses what is stored: "
            + "; ".join(f"{_named(change)}: {change.reason}" for change in refused)
            + ". Nothing was changed.",
            hint="Keep a copy of the data, then confirm with --allow-replace.",
        )
    failed: list[Step] = []
    begun: set[str] = set()

    def tell(step: Step) -> None:
        begun.add(step.change.resource.id)
        on_step(step)
        if step.phase == "failed":
            failed.append(step)

    _Run(plan, tell, allow_replace=allow_replace).run()
    if failed:
        listed = "; ".join(f"{_named(step.change)}: {step.reason}" for step in failed)
        left = [_named(one) for one in plan.pending if one.resource.id not in begun]
        raise ProvisionError(
            f"{len(failed)} of {len(plan.pending)} steps failed: {listed}"
            + (f". Not begun, because they need these: {', '.join(left)}" if left else ""),
            hint="Correct the cause and run the same command again: it resumes where it stopped.",
        )


class _Run:
    """One walk through the graph of a plan."""

    def __init__(self, plan: Plan, tell: Callable[[Step], None], *, allow_replace: bool) -> None:
        self._tell, self._allow_replace = tell, allow_replace
        self._changes = {change.resource.id: change for change in plan.changes}
        self._acted: set[str] = set()
        """What was made, changed or replaced. Its dependents are read again at their turn: their
        settings may follow from it, as a replaced table has a new stream ARN."""
        self._heard: queue.SimpleQueue[Step | _End] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._running = 0

    def run(self) -> None:
        """In a thread of its own: what Ctrl-C raises in this one could fall between taking a
        step's end out of the queue and counting it, and the end would be waited for for ever."""
        with ThreadPoolExecutor(1) as walker:
            try:
                walker.submit(self._walk).result()
            finally:
                self._stopping.set()

    def _walk(self) -> None:
        sorter = self._graph()
        with ThreadPoolExecutor(PARALLEL) as pool:
            try:
                while sorter.is_active():
                    ready = sorter.get_ready()
                    for one in ready:
                        if self._settled(self._changes[one]):
                            sorter.done(one)
                        else:
                            pool.submit(self._carry_out, self._changes[one])
                            self._running += 1
                    if not ready:
                        if not self._running:
                            return  # what is left depends on what failed, or was not begun
                        self._hear(sorter)
            finally:
                self._stopping.set()
                while self._running:
                    self._hear(sorter)

    def _graph(self) -> TopologicalSorter[str]:
        """Dependents after what they need; for deletions the arrows are turned around."""
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for change in self._changes.values():
            sorter.add(change.resource.id)
            for need in change.resource.needs:
                needed = self._changes.get(need)
                if needed is None:
                    continue
                if change.action is not Action.DELETE:
                    sorter.add(change.resource.id, need)
                elif needed.action is Action.DELETE:
                    sorter.add(need, change.resource.id)
        sorter.prepare()
        return sorter

    def _settled(self, change: Change) -> bool:
        """Whether there is nothing to do, and nothing it needs has changed."""
        return change.action is Action.KEEP and self._acted.isdisjoint(change.resource.needs)

    def _hear(self, sorter: TopologicalSorter[str]) -> None:
        heard = self._heard.get()
        if isinstance(heard, Step):
            self._tell(heard)
            return
        self._running -= 1
        change, error = heard.change, heard.error
        if error is None:
            if change.action is not Action.KEEP:
                self._acted.add(change.resource.id)
                self._tell(Step(change, "done"))
            sorter.done(change.resource.id)
        elif isinstance(error, Stopped):
            if error.args:  # else it was not begun
                self._tell(Step(change, "stopped", str(error)))
        elif isinstance(error, (StockpipeError, ClientError, BotoCoreError, OSError)):
            self._tell(Step(change, "failed", str(error)))
        else:
            raise error

    def _carry_out(self, change: Change) -> None:
        """One step in a thread of its own, retried while AWS is still settling."""
        current = change

        def tell(what: str) -> None:
            self._heard.put(Step(current, "waiting", what))

        def attempt() -> None:
            nonlocal current
            if self._stopping.is_set():
                raise Stopped
            current = self._at_its_turn(change)
            if current.action is not Action.KEEP:
                self._heard.put(Step(current, "start"))
                self._act(current)

        try:
            watch.set(Watch(self._stopping, tell))
            retry(
                attempt,
                transient=is_eventual,
                budget_s=STEP_BUDGET_S,
                base_s=0.2,
                on_wait=lambda error: watch.get().waiting(str(error)),
            )
        except BaseException as error:  # noqa: BLE001 - told, or raised, by the walk
            self._heard.put(_End(current, error))
        else:
            self._heard.put(_End(current, None))

    def _at_its_turn(self, change: Change) -> Change:
        """What is to be done now; raises :class:`ForeignResource` where it is no longer ours."""
        resource = change.resource
        followed = not self._acted.isdisjoint(resource.needs)
        match change.action:
            case Action.KEEP | Action.UPDATE if followed:
                return change_for(resource, resource.read())
            case Action.DELETE | Action.REPLACE:
                _ours(resource)
            case Action.CREATE if resource.upserts:
                return change_for(resource, _ours(resource))
        return change

    def _act(self, change: Change) -> None:
        resource = change.resource
        if change.action is Action.DELETE:
            resource.delete()
        elif change.action is Action.UPDATE:
            resource.update(change.settings)
        elif change.action is Action.CREATE:
            _create(resource)
        elif change.loses_data and not self._allow_replace:
            raise ProvisionError(f"{_named(change)} can only be replaced, and holds data.")
        else:
            resource.delete()
            resource.create()


@dataclass(frozen=True, slots=True)
class _End:
    """A step is over, with the change that it came to."""

    change: Change
    error: BaseException | None


def _ours(resource: Resource) -> Live | None:
    """The resource as it stands now; raises :class:`ForeignResource` where it is not ours.

    What another teardown is deleting can lose its tags before it is gone, or go between two calls
    of one reading, so what looks foreign or fails is looked at again.
    """

    def look() -> tuple[Live | None] | None:
        try:
            live = resource.read()
        except ClientError:
            return None
        return (live,) if live is None or live.ours else None

    if found := wait_until(look, budget_s=LOOK_BUDGET_S):
        return found[0]
    live = resource.read()  # raises what goes on failing
    if live and not live.ours:
        raise ForeignResource("meanwhile somebody else made one of this name; it is let alone")
    return live


def _create(resource: Resource) -> None:
    try:
        resource.create()
    except ClientError as error:
        # Athena and SNS say it in the message only.
        if error_code(error) not in _EXISTS and "already exists" not in str(error):
            raise
        live = wait_until(resource.read, budget_s=LOOK_BUDGET_S)  # it may not be visible yet
        if live is None or not live.ours:
            raise
        now = change_for(resource, live)
        if now.action is Action.UPDATE:
            resource.update(now.settings)


def _named(change: Change) -> str:
    return f"{change.resource.kind} {change.resource.name}"
