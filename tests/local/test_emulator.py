"""What we replace in the emulator is still needed: each check fails when a release mends it.

A failure here is good news. Then the fix named in the comment can go.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ministack")

STOCK = """
import hashlib, json, os, time

import ministack.app as app
from ministack.core import iam_evaluator, lambda_runtime
from ministack.services import dynamodb, kinesis, lambda_svc, s3, sts

found = {}

# access.install
found["anyone is root"] = all(map(iam_evaluator.is_root_access_key, ("test", "1" * 12, "")))
function, role = "arn:aws:lambda:us-east-2:000000000000:function:f", "arn:aws:iam::0:role/r"
digest = hashlib.sha256(f"{function}:{role}".encode()).hexdigest()
keys = lambda_runtime.execution_credentials({"FunctionArn": function, "Role": role})
found["role keys can be guessed"] = keys["AWS_ACCESS_KEY_ID"] == f"ASIA{digest[:16].upper()}"

# state.install
sts._sessions["ASIA"] = {"Arn": "marker"}
found["sessions are not saved"] = "marker" not in json.dumps(sts.get_state())
dynamodb._stream_records["t"] = [{"marker": 1}]
dynamodb._closed_streams["t"] = {"marker": 1}
saved = json.dumps(dynamodb.get_state(), default=repr)
found["stream records are not saved"] = "marker" not in saved
for name, draw in (("Kinesis", kinesis._next_sequence_number),
                   ("DynamoDB", dynamodb._next_stream_seq)):
    now, time.time = time.time, lambda: 2.0
    first = draw()
    time.time = lambda: 1.0
    found[f"{name} numbers fall with the clock"] = draw() < first
    time.time = now

# emulator.fail_lost_writes
os.makedirs(s3.DATA_DIR)
open(s3.DATA_DIR + "/000000000000", "w").close()  # a file where the account's directory belongs
found["a lost write is not an error"] = s3._persist_object("b", "k", {"body": b"x"}) is None
print(json.dumps(found))
"""


def test_every_flaw_that_we_mend_is_still_there(tmp_path: Path) -> None:
    settings = {
        "AUTH": "true",
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(tmp_path / "s3"),
        "LOG_LEVEL": "CRITICAL",
        "PATH": os.environ["PATH"],
    }
    ran = subprocess.run(
        [sys.executable, "-c", STOCK], env=settings, capture_output=True, text=True, check=True
    )
    found: dict[str, bool] = json.loads(ran.stdout)
    assert len(found) == 7
    assert [flaw for flaw, there in found.items() if not there] == []
