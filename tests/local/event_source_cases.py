"""What the tests of event source mappings share: on whose poller they run, and what they look at.

With ``STOCKPIPE_STOCK_POLLER=1`` they run on the emulator's own poller: what then passes is no
longer a reason to have ours.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from event_source_cloud import REGION, Cloud, running

STOCK = bool(os.environ.get("STOCKPIPE_STOCK_POLLER"))
ours_only = pytest.mark.skipif(STOCK, reason="asks for something that only our runner has")

RAISE_ON_BAD = """
if any(record.get("bad") for record in records):
    raise ValueError("a bad record")
"""
FAIL_BAD = """
bad = [record["seq"] for record in records if record.get("bad")]
return {"batchItemFailures": [{"itemIdentifier": sequence} for sequence in bad]}
"""


@contextlib.contextmanager
def polled(home: Path) -> Iterator[Cloud]:
    """A cloud with the poller that is to be tested."""
    with running(home, ours=not STOCK) as cloud:
        yield cloud


def to(destination: str) -> dict[str, Any]:
    return {"OnFailure": {"Destination": destination}}


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{"n": n} for n in numbers]


def a_bucket_for_failures(cloud: Cloud) -> str:
    """The ARN of a new bucket for discarded batches."""
    name = f"failures-{time.time_ns()}"
    cloud.client("s3").create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    return f"arn:aws:s3:::{name}"


def discarded(cloud: Cloud, failures: str, mapping: str) -> list[dict[str, Any]]:
    return cloud.objects(f"aws/lambda/{mapping}/", failures.removeprefix("arn:aws:s3:::"))


def payload_numbers(record: dict[str, Any]) -> list[int]:
    """``n`` of the Kinesis records in a failure record."""
    event = json.loads(record["payload"])
    return [json.loads(base64.b64decode(raw["kinesis"]["data"]))["n"] for raw in event["Records"]]
