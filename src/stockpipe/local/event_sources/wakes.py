"""One bell for every thread that waits for work, rung by the emulator's own wake event.

The event itself cannot be shared: the emulator's poll loop clears it (it goes on polling SQS), so
a waiter may miss a set. A count never goes back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Bell:
    """Counts rings, so that one between a look and a wait is never missed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rings = 0

    @property
    def rings(self) -> int:
        """How often it has rung; take it before looking for work, and give it to :meth:`wait`."""
        return self._rings

    def ring(self) -> None:
        with self._condition:
            self._rings += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout_s: float) -> bool:
        """Wait until it has rung since ``seen`` was taken; False after ``timeout_s`` seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: self._rings != seen, timeout_s)


def on_set(event: threading.Event, call: Callable[[], None]) -> Callable[[], None]:
    """Have ``event.set()`` also ``call``, until the returned function is called.

    The method is replaced on this one object, so every module that holds it is covered.
    """
    original = event.set

    def set_and_call() -> None:
        original()
        call()

    def undo() -> None:
        event.set = original  # type: ignore[method-assign]

    event.set = set_and_call  # type: ignore[method-assign]
    return undo
