"""A query's run against a scripted Athena, the days of the archive, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError

from stockpipe.domain.names import Names
from stockpipe.errors import NotProvisioned, QueryFailed, StockpipeError
from stockpipe.queries import athena
from stockpipe.queries.athena import archive_days, cost_usd, run

NAMES = Names("dev", "us-east-2", "123456789012")


# The runner


class TickingClock:
    """A clock whose waits cost nothing; ``on_sleep`` may raise in their place."""

    def __init__(self, on_sleep: Callable[[], None] | None = None) -> None:
        self.seconds = 0.0
        self._on_sleep = on_sleep

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        if self._on_sleep:
            self._on_sleep()
        self.seconds += seconds


def refused(code: str, message: str, operation: str = "StartQueryExecution") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


class FakeAthena:
    """Scripted answers: the states of one execution, then its pages."""

    def __init__(
        self,
        states: list[tuple[str, str]],
        pages: list[dict[str, Any]] | None = None,
        statement_type: str = "DML",
        start_error: Exception | None = None,
    ) -> None:
        self.states, self.pages = states, pages or []
        self.statement_type, self.start_error = statement_type, start_error
        self.started: dict[str, Any] = {}
        self.stopped: list[str] = []

    def start_query_execution(self, **options: Any) -> dict[str, str]:
        if self.start_error:
            raise self.start_error
        self.started = options
        return {"QueryExecutionId": "id-1"}

    def get_query_execution(self, **_: str) -> dict[str, Any]:
        state, why = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {
            "QueryExecution": {
                "Status": {"State": state, "StateChangeReason": why},
                "StatementType": self.statement_type,
                "Statistics": {"DataScannedInBytes": 1234},
            }
        }

    def stop_query_execution(self, *, QueryExecutionId: str) -> None:  # noqa: N803
        self.stopped.append(QueryExecutionId)

    def get_paginator(self, name: str) -> FakeAthena:
        assert name == "get_query_results"
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        return self.pages


class FakeAws:
    names, account_id = NAMES, NAMES.account

    def __init__(self, client: Any) -> None:
        self._client = client

    def client(self, _: str) -> Any:
        return self._client


def page(types: list[tuple[str, str]], rows: list[list[str | None]]) -> dict[str, Any]:
    return {
        "ResultSet": {
            "ResultSetMetadata": {
                "ColumnInfo": [
                    {"Name": name, "Type": kind, "Precision": 18, "Scale": 6}
                    for name, kind in types
                ]
            },
            "Rows": [
                {"Data": [{} if text is None else {"VarCharValue": text} for text in row]}
                for row in rows
            ],
        }
    }


def start(fake: FakeAthena, **options: Any) -> athena.QueryResult:
    options = {"clock": TickingClock()} | options
    return run(FakeAws(fake), "SELECT 1", **options)  # type: ignore[arg-type]


def test_run_converts_values_by_type_and_reads_every_page() -> None:
    types = [
        *(("a", "varchar"), ("b", "bigint"), ("c", "decimal"), ("d", "double")),
        *(("e", "boolean"), ("f", "date")),
    ]
    head: list[str | None] = [name for name, _ in types]
    fake = FakeAthena(
        [("QUEUED", ""), ("RUNNING", ""), ("SUCCEEDED", "")],
        [
            page(types, [head, ["x", "7", "1.500000", "1.0E7", "true", "2022-03-14"]]),
            page(types, [["y", "-1", "0.000001", "NaN", "false", "2022-03-15"], [None] * 6]),
        ],
    )
    seen: list[str] = []
    result = start(fake, on_started=seen.append)
    assert seen == ["id-1"] == [result.execution_id]
    assert result.columns[2] == ("c", "decimal(18,6)")
    first, second, third = result.rows
    assert list(first.values()) == ["x", 7, Decimal("1.5"), 1e7, True, "2022-03-14"]
    assert second["b"] == -1
    assert second["e"] is False
    assert second["d"] != second["d"]
    assert set(third.values()) == {None}
    assert result.bytes_scanned == 1234
    assert not fake.stopped


def test_run_names_workgroup_and_database_but_no_output_location() -> None:
    fake = FakeAthena([("SUCCEEDED", "")], [page([("a", "varchar")], [["a"]])])
    assert start(fake, reuse_s=900).rows == []
    assert fake.started["WorkGroup"] == NAMES.workgroup
    assert fake.started["QueryExecutionContext"] == {"Database": NAMES.database}
    assert "ResultConfiguration" not in fake.started
    reuse = fake.started["ResultReuseConfiguration"]["ResultReuseByAgeConfiguration"]
    assert reuse == {"Enabled": True, "MaxAgeInMinutes": 15}


def test_statements_other_than_queries_have_no_header_row() -> None:
    fake = FakeAthena(
        [("SUCCEEDED", "")], [page([("tab_name", "string")], [["t"]])], statement_type="UTILITY"
    )
    assert start(fake).rows == [{"tab_name": "t"}]
    types = [("col_name", "string"), ("data_type", "string")]
    fake = FakeAthena([("SUCCEEDED", "")], [page(types, [["a\tint"]])], statement_type="UTILITY")
    assert start(fake).rows == [{"col_name": "a\tint", "data_type": None}]


def test_columns_of_the_same_name_stay_apart() -> None:
    types = [("a", "varchar"), ("a", "bigint"), ("a_2", "bigint")]
    fake = FakeAthena([("SUCCEEDED", "")], [page(types, [["a", "a", "a_2"], ["x", "1", "2"]])])
    assert start(fake).rows == [{"a": "x", "a_2": 1, "a_2_2": 2}]


@pytest.mark.parametrize(
    ("state", "why", "error", "hint"),
    [
        (
            *("FAILED", "COLUMN_NOT_FOUND: line 1:8: Column 'x' cannot be resolved"),
            *(QueryFailed, "previous_close"),
        ),
        (
            *("FAILED", "TABLE_NOT_FOUND: line 1:15: Table 'awsdatacatalog.a.b' does not exist"),
            *(QueryFailed, NAMES.glue_table),
        ),
        (
            "FAILED",
            f"TABLE_NOT_FOUND: Table 'awsdatacatalog.{NAMES.database}.{NAMES.glue_table}' "
            "does not exist",
            *(NotProvisioned, "stockpipe provision"),
        ),
        (
            *("FAILED", f"SCHEMA_NOT_FOUND: Schema '{NAMES.database}' does not exist"),
            *(NotProvisioned, "stockpipe provision"),
        ),
        ("CANCELLED", "Bytes scanned limit was exceeded", QueryFailed, "query_limit_mb"),
        ("CANCELLED", "Query was cancelled by user", QueryFailed, "Run it again."),
        ("FAILED", "SYNTAX_ERROR: line 1:1: mismatched input", QueryFailed, "Trino"),
    ],
)
def test_failures_carry_athenas_reason_and_a_hint(
    state: str, why: str, error: type[StockpipeError], hint: str
) -> None:
    with pytest.raises(error) as caught:
        start(FakeAthena([("RUNNING", ""), (state, why)]))
    assert why in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (
            refused("InvalidRequestException", "WorkGroup stockpipe-dev is not found."),
            NotProvisioned,
        ),
        (refused("InvalidRequestException", "WorkGroup is not found"), NotProvisioned),
        (refused("InvalidRequestException", "line 1:1: mismatched input 'SELEC'"), QueryFailed),
        (refused("AccessDeniedException", "not authorized"), ClientError),
    ],
)
def test_refusals_at_the_start(refusal: ClientError, error: type[Exception]) -> None:
    with pytest.raises(error):
        start(FakeAthena([], start_error=refusal))


def interrupt() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_stops_the_query() -> None:
    fake = FakeAthena([("RUNNING", "")])
    with pytest.raises(KeyboardInterrupt):
        start(fake, clock=TickingClock(interrupt))
    assert fake.stopped == ["id-1"]


def test_an_error_of_the_caller_stops_the_query() -> None:
    def fail(_: str) -> None:
        raise RuntimeError("the terminal is gone")

    fake = FakeAthena([("RUNNING", "")])
    with pytest.raises(RuntimeError, match="terminal"):
        start(fake, on_started=fail)
    assert fake.stopped == ["id-1"]


def test_a_query_that_cannot_be_stopped_is_named_in_a_note() -> None:
    class Unstoppable(FakeAthena):
        def stop_query_execution(self, *, QueryExecutionId: str) -> None:  # noqa: N803
            raise ConnectionError("no network")

    with pytest.raises(KeyboardInterrupt) as caught:
        start(Unstoppable([("RUNNING", "")]), clock=TickingClock(interrupt))
    assert "id-1 could not be stopped: no network" in caught.value.__notes__[0]


def test_the_budget_ends_the_wait_and_the_query() -> None:
    fake, clock = FakeAthena([("RUNNING", "")]), TickingClock()
    with pytest.raises(QueryFailed, match="did not finish within 10 s"):
        start(fake, clock=clock, budget_s=10)
    assert clock.seconds == pytest.approx(10)
    assert fake.stopped == ["id-1"]


# The archive's days, and the cost


class FakeS3:
    def __init__(self, pages: list[list[str]] | ClientError) -> None:
        self.pages = pages
        self.options: dict[str, Any] = {}

    def get_paginator(self, _: str) -> FakeS3:
        return self

    def paginate(self, **options: Any) -> list[dict[str, Any]]:
        self.options = options
        if isinstance(self.pages, ClientError):
            raise self.pages
        return [
            {"CommonPrefixes": [{"Prefix": f"raw-data/{folder}/"} for folder in folders]}
            for folders in self.pages
        ] or [{}]


def test_archive_days_are_the_first_and_last_day_folders_of_all_pages() -> None:
    fake = FakeS3([["day=2022-03-01", "day=2022-03-02"], ["day=2022-03-09", "day=odd"]])
    assert archive_days(FakeAws(fake)) == ("2022-03-01", "2022-03-09")  # type: ignore[arg-type]
    assert fake.options["ExpectedBucketOwner"] == NAMES.account
    assert fake.options["Delimiter"] == "/"


def test_an_empty_archive_has_no_days() -> None:
    assert archive_days(FakeAws(FakeS3([]))) is None  # type: ignore[arg-type]


def test_without_the_bucket_nothing_is_provisioned() -> None:
    fake = FakeS3(refused("NoSuchBucket", "gone", "ListObjectsV2"))
    with pytest.raises(NotProvisioned, match=NAMES.data_bucket):
        archive_days(FakeAws(fake))  # type: ignore[arg-type]
    fake = FakeS3(refused("AccessDenied", "no", "ListObjectsV2"))
    with pytest.raises(ClientError):
        archive_days(FakeAws(fake))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scanned", "usd"),
    [
        (0, "0.00005"),
        (10_000_000, "0.00005"),
        (10_000_001, "0.000055"),
        (10**12, "5"),
    ],
)
def test_cost_has_a_minimum_and_is_rounded_up_to_the_megabyte(scanned: int, usd: str) -> None:
    assert cost_usd(scanned) == Decimal(usd)
