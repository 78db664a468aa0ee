"""A real emulator in a process of its own with the event-source runner inside, for tests.

``Cloud`` is the test's side; run as a program this file is the server's side. It takes the
commands ``stop`` and ``start`` (of the runner, not the server) on stdin and ends at its end of
file, so that no server outlives its test.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from stockpipe.aws import Endpoint
from stockpipe.local.event_sources.runner import EventSourceRunner, connector, install

T = TypeVar("T")
ACCOUNT = "000000000000"
REGION = "us-east-2"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/reader"

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

HANDLER = """
import base64, json, os, time, urllib.request, uuid

def _records(event):
    for raw in event["Records"]:
        if "kinesis" in raw:
            data = json.loads(base64.b64decode(raw["kinesis"]["data"]))
            yield data | {"seq": raw["kinesis"]["sequenceNumber"]}
        else:
            image = raw["dynamodb"].get("NewImage", {})
            n = int(image.get("n", {"N": "-1"})["N"])
            yield {"n": n, "seq": raw["dynamodb"]["SequenceNumber"]}

def _note(call):
    key = f"{call['at']:020d}-{uuid.uuid4().hex[:8]}"
    url = f"{os.environ['ENDPOINT']}/{os.environ['BUCKET']}/{os.environ['CALLS']}/{key}"
    body = json.dumps(call).encode()
    urllib.request.urlopen(urllib.request.Request(url, data=body, method="PUT")).read()

def handler(event, context):
    call = {"at": time.time_ns(), "event": event, "outcome": "raised", "answer": None}
    records = list(_records(event))
    call["n"] = [record["n"] for record in records]
    try:
        call["answer"] = decide(records)
        call["outcome"] = "returned"
        return call["answer"]
    finally:
        _note(call)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(what: str, ready: Callable[[], T], *, within_s: float = 30.0) -> T:
    """What ``ready`` returns once it is true; fails with ``what`` after ``within_s`` seconds."""
    # Not at the top: this file is also run as a program, which finds only what lies beside it.
    import awaited

    return awaited.until(ready, within_s=within_s, every_s=0.1, what=what)


class Cloud:
    """A running emulator with our event sources, and shortcuts for what tests make in it."""

    def __init__(self, home: Path, *, ours: bool = True) -> None:
        """``ours=False`` leaves the emulator's own poller in place."""
        self.ours, self.home, self.checkpoints = ours, home, home / "checkpoints"
        self.log = home / "server.log"
        self._made: list[tuple[str, str]] = []
        self._read: dict[tuple[str, str], dict[str, Any]] = {}
        self.port = free_port()
        self.endpoint = Endpoint(f"http://127.0.0.1:{self.port}", "test", "test")
        self.connect = connector(self.endpoint)
        for name in ("tmp", "state", "s3"):
            (home / name).mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "STATE_DIR": str(home / "state"),
            "S3_DATA_DIR": str(home / "s3"),
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_REGION": REGION,
            "PERSIST_STATE": "0",
            "AUTH": "false",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            "DOCKER_HOST": f"unix://{home}/no-docker.sock",
            "ESM_OURS": "1" if ours else "",
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(self.checkpoints)],
                env=environment,
                cwd=home,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        until("the emulator is ready", self._ready, within_s=30)
        self.bucket = f"calls-{uuid.uuid4().hex[:12]}"
        self.client("s3").create_bucket(
            Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
        )

    def _ready(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            with _DIRECT.open(f"{self.endpoint.url}/_ministack/ready") as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def tell_runner(self, command: str) -> None:
        """``stop`` or ``start`` the runner, and wait until it has."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line == b"done\n", self.log.read_text()

    def client(self, service: str, region: str = REGION) -> Any:
        return self.connect(service, region)

    def stream(self, *, shards: int = 1, region: str = REGION) -> str:
        """A new Kinesis stream; out: its ARN."""
        name = f"stream-{uuid.uuid4().hex[:12]}"
        self.client("kinesis", region).create_stream(StreamName=name, ShardCount=shards)
        return f"arn:aws:kinesis:{region}:{ACCOUNT}:stream/{name}"

    def table(self, view: str = "NEW_IMAGE") -> tuple[str, str]:
        """A new table keyed by (k, n) with a stream; out: its name and the stream's ARN."""
        name = f"table-{uuid.uuid4().hex[:12]}"
        made = self.client("dynamodb").create_table(
            TableName=name,
            KeySchema=[
                {"AttributeName": "k", "KeyType": "HASH"},
                {"AttributeName": "n", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "k", "AttributeType": "S"},
                {"AttributeName": "n", "AttributeType": "N"},
            ],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": view},
        )
        return name, str(made["TableDescription"]["LatestStreamArn"])

    def put(self, arn: str, *records: dict[str, Any], key: str = "k", **fields: Any) -> list[str]:
        """Put JSON records on a stream; out: their sequence numbers."""
        answer = self.client("kinesis", arn.split(":")[3]).put_records(
            StreamARN=arn,
            Records=[
                {"Data": json.dumps(record).encode(), "PartitionKey": key, **fields}
                for record in records
            ],
        )
        return [str(entry["SequenceNumber"]) for entry in answer["Records"]]

    def items(self, table: str, *numbers: int, **more: Any) -> None:
        for n in numbers:
            item = {"k": {"S": "k"}, "n": {"N": str(n)}, **more}
            self.client("dynamodb").put_item(TableName=table, Item=item)

    def function(self, decide: str = "return None", *, region: str = REGION) -> str:
        """A new function whose body, given ``records``, is ``decide``; out: its name."""
        name = f"function-{uuid.uuid4().hex[:12]}"
        body = "\n".join(f"    {line}" for line in decide.splitlines())
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("main.py", f"{HANDLER}\nSTATE = {{}}\ndef decide(records):\n{body}\n")
        self.client("lambda", region).create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=ROLE,
            Handler="main.handler",
            Code={"ZipFile": archive.getvalue()},
            Timeout=30,
            Environment={
                "Variables": {
                    "ENDPOINT": self.endpoint.url,
                    "BUCKET": self.bucket,
                    "CALLS": name,
                }
            },
        )
        return name

    def map(self, source: str, function: str, **settings: Any) -> str:
        """A new mapping, TRIM_HORIZON unless said otherwise; out: its UUID."""
        settings = {"StartingPosition": "TRIM_HORIZON", "BatchSize": 100} | settings
        made = self.client("lambda", source.split(":")[3]).create_event_source_mapping(
            EventSourceArn=source, FunctionName=function, **settings
        )
        self._made.append((str(made["UUID"]), source.split(":")[3]))
        return str(made["UUID"])

    def unmap(self) -> None:
        """Delete all mappings made so far, so that one test does not work for another."""
        for mapping, region in self._made:
            client = self.client("lambda", region)
            with contextlib.suppress(client.exceptions.ResourceNotFoundException):
                client.delete_event_source_mapping(UUID=mapping)
        self._made.clear()

    def calls(self, function: str) -> list[dict[str, Any]]:
        """What a function was sent, in order: ``n`` of each record, ``outcome``, ``event``."""
        return self.objects(f"{function}/")

    def numbers(self, function: str, outcome: str = "returned") -> list[int]:
        """``n`` of all records in calls with this outcome, in order, repeats included."""
        return [n for call in self.calls(function) if call["outcome"] == outcome for n in call["n"]]

    def objects(self, prefix: str, bucket: str | None = None) -> list[dict[str, Any]]:
        s3, bucket = self.client("s3"), bucket or self.bucket
        found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        keys = [(bucket, key) for key in sorted(entry["Key"] for entry in found)]
        for at in keys:
            if at not in self._read:  # once: nobody writes an object twice
                body = s3.get_object(Bucket=bucket, Key=at[1])["Body"].read()
                self._read[at] = json.loads(body)
        return [copy.deepcopy(self._read[at]) for at in keys]

    def status(self, mapping: str) -> dict[str, Any]:
        """A mapping's part of status.json; {} before there is one."""
        with contextlib.suppress(FileNotFoundError):
            text = (self.checkpoints / "status.json").read_text("utf-8")
            found: dict[str, Any] = json.loads(text)["mappings"].get(mapping, {})
            return found
        return {}

    def followed(self, mapping: str) -> bool:
        """Whether a new mapping is being read; the emulator's own poller reads it at once."""
        return bool(self.status(mapping).get("shards")) or not self.ours

    def position(self, mapping: str) -> dict[str, str | None]:
        """The checkpoints of a mapping on disk, by shard."""
        return {
            file.stem: json.loads(file.read_text("utf-8"))["sequence"]
            for file in (self.checkpoints / mapping).glob("shard*.json")
        }


@contextlib.contextmanager
def running(home: Path, *, ours: bool = True) -> Iterator[Cloud]:
    cloud = Cloud(home, ours=ours)
    try:
        yield cloud
    finally:
        cloud.close()


def serve(checkpoints: Path) -> None:
    """The server's side: the emulator in the main thread, commands in another."""
    import signal

    from ministack.app import main

    endpoint = Endpoint(f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}", "test", "test")
    runner: list[EventSourceRunner] = []

    def start() -> None:
        runner.append(EventSourceRunner(connector(endpoint), checkpoints, rescan_s=0.5))
        runner[0].start()

    def obey() -> None:
        for line in sys.stdin:
            if line.strip() == "stop":
                runner.pop().stop(10)
            else:
                start()
            print("done", flush=True)  # noqa: T201 - the answer
        if runner:
            runner.pop().stop(5)
        os.kill(os.getpid(), signal.SIGTERM)

    if os.environ["ESM_OURS"]:
        install()
        start()
    threading.Thread(target=obey, daemon=True).start()
    sys.argv = ["ministack"]
    main()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
