"""The embedded cloud as every command sees it: start it, find it, look at it, stop it.

The server is a process of its own (``server``) that survives the command and its terminal. What
proves that it lives is the lock it holds; what proves that it answers is its nonce on the
readiness route. Nothing heavy at module scope: the command line imports this early.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stockpipe.domain.retry import wait_until
from stockpipe.errors import LocalCloudError
from stockpipe.local import processes
from stockpipe.local.contact import introduction
from stockpipe.local.home import (
    DIED,
    HOST,
    NONCE_HEADER,
    NOTICE_HEADER,
    Credentials,
    Lock,
    Places,
    ServerRecord,
    is_locked,
    not_writable,
    read_json,
)
from stockpipe.local.launch import (
    ALREADY_RUNNING,
    LAST_WORDS,
    MODULE,
    check_installed,
    last_words,
    lines_from,
    spawn,
    start_error,
)

if TYPE_CHECKING:
    from stockpipe.aws import Endpoint

START_BUDGET_S = 60.0
STOP_BUDGET_S = 30.0
_DOWN = ("starting", "stopped", "failed")
_TAIL_BYTES = 1_000_000

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Servers that this process has started, to be reaped when they end."""


@dataclass(frozen=True, slots=True)
class LocalStatus:
    """What there is to say about an embedded cloud; sizes in bytes, None where it is not running.

    ``memory_bytes`` counts the server and its function processes. ``died``: the last words of a
    server that ended without being asked to; None otherwise.
    """

    running: bool
    pid: int | None
    port: int | None
    url: str | None
    uptime_s: float | None
    memory_bytes: int | None
    disk_bytes: int
    home: Path
    version: str | None
    data_format: int | None
    died: str | None


def ensure_running(home: Path) -> Endpoint:
    """Start the embedded cloud of this home if it is not running, and wait until it is ready.

    Several processes may call this at once: one server comes of it. Raises LocalCloudError with
    the reason within some 60 seconds.
    """
    places = Places(home)
    found = endpoint(home)
    if found is not None:
        return found
    check_installed()
    places.make()
    _reap()
    child: subprocess.Popen[bytes] | None = None
    offset = 0

    def ready() -> Endpoint | None:
        nonlocal child, offset
        if child is not None and (code := child.poll()) is not None:
            if code != ALREADY_RUNNING:
                raise start_error(places, child, offset)
            child = None  # another command was faster: wait for its server
        if child is None and not is_locked(places.lock):
            offset = places.log.stat().st_size if places.log.exists() else 0
            child = spawn(places)
            _children[child.pid] = child
        return endpoint(home)

    try:
        started = wait_until(ready, budget_s=START_BUDGET_S, base_s=0.02, cap_s=0.2)
    except OSError as error:
        raise not_writable(places.local, error) from error
    if started is not None:
        if child is not None and not _is_mine(places, child):
            child.terminate()  # another command's server was faster; it must not outlive that
        return started
    if child is not None:
        child.kill()
    raise LocalCloudError(
        f"The embedded cloud did not answer within {START_BUDGET_S:.0f} s.{last_words(places)}",
        hint=f"`stockpipe local stop`, then try again. Its log: {places.log}",
    )


def endpoint(home: Path) -> Endpoint | None:
    """Where the embedded cloud answers and its credentials; None when it does not run."""
    from stockpipe.aws import Endpoint

    places = Places(home)
    record = ServerRecord.load(places.server)
    if record is None or record.state in _DOWN or not is_locked(places.lock):
        return None
    credentials = Credentials.load(places.credentials)
    if credentials is None or record.port is None:
        return None
    if introduction(record.port).get(NONCE_HEADER) != record.nonce:
        return None
    return Endpoint(
        f"http://{HOST}:{record.port}", credentials.access_key_id, credentials.secret_access_key
    )


def status(home: Path) -> LocalStatus:
    """Look, and change nothing."""
    places = Places(home)
    running, record = is_locked(places.lock), ServerRecord.load(places.server)
    pid = record.pid if running and record and _is_server(places, record.pid) else None
    known = record if pid is not None else None
    died = None
    if record and not running and record.state in DIED:
        died = "\n".join(tail_log(home, LAST_WORDS)) or "It left no word."
    written_by = read_json(places.format) or {}
    return LocalStatus(
        running=running,
        pid=pid,
        port=record.port if record else None,
        url=f"http://{HOST}:{known.port}" if known and known.port else None,
        uptime_s=max(0.0, time.time() - known.started_at) if known else None,
        memory_bytes=_memory(places, pid) if pid is not None else None,
        disk_bytes=_disk(places.local),
        home=home,
        version=written_by.get("emulator"),
        data_format=written_by.get("format"),
        died=died,
    )


def stop(home: Path) -> bool:
    """Stop the server in order and wait until it is gone; False when none was running.

    Raises LocalCloudError when it cannot save its data, and then still runs, or when it had to be
    killed because it did not stop within 30 seconds.
    """
    places = Places(home)
    pid = _server_pid(places)
    if pid is None:
        return False
    asked_at = time.time()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)

    def outcome() -> str | None:
        if _is_gone(places):
            return "gone"
        record = ServerRecord.load(places.server)
        if record is None or record.port is None:
            return None
        at, _, reason = introduction(record.port).get(NOTICE_HEADER, "").partition(" ")
        return reason if at and float(at) >= asked_at else None

    said = wait_until(outcome, budget_s=STOP_BUDGET_S, base_s=0.02, cap_s=0.2)
    if said == "gone":
        return True
    if said is not None:
        raise LocalCloudError(
            f"The embedded cloud did not stop, and is still running. {said}",
            hint="Free some space and stop it again; `stockpipe local reset` gives the data up.",
        )
    _kill(places, pid)
    raise LocalCloudError(
        f"The embedded cloud did not stop within {STOP_BUDGET_S:.0f} s and was killed. "
        "What changed in the last seconds before is lost.",
        hint=f"Its log: {places.log}",
    )


def reset(home: Path) -> None:
    """End the server and remove all of its data, credentials included; raises LocalCloudError."""
    places = Places(home)
    if not places.local.exists():
        return
    pid = _server_pid(places)
    if pid is not None:
        _kill(places, pid)
    lock = Lock(places.lock)
    try:
        if not wait_until(lambda: lock.acquire() or None, budget_s=5, base_s=0.02, cap_s=0.2):
            raise LocalCloudError(f"Another process is using {places.local}.")
        for entry in places.local.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != places.lock:  # a command that waits for the lock holds this very file
                entry.unlink()
    except OSError as error:
        raise not_writable(places.local, error) from error
    finally:
        lock.release()


def log_path(home: Path) -> Path:
    return Places(home).log


def tail_log(home: Path, lines: int) -> list[str]:
    """The last lines of the server's log, oldest first; empty when there is none."""
    return lines_from(Places(home).log, -_TAIL_BYTES)[-lines:] if lines > 0 else []


def _is_server(places: Places, pid: int) -> bool:
    """Whether a process is this home's server, and not a stranger with a recycled number."""
    command = processes.command_line(pid)
    return MODULE in command and command.endswith(str(places.home))


def _is_mine(places: Places, child: subprocess.Popen[bytes]) -> bool:
    record = ServerRecord.load(places.server)
    return record is not None and record.pid == child.pid


def _server_pid(places: Places) -> int | None:
    """The process that holds the lock, None when none does; raises LocalCloudError if unknown."""

    def look() -> int | None:
        record = ServerRecord.load(places.server)
        if _is_gone(places):
            return 0
        return record.pid if record and _is_server(places, record.pid) else None

    found = wait_until(look, budget_s=5, base_s=0.02, cap_s=0.2)
    if found is None:
        raise LocalCloudError(
            f"Another process holds {places.lock}, and it is not a server that we know.",
            hint=f"See who it is: fuser {places.lock}",
        )
    return found or None


def _is_gone(places: Places) -> bool:
    _reap()
    return not is_locked(places.lock)


def _reap() -> None:
    """A child that ended stays in the table of processes until it is asked about."""
    for pid in [pid for pid, child in _children.items() if child.poll() is not None]:
        del _children[pid]


def _kill(places: Places, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: _is_gone(places) or None, budget_s=5, base_s=0.02, cap_s=0.2)
    processes.end_functions(places.tmp)


def _memory(places: Places, pid: int) -> int:
    return sum(processes.memory_bytes(each) for each in [pid, *processes.functions(places.tmp)])


def _disk(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it went while we looked
            total += path.lstat().st_size
    return total
