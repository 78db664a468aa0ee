"""What was written since the last snapshot: nothing that was acknowledged is lost to ``kill -9``.

Every request that puts records into Kinesis or changes items in DynamoDB is appended to a file
before it is answered, and done again after a crash, on top of the last snapshot, in the same order,
at the same time of the day and with the same sequence numbers. ministack does such a request in one
piece on the event loop, so the order of the file is the order in which they took effect. So nothing
else may change an item in between: what time to live removes is in the file as well (``expiry``).
Each snapshot begins a new file and, once it is written, makes the older ones superfluous.

Deleting a table or stream is repeated too, or else its items would come back among those of another
one of its name. There is no fsync: what a process has written survives its death, not the
machine's. Whatever else changes (a table that was made, a function, a topic) is as of the last
snapshot, and so what was written into a table or stream made since is lost with it.

An entry is a line of JSON, which ends with the length of the request's body, then the body.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from stockpipe.errors import LocalCloudError
from stockpipe.local.emulator.parts import replace
from stockpipe.local.emulator.state import Moment, Sequence
from stockpipe.local.home import RESET_HINT

_KEPT = {
    "kinesis": frozenset({"PutRecord", "PutRecords", "DeleteStream"}),
    "dynamodb": frozenset(
        {
            "PutItem",
            "UpdateItem",
            "DeleteItem",
            "BatchWriteItem",
            "TransactWriteItems",
            "ExecuteStatement",
            "BatchExecuteStatement",
            "ExecuteTransaction",
            "DeleteTable",
        }
    ),
}
_REASONS = 5
"""The most that are said, of those for which writes could not be repeated."""
_HEADERS = ("x-amz-target", "content-type")
_log = logging.getLogger(__name__)

Handler = Callable[..., Any]


class Journal:
    """The files ``journal-<number>`` of a directory. To be used on the event loop only.

    ``failed`` is called with the reason when an entry could not be written: what it stands for has
    happened, but only a snapshot can keep it now.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._handlers: dict[str, Handler] = {}
        self._sequences: dict[str, Sequence] = {}
        self._file: int | None = None
        self._number = max(self._numbers(), default=0)
        self.failed: Callable[[str], object] = _log.error

    def install(self, sequences: dict[str, Sequence]) -> None:
        """Keep what both services do from now on; to be called after all that replaces parts of
        them. ``sequences``: where each service's sequence numbers come from."""
        from ministack.services import dynamodb, kinesis

        self._sequences = sequences
        self._wrap("kinesis", kinesis)
        self._wrap("dynamodb", dynamodb)

    def own(self, service: str, handler: Handler, sequence: Sequence) -> None:
        """Entries of ``service`` are repeated by ``handler``, which takes what ministack's take."""
        self._handlers[service], self._sequences[service] = handler, sequence

    def _wrap(self, service: str, module: ModuleType) -> None:
        from ministack.core.responses import error_response_json

        kept, sequence = _KEPT[service], self._sequences[service]

        async def handle_request(
            method: str, path: str, headers: dict[str, str], body: bytes, query: Any
        ) -> Any:
            if headers.get("x-amz-target", "").rpartition(".")[2] not in kept:
                return await original(method, path, headers, body, query)
            with sequence.one_moment() as moment:
                answer = await original(method, path, headers, body, query)
            if answer[0] != 200:
                return answer
            try:
                self.keep(service, moment, headers, body)
            except OSError as error:
                # Not acknowledged, but done: a sender that tries again may be told that it is there
                # already. So nothing more is taken until a snapshot holds it.
                reason = str(error.strerror or error)
                self.failed(f"cannot save its data: {reason}")
                reason = f"The embedded cloud's disk: {reason}."
                _log.error("%s: %s", headers["x-amz-target"], reason)
                return error_response_json("InternalFailure", reason, 500)
            return answer

        original = self._handlers[service] = replace(module, "handle_request", handle_request)

    def keep(self, service: str, moment: Moment, headers: Mapping[str, str], body: bytes) -> None:
        """Append what the calling code's account and region has done. Raises OSError; then the file
        is as it was."""
        from ministack.core.responses import get_account_id, get_region

        entry = {
            "service": service,
            "scope": [get_account_id(), get_region()],
            "moment": moment,
            "headers": {name: headers[name] for name in _HEADERS if name in headers},
            "length": len(body),
        }
        self._append(json.dumps(entry).encode() + b"\n" + body)

    def _append(self, entry: bytes) -> None:
        file = self._open_next() if self._file is None else self._file
        end = os.lseek(file, 0, os.SEEK_END)
        try:
            written = os.write(file, entry)
            while written < len(entry):  # short before a disk is full; the next write says why
                written += os.write(file, entry[written:])
        except OSError:
            os.ftruncate(file, end)  # or what follows would be read as a part of it
            raise

    def begin(self) -> int:
        """Begin a new file; out: its number. What a snapshot of this moment holds is in older ones.

        Raises OSError; then the file before goes on.
        """
        self._open_next()
        return self._number

    def _open_next(self) -> int:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        new = os.open(self._path(self._number + 1), flags, 0o600)
        if self._file is not None:
            os.close(self._file)
        self._number += 1
        self._file = new
        return new

    def drop_before(self, number: int) -> None:
        """A snapshot that was taken when file ``number`` began is on disk."""
        for old in self._numbers():
            if old < number:
                self._path(old).unlink(missing_ok=True)

    def repeat(self, since: int) -> int:
        """Do again what the files from ``since`` on hold, after the snapshot has been restored.

        Out: how many requests. An entry that was cut off was never acknowledged, and ends its
        file. Raises LocalCloudError for a damaged one.
        """
        self.drop_before(since)
        return asyncio.run(self._repeat_all())

    async def _repeat_all(self) -> int:
        done, lost = 0, Counter[str]()
        for number in sorted(self._numbers()):
            for entry, body in _entries(self._path(number)):
                done += 1
                if reason := await self._repeat(entry, body):
                    lost[reason] += 1
        if lost:
            _log.warning(
                "%d of %d writes since the last snapshot could not be repeated: %s",
                lost.total(),
                done,
                "; ".join(f"{reason} ({count})" for reason, count in lost.most_common(_REASONS)),
            )
        return done

    async def _repeat(self, entry: dict[str, Any], body: bytes) -> str:
        """Out: why it could not be repeated, or nothing."""
        from ministack.core.responses import request_scope

        try:
            service, headers = entry["service"], entry["headers"]
            # The handler from before ours, which would keep the request a second time.
            handler = self._handlers[service]
            with (
                request_scope(*entry["scope"]),
                self._sequences[service].one_moment(entry["moment"]),
            ):
                status, _, answer = await handler("POST", "/", headers, body, {})
        except Exception as error:  # noqa: BLE001 - logged; the others are still to be repeated
            _log.exception("a write since the last snapshot cannot be repeated: %s", entry)
            return f"{type(error).__name__}: {error}"
        return "" if status == 200 else _shortened(answer)

    def _numbers(self) -> list[int]:
        return [int(path.name.partition("-")[2]) for path in self._directory.glob("journal-*")]

    def _path(self, number: int) -> Path:
        return self._directory / f"journal-{number}"


def _entries(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    with path.open("rb") as file:
        while line := file.readline():
            try:
                entry = json.loads(line)
                length = entry["length"]
            except (ValueError, KeyError, TypeError) as error:
                if not line.endswith(b"\n"):
                    return
                raise LocalCloudError(
                    f"The embedded cloud's journal {path} is damaged.", hint=RESET_HINT
                ) from error
            body = file.read(length)
            if len(body) < length:
                return
            yield entry, body


def _shortened(answer: str | bytes) -> str:
    return (answer if isinstance(answer, str) else answer.decode(errors="replace"))[:300]
