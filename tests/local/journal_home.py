"""A home whose servers are killed, and what their snapshots, journals, streams and tables hold."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded import REGION, cleaned, client, table

from awaited import until
from stockpipe.aws import Endpoint
from stockpipe.local import daemon
from stockpipe.local.contact import save
from stockpipe.local.home import Places

SHARD = "shardId-000000000000"


@contextlib.contextmanager
def journaled(home: Path) -> Iterator[Path]:
    """A home whose servers look for expired items all the time, not once a minute."""
    with cleaned(home), pytest.MonkeyPatch.context() as environment:
        (home / "sitecustomize.py").write_text(
            "import time\n"
            "slept = time.sleep\n"
            "time.sleep = lambda seconds: slept(0.05 if seconds == 60 else seconds)\n"
        )
        environment.setenv("PYTHONPATH", str(home))
        yield home


def with_quotes_and_things(home: Path) -> Endpoint:
    """A cloud whose snapshot knows the stream ``quotes`` and the table ``things``, both new."""
    cloud = daemon.ensure_running(home)
    kinesis, dynamodb = client("kinesis", cloud), client("dynamodb", cloud)
    if "quotes" in kinesis.list_streams()["StreamNames"]:
        kinesis.delete_stream(StreamName="quotes")
    if "things" in dynamodb.list_tables()["TableNames"]:
        dynamodb.delete_table(TableName="things")
    kinesis.create_stream(StreamName="quotes", ShardCount=1)
    table(cloud, "things")
    save(home)
    os.truncate(Places(home).log, 0)
    return cloud


def saved(home: Path) -> int:
    """Which snapshot is in force, as a number that rises."""
    return int((Places(home).state / "snapshot.jsonl").read_bytes().split(b"\n")[1].split()[1])


def after_a_snapshot(home: Path, cloud: Endpoint) -> None:
    """Return right after a snapshot was written, so that the next one is a second away."""
    before = saved(home)
    client("kinesis", cloud).add_tags_to_stream(StreamName="quotes", Tags={"a": "change"})
    until(lambda: saved(home) > before)


def left_behind(home: Path, journal: bytes) -> Path:
    """A journal as a killed server would leave it, with what the snapshot does not hold."""
    file = Places(home).state / f"journal-{saved(home) + 100}"
    file.write_bytes(journal)
    return file


def journals(home: Path) -> list[Path]:
    return journals_in(Places(home).state)


def journals_in(directory: Path) -> list[Path]:
    return sorted(directory.glob("journal-*"))


def records(cloud: Endpoint) -> list[tuple[str, bytes]]:
    kinesis = client("kinesis", cloud)
    where = {"StreamName": "quotes", "ShardId": SHARD, "ShardIteratorType": "TRIM_HORIZON"}
    found = kinesis.get_records(ShardIterator=kinesis.get_shard_iterator(**where)["ShardIterator"])
    return [(record["SequenceNumber"], record["Data"]) for record in found["Records"]]


def arrivals(cloud: Endpoint) -> list[Any]:
    kinesis = client("kinesis", cloud)
    where = {"StreamName": "quotes", "ShardId": SHARD, "ShardIteratorType": "TRIM_HORIZON"}
    found = kinesis.get_records(ShardIterator=kinesis.get_shard_iterator(**where)["ShardIterator"])
    return [record["ApproximateArrivalTimestamp"] for record in found["Records"]]


def items(cloud: Endpoint) -> dict[str, Any]:
    found = client("dynamodb", cloud).scan(TableName="things")["Items"]
    return {item["k"]["S"]: item.get("v", {}).get("N") for item in found}


def changes(cloud: Endpoint) -> list[dict[str, Any]]:
    """The table's stream records."""
    streams = client("dynamodbstreams", cloud)
    things = client("dynamodb", cloud).describe_table(TableName="things")["Table"]
    arn = things["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    start = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    found = streams.get_records(ShardIterator=start)["Records"]
    return [{"name": one["eventName"]} | one["dynamodb"] for one in found]


def entry(table: str, key: str, action: str = "PutItem", **fields: Any) -> bytes:
    """What the journal keeps of a PutItem, or of another request."""
    request = fields or {"Item": {"k": {"S": key}}}
    body = json.dumps({"TableName": table, **request}).encode()
    header = {
        "service": "dynamodb",
        "scope": ["000000000000", REGION],
        "moment": [1, 1, 1.0],
        "headers": {"x-amz-target": f"DynamoDB_20120810.{action}"},
        "length": len(body),
    }
    return json.dumps(header).encode() + b"\n" + body
