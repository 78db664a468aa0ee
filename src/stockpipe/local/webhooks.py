"""Webhooks: posts to http and https endpoints, in the background, with retries.

Each endpoint has a thread of its own while it has something to do, so a slow or dead one delays
nobody else. What SNS does: https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html
Here the three retries come sooner than its 20 seconds apart, because somebody is watching.
"""

from __future__ import annotations

import base64
import heapq
import http.client
import itertools
import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

WAITS_S = (0.0, 2.0, 20.0)
"""Before each retry. SNS: three times 20 seconds."""
TIMEOUT_S = 15.0
"""As with SNS."""
LINE_LENGTH = 1_000
"""Posts that may wait for one endpoint; any more are given up at once."""
STOPPED = "the embedded cloud was stopped"
_STOP_S = 2.0
_TOO_MANY_REQUESTS = 429
_NO_URL = "not a URL"
"""And no more: Python's own words quote what may be a password."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Post:
    """``wanted`` is asked before each attempt; no means drop it, for nobody waits for it any more.

    ``done`` is told the end of any other. Both are called in any thread, and must not raise.
    """

    url: str = field(repr=False)  # may hold a password
    headers: Mapping[str, str]
    body: str
    wanted: Callable[[], bool]
    done: Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``error`` is None of what was delivered."""

    attempts: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """``final``: another attempt would fail as well."""

    reason: str
    final: bool


@dataclass(slots=True)
class _Job:
    post: Post
    attempts: int = 0


Send = Callable[[Post], Failure | None]
_Line = list[tuple[float, int, _Job]]
"""A heap: when it is due (monotonic), a number that keeps the order, what is to be posted."""


class Webhooks:
    """Posts each of what it is given until it succeeds or is given up, and says which."""

    def __init__(self, waits_s: Sequence[float] = WAITS_S, send: Send | None = None) -> None:
        self._waits_s = waits_s
        self._send = send or deliver
        self._changed = threading.Condition()
        self._lines: dict[str, _Line] = {}
        self._open: dict[int, _Job] = {}
        self._numbers = itertools.count()
        self._stopped = False

    def post(self, post: Post) -> None:
        """Returns at once."""
        job = _Job(post)
        with self._changed:
            self._open[id(job)] = job
            line = self._lines.get(post.url)
            full = line is not None and len(line) >= LINE_LENGTH
            if not self._stopped and not full:
                self._put(post.url, job, wait_s=0)
                return
        self._settle(job, STOPPED if self._stopped else f"{LINE_LENGTH} others wait for it already")

    def stop(self, budget_s: float = _STOP_S) -> None:
        """Wait a moment for what is being posted; what is then left ends as not delivered."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._lines, budget_s)
            left = list(self._open.values())
        for job in left:
            self._settle(job, STOPPED)

    def _put(self, url: str, job: _Job, wait_s: float) -> None:
        """Into the endpoint's line, with a thread to it; to be called with the lock."""
        entry = (time.monotonic() + wait_s, next(self._numbers), job)
        if url in self._lines:
            heapq.heappush(self._lines[url], entry)
            self._changed.notify_all()
        else:
            self._lines[url] = [entry]
            threading.Thread(target=self._work, args=(url,), name="webhook", daemon=True).start()

    def _work(self, url: str) -> None:
        while (job := self._due(url)) is not None:
            if job.post.wanted():
                job.attempts += 1
                self._judge(job, self._send(job.post))
            else:
                with self._changed:
                    self._open.pop(id(job), None)

    def _due(self, url: str) -> _Job | None:
        """Waits for the next post of a line; None when there is none, and the line is no more."""
        with self._changed:
            line = self._lines[url]
            while line and not self._stopped:
                left_s = line[0][0] - time.monotonic()
                if left_s <= 0:
                    return heapq.heappop(line)[2]
                self._changed.wait(left_s)
            del self._lines[url]
            self._changed.notify_all()
            return None

    def _judge(self, job: _Job, failure: Failure | None) -> None:
        if failure is None:
            return self._settle(job, None)
        if not failure.final and job.attempts <= len(self._waits_s):
            with self._changed:
                if not self._stopped:
                    wait_s = self._waits_s[job.attempts - 1]
                    return self._put(job.post.url, job, wait_s)
        return self._settle(job, failure.reason)

    def _settle(self, job: _Job, error: str | None) -> None:
        """Tell the end of a post, once."""
        with self._changed:
            if self._open.pop(id(job), None) is None:
                return
        if error is not None:
            _log.warning(
                "webhook %s: not delivered (%d attempts): %s",
                shown(job.post.url),
                job.attempts,
                error,
            )
        job.post.done(Outcome(job.attempts, error))


def deliver(post: Post) -> Failure | None:
    """One attempt: certificates are checked, redirects are not followed.

    SNS tries again after 5XX, 429 and no answer, and takes any other refusal as final:
    https://docs.aws.amazon.com/sns/latest/dg/SendMessageToHttp.prepare.html
    """
    try:
        parts = urlsplit(post.url)
        place = (parts.hostname or "", parts.port)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(*place, timeout=TIMEOUT_S, context=context)
        else:
            connection = http.client.HTTPConnection(*place, timeout=TIMEOUT_S)
    except (http.client.InvalidURL, ValueError):
        return Failure(_NO_URL, final=True)
    headers = dict(post.headers)
    if parts.username is not None:
        # SNS sends it when asked by a 401 only; whoever named the URL wants us to have it.
        known = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(known.encode()).decode()
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", path, post.body.encode(), headers)
        status = connection.getresponse().status
    except ssl.SSLCertVerificationError as error:
        return Failure(f"certificate: {error.verify_message}", final=True)
    except TimeoutError:
        return Failure(f"no answer within {TIMEOUT_S:.0f} s", final=False)
    except (http.client.InvalidURL, ValueError):  # a host or path as there is none
        return Failure(_NO_URL, final=True)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Failure(reason, final=False)
    finally:
        connection.close()
    if 200 <= status < 300:
        return None
    return Failure(f"HTTP status {status}", final=status < 500 and status != _TOO_MANY_REQUESTS)


def shown(url: str) -> str:
    """A URL to be shown: where it goes, without its user, password and query.

    A key that is a part of the path, as of Slack's webhooks, is shown. What is no URL is not: a
    password with a slash in it looks like a port and a path.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return _NO_URL
    query = "?..." if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"
