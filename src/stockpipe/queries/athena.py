"""Run one statement on Athena and bring its rows home as Python values.

The workgroup decides where results go and how much may be scanned; nothing of that is passed
here. A statement that nobody waits for any more (Ctrl-C, an error, the budget) is stopped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.names import RAW_PREFIX
from stockpipe.domain.retry import wait_until
from stockpipe.errors import NotProvisioned, QueryFailed, StockpipeError
from stockpipe.queries.schema import COLUMNS, PARTITION_KEYS

if TYPE_CHECKING:
    from stockpipe.aws import Aws

Cell = int | float | Decimal | bool | str | None

PROVISION_HINT = "Run `stockpipe provision`."
# The list price, us-east-2, as known on 2026-11-21 (https://aws.amazon.com/athena/pricing/): 5 USD
# per TB scanned, rounded up to the megabyte, at least 10 MB per query.
USD_PER_TB = Decimal(5)
MINIMUM_BYTES = 10 * 10**6
_DAY_FOLDER = re.compile(re.escape(RAW_PREFIX) + r"day=(\d{4}-\d\d-\d\d)/", re.ASCII)
_INTEGERS = frozenset({"tinyint", "smallint", "integer", "bigint"})
_FLOATS = frozenset({"float", "real", "double"})


@dataclass(frozen=True, slots=True)
class QueryResult:
    """``columns`` are (name, Athena type); a row maps every column's name to its value."""

    columns: tuple[tuple[str, str], ...]
    rows: list[dict[str, Cell]]
    bytes_scanned: int
    execution_id: str
    duration_s: float


def run(
    aws: Aws,
    sql: str,
    *,
    clock: Clock = SYSTEM_CLOCK,
    budget_s: float = 300,
    reuse_s: float | None = None,
    on_started: Callable[[str], None] | None = None,
) -> QueryResult:
    """Run ``sql`` in the stack's workgroup and database, and wait for it.

    ``reuse_s``: take the result of the same statement when it is at most that old (seconds; Athena
    counts in minutes). ``on_started`` gets the execution's id. Raises :class:`QueryFailed` with
    Athena's reason, :class:`NotProvisioned` when workgroup, database or table are missing.
    """
    begin = clock.monotonic()
    client, names = aws.client("athena"), aws.names
    execution_id = _start(client, aws, sql, reuse_s)
    try:
        if on_started:
            on_started(execution_id)
        execution = wait_until(
            lambda: _finished(client, execution_id),
            budget_s=budget_s,
            clock=clock,
            base_s=0.03,
            cap_s=1.0,
        )
        if execution is None:
            raise QueryFailed(
                f"The query did not finish within {budget_s:g} s, and was stopped.",
                hint="Bound `day` more narrowly.",
            )
    except BaseException as error:
        # Athena would go on scanning, and charging, for an answer that nobody reads.
        try:
            client.stop_query_execution(QueryExecutionId=execution_id)
        except Exception as failure:  # noqa: BLE001 - the first error is the one to report
            error.add_note(f"The query {execution_id} could not be stopped: {failure}")
        raise
    status = execution["Status"]
    if status["State"] != "SUCCEEDED":
        raise _failure(status["State"], status.get("StateChangeReason") or "no reason given", names)
    columns, rows = _results(client, execution_id, header=execution.get("StatementType") == "DML")
    return QueryResult(
        columns=columns,
        rows=rows,
        bytes_scanned=int(execution.get("Statistics", {}).get("DataScannedInBytes", 0)),
        execution_id=execution_id,
        duration_s=clock.monotonic() - begin,
    )


def archive_days(aws: Aws) -> tuple[str, str] | None:
    """The first and last day folder of the archive (``YYYY-MM-DD``), None while it is empty.

    Raises :class:`NotProvisioned` without the bucket.
    """
    from botocore.exceptions import ClientError

    first = last = None
    try:
        for page in (
            aws.client("s3")
            .get_paginator("list_objects_v2")
            .paginate(
                Bucket=aws.names.data_bucket,
                Prefix=f"{RAW_PREFIX}day=",
                Delimiter="/",
                ExpectedBucketOwner=aws.account_id,
            )
        ):
            for folder in page.get("CommonPrefixes", []):
                match = _DAY_FOLDER.fullmatch(folder["Prefix"])
                if match:
                    first, last = first or match[1], match[1]
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchBucket", "404"):
            raise NotProvisioned(
                f"The bucket {aws.names.data_bucket} does not exist.", hint=PROVISION_HINT
            ) from error
        raise
    return (first, last) if first and last else None


def cost_usd(bytes_scanned: int) -> Decimal:
    """What Athena charges for a statement that scanned so many bytes, in USD."""
    megabytes = math.ceil(max(bytes_scanned, MINIMUM_BYTES) / 10**6)
    return USD_PER_TB * megabytes / 10**6


def _start(client: Any, aws: Aws, sql: str, reuse_s: float | None) -> str:
    from botocore.exceptions import ClientError

    names = aws.names
    options: dict[str, Any] = {}
    if reuse_s is not None:
        options["ResultReuseConfiguration"] = {
            "ResultReuseByAgeConfiguration": {
                "Enabled": True,
                "MaxAgeInMinutes": max(1, int(reuse_s // 60)),
            }
        }
    try:
        answer = client.start_query_execution(
            QueryString=sql,
            QueryExecutionContext={"Database": names.database},
            WorkGroup=names.workgroup,
            **options,
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidRequestException":
            raise
        message = error.response["Error"]["Message"]
        if re.search(r"workgroup .*not found", message, re.IGNORECASE):
            raise NotProvisioned(
                f"The Athena workgroup {names.workgroup} does not exist.", hint=PROVISION_HINT
            ) from error
        raise _failure("FAILED", message, names) from error
    execution_id: str = answer["QueryExecutionId"]
    return execution_id


def _finished(client: Any, execution_id: str) -> dict[str, Any] | None:
    execution: dict[str, Any] = client.get_query_execution(QueryExecutionId=execution_id)[
        "QueryExecution"
    ]
    return execution if execution["Status"]["State"] in _FINAL else None


_FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


def _failure(state: str, reason: str, names: Any) -> StockpipeError:
    ours = (f"'{names.database}'", f".{names.database}.{names.glue_table}'", f": {names.database}")
    if "does not exist" in reason.lower() and any(name in reason for name in ours):
        return NotProvisioned(f"Athena: {reason}", hint=PROVISION_HINT)
    if "bytes scanned limit" in reason.lower():
        hint = "Bound `day` more narrowly, or raise `query_limit_mb` and provision again."
    elif "COLUMN_NOT_FOUND" in reason or "cannot be resolved" in reason:
        names_of_columns = ", ".join(name for name, _ in COLUMNS + PARTITION_KEYS)
        hint = f"The table {names.glue_table} has {names_of_columns}."
    elif "TABLE_NOT_FOUND" in reason or "SCHEMA_NOT_FOUND" in reason:
        hint = f"The table of this stack is {names.database}.{names.glue_table}."
    elif state == "CANCELLED":
        hint = "Run it again."
    else:
        hint = "Athena speaks Trino's SQL: 'text' is a value, \"name\" a column."
    verb = "cancelled" if state == "CANCELLED" else "refused"
    return QueryFailed(f"Athena {verb} the query: {reason}", hint=hint)


def _results(
    client: Any, execution_id: str, *, header: bool
) -> tuple[tuple[tuple[str, str], ...], list[dict[str, Cell]]]:
    """All pages. Only the first page of a DML statement starts with a row of column names."""
    columns: tuple[tuple[str, str], ...] = ()
    readers: list[Callable[[str], Cell]] = []
    rows: list[dict[str, Cell]] = []
    for number, page in enumerate(_pages(client, execution_id)):
        described = page["ResultSet"]["ResultSetMetadata"].get("ColumnInfo", [])
        if number == 0:
            columns = _columns(described)
            readers = [_reader(column["Type"]) for column in described]
        for row in page["ResultSet"]["Rows"][1 if header and number == 0 else 0 :]:
            texts = [datum.get("VarCharValue") for datum in row.get("Data", [])]
            # DESCRIBE names three columns and puts its text into the first.
            texts += [None] * (len(columns) - len(texts))
            rows.append(
                {
                    name: None if text is None else read(text)
                    for (name, _), read, text in zip(columns, readers, texts, strict=True)
                }
            )
    return columns, rows


def _pages(client: Any, execution_id: str) -> Iterator[dict[str, Any]]:
    pages: Iterator[dict[str, Any]] = iter(
        client.get_paginator("get_query_results").paginate(QueryExecutionId=execution_id)
    )
    return pages


def _columns(described: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Names made distinct (``a``, ``a_2``), since a row is a mapping; decimals with their size."""
    columns: list[tuple[str, str]] = []
    taken: set[str] = set()
    for column in described:
        name, count = column["Name"], 1
        while name in taken:
            count += 1
            name = f"{column['Name']}_{count}"
        taken.add(name)
        kind = column["Type"]
        if kind == "decimal":
            kind = f"decimal({column.get('Precision', 38)},{column.get('Scale', 0)})"
        columns.append((name, kind))
    return tuple(columns)


def _reader(athena_type: str) -> Callable[[str], Cell]:
    """How a value of that type is read from its text; what has no Python twin stays text."""
    if athena_type in _INTEGERS:
        return int
    if athena_type in _FLOATS:
        return float
    if athena_type == "decimal":
        return Decimal
    if athena_type == "boolean":
        return lambda text: text == "true"
    return str
