"""Waiting for what AWS does in its own time: polled with growing pauses, within a budget.

Whoever carries out a step watches it: hears what is waited for, and can end the wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from stockpipe.domain.retry import retry, wait_until
from stockpipe.errors import ProvisionError
from stockpipe.functions.faults import error_code

T = TypeVar("T")

BUDGET_S = 240.0
VISIBLE_S = 30.0
"""How long a service may take to know everywhere what it has just made."""


class Stopped(Exception):
    """Somebody wants the program to end: a wait is over, whatever it waited for."""


@dataclass(frozen=True)
class Watch:
    """What a step's waits tell, and whether they should go on."""

    stopping: threading.Event = field(default_factory=threading.Event)
    tell: Callable[[str], None] = lambda what: None

    def waiting(self, what: str) -> None:
        """Say what is waited for; raises :class:`Stopped` where nobody wants it any more."""
        if self.stopping.is_set():
            raise Stopped(what)
        self.tell(what)


watch: ContextVar[Watch] = ContextVar("watch", default=Watch())  # noqa: B039 - frozen, never told
"""Of the step that this thread carries out."""


def await_state(what: str, status: Callable[[], str | None], *wanted: str) -> None:
    """Poll until the status is a wanted one; raises :class:`ProvisionError` past the budget."""
    last: str | None = None

    def ready() -> str | None:
        nonlocal last
        last = status()
        if last in wanted:
            return last
        watch.get().waiting(f"{last or 'absent'}, until {' or '.join(wanted)}".lower())
        return None

    if wait_until(ready, budget_s=BUDGET_S) is None:
        raise ProvisionError(
            f"{what} is {last or 'absent'}, not {' or '.join(wanted)}, after {BUDGET_S:.0f} s.",
            hint="Run the same command again: it goes on from here.",
        )


def await_gone(what: str, status: Callable[[], str | None]) -> None:
    """Poll until there is no status any more; raises :class:`ProvisionError` past the budget."""

    def gone() -> bool | None:
        last = status()
        if last is None:
            return True
        watch.get().waiting(f"{last}, until it is gone".lower())
        return None

    if wait_until(gone, budget_s=BUDGET_S) is None:
        raise ProvisionError(
            f"{what} is still there after {BUDGET_S:.0f} s.",
            hint="Run the same command again: it goes on from here.",
        )


def await_known(what: str, ask: Callable[[], T | None]) -> T:
    """Poll until there is an answer; raises :class:`ProvisionError` past the budget."""

    def known() -> T | None:
        answer = ask()
        if answer is None:
            watch.get().waiting(f"until it is known {what}")
        return answer

    answer = wait_until(known, budget_s=BUDGET_S)
    if answer is None:
        raise ProvisionError(
            f"It is not known {what}, after {BUDGET_S:.0f} s.",
            hint="Run the same command again: it goes on from here.",
        )
    return answer


def once_visible(call: Callable[[], T], *absent: str) -> T:
    """The call's answer, as soon as the service no longer says ``absent`` (error codes) of what
    was just made; past ``VISIBLE_S`` that error is raised.
    """
    return retry(
        call,
        transient=lambda error: error_code(error) in absent,
        budget_s=VISIBLE_S,
        on_wait=lambda error: watch.get().waiting(str(error)),
    )
