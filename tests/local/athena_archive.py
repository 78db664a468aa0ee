"""An archive to ask the embedded Athena about: its lines, its objects, and how it is asked."""

from __future__ import annotations

from typing import Any

from stockpipe.aws import Aws
from stockpipe.domain.exact import to_micro
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.queries.athena import QueryResult, archive_days, run
from stockpipe.queries.bind import bind
from stockpipe.queries.catalog import find


def line(
    symbol: str,
    timestamp: str,
    price: str,
    previous: str | None = None,
    *,
    seq: int,
    volume: int = 7,
) -> str:
    micro = to_micro(price)
    close = to_micro(previous) if previous else None
    quote = Quote(symbol, micro, micro, micro, micro, close, volume, timestamp, source="replay")
    return quote_json(quote, seq=f"{seq:056d}") + "\n"


def put(aws: Aws, day: str, name: str, *lines: str) -> int:
    """Archive an object; out: its size in bytes."""
    body = "".join(lines).encode()
    key = f"raw-data/day={day}/{name}.json"
    aws.client("s3").put_object(Bucket=aws.names.data_bucket, Key=key, Body=body)
    return len(body)


def query(aws: Aws, name: str, **given: str) -> QueryResult:
    made = bind(find(name), given, names=aws.names, archive=lambda: archive_days(aws))
    return run(aws, made.sql)


def one(aws: Aws, sql: str) -> Any:
    """The only value of the only row."""
    ((value,),) = (row.values() for row in run(aws, sql).rows)
    return value
