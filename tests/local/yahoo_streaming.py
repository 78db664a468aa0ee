"""A Yahoo whose market is open, ``stockpipe stream`` in the middle of it, and what it stored."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from stockpipe_cli import Cli

from stockpipe.domain.exact import moment_text
from yahoo_proxy import YahooProxy, entry
from yahoo_socket import pricing

NOON = 1761753600
"""Wednesday 2025-10-29, 12:00 in New York, in Unix seconds: the day that ``entry`` is of."""
LOG_LINE = re.compile(r"^\d\d:\d\d:\d\d ", re.MULTILINE)
FAST = ("--interval", "500ms")


def at(second: float) -> str:
    """A timestamp so many seconds after :data:`NOON`."""
    return moment_text(datetime.fromtimestamp(NOON, UTC) + timedelta(seconds=second))


def quoted(symbol: str, price: float, second: int, **fields: Any) -> dict[str, Any]:
    """The batch quote of a symbol in an open market."""
    return entry(
        symbol,
        marketState="REGULAR",
        regularMarketTime=NOON + second,
        regularMarketPrice=price,
        **fields,
    )


def tick(symbol: str, price: float, second: float = 0) -> str:
    return pricing(id=symbol, price=price, time=int(1000 * (NOON + second)), market_hours=1)


def stored(cli: Cli, *symbols: str) -> dict[tuple[str, str], float]:
    """The prices in the table, by symbol and time, once everything has arrived there."""
    cli.settle()
    return {
        (item["symbol"]["S"], item["timestamp"]["S"]): float(item["price"]["N"])
        for item in cli.items()
        if item["symbol"]["S"] in symbols
    }


def in_kinesis(cli: Cli, shard: str, first: str) -> dict[str, Any]:
    """The records of a shard from a sequence number on, by sequence number."""
    kinesis = cli.aws.client("kinesis")
    iterator = kinesis.get_shard_iterator(
        StreamName=cli.aws.names.stream,
        ShardId=shard,
        ShardIteratorType="AT_SEQUENCE_NUMBER",
        StartingSequenceNumber=first,
    )["ShardIterator"]
    records = kinesis.get_records(ShardIterator=iterator)["Records"]
    return {record["SequenceNumber"]: json.loads(record["Data"]) for record in records}


@contextmanager
def running(cli: Cli, yahoo: YahooProxy, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``stream --json``, which the test ends by an interrupt or kills by its own end."""
    with subprocess.Popen(
        cli.command("stream", *arguments, "--json"),
        env={**cli.environment(), **yahoo.environment()},
        cwd=cli.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged(process: subprocess.Popen[str], symbol: str, price: float) -> list[dict[str, Any]]:
    """The lines up to the one that says that Kinesis has this price."""
    lines: list[dict[str, Any]] = []
    assert process.stdout is not None
    for text in process.stdout:
        lines.append(json.loads(text))
        if (lines[-1]["symbol"], lines[-1]["price"]) == (symbol, price):
            return lines
    raise AssertionError(process.stderr.read() if process.stderr else lines)


def interrupted(process: subprocess.Popen[str]) -> str:
    """What it says when Ctrl-C ends it."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    return err
