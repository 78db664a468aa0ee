"""Waiting for what AWS does in its own time: polled with growing pauses, within a budget."""

from __future__ import annotations

from collections.abc import Callable

from stockpipe.domain.retry import wait_until
from stockpipe.errors import ProvisionError

BUDGET_S = 240.0


def await_state(what: str, status: Callable[[], str | None], *wanted: str) -> None:
    """Poll until the status is a wanted one; raises :class:`ProvisionError` past the budget."""
    last: str | None = None

    def ready() -> str | None:
        nonlocal last
        last = status()
        return last if last in wanted else None

    if wait_until(ready, budget_s=BUDGET_S) is None:
        raise ProvisionError(
            f"{what} is {last or 'absent'}, not {' or '.join(wanted)}, after {BUDGET_S:.0f} s.",
            hint="Run the same command again: it goes on from here.",
        )


def await_gone(what: str, status: Callable[[], str | None]) -> None:
    """Poll until there is no status any more; raises :class:`ProvisionError` past the budget."""
    if wait_until(lambda: True if status() is None else None, budget_s=BUDGET_S) is None:
        raise ProvisionError(
            f"{what} is still there after {BUDGET_S:.0f} s.",
            hint="Run the same command again: it goes on from here.",
        )
