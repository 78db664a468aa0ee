"""Where the embedded cloud lives on disk, which version wrote it, and who holds its lock.

::

    STOCKPIPE_HOME, else the platform's user data directory
    └── local/              0700
        ├── lock            held by the server as long as it lives; nothing else proves that it does
        ├── server.json     the last server: process, port, state (see ``ServerRecord``)
        ├── server.log      what it said; server.log.1 is the one before
        ├── credentials.json  0600, made once per installation
        ├── format.json     which format, and which emulator, wrote the data
        ├── ledger.jsonl    what IAM decided; written only where it is there at the start (tests)
        ├── outbox.jsonl    mail, SMS and webhooks; outbox.1.jsonl is what came before
        ├── state/          the last snapshot of everything but S3 objects
        ├── s3/             S3 objects, written as they arrive
        ├── checkpoints/    positions of the event sources; the snapshot holds the copy that counts
        └── tmp/            function processes and scratch; emptied at start and stop

Imported by every command: nothing heavy at module scope.
"""

from __future__ import annotations

import json
import os
import secrets
import string
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from stockpipe.errors import LocalCloudError

DATA_FORMAT = 1
HOST = "127.0.0.1"
READY = "/_ministack/ready"
NONCE_HEADER = "x-stockpipe-server"
"""On the readiness route: which server this is."""
SAVE = "/_stockpipe/save"
"""The route that puts everything on disk before it answers, or says why not with NOT_SAVED."""
NOT_SAVED = 507
PROOF_HEADER = "x-stockpipe-proof"
"""On the way to ``SAVE``: see :meth:`Credentials.proof`."""
NOTICE_HEADER = "x-stockpipe-notice"
"""On the readiness route: why it did not stop, after the time at which it was asked to."""
RESET_HINT = "`stockpipe local reset` removes the embedded cloud's data and starts afresh."


def home() -> Path:
    """STOCKPIPE_HOME, or the platform's place for a user's data: absolute, may not exist yet."""
    chosen = os.environ.get("STOCKPIPE_HOME", "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_data_dir

    return Path(user_data_dir("stockpipe", appauthor=False))


@dataclass(frozen=True, slots=True)
class Places:
    """Every path of one embedded cloud, from its home."""

    home: Path

    def __post_init__(self) -> None:
        # Processes are known by the paths in their command lines: one spelling for all.
        object.__setattr__(self, "home", Path(os.path.abspath(self.home)))  # noqa: PTH100

    @property
    def local(self) -> Path:
        return self.home / "local"

    @property
    def lock(self) -> Path:
        return self.local / "lock"

    @property
    def server(self) -> Path:
        return self.local / "server.json"

    @property
    def log(self) -> Path:
        return self.local / "server.log"

    @property
    def credentials(self) -> Path:
        return self.local / "credentials.json"

    @property
    def format(self) -> Path:
        return self.local / "format.json"

    @property
    def ledger(self) -> Path:
        return self.local / "ledger.jsonl"

    @property
    def state(self) -> Path:
        return self.local / "state"

    @property
    def s3(self) -> Path:
        return self.local / "s3"

    @property
    def checkpoints(self) -> Path:
        return self.local / "checkpoints"

    @property
    def tmp(self) -> Path:
        return self.local / "tmp"

    def make(self) -> None:
        """Create the directories, readable by their owner alone; raises LocalCloudError."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            for place in (self.local, self.state, self.s3, self.checkpoints, self.tmp):
                place.mkdir(mode=0o700, exist_ok=True)
                place.chmod(0o700)
        except OSError as error:
            raise not_writable(self.local, error) from error


def not_writable(place: Path, error: OSError) -> LocalCloudError:
    """What a failing write under the home means to its owner."""
    return LocalCloudError(
        f"The embedded cloud cannot write to {place}: {error.strerror or error}.",
        hint="Free some space, or set STOCKPIPE_HOME to a directory that you can write to.",
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a small file in one step, readable by its owner alone; raises OSError."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(content, file)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """A file of :func:`write_json`; None when it is absent or is not a JSON object.

    Raises LocalCloudError when it may not be read.
    """
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise LocalCloudError(
            f"The embedded cloud's {path} cannot be read: {error.strerror or error}.",
            hint="Set STOCKPIPE_HOME to a directory of your own.",
        ) from error
    return content if isinstance(content, dict) else None


DIED = ("starting", "ready", "stopping")
"""States of a record whose server, when nobody holds the lock, ended without saying so."""


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """What the server of a data directory says about itself in ``server.json``.

    ``state``: ``starting``, ``ready``, ``stopping``, ``stopped`` or ``failed``. ``started_at`` is
    epoch seconds. ``nonce`` is answered on the readiness route, so that nobody else's server on
    the port is taken for ours. ``error`` and ``hint`` say why it failed to start.
    """

    pid: int
    port: int | None
    nonce: str
    started_at: float
    state: str
    emulator: str
    error: str | None = None
    hint: str | None = None

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> ServerRecord | None:
        """The record, or None when there is none or it cannot be read as one."""
        content = read_json(path)
        if content is None:
            return None
        try:
            return cls(**{name: content[name] for name in (each.name for each in fields(cls))})
        except KeyError:
            return None


@dataclass(frozen=True, slots=True)
class Credentials:
    """The only keys that the embedded cloud accepts as its owner's.

    ``seed`` never leaves the server: the keys of function roles are derived from it.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    seed: str = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> Credentials | None:
        content = read_json(path)
        if content is None:
            return None
        try:
            return cls(*(str(content[each.name]) for each in fields(cls)))
        except KeyError:
            return None

    def proof(self, nonce: str) -> str:
        """What only who knows these credentials can say to the server of this nonce."""
        import hmac

        return hmac.new(self.secret_access_key.encode(), nonce.encode(), "sha256").hexdigest()

    @classmethod
    def load_or_make(cls, path: Path) -> Credentials:
        """Those of this installation; call it under the lock. Raises OSError."""
        found = cls.load(path)
        if found is None:
            alphabet = string.ascii_uppercase + string.digits
            found = cls(
                access_key_id="AKIA" + "".join(secrets.choice(alphabet) for _ in range(16)),
                secret_access_key=secrets.token_urlsafe(30),
                seed=secrets.token_hex(32),
            )
            write_json(path, asdict(found))
        path.chmod(0o600)
        return found


def check_format(path: Path) -> None:
    """Refuse data that this version cannot read; raises LocalCloudError with the way out."""
    if not path.exists():
        return
    found = (read_json(path) or {}).get("format")
    if found != DATA_FORMAT:
        known = f"format {found}" if isinstance(found, int) else "an unreadable format"
        raise LocalCloudError(
            f"The embedded cloud's data in {path.parent} has {known}; "
            f"this version reads format {DATA_FORMAT}.",
            hint=f"Use the version of stockpipe that wrote it, or start over: {RESET_HINT}",
        )


class Lock:
    """An exclusive lock on a data directory, held until released or until the process ends.

    The system drops it with the process, however that ends, so it cannot go stale as a file with
    a process id does.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self) -> bool:
        """Try once; False when another process holds it. Raises LocalCloudError."""
        try:
            import fcntl
        except ImportError as error:
            raise LocalCloudError(
                "The embedded cloud runs on Linux and macOS.",
                hint="On Windows, install stockpipe inside WSL.",
            ) from error
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise not_writable(self._path, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def is_locked(path: Path) -> bool:
    """Whether a server lives on this data directory."""
    if not path.exists():
        return False
    lock = Lock(path)
    if lock.acquire():
        lock.release()
        return False
    return True
