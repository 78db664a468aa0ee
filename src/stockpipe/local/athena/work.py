"""Where queries work: in threads, so that the server goes on answering, and few at once."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from stockpipe.domain.retry import wait_until
from stockpipe.local.athena.engine import Run

T = TypeVar("T")

AT_ONCE = 2
"""Queries that run at the same time; each may take the engine's memory limit. Others queue."""
TIMEOUT_S = 1800.0
"""Athena's own limit for SELECT."""

_POLL_S = 0.1
_EXIT_S = 2.0


class Workers:
    """Runs work in threads of its own; one that is stopped or too slow is interrupted."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(AT_ONCE)
        self._working: set[Run] = set()
        atexit.register(self.abandon)

    async def do(self, run: Run, work: Callable[[], T]) -> T:
        """The outcome of ``work``, which sees the request's account and region.

        The thread is a daemon, since a query must not hold up the server's exit.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def post(settle: Callable[[Any], None], outcome: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(lambda: None if future.done() else settle(outcome))

        def work_in_context() -> None:
            try:
                outcome = context.run(work)
            except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
                post(future.set_exception, error)
            else:
                post(future.set_result, outcome)
            finally:
                self._working.discard(run)

        self._working.add(run)
        threading.Thread(target=work_in_context, name="athena", daemon=True).start()
        deadline = loop.time() + TIMEOUT_S
        try:
            while not future.done():
                await asyncio.wait({future}, timeout=_POLL_S)
                # Again and again: DuckDB forgets an interrupt that comes between two statements.
                if run.stopped or loop.time() > deadline:
                    run.interrupt()
            return future.result()
        finally:
            if not future.done():  # the server is stopping
                run.interrupt()

    def abandon(self) -> None:
        """At exit: end what runs, so that no thread works on while the interpreter goes."""

        def ended() -> bool | None:
            for run in list(self._working):
                run.interrupt()
            return None if self._working else True

        wait_until(ended, budget_s=_EXIT_S, base_s=_POLL_S, cap_s=_POLL_S)
