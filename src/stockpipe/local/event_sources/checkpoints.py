"""How far each mapping has come in each shard, on disk, so that a restart skips nothing.

::

    <directory>/<mapping UUID>/mapping.json      region, and since when the mapping is known
    <directory>/<mapping UUID>/<shard>.json      the last completed sequence number
    <directory>/status.json                      counters for people; nothing depends on it

A file is replaced in one step, so a kill leaves the old or the new one. There is no fsync: a killed
process loses nothing that was written, and a machine that loses power loses the emulator's state
as well. Retry counters are not kept: a restart retries from the checkpoint.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_MAPPING_FILE = "mapping.json"


@dataclass(frozen=True, slots=True)
class Position:
    """``sequence``: the last completed record, None before the first. ``finished``: read out."""

    sequence: str | None = None
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """A mapping that has been seen: its region, and when (epoch seconds) it was first."""

    region: str
    since: float


class Checkpoints:
    """Positions of all mappings. Memory is what counts while running; the disk follows it.

    Safe to use from several threads.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._closed = False
        self._positions: dict[str, dict[str, Position]] = {}
        self._known: dict[str, Known] = {}
        for file in sorted(directory.glob("*/*.json")):
            self._load(file)

    def _load(self, file: Path) -> None:
        try:
            fields = json.loads(file.read_text("utf-8"))
            if file.name == _MAPPING_FILE:
                self._known[file.parent.name] = Known(**fields)
            else:
                shards = self._positions.setdefault(file.parent.name, {})
                shards[file.stem] = Position(**fields)
        except (OSError, ValueError, TypeError):
            # Without it the shard starts where the mapping starts: repeated, not skipped.
            _log.exception("cannot read the checkpoint %s; ignored", file)

    def known(self) -> dict[str, Known]:
        """Every mapping with something on disk, by UUID."""
        with self._lock:
            return dict(self._known)

    def meet(self, uuid: str, region: str, now: float) -> tuple[Known, bool]:
        """What is known of a mapping, and whether it is met for the first time (at ``now``)."""
        with self._lock:
            if known := self._known.get(uuid):
                return known, False
            known = self._known[uuid] = Known(region, now)
            try:
                self._write(uuid, _MAPPING_FILE, asdict(known))
            except OSError:
                # Only a LATEST that is met again after a restart would notice.
                _log.exception("cannot write down mapping %s", uuid)
            return known, True

    def position(self, uuid: str, shard: str) -> Position:
        with self._lock:
            return self._positions.get(uuid, {}).get(shard, Position())

    def save(self, uuid: str, shard: str, position: Position) -> bool:
        """Move a checkpoint. False once closed: the work may then be repeated, never skipped.

        Raises OSError when the disk refuses; memory has moved all the same.
        """
        with self._lock:
            if self._closed:
                return False
            self._positions.setdefault(uuid, {})[shard] = position
            self._write(uuid, f"{shard}.json", asdict(position))
            return True

    def forget(self, uuid: str) -> None:
        """Drop everything of a mapping that is deleted. Its workers must have ended."""
        with self._lock:
            if self._closed:
                return
            self._positions.pop(uuid, None)
            self._known.pop(uuid, None)
            try:
                shutil.rmtree(self.directory / uuid)
            except FileNotFoundError:
                return
            except OSError:
                _log.exception("cannot remove the checkpoints of mapping %s", uuid)

    def close(self) -> None:
        """From here on nothing moves, whatever an abandoned invocation still returns."""
        with self._lock:
            self._closed = True

    def write_status(self, status: dict[str, Any]) -> None:
        with self._lock:
            if not self._closed:
                self._write(".", "status.json", status)

    def _write(self, folder: str, name: str, fields: dict[str, Any]) -> None:
        target = self.directory / folder / name
        target.parent.mkdir(exist_ok=True)
        new = target.with_suffix(".new")
        new.write_text(json.dumps(fields), "utf-8")
        new.replace(target)
