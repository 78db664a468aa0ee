"""What SNS would have sent: one JSON object a line, in a file of the embedded cloud's directory.

The server appends, commands read; both may do so at once, and a command needs no server. A message
is one write, so a server that is killed leaves at most one torn line, which readers skip. When the
file has grown to SEGMENT_BYTES it becomes ``outbox.1.jsonl`` and a new one begins: the newest 8 MB,
some 10,000 alerts, are always there.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO, Literal

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock

SEGMENT_BYTES = 8_000_000
_LOOK_S = 0.25

NOTIFICATION = "Notification"
INVITATION = "SubscriptionConfirmation"

Status = Literal["kept", "delivered", "failed"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one recipient.

    ``time`` is UTC, ISO 8601. ``text`` is what this recipient reads. ``topic`` is an ARN, None for
    an SMS without a topic. ``status``: ``kept`` here instead of being sent (mail, SMS), or, of a
    webhook, ``delivered`` or ``failed`` after so many ``attempts`` with the last ``error``.
    """

    time: str
    type: str
    protocol: str
    to: str
    subject: str
    text: str
    topic: str | None
    attributes: Mapping[str, str]
    message_id: str
    status: Status
    attempts: int | None = None
    error: str | None = None


_FIELDS = frozenset(field.name for field in fields(Message))
_Offsets = dict[int, int]
"""Per segment, by inode: how many of its bytes have been read."""


class Outbox:
    """The messages of one embedded cloud; ``directory`` is its own, which only its owner reads."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.path = directory / "outbox.jsonl"
        self._older = directory / "outbox.1.jsonl"
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()

    def append(self, *messages: Message) -> None:
        """Add messages, all of them in one write. For one process only; raises OSError."""
        if not messages:
            return
        lines = "".join(json.dumps(asdict(message)) + "\n" for message in messages).encode()
        with self._lock:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                size = os.fstat(file).st_size
                # After a crash or a full disk the last line may have no end: it must not get ours.
                torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
                content = b"\n" + lines if torn else lines
                if os.write(file, content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            finally:
                os.close(file)
            if size + len(content) >= self._segment_bytes:
                self.path.replace(self._older)

    def read(self) -> list[Message]:
        """Every message that is kept, oldest first; raises OSError."""
        return self._look({})[0]

    def follow(self, clock: Clock = SYSTEM_CLOCK) -> Iterator[list[Message]]:
        """First what :meth:`read` returns, then what is new at each look, for ever."""
        seen: _Offsets = {}
        while True:
            messages, seen = self._look(seen)
            yield messages
            clock.sleep(_LOOK_S)

    def clear(self) -> None:
        """Remove every message. A follower goes on with the next one; raises OSError."""
        self._older.unlink(missing_ok=True)
        # Not unlinked: a new file could get the old one's inode, and a follower miss its beginning.
        with suppress(FileNotFoundError):
            os.truncate(self.path, 0)

    def _look(self, seen: _Offsets) -> tuple[list[Message], _Offsets]:
        """The messages behind ``seen``, and where the next look begins."""
        found: list[Message] = []
        now: _Offsets = {}
        with ExitStack() as stack:
            for file in self._segments(stack):
                status = os.fstat(file.fileno())
                start = seen.get(status.st_ino, 0)
                file.seek(start if start <= status.st_size else 0)  # shorter: it was cleared
                start, content = file.tell(), file.read()
                whole = content.rfind(b"\n") + 1
                found += [
                    message for line in content[:whole].splitlines() if (message := _of(line))
                ]
                now[status.st_ino] = start + whole
        return found, now

    def _segments(self, stack: ExitStack) -> list[BinaryIO]:
        """The files, oldest first."""
        opened: list[BinaryIO] = []
        # The newer first: when it becomes the older one meanwhile, it is opened twice, not missed.
        for path in (self.path, self._older):
            with suppress(FileNotFoundError):
                file = stack.enter_context(path.open("rb"))
                if not any(os.path.sameopenfile(file.fileno(), one.fileno()) for one in opened):
                    opened.append(file)
        return opened[::-1]


def _of(line: bytes) -> Message | None:
    """The message in a line; None in a torn one, or one that another version wrote."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    if not isinstance(content, dict) or not content.keys() >= _FIELDS:
        return None
    return Message(**{name: content[name] for name in _FIELDS})
