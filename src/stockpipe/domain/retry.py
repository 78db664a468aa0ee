"""The one retry helper: full jitter, a budget in seconds, and the caller's idea of "transient".

Full jitter (a wait drawn evenly from 0 to the exponential bound) spreads the retries of many
clients best: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TypeVar

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock

T = TypeVar("T")


def backoff(
    base_s: float = 0.05, cap_s: float = 5.0, draw: Callable[[], float] = random.random
) -> Iterator[float]:
    """Waits in seconds, without end: each drawn from 0 to ``base_s * 2**n``, at most ``cap_s``."""
    bound = base_s
    while True:
        yield draw() * bound
        bound = min(cap_s, bound * 2)


def retry(
    call: Callable[[], T],
    *,
    transient: Callable[[Exception], bool],
    budget_s: float,
    clock: Clock = SYSTEM_CLOCK,
    base_s: float = 0.05,
    cap_s: float = 5.0,
    on_wait: Callable[[Exception], None] = lambda error: None,
) -> T:
    """Call until it succeeds, raises what is not ``transient``, or ``budget_s`` seconds are spent.

    The last error is raised as it came. A wait never outlives the budget; ``on_wait`` hears why
    there is one.
    """
    deadline = clock.monotonic() + budget_s
    for wait in backoff(base_s, cap_s):
        try:
            return call()
        except Exception as error:
            left = deadline - clock.monotonic()
            if left <= 0 or not transient(error):
                raise
            on_wait(error)
        clock.sleep(min(wait, left))
    raise AssertionError("backoff never ends")


def wait_until(
    ready: Callable[[], T | None],
    *,
    budget_s: float,
    clock: Clock = SYSTEM_CLOCK,
    base_s: float = 0.1,
    cap_s: float = 2.0,
) -> T | None:
    """Poll ``ready`` until it returns something other than None; None once the budget is spent."""
    deadline = clock.monotonic() + budget_s
    for wait in backoff(base_s, cap_s, draw=lambda: 1.0):
        answer = ready()
        if answer is not None:
            return answer
        left = deadline - clock.monotonic()
        if left <= 0:
            return None
        clock.sleep(min(wait, left))
    raise AssertionError("backoff never ends")
