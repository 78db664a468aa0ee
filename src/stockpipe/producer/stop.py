"""The one way to end a stream: a clock that stops waiting."""

from __future__ import annotations

import threading

from stockpipe.domain.clock import SystemClock


class Stopped(Exception):
    """Raised out of every wait once the stream is to end; passes through a feed's ``finally``."""


class StoppableClock(SystemClock):
    """The machine's clock; its waits end with :class:`Stopped` as soon as :meth:`stop` is called.

    May be shared between threads, and stopped from a signal handler.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def sleep(self, seconds: float) -> None:
        """Wait; raises :class:`Stopped` when stopped before or meanwhile."""
        if self._stop.wait(max(0.0, seconds)):
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait, at most until stopped; once that is so, wait all the same: for a last attempt."""
        if self._stop.is_set():
            super().sleep(seconds)
        else:
            self._stop.wait(seconds)
