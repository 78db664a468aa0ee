"""An embedded cloud behind a proxy that takes a part of what is streamed, and what arrived."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinesis_proxy import Fault, KinesisProxy
from stockpipe_cli import Cli

from stockpipe.domain.quote import Quote, quote_json
from stockpipe.local import daemon


@dataclass(frozen=True)
class World:
    """An embedded cloud, and as many stacks that are a stream and nothing else as a test wants."""

    home: Path
    numbers: Iterator[int]

    def bare(self) -> Cli:
        """A stack of its own that is a stream and nothing else."""
        cli = Cli(self.home, f"bare-{next(self.numbers)}")
        cli.aws.client("kinesis").create_stream(StreamName=cli.aws.names.stream, ShardCount=1)
        return cli

    def through(self, proxy: KinesisProxy) -> dict[str, str]:
        """The environment that leads target aws into the embedded cloud, Kinesis by the proxy."""
        cloud = daemon.endpoint(self.home)
        assert cloud
        return {
            "AWS_ENDPOINT_URL": cloud.url,
            "AWS_ENDPOINT_URL_KINESIS": proxy.url,
            "AWS_ACCESS_KEY_ID": cloud.access_key_id,
            "AWS_SECRET_ACCESS_KEY": cloud.secret_access_key,
        }

    @contextmanager
    def proxy(self, faults: Iterable[Fault] = (), **settings: float) -> Iterator[KinesisProxy]:
        cloud = daemon.endpoint(self.home)
        assert cloud
        with KinesisProxy(cloud, faults, **settings).running() as proxy:
            yield proxy


def records(cli: Cli) -> list[dict[str, Any]]:
    """The quotes in all records of a stack's stream in stream order."""
    kinesis, stream = cli.aws.client("kinesis"), cli.aws.names.stream
    (shard,) = kinesis.list_shards(StreamName=stream)["Shards"]
    place = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    found: list[dict[str, Any]] = []
    while some := kinesis.get_records(ShardIterator=place)["Records"]:
        found += (json.loads(one["Data"]) for one in some)
        place = kinesis.get_shard_iterator(
            StreamName=stream,
            ShardId=shard["ShardId"],
            ShardIteratorType="AFTER_SEQUENCE_NUMBER",
            StartingSequenceNumber=some[-1]["SequenceNumber"],
        )["ShardIterator"]
    return found


def key(quote: Mapping[str, Any]) -> tuple[str, str]:
    return quote["symbol"], quote["timestamp"]


def assert_whole_and_in_order(found: list[dict[str, Any]], quotes: list[Quote]) -> None:
    """Every quote exactly as it was, none that was not sent, and last copies in order."""
    last = {key(quote): place for place, quote in enumerate(found)}
    expected = {quote.key: content(json.loads(quote_json(quote))) for quote in quotes}
    assert {one: content(found[place]) for one, place in last.items()} == expected
    order: dict[str, list[int]] = {}
    for quote in quotes:
        order.setdefault(quote.symbol, []).append(last[quote.key])
    assert [symbol for symbol, places in order.items() if places != sorted(places)] == []


def content(quote: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent, but for when it was read and its place in the stream."""
    return {key: value for key, value in quote.items() if key not in ("ingested_at", "seq")}


def run(cli: Cli, file: Path, environment: Mapping[str, str], *options: str) -> str:
    """What a replay at full speed says; it has to end well."""
    return cli(
        *("--target", "aws", "stream", "--source", f"replay:{file}", "--speed", "max", "--mix"),
        *options,
        env=environment,
    ).err


def head_of(file: Path, rows: int) -> Path:
    """The header and the first rows of a CSV file, as a file beside it."""
    head = file.with_name(f"{rows}.csv")
    head.write_text("".join(file.read_text().splitlines(keepends=True)[: rows + 1]))
    return head
