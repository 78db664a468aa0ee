"""The one way to end a stream: a clock that stops waiting."""

from __future__ import annotations

import queue

from stockpipe.domain.clock import SystemClock


class Stopped(Exception):
    """Raised out of every wait once the stream is to end; passes through a feed's ``finally``."""


class StoppableClock(SystemClock):
    """The machine's clock; its waits end with :class:`Stopped` as soon as :meth:`stop` is called.

    May be shared between threads, and stopped from a signal handler.
    """

    def __init__(self) -> None:
        self._stopped = False
        # Not an Event: a handler that sets one blocks for ever where the thread that it interrupts
        # is about to wait for it. https://docs.python.org/3/library/queue.html#simplequeue-objects
        self._stop: queue.SimpleQueue[None] = queue.SimpleQueue()

    def stop(self) -> None:
        self._stopped = True
        self._stop.put(None)

    @property
    def stopped(self) -> bool:
        return self._stopped

    def sleep(self, seconds: float) -> None:
        """Wait; raises :class:`Stopped` when stopped before or meanwhile."""
        if self._waited(seconds):
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait, at most until stopped; once that is so, wait all the same: for a last attempt."""
        if self._stopped:
            super().sleep(seconds)
        else:
            self._waited(seconds)

    def _waited(self, seconds: float) -> bool:
        """Out: whether it was stopped before or meanwhile."""
        try:
            self._stop.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return self._stopped
        self._stop.put(None)  # for whoever else waits
        return True
