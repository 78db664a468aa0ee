"""The installed command in a process of its own, as a user calls it, with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from warm_program import warm_program

from awaited import until
from stockpipe import config
from stockpipe.aws import Aws, Endpoint
from stockpipe.infra.apply import apply
from stockpipe.infra.blueprint import blueprint
from stockpipe.infra.plan import plan_provision, plan_teardown
from stockpipe.infra.resource import Resource
from stockpipe.local import daemon

CALL_BUDGET_S = 120


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """One JSON object per line of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


@cache
def _clients(endpoint: Endpoint, stack: str) -> Aws:
    """Made once: a boto3 client costs tens of milliseconds, and there are a dozen."""
    return Aws(region="us-east-2", stack=stack, endpoint=endpoint)


def _cold(
    arguments: Sequence[str], environment: Mapping[str, str], directory: Path, *, budget_s: int
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stockpipe", *arguments],
        capture_output=True,
        text=True,
        timeout=budget_s,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@dataclass(frozen=True)
class Cli:
    """Calls with one home directory; nothing of the host's AWS settings is seen."""

    home: Path
    stack: str = "default"

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "HOME": str(self.home / "user"),
            "STOCKPIPE_HOME": str(self.home),
            "STOCKPIPE_STACK": self.stack,
            "COLUMNS": "200",
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "stockpipe", *arguments]

    def __call__(
        self,
        *arguments: str,
        code: int | None = 0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        cold: bool = False,
    ) -> Result:
        """Run to the end; fails the test on another exit code, with what was said.

        ``cold`` starts an interpreter; otherwise a warm one forks, which saves half a second.
        """
        environment = {**self.environment(), **(env or {})}
        run = _cold if cold else warm_program().run
        done = run(arguments, environment, cwd or self.home, budget_s=CALL_BUDGET_S)
        said = f"stockpipe {' '.join(arguments)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert code is None or done.returncode == code, said
        assert "Traceback" not in done.stderr, said
        return Result(done.returncode, done.stdout, done.stderr)

    @property
    def aws(self) -> Aws:
        """Clients of the same embedded cloud."""
        endpoint = daemon.endpoint(self.home)
        assert endpoint is not None
        return _clients(endpoint, self.stack)

    def resources(self) -> list[Resource]:
        """The blueprint by the settings' file: as the program does, without starting it."""
        found = config.load({"stack": self.stack}, {"HOME": str(self.home)}, self.home)
        return blueprint(self.aws, found.settings)

    def make(self) -> None:
        """What ``provision`` does, without starting it; the cloud has to be running."""
        apply(plan_provision(self.resources()), lambda step: None)

    def remove(self) -> None:
        """What ``teardown`` does, without starting it, with all that has the stack's names."""
        resources = self.resources()
        named = {one.name for one in resources}
        apply(plan_teardown(resources, include=named), lambda step: None)

    def settle(self) -> None:
        """Until both functions have seen everything that was written, and done with it."""
        # Seldom: looking takes from the functions the processor that they work on.
        for service in ("kinesis", "dynamodbstreams"):
            until(lambda: not self._unread(service), within_s=150, every_s=0.1)  # noqa: B023

    def _unread(self, service: str) -> bool:
        """Whether the stream, or the table's, has records behind the mapping's checkpoint."""
        aws = self.aws
        client = aws.client(service)
        if service == "kinesis":
            stream = {"StreamName": aws.names.stream}
            shards = client.list_shards(**stream)["Shards"]
            position = "StartingSequenceNumber"
        else:
            table = aws.client("dynamodb").describe_table(TableName=aws.names.table)["Table"]
            stream = {"StreamArn": table["LatestStreamArn"]}
            shards = client.describe_stream(**stream)["StreamDescription"]["Shards"]
            position = "SequenceNumber"
        for shard in shards:
            where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
            done = self._checkpoint(aws, service, shard["ShardId"])
            if done:
                where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", position: done}
            start = client.get_shard_iterator(**stream, ShardId=shard["ShardId"], **where)
            if client.get_records(ShardIterator=start["ShardIterator"], Limit=1)["Records"]:
                return True
        return False

    def _checkpoint(self, aws: Aws, service: str, shard: str) -> str | None:
        names = aws.names
        function = names.process_function if service == "kinesis" else names.trend_function
        (mapping,) = aws.client("lambda").list_event_source_mappings(FunctionName=function)[
            "EventSourceMappings"
        ]
        file = self.home / "local" / "checkpoints" / mapping["UUID"] / f"{shard}.json"
        return json.loads(file.read_text())["sequence"] if file.exists() else None

    def items(self, aws: Aws | None = None) -> list[dict[str, Any]]:
        aws = aws or self.aws
        pages = aws.client("dynamodb").get_paginator("scan").paginate(TableName=aws.names.table)
        return [item for page in pages for item in page["Items"]]

    def archived(self) -> list[dict[str, Any]]:
        """Every line of the raw archive."""
        aws = self.aws
        s3, bucket = aws.client("s3"), aws.names.data_bucket
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="raw-data/")
        return [
            json.loads(line)
            for page in pages
            for entry in page.get("Contents", [])
            for line in s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read().splitlines()
        ]
