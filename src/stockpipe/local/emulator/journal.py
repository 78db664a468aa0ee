"""What was written since the last snapshot: nothing that was acknowledged is lost to ``kill -9``.

Every request that puts records into Kinesis or changes items in DynamoDB is appended to a file
before it is answered, and done again after a crash, on top of the last snapshot, in the same order
and with the same sequence numbers. ministack does such a request in one piece on the event loop,
so the order of the file is the order in which they took effect. Each snapshot begins a new file
and, once it is written, makes the older ones superfluous.

There is no fsync: what a process has written survives its death, not the machine's. Whatever else
changes (a table made or deleted, a function, a topic) is as of the last snapshot.

An entry is a line of JSON, which ends with the length of the request's body, then the body.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from stockpipe.errors import LocalCloudError
from stockpipe.local.emulator.parts import replace
from stockpipe.local.emulator.state import Sequence
from stockpipe.local.home import RESET_HINT

_KEPT = {
    "kinesis": frozenset({"PutRecord", "PutRecords"}),
    "dynamodb": frozenset(
        {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"}
    ),
}
_HEADERS = ("x-amz-target", "content-type")
_log = logging.getLogger(__name__)

Handler = Callable[..., Any]


class Journal:
    """The files ``journal-<number>`` of a directory. To be used on the event loop only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._handlers: dict[str, Handler] = {}
        self._sequences: dict[str, Sequence] = {}
        self._file: int | None = None
        self._number = max(self._numbers(), default=0)

    def install(self, sequences: dict[str, Sequence]) -> None:
        """Keep what both services do from now on; to be called after all that replaces parts of
        them. ``sequences``: where each service's sequence numbers come from."""
        from ministack.services import dynamodb, kinesis

        self._sequences = sequences
        self._wrap("kinesis", kinesis)
        self._wrap("dynamodb", dynamodb)

    def _wrap(self, service: str, module: ModuleType) -> None:
        from ministack.core.responses import error_response_json, get_account_id, get_region

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
            entry = {
                "service": service,
                "scope": [get_account_id(), get_region()],
                "moment": moment,
                "headers": {name: headers[name] for name in _HEADERS if name in headers},
                "length": len(body),
            }
            try:
                self._append(json.dumps(entry).encode() + b"\n" + body)
            except OSError as error:
                # Not acknowledged, so it may be lost; the sender tries again.
                reason = f"The embedded cloud's disk: {error.strerror or error}."
                _log.error("%s: %s", headers["x-amz-target"], reason)
                return error_response_json("InternalFailure", reason, 500)
            return answer

        original = self._handlers[service] = replace(module, "handle_request", handle_request)

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
        done = lost = 0
        for number in sorted(self._numbers()):
            for entry, body in _entries(self._path(number)):
                done += 1
                lost += not await self._repeat(entry, body)
        if lost:
            _log.warning(
                "%d of %d writes since the last snapshot could not be repeated: "
                "it does not know the table or stream that they were for",
                lost,
                done,
            )
        return done

    async def _repeat(self, entry: dict[str, Any], body: bytes) -> bool:
        from ministack.core.responses import request_scope

        service, headers = entry["service"], entry["headers"]
        # The handler from before ours, which would keep the request a second time.
        handler = self._handlers[service]
        with (
            request_scope(*entry["scope"]),
            self._sequences[service].one_moment(entry["moment"]),
        ):
            status, _, answer = await handler("POST", "/", headers, body, {})
        if status != 200:
            _log.info("%s could not be repeated: %s", headers["x-amz-target"], answer)
        return bool(status == 200)

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
