"""How far a recording has been sent, on disk, so that ``--resume`` goes on there.

What counts is the first quote that is not acknowledged: Kinesis acknowledges in no order, and a
quote that is sent twice changes nothing, while one that is left out is lost. A file is replaced in
one step, at most once a second, so a crash repeats what a second brought.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock

SAVE_EVERY_S = 1.0


def place(home: Path, identity: str, target: Sequence[str]) -> Path:
    """The file for a recording's way to one target (its name, stack, account, region)."""
    digest = hashlib.sha256("\0".join((identity, *target)).encode()).hexdigest()
    return home / "streams" / f"{digest[:32]}.json"


def load(file: Path) -> int:
    """How many quotes of the recording are known to be sent; 0 where nothing is known.

    Raises OSError for a file that is there and cannot be read. A damaged one counts as none.
    """
    try:
        found = json.loads(file.read_text("utf-8"))["position"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0
    return found if type(found) is int and found > 0 else 0


class Progress:
    """Hears of acknowledged positions, in any order, each once; ``start`` are known to be sent."""

    def __init__(self, file: Path, start: int, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._file, self._clock = file, clock
        self.position = start
        """Every quote before this one is acknowledged."""
        self._beyond: set[int] = set()
        self._saved_s = float("-inf")

    def sent(self, position: int) -> None:
        """Note a position; saves now and then, and raises OSError where that fails."""
        self._beyond.add(position)
        while self.position in self._beyond:
            self._beyond.remove(self.position)
            self.position += 1
        if self._clock.monotonic() - self._saved_s >= SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._file.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps({"position": self.position}), "utf-8")
        new.replace(self._file)
        self._saved_s = self._clock.monotonic()

    def finish(self) -> None:
        """All of it is sent: the next time begins from the beginning."""
        self._file.unlink(missing_ok=True)
