"""One file that holds everything but S3 objects as of one moment, written off the request path.

Requests are handled one at a time by the event loop, so a ``fork`` made there is a consistent
copy of all services at once: the child writes it out at leisure while the server goes on. The
parent pays for the fork alone (some milliseconds); a thread would stall requests for seconds.

The positions of the event sources are read just *before* the fork and travel in the same file.
So a position is never ahead of the data it stands for, and after ``kill -9`` records are
processed again rather than skipped. Records and items that were written since are in the
:mod:`journal <stockpipe.local.emulator.journal>`; whatever else changed since the last snapshot is
gone. S3 objects, which are files of their own, stay, except in buckets that the snapshot does not
know.

The file is text, one entry a line: a header, ``journal NUMBER`` (the first file of it that is not
in here), ``service NAME JSON``, ``position NAME BASE64``, an end, so that it is read back without
holding more than one service's JSON apart.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import errno
import gc
import json
import logging
import os
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from stockpipe.errors import LocalCloudError
from stockpipe.local.emulator.journal import Journal
from stockpipe.local.emulator.parts import VERSION, replace
from stockpipe.local.home import RESET_HINT, Places

LONGEST_S = 120.0
_BLOB_REFERENCE = re.compile(rb'"code_blob_ref": "([0-9a-f]{64})"')
_log = logging.getLogger(__name__)

Services = Mapping[str, Callable[[], Any]]


class Snapshots:
    """Reads the snapshot of a data directory at start, and replaces it from then on."""

    def __init__(self, places: Places, journal: Journal) -> None:
        self._journal = journal
        self._since = 0
        self._file = places.state / "snapshot.jsonl"
        self._places = places
        self._services: dict[str, bytes] = {}
        self._saving = asyncio.Lock()
        self._app: Any = None
        self._persistence: Any = None

    def read(self) -> None:
        """Read the snapshot and make the rest of the data directory agree with it.

        To be called before ministack is imported. Raises LocalCloudError when the file is damaged.
        """
        for part in self._places.state.glob("*.part"):  # of a server that was killed
            part.unlink(missing_ok=True)
        try:
            positions = self._parse(self._file.read_bytes()) if self._file.exists() else {}
            buckets = self._buckets()
        except ValueError as error:
            raise LocalCloudError(
                f"The embedded cloud's data in {self._file} is damaged.", hint=RESET_HINT
            ) from error
        self._restore_positions(positions)
        self._drop_other_buckets(buckets)

    def _parse(self, content: bytes) -> dict[str, bytes]:
        """Keep the services' lines; out: the position files. Raises ValueError."""
        positions: dict[str, bytes] = {}
        *lines, last = content.rstrip(b"\n").split(b"\n")
        if last != b"end":
            raise ValueError("the end is missing")
        for line in lines:
            kind, name, rest = line.split(b" ", 2) if line.count(b" ") > 1 else (line, b"", b"")
            if kind == b"service":
                self._services[name.decode()] = rest
            elif kind == b"position":
                positions[json.loads(name)] = base64.b64decode(rest)
            elif line.startswith(b"journal "):
                self._since = int(line.removeprefix(b"journal "))
        return positions

    def _buckets(self) -> set[tuple[str, ...]]:
        """The (account, name) of every bucket that the snapshot knows; raises ValueError."""
        state = json.loads(self._services.get("s3", b"{}"))
        keys = state.get("payload", {}).get("buckets_meta", {}).get("data", {})
        return {tuple(key.split("\0", 1)) for key in keys}

    def _restore_positions(self, positions: Mapping[str, bytes]) -> None:
        # What is in it goes, not the directory: a command that wants to start a server as well may
        # be making it.
        for left in self._places.checkpoints.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        for name, content in positions.items():
            path = self._places.checkpoints / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def _drop_other_buckets(self, known: set[tuple[str, ...]]) -> None:
        """A bucket made after the snapshot has lost its tags and policies: it goes altogether."""
        s3 = self._places.s3
        for bucket in [*s3.glob("[0-9]*/*/"), *s3.glob(".versions/[0-9]*/*/")]:
            if (bucket.parent.name, repr(bucket.name)) not in known:
                _log.warning("bucket %s is newer than the snapshot: dropped", bucket.name)
                shutil.rmtree(bucket)

    def install(self, app: ModuleType) -> None:
        """Make ministack load from, and save to, this file instead of one file a service.

        To be called before anything else here but :meth:`read`.
        """
        from ministack.core import persistence
        from ministack.services import lambda_svc

        self._app, self._persistence = app, persistence
        replace(app, "_load_persisted_state", lambda: None)  # restore() has
        replace(app, "save_all", lambda services: None)  # the server has saved before it stops
        # The code of functions lies beside the snapshot, by content. Pruned while a snapshot is
        # being written, it could be missing to the one that is still in force; so: at start only.
        prune = replace(lambda_svc, "_prune_orphan_code_blobs", lambda referenced: None)
        lines = self._services.get("lambda", b"")
        prune({match.decode() for match in _BLOB_REFERENCE.findall(lines)})

    def restore(self) -> bool:
        """Give every service its saved state, and do again what was written after it.

        Out: whether there was such a thing, and with it a reason to write a new snapshot.

        What is read here lives on: the collector need not look at it, now (a third of the time it
        takes) or later.
        """
        gc.disable()
        try:
            self._restore()
            if repeated := self._journal.repeat(self._since):
                _log.info("%d writes since the last snapshot were repeated", repeated)
            return repeated > 0
        finally:
            gc.freeze()
            gc.enable()

    def _restore(self) -> None:
        """One service after the other.

        ministack's own loader logs what it cannot read and starts empty, and the next save makes
        the loss final. Raises LocalCloudError instead.
        """
        for service, module in self._app._state_map.items():
            line = self._services.pop(service, None)
            if line is None:
                continue
            try:
                content = json.loads(line, object_hook=self._persistence._json_object_hook)
                if content["format"] > self._persistence._state_format_version(service):
                    raise ValueError(f"format {content['format']} is newer than {VERSION} reads")
                if content["payload"]:
                    self._app._get_module(module).load_persisted_state(content["payload"])
            except Exception as error:
                raise LocalCloudError(
                    f"The embedded cloud's saved {service} cannot be read: {error!r}.",
                    hint=RESET_HINT,
                ) from error

    async def save(self) -> None:
        """Write a snapshot of this moment; to be awaited on the event loop that serves requests.

        Raises OSError when it could not be written (a full disk); the last one then stands.
        """
        async with self._saving:  # of two writers at once, the older might come last
            await self._save()

    async def _save(self) -> None:
        services: Services = self._app._build_persistence_save_dict()
        positions = _read_all(self._places.checkpoints)
        journal = self._journal.begin()
        reader, writer = os.pipe()
        server = os.getpid()
        with warnings.catch_warnings():
            # 3.12 warns of forks among threads: the child below takes no lock they could hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            self._write_and_exit(server, writer, services, positions, journal)
        os.close(writer)
        loop = asyncio.get_running_loop()
        try:
            words = await asyncio.wait_for(
                loop.run_in_executor(None, _wait, child, reader), LONGEST_S
            )
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            raise OSError(errno.ETIMEDOUT, f"not written within {LONGEST_S:.0f} s") from None
        for line in words.splitlines():
            kind, _, text = line.partition(" ")
            if kind == "failed":
                number, _, reason = text.partition(" ")
                raise OSError(int(number), reason)
            _log.error("%s", text)
        self._journal.drop_before(journal)

    def _write_and_exit(
        self,
        server: int,
        writer: int,
        services: Services,
        positions: Mapping[str, bytes],
        journal: int,
    ) -> NoReturn:
        """The child: one thread, a private copy of everything, nothing but JSON and one file."""
        code = 1
        try:
            # The parent's loop must not take a signal to this process for one of its own.
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            # Not the port, the lock or a client's connection: the server may be killed meanwhile.
            os.closerange(3, writer)
            os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
            gc.disable()
            os.nice(5)
            # The services copy their state to save it; this process is such a copy already.
            copy.deepcopy = lambda value, memo=None, _nil=None: value  # type: ignore[assignment]
            header = f"header {VERSION}\njournal {journal}\n"
            self._write(
                header, services, positions, server, lambda text: _say(writer, f"problem {text}")
            )
            code = 0
        except OSError as error:
            _say(writer, f"failed {error.errno or errno.EIO} {error.strerror or error}")
        except BaseException as error:  # noqa: BLE001 - there is no one above to raise to
            _say(writer, f"failed {errno.EIO} {type(error).__name__}: {error}")
        finally:
            os._exit(code)

    def _write(
        self,
        header: str,
        services: Services,
        positions: Mapping[str, bytes],
        server: int,
        problem: Callable[[str], None],
    ) -> None:
        part = self._file.with_name(f"{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                file.write(header.encode())
                for name, get_state in services.items():
                    try:
                        text = self._encode(name, get_state())
                    except (TypeError, ValueError, RecursionError) as error:
                        problem(f"{name} cannot be saved: {error}")
                        continue
                    file.write(f"service {name} ".encode())
                    file.write(text.encode())
                    file.write(b"\n")
                for name, content in positions.items():
                    file.write(b"position " + json.dumps(name).replace(" ", "\\u0020").encode())
                    file.write(b" " + base64.b64encode(content) + b"\n")
                file.write(b"end\n")
                file.flush()
                os.fsync(file.fileno())
            # A server that died has perhaps been followed by another, which owns the file now.
            if os.getppid() == server:
                part.replace(self._file)
        finally:
            part.unlink(missing_ok=True)

    def _encode(self, service: str, state: Any) -> str:
        content = {"format": self._persistence._state_format_version(service), "payload": state}
        return json.dumps(content, default=self._persistence._json_default)


def _read_all(directory: Path) -> dict[str, bytes]:
    """The files below a directory by relative name; those being replaced meanwhile are left out."""
    found = {}
    # Not rglob: it fails when a directory is removed under it (Python 3.11); this leaves it out.
    for inside, _, names in os.walk(directory):
        for path in (Path(inside, name) for name in names):
            if path.suffix != ".new":
                with contextlib.suppress(FileNotFoundError):
                    found[path.relative_to(directory).as_posix()] = path.read_bytes()
    return found


def _wait(child: int, reader: int) -> str:
    with os.fdopen(reader, "rb") as file:
        words = file.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if status and not words:
        return f"failed {errno.EIO} the writer ended with status {status}"
    return words


def _say(writer: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(writer, text.replace("\n", " ")[:1000].encode() + b"\n")
