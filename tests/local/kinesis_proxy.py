"""PutRecords on 127.0.0.1 as AWS does it on a bad day, in front of the embedded cloud.

microburst answers with what it is told; here a part of a request's records really gets there, by
a call of the proxy's own, and the answer says which. ``KinesisProxy.fired`` says what really hit.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from typing import Any
from urllib.parse import urlsplit

from embedded import client

from stockpipe.aws import Endpoint

THROTTLED = "ProvisionedThroughputExceededException"
INTERNAL = "InternalFailure"
SEED = 20260101
LATE_S = 0.2


class Fault(Enum):
    """What becomes of one request."""

    NONE = "all records are taken"
    SOME = "each record fails with a probability, the others are taken"
    THROTTLE = "the request is refused"
    BROKEN = "the request ends in status 500"
    EXPIRED = "the credentials are refused as expired"
    RESET = "the connection is reset, and nothing is taken"
    UNANSWERED = "all records are taken, and the connection is reset before the answer"
    SLOW = "all records are taken, and the answer is late"
    HOLD = "there is no answer until the proxy is told to go on, or ends"


WHOLE = {
    Fault.THROTTLE: (400, THROTTLED),
    Fault.BROKEN: (500, INTERNAL),
    Fault.EXPIRED: (400, "ExpiredTokenException"),
}
"""Faults of a whole request: status and code."""


def mixed(share: float = 0.3) -> Iterator[Fault]:
    """Without end: so many of all requests fail as a whole, and in the others some records do."""
    draw = random.Random(SEED)
    whole = [Fault.THROTTLE, Fault.BROKEN, Fault.RESET, Fault.UNANSWERED, Fault.SLOW]
    size = round(len(whole) / share)
    while True:
        deck = [*whole, *[Fault.SOME] * (size - len(whole))]
        draw.shuffle(deck)
        yield from deck


class KinesisProxy:
    """Takes one request after the other, each with the next of ``faults``, then with none.

    ``failing``: the probability that a record of :attr:`Fault.SOME` fails. ``delay_s``: how long
    every answer takes at least.
    """

    def __init__(
        self,
        cloud: Endpoint,
        faults: Iterable[Fault] = (),
        *,
        failing: float = 0.3,
        delay_s: float = 0.0,
    ) -> None:
        self._faults = chain(faults, repeat(Fault.NONE))
        self._failing, self._delay_s = failing, delay_s
        self._cloud, self._kinesis = cloud, client("kinesis", cloud)
        self._draw = random.Random(SEED)
        self._one_at_a_time = threading.Lock()
        self._ended, self._going_on = threading.Event(), threading.Event()
        self.fired: Counter[Fault] = Counter()
        self.refused = 0
        """Records that failed though others of their request did not."""
        self.url = ""

    def go_on(self) -> None:
        """Take what is held."""
        self._going_on.set()

    @property
    def requests(self) -> int:
        return self.fired.total()

    @contextlib.contextmanager
    def running(self) -> Iterator[KinesisProxy]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["X-Amz-Target"] == "Kinesis_20131202.PutRecords"
                answer = proxy._answer(dict(self.headers), body)
                if answer is None:
                    self._reset()
                    return
                status, data = answer
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
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
                self._ended.set()
                self._going_on.set()
                server.shutdown()
                serving.join()

    def _answer(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes] | None:
        """Status and body; None for a reset."""
        with self._one_at_a_time:
            fault = next(self._faults)
            self.fired[fault] += 1
            if fault is Fault.HOLD:
                self._going_on.wait()
                if self._ended.is_set():
                    return None
            self._ended.wait(self._delay_s + (LATE_S if fault is Fault.SLOW else 0.0))
            if fault in WHOLE:
                status, code = WHOLE[fault]
                return status, json.dumps({"__type": code, "message": fault.value}).encode()
            if fault is Fault.RESET:
                return None
            if fault is Fault.SOME:
                return 200, json.dumps(self._some(json.loads(body))).encode()
            answer = self._forwarded(headers, body)
            return None if fault is Fault.UNANSWERED else answer

    def _forwarded(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """The request as it came: the host that it names is a part of its signature."""
        cloud = http.client.HTTPConnection(urlsplit(self._cloud.url).netloc)
        with contextlib.closing(cloud):
            cloud.request("POST", "/", body, headers)
            answer = cloud.getresponse()
            return answer.status, answer.read()

    def _some(self, request: dict[str, Any]) -> dict[str, Any]:
        """PutRecords of those that do not fail; out: the answer for all."""
        records = [
            {"Data": base64.b64decode(record["Data"]), "PartitionKey": record["PartitionKey"]}
            for record in request["Records"]
        ]
        fails = [self._draw.random() < self._failing for _ in records]
        through = [record for record, failed in zip(records, fails, strict=True) if not failed]
        put: list[Any] = []
        if through:
            put = self._kinesis.put_records(StreamName=request["StreamName"], Records=through)[
                "Records"
            ]
        self.refused += sum(fails)
        taken = iter(put)
        return {
            "FailedRecordCount": sum(fails),
            "Records": [self._refusal() if failed else next(taken) for failed in fails],
        }

    def _refusal(self) -> dict[str, str]:
        code = self._draw.choice((THROTTLED, INTERNAL))
        return {"ErrorCode": code, "ErrorMessage": "Rate exceeded for shard shardId-000000000000"}
