"""ProcessStockData: Kinesis records in, raw archive, quarantine and processed items out.

The order of effects is the promise: check everything, put quarantine, put archive, write
DynamoDB. Each step works only on the records before the first that an earlier step could not
finish, so the table is always a subset of the archive, and a batch that runs twice, or half of it
twice, ends in the same state. What could not be finished is handed back by its lowest sequence
number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

import boto3

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import MICRO, InvalidQuote
from stockpipe.domain.quote import parse_quote
from stockpipe.functions.archive import Archive, Refused, Row
from stockpipe.functions.batch import (
    CLIENT_CONFIG,
    Arrived,
    account_of,
    batch_response,
    kinesis_records,
    lowest,
    time_left,
)
from stockpipe.functions.table import QuoteTable
from stockpipe.functions.telemetry import emit, metrics_line

SHOWN_REASONS = 5
"""How many refusals the log line quotes; the quarantine holds them all."""


@dataclass
class Outcome:
    """What became of one batch; sequence numbers are Kinesis's own."""

    records: int = 0
    stored: int = 0
    replaced: int = 0
    anomalies: int = 0
    refused: list[Refused] = field(default_factory=list)
    failed: str | None = None
    why: str = ""


class Processor:
    """The steps over one batch, with its stores handed in."""

    def __init__(self, archive: Archive, table: QuoteTable, *, anomaly_micro: int) -> None:
        self._archive, self._table, self._anomaly_micro = archive, table, anomaly_micro

    def run(self, records: Sequence[Arrived], left: Callable[[], float]) -> Outcome:
        """Process one batch; ``left()`` tells the seconds that remain for it."""
        outcome = Outcome(records=len(records))
        rows, outcome.refused = read(records)

        late = self._archive.put_quarantine(outcome.refused, left)
        rows = self._before(outcome, late, rows, "quarantine could not be written")

        late = self._archive.put_rows(rows, left)
        rows = self._before(outcome, late, rows, "archive could not be written")

        last = {row.quote.key: row for row in rows}  # a later record of the same key wins
        written = self._table.write(list(last.values()), left)
        arrived = {record.seq: record for record in records}
        rejected = [Refused(arrived[row.seq], reason) for row, reason in written.rejected]
        outcome.refused += rejected
        unstored = [row.seq for row in written.unfinished]
        unstored += self._archive.put_quarantine(rejected, left)
        done = self._before(outcome, unstored, rows, "table could not be written")

        kept = {one.record.seq for one in rejected}
        stored = [row for row in done if last[row.quote.key] is row and row.seq not in kept]
        outcome.stored = len(stored)
        outcome.replaced = sum(last[row.quote.key] is not row for row in done)
        outcome.anomalies = sum(row.quote.is_anomaly(self._anomaly_micro) for row in stored)
        return outcome

    @staticmethod
    def _before(outcome: Outcome, late: list[str], rows: list[Row], why: str) -> list[Row]:
        """Note what has to come back, and go on with the rows before it."""
        first = lowest([*late, *([outcome.failed] if outcome.failed else [])])
        if first is None:
            return rows
        if first != outcome.failed:
            outcome.failed, outcome.why = first, why
        return [row for row in rows if int(row.seq) < int(first)]


def read(records: Sequence[Arrived]) -> tuple[list[Row], list[Refused]]:
    """Check every record by itself: none can take its neighbours along."""
    rows: list[Row] = []
    refused: list[Refused] = []
    for record in records:
        if record.data is None:
            refused.append(Refused(record, "record: is not base64"))
            continue
        try:
            quote = parse_quote(record.data, arrived_at=record.arrived_at)
        except InvalidQuote as error:
            refused.append(Refused(record, str(error)))
        except Exception as error:  # noqa: BLE001 - a bug met by one record must not stop a shard
            refused.append(Refused(record, f"unexpected {type(error).__name__}: {error}"))
        else:
            rows.append(Row(record.seq, record.padded_seq, quote))
    return rows, refused


def summary(outcome: Outcome, records: Sequence[Arrived], clock: Clock) -> str:
    """The log line of one batch."""
    now = clock.now()
    oldest = min((record.arrived_at for record in records), default=now)
    return metrics_line(
        os.environ["STACK"],
        "process",
        {
            "records": outcome.records,
            "stored": outcome.stored,
            "quarantined": len(outcome.refused),
            "anomalies": outcome.anomalies,
            "lag_ms": max(0.0, (now - oldest).total_seconds() * 1000),
        },
        {
            "replaced": outcome.replaced,
            "handed_back_from": outcome.failed,
            "why": outcome.why,
            "refused": [
                {"seq": one.record.seq, "reason": one.reason}
                for one in outcome.refused[:SHOWN_REASONS]
            ],
        },
        clock=clock,
    )


@lru_cache(maxsize=1)
def _processor(account: str) -> Processor:
    """The processor of this execution environment, out of its variables."""
    session = boto3.Session()
    anomaly_micro = int(Decimal(os.environ["ANOMALY_PERCENT"]) * MICRO)
    ttl_days = os.environ.get("TTL_DAYS")
    table = QuoteTable(
        session.client("dynamodb", config=CLIENT_CONFIG),
        os.environ["TABLE"],
        anomaly_micro=anomaly_micro,
        ttl_s=int(ttl_days) * 86400 if ttl_days else None,
    )
    archive = Archive(session.client("s3", config=CLIENT_CONFIG), os.environ["BUCKET"], account)
    return Processor(archive, table, anomaly_micro=anomaly_micro)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda entry point: a Kinesis event in, the partial batch response out."""
    records = kinesis_records(event)
    outcome = _processor(account_of(context)).run(records, time_left(context))
    emit(summary(outcome, records, SYSTEM_CLOCK))
    return batch_response(outcome.failed)
