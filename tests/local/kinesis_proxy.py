"""PutRecords on 127.0.0.1 as AWS does it on a bad day, in front of the embedded cloud.

microburst answers with what it is told; here a part of a request's records really gets there, by
a call of the proxy's own, and the answer says which. ``KinesisProxy.fired`` says what really hit.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import chain, repeat
from typing import Any, Self

from embedded import client
from forwarding import Answer, ForwardingProxy

from stockpipe.aws import Endpoint

THROTTLED = "ProvisionedThroughputExceededException"
INTERNAL = "InternalFailure"
SEED = 20260101
LATE_S = 0.2
CONTENT_TYPE = "application/x-amz-json-1.1"


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


class KinesisProxy(ForwardingProxy):
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
        super().__init__(cloud)
        self._faults = chain(faults, repeat(Fault.NONE))
        self._failing, self._delay_s = failing, delay_s
        self._kinesis = client("kinesis", cloud)
        self._draw = random.Random(SEED)
        self._one_at_a_time = threading.Lock()
        self._ended, self._going_on = threading.Event(), threading.Event()
        self.fired: Counter[Fault] = Counter()
        self.refused = 0
        """Records that failed though others of their request did not."""

    def go_on(self) -> None:
        """Take what is held."""
        self._going_on.set()

    @property
    def requests(self) -> int:
        return self.fired.total()

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        with super().running():
            try:
                yield self
            finally:  # before it closes: nothing is held any more
                self._ended.set()
                self._going_on.set()

    def answer(self, headers: dict[str, str], body: bytes) -> Answer | None:
        assert headers["X-Amz-Target"] == "Kinesis_20131202.PutRecords"
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
                refusal = {"__type": code, "message": fault.value}
                return status, CONTENT_TYPE, json.dumps(refusal).encode()
            if fault is Fault.RESET:
                return None
            if fault is Fault.SOME:
                return 200, CONTENT_TYPE, json.dumps(self._some(json.loads(body))).encode()
            answer = self.forwarded(headers, body)
            return None if fault is Fault.UNANSWERED else answer

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
