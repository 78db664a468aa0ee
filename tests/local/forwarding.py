"""A proxy on 127.0.0.1 before the embedded cloud, that passes on what it does not answer itself."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

from stockpipe.aws import Endpoint

Answer = tuple[int, str, bytes]
"""Status, content type and body."""


class ForwardingProxy(ABC):
    """Subclasses say what becomes of each request. ``url`` is where it listens."""

    def __init__(self, cloud: Endpoint) -> None:
        self._cloud = cloud
        self.url = ""

    @abstractmethod
    def answer(self, headers: dict[str, str], body: bytes) -> Answer | None:
        """What a POST gets, None for a reset of its connection; called in threads of requests."""

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else the body waits for the head's acknowledgement

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = proxy.answer(dict(self.headers), body)
                if answer is None:
                    self._reset()
                    return
                status, content_type, data = answer
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _reset(self) -> None:
                """Closed with nothing lingering, a connection is reset instead of ended."""
                self.close_connection = True
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                socket.close(self.connection.detach())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """A test says what it needs itself."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            self.url = f"http://127.0.0.1:{server.server_port}"
            serving = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            serving.start()
            try:
                yield self
            finally:
                server.shutdown()
                serving.join()

    def forwarded(self, headers: dict[str, str], body: bytes) -> Answer:
        """The request as it came: the host that it names is a part of its signature."""
        cloud = http.client.HTTPConnection(urlsplit(self._cloud.url).netloc)
        with contextlib.closing(cloud):
            cloud.request("POST", "/", body, headers)
            answer = cloud.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read()
