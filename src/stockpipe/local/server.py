"""What runs in the background: ``python -m stockpipe.local.server HOME``, started by ``daemon``.

It holds the data directory's lock for its whole life, serves on 127.0.0.1, saves a snapshot a
moment after something changed, and stops on SIGTERM: event sources first, then requests, then a
last snapshot, then function processes. When that snapshot cannot be written it does not stop, so
that nothing is lost to a full disk, and says so on the readiness route.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import logging
import os
import secrets
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from stockpipe.aws import Endpoint
from stockpipe.errors import LocalCloudError
from stockpipe.local import assembly, host, processes
from stockpipe.local.emulator import access, alarms, parts, subscriptions
from stockpipe.local.emulator.journal import Journal
from stockpipe.local.emulator.snapshot import Snapshots
from stockpipe.local.emulator.traffic import Traffic
from stockpipe.local.event_sources import hooks
from stockpipe.local.event_sources.runner import EventSourceRunner
from stockpipe.local.event_sources.sources import connector
from stockpipe.local.home import (
    DATA_FORMAT,
    DIED,
    HOST,
    Credentials,
    Places,
    ServerRecord,
    check_format,
    write_json,
)
from stockpipe.local.launch import ALREADY_RUNNING, DISK_FULL

SNAPSHOT_EVERY_S = 1.0
SNAPSHOT_SHARE = 5
"""A snapshot takes at most one part in this of the time, so a large one comes less often.

Records and items are in the journal besides. A kill loses of everything else what changed in the
last SNAPSHOT_EVERY_S, or SNAPSHOT_SHARE times what a snapshot takes, and the time that the next one
takes: 1 to 2 seconds at 10,000 rows, some 10 at 50,000 on two cores.
"""

_RUNNER_STOP_S = 10.0
_DRAIN_S = 3.0
_SERVE_STOP_S = 8.0

_log = logging.getLogger("stockpipe.local")


class Server:
    """One data directory's server, from lock to exit."""

    def __init__(self, places: Places) -> None:
        self._places = places
        previous = ServerRecord.load(places.server)
        self._wanted_port = previous.port if previous else None
        if previous and previous.state in DIED:
            _log.warning("the server before this one died: going back to its last snapshot")
        self._record = ServerRecord(
            pid=os.getpid(),
            port=self._wanted_port,
            nonce=secrets.token_hex(16),
            started_at=time.time(),
            state="starting",
            emulator=parts.VERSION,
        )
        self._stop_asked = asyncio.Event()
        self._saving = asyncio.Lock()

    def run(self) -> int:
        """Serve until SIGTERM; out: the exit code."""
        self._note("starting")
        try:
            self._prepare()
            loop = asyncio.new_event_loop()
            loop.run_until_complete(self._serve(loop))
        except LocalCloudError as error:
            _log.error("not started: %s", error.message)
            self._note("failed", error=error.message, hint=error.hint)
            return 1
        finally:
            self._clear_away()
        self._note("stopped")
        _log.info("stopped")
        return 0

    def _note(self, now: str, *, error: str | None = None, hint: str | None = None) -> None:
        self._record = dataclasses.replace(self._record, state=now, error=error, hint=hint)
        try:
            self._record.save(self._places.server)
        except OSError as failure:
            if now == "starting":
                raise
            _log.error("server.json cannot be written: %s", failure)

    def _prepare(self) -> None:
        places = self._places
        check_format(places.format)
        self._clear_away()
        self._credentials = Credentials.load_or_make(places.credentials)
        self._socket = host.listen(self._wanted_port)
        port = self._socket.getsockname()[1]
        self._record = dataclasses.replace(self._record, port=port)
        self._endpoint = Endpoint(
            f"http://{HOST}:{port}",
            self._credentials.access_key_id,
            self._credentials.secret_access_key,
        )
        journal = Journal(places.state)
        self._snapshots = Snapshots(places, journal)
        self._snapshots.read()
        self._settings = parts.settings(places, port)
        app = parts.load(self._settings)
        write_json(places.format, {"format": DATA_FORMAT, "emulator": parts.VERSION})
        self._snapshots.install(app)
        self._webhooks, self._expiry = assembly.install(
            places, self._credentials, self._endpoint, journal
        )
        repeated = self._snapshots.restore()
        self._gate = access.Gate(app.app, self._credentials, self._record.nonce, self._save)
        self._traffic = Traffic(subscriptions.ConfirmationLink(self._gate, self._note_change))
        self._traffic.changed = repeated
        journal.failed = self._refuse_writes

    def _note_change(self) -> None:
        """Something changed that no request of a client asked for."""
        self._traffic.changed = True

    def _refuse_writes(self, reason: str) -> None:
        if self._traffic.refuse_writes(reason):
            _log.error("writes are refused for now: it %s", reason)

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        from hypercorn.asyncio import serve
        from hypercorn.config import Config

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_asked.set)
        config = Config()
        config.bind = [f"fd://{self._socket.detach()}"]
        config.accesslog = None
        config.errorlog = logging.getLogger("hypercorn.error")
        config.keep_alive_timeout = 75
        config.graceful_timeout = 2
        down = asyncio.Event()
        serving: asyncio.Task[None] = loop.create_task(
            serve(self._traffic, config, shutdown_trigger=down.wait)  # type: ignore[arg-type]
        )
        started = loop.create_task(self._traffic.started.wait())
        await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
            raise LocalCloudError("The embedded cloud ended while it started.")
        parts.hide(self._settings)
        self._note("ready")
        _log.info("ready on %s, data in %s", self._endpoint.url, self._places.local)
        self._expiry.begin(loop, self._note_change)
        keeping = loop.create_task(self._keep())
        watching = loop.create_task(alarms.watch(self._note_change))
        stopping = loop.create_task(self._until_stopped())
        tasks = (serving, keeping, watching, stopping)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        keeping.cancel()
        watching.cancel()
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()
        down.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(serving, _SERVE_STOP_S)

    async def _until_stopped(self) -> None:
        """Run the event sources until a stop that succeeds."""
        from ministack.core import lambda_runtime

        while True:
            runner = EventSourceRunner(
                connector(self._endpoint),
                self._places.checkpoints,
                hooks.wake_event(),
                regions=hooks.mapping_regions,
            )
            await asyncio.to_thread(runner.start)
            await self._stop_asked.wait()
            self._stop_asked.clear()
            asked_at = time.time()
            self._note("stopping")
            _log.info("stopping")
            await asyncio.to_thread(runner.stop, _RUNNER_STOP_S)
            await self._traffic.close(_DRAIN_S)
            try:
                await self._snapshots.save()
            except OSError as error:
                reason = f"The data cannot be saved: {error.strerror or error}."
                _log.error("not stopped: %s", reason)
                self._gate.notice = f"{asked_at} {reason}"
                self._traffic.open()
                self._note("ready")
                continue
            await asyncio.to_thread(self._webhooks.stop)
            await asyncio.to_thread(lambda_runtime.reset)
            return

    async def _keep(self) -> None:
        """Save a snapshot soon after something changed; without one, take no more writes."""
        wait_s = SNAPSHOT_EVERY_S
        while True:
            await asyncio.sleep(wait_s)
            began = time.monotonic()
            if self._record.state == "ready":
                await self._save()
            wait_s = max(SNAPSHOT_EVERY_S, SNAPSHOT_SHARE * (time.monotonic() - began))

    async def _save(self) -> str:
        """Write a snapshot of what changed, if anything did; out: why it could not be written."""
        async with self._saving:  # one under way may have begun before what is to be saved now
            if not self._traffic.changed:
                return ""
            self._traffic.changed = False
            refusals = self._traffic.refusals
            try:
                await self._snapshots.save()
            except OSError as error:
                reason = f"cannot save its data: {error.strerror or error}"
                self._refuse_writes(reason)
                return reason
            if self._traffic.take_writes(refusals):
                _log.info("snapshot written, writes are taken again")
            return ""

    def _clear_away(self) -> None:
        """End function processes, of this server or of one that was killed; empty the scratch."""
        processes.end_functions(self._places.tmp)
        shutil.rmtree(self._places.tmp, ignore_errors=True)
        self._places.tmp.mkdir(mode=0o700, exist_ok=True)


def _end_while_starting(number: int, frame: FrameType | None) -> NoReturn:
    raise LocalCloudError("It was stopped while it started.")


def main(argv: list[str]) -> int:
    """In: the program and its home. Out: the exit code; why it failed is in server.json."""
    places = Places(Path(argv[1]))
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal's end is not ours
    signal.signal(signal.SIGTERM, _end_while_starting)
    try:
        places.make()
        lock = host.hold(places.lock)
        if lock is None:
            return ALREADY_RUNNING
        host.log_to(places.log)
        host.raise_file_limit()
        return Server(places).run()
    except LocalCloudError as error:
        _log.error("not started: %s", error.message)
    except OSError as error:
        _log.exception("not started")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DISK_FULL
    except Exception:  # noqa: BLE001 - above is nobody but the log
        _log.exception("ended by an error of its own")
    return 1


if __name__ == "__main__":
    code = main(sys.argv)
    logging.shutdown()
    # Worker threads may still wait for a process that has been ended; nothing is left for them.
    os._exit(code)
