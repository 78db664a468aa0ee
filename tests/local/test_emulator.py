"""What we replace in the emulator is still needed: each check fails when a release mends it.

A failure here is good news. Then the fix named in the comment can go.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from stock_emulator import flaws

pytest.importorskip("ministack")

STOCK = """
import asyncio, hashlib, json, os, time

import ministack.app as app
from ministack.core import iam_evaluator, lambda_runtime
from ministack.services import cloudwatch_logs, dynamodb, kinesis, lambda_svc, s3, sts

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

# parts.trust_loopback
context = iam_evaluator.EvalContext("", "Root", "", "s3:GetObject", "*", "us-east-2")
answer = iam_evaluator._resolve_condition_key("aws:SecureTransport", context)
found["loopback is no secure transport"] = answer == "false"

# parts.keep_log_groups_gone
lambda_svc._emit_lambda_logs({"FunctionName": "f"}, "id", "words", False, 1)
found["a function makes its log group"] = "/aws/lambda/f" in cloudwatch_logs._log_groups

# parts.keep_shards
def ask(action, **request):
    headers = {"x-amz-target": "Kinesis_20131202." + action}
    body = json.dumps(request).encode()
    return asyncio.run(kinesis.handle_request("POST", "/", headers, body, {}))

ask("CreateStream", StreamName="s", ShardCount=1)
ask("PutRecord", StreamName="s", Data="eA==", PartitionKey="p")
mode = ask("UpdateStreamMode", StreamARN="s", StreamModeDetails={"StreamMode": "PROVISIONED"})
found["UpdateStreamMode is unknown"] = mode[0] != 200
ask("UpdateShardCount", StreamName="s", TargetShardCount=2, ScalingType="UNIFORM_SCALING")
_, stream = kinesis._resolve_stream({"StreamName": "s"})
found["resharding throws records away"] = "eA==" not in json.dumps(stream, default=str)

# hooks._refusing_twins
lambda_svc._functions["f"] = {"config": {"FunctionName": "f"}, "versions": {}, "aliases": {}}
mapping = {"FunctionName": "f", "EventSourceArn": stream["StreamARN"]}
for _ in range(2):
    made = lambda_svc._create_esm(dict(mapping))
found["a mapping may be made twice"] = made[0] < 300
print(json.dumps(found))
"""


def test_every_flaw_that_we_mend_is_still_there(tmp_path: Path) -> None:
    found = flaws(STOCK, S3_PERSIST="1", S3_DATA_DIR=str(tmp_path / "s3"))
    assert len(found) == 12
    assert [flaw for flaw, there in found.items() if not there] == []
