"""What the server takes from the machine: the lock, a port, a log, files to open."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import socket
import time
from pathlib import Path

from stockpipe.domain.retry import wait_until
from stockpipe.errors import LocalCloudError
from stockpipe.local.home import HOST, Lock

_LOCK_WAIT_S = 0.3  # a command that looks whether the lock is taken holds it for a moment
_LOG_BYTES = 10_000_000
# Below the range from which systems lend ports to outgoing connections, so that it stays ours.
_PORTS = range(20_000, 30_000)
_PORT_TRIES = 50

_log = logging.getLogger("stockpipe.local")


def hold(path: Path) -> Lock | None:
    """The lock, or None when another server has it. Raises LocalCloudError."""
    lock = Lock(path)
    return wait_until(
        lambda: lock if lock.acquire() else None, budget_s=_LOCK_WAIT_S, base_s=0.01, cap_s=0.01
    )


def listen(wanted: int | None) -> socket.socket:
    """A socket that listens on the wanted port, or on another one when a stranger has it.

    The socket itself is passed on, so nobody can take the port in between. Raises OSError and
    LocalCloudError.
    """
    first = [wanted] if wanted else []
    others = [secrets.choice(_PORTS) for _ in range(_PORT_TRIES)]
    for port in (*first, *others, 0):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # After a restart the old connections may still linger; they are no reason to move.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
            listening.listen()
        except OSError as error:
            listening.close()
            if error.errno != errno.EADDRINUSE:
                raise
            if port == wanted:
                _log.warning("port %d is taken by another program: choosing another", port)
            continue
        return listening
    raise LocalCloudError(f"There is no free port on {HOST}.")


def log_to(path: Path) -> None:
    """Send all output to a file, a new one when it has grown large. Raises OSError."""
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)sZ %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.getLogger("stockpipe").setLevel(logging.INFO)


def raise_file_limit() -> None:
    """As many open files as the system allows, within reason: macOS begins with 256."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        # macOS names a hard limit that it does not grant.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
