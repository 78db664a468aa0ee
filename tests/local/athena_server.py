"""A ministack of its own, with or without our Athena, for the tests of SQL.

Run as a program it is that server: ``python athena_server.py fixed|stock``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stockpipe.aws import Aws, Endpoint
from stockpipe.queries.schema import COLUMNS, PARTITION_KEYS

ACCOUNT = "123456789012"
REGION = "us-east-2"
_START_S = 30.0


class Cloud:
    """A running server, and what a stack needs of it for queries."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, home: Path) -> None:
        self.process, self.home = process, home
        # Twelve digits as the key id name the account, as far as ministack is concerned.
        self.endpoint = Endpoint(f"http://127.0.0.1:{port}", ACCOUNT, "secret")
        self.aws = Aws(region=REGION, endpoint=self.endpoint)

    def stack(self, name: str) -> Aws:
        """A provisioned stack: buckets, database, table, workgroup."""
        aws = Aws(region=REGION, stack=name, endpoint=self.endpoint)
        names, s3, glue = aws.names, aws.client("s3"), aws.client("glue")
        there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
        for bucket in {names.data_bucket, names.results_bucket} - there:
            s3.create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
            )
        glue.create_database(DatabaseInput={"Name": names.database})
        glue.create_table(DatabaseName=names.database, TableInput=table_input(aws))
        aws.client("athena").create_work_group(
            Name=names.workgroup,
            Configuration={
                "EnforceWorkGroupConfiguration": True,
                "BytesScannedCutoffPerQuery": 200_000_000,
                "ResultConfiguration": {"OutputLocation": f"s3://{names.results_bucket}/results/"},
            },
        )
        return aws

    def memory_mib(self) -> float:
        """Resident memory of the server."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def leftovers(self) -> list[Path]:
        return list((self.home / "tmp").glob("stockpipe-athena-*"))


def table_input(aws: Aws) -> dict[str, Any]:
    names = aws.names
    return {
        "Name": names.glue_table,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {
            "EXTERNAL": "TRUE",
            "projection.enabled": "true",
            "projection.day.type": "date",
            "projection.day.format": "yyyy-MM-dd",
            "projection.day.range": "1970-01-01,NOW+1DAYS",
        },
        "PartitionKeys": [{"Name": name, "Type": kind} for name, kind in PARTITION_KEYS],
        "StorageDescriptor": {
            "Columns": [{"Name": name, "Type": kind} for name, kind in COLUMNS],
            "Location": f"s3://{names.data_bucket}/raw-data/",
            "InputFormat": "org.apache.hadoop.mapred.TextInputFormat",
            "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
            "SerdeInfo": {
                "SerializationLibrary": "org.apache.hive.hcatalog.data.JsonSerDe",
            },
        },
    }


@contextlib.contextmanager
def running(home: Path, kind: str = "fixed") -> Iterator[Cloud]:
    """A server below ``home`` on a free loopback port; gone afterwards."""
    for folder in ("s3", "state", "tmp"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "PERSIST_STATE": "0",
        "STATE_DIR": str(home / "state"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(home / "s3"),
        "SERVICES": "athena,glue,s3,sts",
        "LOG_LEVEL": "ERROR",
    }
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, kind], env=environment, stdout=log, stderr=log
        )
    try:
        _wait_until_ready(process, port, home / "log")
        yield Cloud(process, port, home)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_ministack/ready", timeout=1),
        ):
            return
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text(encoding='utf-8')[-2000:]}")


def main(kind: str) -> None:
    import ministack.app

    if kind == "fixed":
        from stockpipe.local.athena import emulated as athena

        athena.install()
    sys.argv[1:] = []
    ministack.app.main()


if __name__ == "__main__":
    main(sys.argv[1])
