"""The WebSocket of Yahoo's stream: one connection, and in a few words why it broke."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

from stockpipe.domain.exact import shown

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

URL = "wss://streamer.finance.yahoo.com/?version=2"
_OPEN_TIMEOUT_S = 10.0
"""For TCP, TLS and the WebSocket handshake together."""
_CLOSE_TIMEOUT_S = 1.0
"""An interrupted feed ends within it, also where Yahoo no longer answers."""
_QUEUE = 1024
"""Frames read ahead while a batch quote is asked for; the sender waits once there are more."""


class Broken(Exception):
    """Why there is no connection (any more); ``unreachable`` where the way to Yahoo is barred."""

    def __init__(self, why: str, *, unreachable: bool = False) -> None:
        super().__init__(why)
        self.unreachable = unreachable


class Socket(Protocol):
    """What the feed asks of a connection. Both calls raise :class:`Broken` and nothing else."""

    def subscribe(self, symbols: Sequence[str]) -> None:
        """Ask for the prices of ``symbols``, in addition to those asked for before."""
        ...

    def receive(self, timeout_s: float) -> str | bytes | None:
        """The next frame, or None when there is none for ``timeout_s`` seconds."""
        ...


Connect = Callable[[], AbstractContextManager[Socket]]
"""Opens a connection, which is closed on leaving; raises :class:`Broken`."""


@contextmanager
def connected() -> Iterator[Socket]:
    """A connection to Yahoo, by HTTPS_PROXY and NO_PROXY, trusting SSL_CERT_FILE where it is set.

    Pings that stay unanswered for 20 seconds break it: that is websockets' own keepalive.
    """
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    # What it logs about a broken connection is said by Broken.
    logging.getLogger("websockets").addHandler(logging.NullHandler())
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(
                connect(
                    URL,
                    proxy=True,
                    open_timeout=_OPEN_TIMEOUT_S,
                    close_timeout=_CLOSE_TIMEOUT_S,
                    max_queue=_QUEUE,
                )
            )
        # ImportError: no package for SOCKS. ValueError: a proxy's address that is no URL.
        except (OSError, WebSocketException, ImportError, ValueError) as error:
            raise _refusal(error) from error
        try:
            yield _WebSocket(connection)
        finally:
            # Leaving by an exception, an interruption too, would close as an internal error.
            connection.close()


class _WebSocket:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def subscribe(self, symbols: Sequence[str]) -> None:
        with _translated():
            self._connection.send(json.dumps({"subscribe": list(symbols)}))

    def receive(self, timeout_s: float) -> str | bytes | None:
        with _translated():
            try:
                return self._connection.recv(timeout_s)
            except TimeoutError:
                return None


@contextmanager
def _translated() -> Iterator[None]:
    from websockets.exceptions import ConnectionClosed

    try:
        yield
    except ConnectionClosed as closed:
        if closed.rcvd is None:
            # What we found wrong ourselves: pings unanswered, text that is not UTF-8, a huge frame.
            ours = closed.sent.reason if closed.sent else ""
            raise Broken(ours or "cut off without a close frame") from closed
        reason = f" {shown(closed.rcvd.reason)}" if closed.rcvd.reason else ""
        raise Broken(f"closed with code {closed.rcvd.code}{reason}") from closed


def _refusal(error: Exception) -> Broken:
    """Why a connection could not be opened; a proxy's address, and so its password, is not told."""
    from websockets.exceptions import (
        InvalidProxy,
        InvalidProxyStatus,
        InvalidStatus,
        ProxyError,
        WebSocketException,
    )

    match error:
        case InvalidStatus():
            return Broken(f"HTTP {error.response.status_code}")
        case InvalidProxyStatus():
            return Broken(f"the proxy says HTTP {error.response.status_code}", unreachable=True)
        case ProxyError():
            return Broken("the proxy gives an answer that is none", unreachable=True)
        case WebSocketException() if not isinstance(error, InvalidProxy):
            return Broken("an answer that is no WebSocket's")
        case ImportError():
            return Broken("a SOCKS proxy takes the package python-socks", unreachable=True)
        case InvalidProxy() | ValueError() if not isinstance(error, OSError):
            return Broken("the address of the proxy is not valid", unreachable=True)
        case TimeoutError():
            return Broken("no answer in time")  # which may be different the next time
        case ssl.SSLCertVerificationError():
            return Broken(f"the certificate is bad: {error.verify_message}", unreachable=True)
        case ssl.SSLError():
            return Broken(f"TLS failed: {error.reason}", unreachable=True)
        case _:
            return Broken(getattr(error, "strerror", None) or str(error), unreachable=True)
