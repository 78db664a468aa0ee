"""Yahoo's live stream, played behind the proxy of tests/yahoo_proxy.py, one scene per connection.

::

    def scene(line: Line) -> None:
        line.accept()
        line.subscription()
        line.send(pricing(id="AAPL", price=270.5, time=1761750000000, market_hours=1))
        line.close(1001, "going away")

    yahoo.stream = player = StreamPlayer(scene, lambda line: line.reject(503))

The last scene repeats. A scene that returns hangs up, without a close frame unless it sent one.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from http import HTTPStatus
from threading import Lock
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from yfinance.pricing_pb2 import PricingData


def message(**fields: Any) -> str:
    """A ``PricingData`` in base64; fields of 0 are left out of it, as proto3 does."""
    return base64.b64encode(PricingData(**fields).SerializeToString()).decode()


def pricing(**fields: Any) -> str:
    """A frame as Yahoo sends it since version 2."""
    return json.dumps({"type": "pricing", "message": message(**fields)})


class HungUp(Exception):
    """The other side has gone."""


class Line:
    """One connection, from the server's side."""

    def __init__(self, connection: socket.socket) -> None:
        self.closed_with: int | None = None
        self._socket = connection
        self._protocol = ServerProtocol()
        self._texts: list[str] = []

    def accept(self) -> None:
        self._protocol.send_response(self._protocol.accept(self._request()))
        self._flush()

    def reject(self, status: int) -> None:
        self._request()
        self._protocol.send_response(self._protocol.reject(HTTPStatus(status), "No.\n"))
        self._flush()

    def subscription(self) -> list[str]:
        """The symbols of the next subscription, as soon as it is there."""
        while not self._texts:
            self._read()
        symbols: list[str] = json.loads(self._texts.pop(0))["subscribe"]
        return symbols

    def send(self, *frames: str | bytes) -> None:
        for frame in frames:
            if isinstance(frame, str):
                self._protocol.send_text(frame.encode())
            else:
                self._protocol.send_binary(frame)
        self._flush()

    def send_raw(self, frame: Frame) -> None:
        """Send a frame that the protocol may forbid."""
        self._socket.sendall(frame.serialize(mask=False))

    def close(self, code: int, reason: str = "") -> None:
        self._protocol.send_close(code, reason)
        self._flush()

    def until_closed(self) -> None:
        """Answer nothing but the other side's farewell."""
        while self.closed_with is None:
            self._read()

    def _request(self) -> Request:
        while True:
            for event in self._events():
                assert isinstance(event, Request)
                return event

    def _read(self) -> None:
        for event in self._events():
            assert isinstance(event, Frame)
            if event.opcode is Opcode.TEXT:
                self._texts.append(bytes(event.data).decode())
        if self._protocol.close_rcvd is not None:
            self.closed_with = self._protocol.close_rcvd.code
        self._flush()

    def _events(self) -> list[Any]:
        data = self._socket.recv(65536)
        if not data and self._protocol.state is not State.CLOSED:
            raise HungUp
        self._protocol.receive_data(data)
        return self._protocol.events_received()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._socket.sendall(data)


Scene = Callable[[Line], None]


class StreamPlayer:
    """What ``YahooProxy.stream`` takes. ``lines`` are the connections so far, in order."""

    def __init__(self, *scenes: Scene) -> None:
        self.lines: list[Line] = []
        self._scenes = list(scenes)
        self._lock = Lock()

    def __call__(self, connection: socket.socket) -> None:
        with self._lock:
            scene = self._scenes.pop(0) if len(self._scenes) > 1 else self._scenes[0]
            self.lines.append(line := Line(connection))
        try:
            scene(line)
        except (HungUp, OSError):
            return  # the program's own end, which a test sees in what the program wrote
