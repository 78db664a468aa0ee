"""Counts requests in flight, notices what changes data, and closes the door to stop in order."""

from __future__ import annotations

import asyncio
import re

from stockpipe.domain.retry import backoff
from stockpipe.local.emulator.wire import App, Message, Receive, Refusal, Scope, Send, refuse

_READS = re.compile(rb"[\w.]*\.(Get|List|Describe|Query|Scan|Filter|BatchGet|TransactGet)\w*")


class Traffic:
    """ASGI: everything passes, until it is closed or writes are refused.

    ``changed`` is set by every request that is not plainly a read; the owner resets it.
    ``refusals`` counts how often there was a reason to refuse writes.
    ``started`` is set once ministack is up. To be used on the event loop only.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._in_flight = 0
        self._closed = False
        self._no_writes = ""
        self.refusals = 0
        self.changed = False
        self.started = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, self._noting_start(send))
        writes = _writes(scope)
        reason = "is stopping" if self._closed else self._no_writes if writes else ""
        if reason:
            # A status that SDKs retry.
            refusal = Refusal("ServiceUnavailable", f"The embedded cloud {reason}.")
            return await refuse(scope, b"", refusal, send, status=503)
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1
            self.changed = self.changed or writes

    def _noting_start(self, send: Send) -> Send:
        async def noting(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self.started.set()
            await send(message)

        return noting

    async def close(self, budget_s: float) -> bool:
        """Refuse new requests and wait for those in flight; out: whether all of them ended."""
        self._closed = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + budget_s
        for wait_s in backoff(base_s=0.005, cap_s=0.1, draw=lambda: 1.0):
            if not self._in_flight:
                return True
            if loop.time() > deadline:
                return False
            await asyncio.sleep(wait_s)
        raise AssertionError("backoff never ends")

    def open(self) -> None:
        self._closed = False

    def refuse_writes(self, reason: str) -> bool:
        """From now on writes fail with ``reason``; out: whether that is news."""
        news, self._no_writes, self.changed = self._no_writes != reason, reason, True
        self.refusals += 1
        return news

    def take_writes(self, refusals: int) -> bool:
        """Writes are taken, unless refused since there were so many ``refusals``; out: whether
        that is news."""
        if refusals != self.refusals:
            return False
        news, self._no_writes = bool(self._no_writes), ""
        return news


def _writes(scope: Scope) -> bool:
    if scope["method"] in ("GET", "HEAD"):
        return False
    target = next((value for name, value in scope["headers"] if name == b"x-amz-target"), b"")
    return not _READS.fullmatch(target)
