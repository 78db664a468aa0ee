"""A call in a thread of its own, so that one that hangs fails its test instead of stopping all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
BUDGET_S = 10.0
"""What is not done by then hangs."""


class InThread(Generic[T]):
    """Begins at once."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._error = error

    def runs_on(self, for_s: float = 0.05) -> bool:
        """Whether it is not done after so many seconds."""
        self._thread.join(for_s)
        return self._thread.is_alive()

    def result(self) -> T:
        """What the call returns, once it does; raises what it raises."""
        assert not self.runs_on(BUDGET_S), "it hangs"
        if self._error:
            raise self._error
        return self._results[0]
