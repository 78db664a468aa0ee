"""Waiting for what becomes true, in whatever time a loaded machine takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    look: Callable[[], T], *, within_s: float = 20.0, every_s: float = 0.05, what: str = ""
) -> T:
    """What ``look`` returns once it is true; fails the test after ``within_s`` seconds.

    ``what`` is awaited, for the message where what was seen last does not say it.
    """
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what or 'still'} {found!r} after {within_s} s"
        time.sleep(every_s)
    return found
