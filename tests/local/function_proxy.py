"""Between a function and the embedded cloud: DynamoDB and SNS as they are on a bad day.

A function is led here by ``AWS_ENDPOINT_URL_DYNAMODB`` and ``AWS_ENDPOINT_URL_SNS`` among its
variables. What a canned answer cannot do is done for real: of a BatchWriteItem some items are
written, by a call of the proxy's own, and the others are handed back as unprocessed.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from typing import Any
from urllib.parse import parse_qs

from embedded import client
from forwarding import Answer, ForwardingProxy

from stockpipe.aws import Endpoint

SEED = 20260102
EACH = 5
"""Each costs the retries of Lambda and of boto3, which wait."""
THROTTLED = "ProvisionedThroughputExceededException"
SNS_ERROR = (
    '<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type>'
    "<Code>Throttling</Code><Message>Rate exceeded</Message></Error>"
    "<RequestId>0</RequestId></ErrorResponse>"
)


class FunctionProxy(ForwardingProxy):
    """Faults by operation: the share of its calls that is hit, up to :data:`EACH` of them.

    ``fired`` says what really was.
    """

    def __init__(self, cloud: Endpoint, **shares: float) -> None:
        super().__init__(cloud)
        self._dynamodb = client("dynamodb", cloud)
        self._shares = shares
        self._draw = random.Random(SEED)
        self._lock = threading.Lock()
        self.fired: Counter[str] = Counter()

    def variables(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_DYNAMODB": self.url, "AWS_ENDPOINT_URL_SNS": self.url}

    def answer(self, headers: dict[str, str], body: bytes) -> Answer:
        target = headers.get("X-Amz-Target", "")
        operation = target.rpartition(".")[2] or parse_qs(body.decode())["Action"][0]
        if not self._hit(operation):
            return self.forwarded(headers, body)
        if operation == "BatchWriteItem":
            answer = self._some(json.loads(body)["RequestItems"])
            return 200, "application/x-amz-json-1.0", json.dumps(answer).encode()
        if not target:
            return 400, "text/xml", SNS_ERROR.encode()
        refusal = {"__type": THROTTLED, "message": "Rate exceeded"}
        return 400, "application/x-amz-json-1.0", json.dumps(refusal).encode()

    def _hit(self, operation: str) -> bool:
        with self._lock:
            hit = self._draw.random() < self._shares.get(operation, 0.0)
            hit = hit and self.fired[operation] < EACH
            self.fired[operation] += hit
        return hit

    def _some(self, requests: dict[str, list[Any]]) -> dict[str, Any]:
        """Write every other item, from a random one on; the newest may come before the oldest."""
        left: dict[str, list[Any]] = {}
        for table, items in requests.items():
            first = self._draw.randrange(2)
            if through := items[first::2]:
                self._dynamodb.batch_write_item(RequestItems={table: through})
            if back := items[1 - first :: 2]:
                left[table] = back
        return {"UnprocessedItems": left}
