"""What the emulator judges a request on, mended: still needed, and as AWS does it.

A failure of the first test is good news: what the release does itself can go.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ministack")

LOOK = """
import inspect, json, sys
from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.services import athena, iam, lambda_svc

if sys.argv[1] == "mended":
    from stockpipe.local.emulator import judgement
    judgement.install()

def action(method, path):
    return iam_actions.extract_iam_action("lambda", method, path, {}, b"", {})

def arn(service, operation="", path="/", params=None, **fields):
    headers = {"x-amz-target": "X." + operation}
    body = b"" if params else json.dumps(fields).encode()
    return iam_actions.extract_resource_arn(
        service, "POST", path, headers, body, params or {}, "us-east-2", "0" * 12)

def key(name, resource):
    context = iam_evaluator.EvalContext("", "", "0" * 12, "", resource, "us-east-2")
    return iam_evaluator._resolve_condition_key(name, context)

mapping = "arn:aws:lambda:us-east-2:000000000000:event-source-mapping:u"
lambda_svc._esms["u"] = {"FunctionArn": "arn:of:f"}
iam._roles["r"] = {"PermissionsBoundary": "arn:of:b"}
athena._executions["q"] = {"WorkGroup": "w"}
of_rule = "arn:aws:events:us-east-2:000000000000:rule/r"
print(json.dumps({
    "lambda:DeleteEventSourceMapping": action("DELETE", "/2015-03-31/event-source-mappings/u"),
    "lambda:GetEventSourceMapping": action("GET", "/2015-03-31/event-source-mappings/u"),
    "lambda:GetAccountSettings": action("GET", "/2016-08-19/account-settings"),
    "lambda:DeleteFunctionConcurrency": action("DELETE", "/2017-10-31/functions/f/concurrency"),
    "athena execution": arn("athena", QueryExecutionId="q"),
    "athena create": arn("athena", Name="w"),
    "cloudwatch dashboard": arn("monitoring", DashboardName="d"),
    "cloudwatch listing": arn("monitoring", "DescribeAlarms", AlarmNames=["a"]),
    "dynamodb tags": arn("dynamodb", ResourceArn="arn:of:t"),
    "events rule": arn("events", Name="r"),
    "glue database": arn("glue", Name="d"),
    "glue table": arn("glue", DatabaseName="d", TableInput={"Name": "t"}),
    "lambda create": arn("lambda", path="/2015-03-31/functions", FunctionName="f"),
    "logs group": arn("logs", logGroupName="g"),
    "sns tags": arn("sns", params={"ResourceArn": ["arn:of:t"]}),
    "sns subscription": arn("sns", params={"SubscriptionArn": ["arn:of:t:u"]}),
    "iam:PermissionsBoundary": key("iam:PermissionsBoundary", "arn:aws:iam::0:role/r"),
    "lambda:FunctionArn": key("lambda:FunctionArn", mapping),
    "every level of glue": 'service == "glue"' in inspect.getsource(
        app._dispatch_service_request if sys.argv[1] == "stock" else judgement),
}))
"""

PLACE = "us-east-2:000000000000"
AS_AWS = {
    "lambda:DeleteEventSourceMapping": "lambda:DeleteEventSourceMapping",
    "lambda:GetEventSourceMapping": "lambda:GetEventSourceMapping",
    "lambda:GetAccountSettings": "lambda:GetAccountSettings",
    "lambda:DeleteFunctionConcurrency": "lambda:DeleteFunctionConcurrency",
    "athena execution": f"arn:aws:athena:{PLACE}:workgroup/w",
    "athena create": f"arn:aws:athena:{PLACE}:workgroup/w",
    "cloudwatch dashboard": "arn:aws:cloudwatch::000000000000:dashboard/d",
    "cloudwatch listing": f"arn:aws:cloudwatch:{PLACE}:alarm:*",
    "dynamodb tags": "arn:of:t",
    "events rule": f"arn:aws:events:{PLACE}:rule/r",
    "glue database": f"arn:aws:glue:{PLACE}:database/d",
    "glue table": f"arn:aws:glue:{PLACE}:table/d/t",
    "lambda create": f"arn:aws:lambda:{PLACE}:function:f",
    "logs group": f"arn:aws:logs:{PLACE}:log-group:g:*",
    "sns tags": "arn:of:t",
    "sns subscription": "arn:of:t",
    "iam:PermissionsBoundary": "arn:of:b",
    "lambda:FunctionArn": "arn:of:f",
    "every level of glue": True,
}


def look(which: str, tmp_path: Path) -> dict[str, object]:
    environment = {"PATH": os.environ["PATH"], "AUTH": "true", "STATE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, which], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_everything_that_we_mend_is_still_broken(tmp_path: Path) -> None:
    assert [name for name, value in look("stock", tmp_path).items() if value == AS_AWS[name]] == []


def test_mended_it_is_judged_as_on_aws(tmp_path: Path) -> None:
    assert look("mended", tmp_path) == AS_AWS


def test_nothing_is_written_down_without_a_ledger_in_the_home(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from ministack.core import iam_evaluator
from stockpipe.local.emulator import ledger
before, file = iam_evaluator.enforce, Path(sys.argv[1])
ledger.install(file)
assert iam_evaluator.enforce is before
file.touch()
ledger.install(file)
assert iam_evaluator.enforce is not before
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "ledger.jsonl")], check=True)
