"""How the server is started: from what environment, and what is said when it does not come up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from stockpipe.errors import LocalCloudError
from stockpipe.local.home import Places, ServerRecord

MODULE = "stockpipe.local.server"
ALREADY_RUNNING = 75
"""Exit code of a server that found the lock taken: the other one is as good."""
DISK_FULL = 74
"""Exit code of a server that could not even say why."""
LAST_WORDS = 12
"""Lines of the log that go with an error."""

_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
_KEPT_FOR_PYTHON = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def check_installed() -> None:
    """Raises LocalCloudError when the extra is missing, without importing any of it."""
    from importlib.util import find_spec

    missing = [name for name in ("ministack", "duckdb", "pytz") if find_spec(name) is None]
    if missing:
        raise LocalCloudError(
            f"The embedded cloud is not installed ({', '.join(missing)} missing).",
            hint="pip install 'stockpipe[local]', or use --target aws.",
        )


def spawn(places: Places) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, with our log for its words; raises OSError."""
    with places.log.open("ab") as log:
        places.log.chmod(0o600)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, str(places.home)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=places.local,
            env=_environment(places),
            start_new_session=True,
        )


def _environment(places: Places) -> dict[str, str]:
    """For the server and so for every function: nothing of the host that they do not need.

    HOME is ours, so ``~/.aws`` is not read; what an interpreter is found by stays.
    """
    import site

    kept = (*_KEPT, *_KEPT_FOR_PYTHON)
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    if "PYTHONPATH" in environment:  # the server works in another directory
        entries = environment["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, filter(None, entries)))
    environment["HOME"] = str(places.local)
    environment["TMPDIR"] = str(places.tmp)
    environment["PYTHONUNBUFFERED"] = "1"
    if site.ENABLE_USER_SITE:
        environment["PYTHONUSERBASE"] = site.getuserbase()
    return environment


def start_error(places: Places, child: subprocess.Popen[bytes], offset: int) -> LocalCloudError:
    """Why a server ended before it was ready; ``offset``: where in the log its words begin."""
    if child.returncode == DISK_FULL:
        return LocalCloudError(
            f"The embedded cloud did not start: no space left for {places.local}.",
            hint="Free some space, or set STOCKPIPE_HOME to another disk.",
        )
    record = ServerRecord.load(places.server)
    if record and record.pid == child.pid and record.state == "failed" and record.error:
        return LocalCloudError(record.error, hint=record.hint or f"Its log: {places.log}")
    return LocalCloudError(
        f"The embedded cloud did not start (exit code {child.returncode})."
        f"{last_words(places, offset)}",
        hint=f"The whole log: {places.log}",
    )


def last_words(places: Places, offset: int = 0) -> str:
    lines = lines_from(places.log, offset)[-LAST_WORDS:]
    return "\n" + "\n".join(f"  {line}" for line in lines) if lines else ""


def lines_from(path: Path, offset: int) -> list[str]:
    """Lines from a byte on, counted from the end when negative; all when the file is shorter."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size + offset) if offset < 0 else offset
            file.seek(start if start <= size else 0)
            return file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
