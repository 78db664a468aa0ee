"""The named queries: catalog, binding, and the runner against a scripted Athena."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from sqlglot import exp, parse_one

from stockpipe.domain.names import Names
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.errors import NotProvisioned, QueryFailed, StockpipeError, UsageError
from stockpipe.queries import athena, catalog
from stockpipe.queries.athena import archive_days, cost_usd, run
from stockpipe.queries.bind import (
    bind,
    console_sql,
    parse_assignments,
    parse_value,
    statement,
)
from stockpipe.queries.catalog import NamedQuery, Parameter, find
from stockpipe.queries.schema import COLUMNS, PARTITION_KEYS, TABLE

NAMES = Names("dev", "us-east-2", "123456789012")
DAYS = ("2022-03-01", "2022-03-31")
QUERIES = catalog.catalog()


def bound(name: str, **given: str) -> str:
    return bind(find(name), given, names=NAMES, archive=lambda: DAYS).sql


# The catalog


def test_catalog_lists_the_shipped_queries_with_their_descriptions() -> None:
    assert [query.name for query in QUERIES] == ["anomalies", "avg-volume", "sample", "top-movers"]
    for query in QUERIES:
        assert query.description.endswith(".")
        assert all(parameter.description for parameter in query.parameters)


def test_every_query_bounds_the_day_and_uses_every_parameter() -> None:
    for query in QUERIES:
        tree = parse_one(query.sql, read="athena")
        used = {placeholder.name for placeholder in tree.find_all(exp.Placeholder)}
        assert used == {parameter.name for parameter in query.parameters}
        assert {"since", "until"} <= used
        assert [table.name for table in tree.find_all(exp.Table)] == [TABLE]


def test_defaults_are_valid_values() -> None:
    for query in QUERIES:
        for parameter in query.parameters:
            if parameter.kind == "date":
                assert parameter.default in ("first", "last")
            elif parameter.kind != "symbol":
                parse_value(parameter, parameter.default)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("top-mover", "Did you mean top-movers?"),
        ("TOP_MOVERS", "Did you mean top-movers?"),
        ("volume", "Did you mean avg-volume?"),
        ("xyzzy", "See `stockpipe query --list`."),
    ],
)
def test_unknown_query_suggests_the_nearest(wrong: str, hint: str) -> None:
    with pytest.raises(UsageError, match=wrong) as caught:
        find(wrong)
    assert caught.value.hint == hint


def test_a_malformed_header_names_file_and_line() -> None:
    with pytest.raises(StockpipeError, match=r"sql/x\.sql: not a parameter: @param limit = 5"):
        catalog.parse("x", "-- What it is.\n-- @param limit = 5\nSELECT 1")


def test_files_are_found_in_an_installed_wheel_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "stockpipe"
    (package / "queries").mkdir(parents=True)
    (package / "sql").mkdir()
    monkeypatch.setattr(catalog, "__file__", str(package / "queries" / "catalog.py"))
    assert catalog._folder() == package / "sql"


def test_an_installation_without_its_files_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "__file__", str(tmp_path / "a" / "b" / "c" / "catalog.py"))
    with pytest.raises(StockpipeError, match="missing from the installation"):
        catalog._folder()


# The schema


def test_columns_are_those_of_an_archived_quote() -> None:
    moment = "2022-03-14T13:30:00.000Z"
    full = Quote(
        *("AAPL", 1, 2, 3, 4, 5, 6, moment),
        ingested_at=moment,
        source="replay",
        utc_offset_s=0,
    )
    assert [name for name, _ in COLUMNS] == list(json.loads(quote_json(full, seq="1")))
    assert PARTITION_KEYS == (("day", "string"),)


# Binding


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_every_query_binds_and_parses_as_athena(query: NamedQuery) -> None:
    made = bind(query, {}, names=NAMES, archive=lambda: DAYS)
    tree = parse_one(made.sql, read="athena")
    assert not list(tree.find_all(exp.Placeholder))
    (table,) = tree.find_all(exp.Table)
    assert (table.db, table.name) == (NAMES.database, NAMES.glue_table)
    (day,) = tree.find_all(exp.Between)
    assert (day.this.name, day.args["low"].name, day.args["high"].name) == ("day", *DAYS)
    assert (made.values["since"], made.values["until"]) == DAYS


def test_the_archive_is_only_asked_when_a_day_is_left_open() -> None:
    def never() -> None:
        raise AssertionError("asked")

    sql = bind(
        find("sample"),
        {"since": "2022-03-01", "until": "2022-03-02"},
        names=NAMES,
        archive=never,
    ).sql
    assert "BETWEEN '2022-03-01' AND '2022-03-02'" in sql


def test_an_empty_archive_reads_one_day_only() -> None:
    made = bind(find("sample"), {}, names=NAMES, archive=lambda: None)
    assert made.values["since"] == made.values["until"] == "1970-01-01"


@pytest.mark.parametrize("symbol", ["BRK-B", "^GSPC", "EURUSD=X", "7203.T", "aapl"])
def test_symbols_are_bound_as_literals(symbol: str) -> None:
    tree = parse_one(bound("sample", symbol=symbol), read="athena")
    literals = [node.name for node in tree.find_all(exp.Literal) if node.is_string]
    assert literals.count(symbol.upper()) == 2


def test_without_a_symbol_nothing_is_restricted() -> None:
    assert bind(find("sample"), {}, names=NAMES, archive=lambda: DAYS).values["symbol"] is None
    assert "NULL IS NULL" in bound("sample")


HOSTILE = [
    "'; DROP TABLE x --",
    "A' OR '1'='1",
    "A\\'",
    'A"',
    "A\n",
    "",
    "A" * 21,
    "\u0410APL",
    "*",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_symbols_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="query parameter symbol must be 1 to 20 of"):
        bound("sample", symbol=text)


def test_text_is_escaped_even_where_no_rule_stops_it() -> None:
    query = NamedQuery(
        "x", "X.", (Parameter("by", "choice", ("it's; --",), "it's; --", "x"),), "SELECT :by"
    )
    sql = bind(query, {}, names=NAMES, archive=lambda: None).sql
    assert parse_one(sql, read="athena").find(exp.Literal) == exp.Literal.string("it's; --")
    assert "'it''s; --'" in sql


@pytest.mark.parametrize(
    ("query", "given", "message"),
    [
        ("top-movers", {"limit": "x"}, "limit must be an integer from 1 to 1000, got 'x'"),
        ("top-movers", {"limit": "0"}, "limit must be an integer from 1 to 1000, got '0'"),
        ("top-movers", {"limit": "5 OR 1=1"}, "limit must be an integer"),
        ("top-movers", {"limit": "5.0"}, "limit must be an integer"),
        ("top-movers", {"limit": "\u0665"}, "limit must be an integer"),
        ("top-movers", {"limit": "9" * 30}, "limit must be an integer"),
        ("top-movers", {"by": "win"}, "by must be one of abs, gain, loss, got 'win'"),
        ("anomalies", {"threshold": "NaN"}, "threshold must be a number from 0 to 1000"),
        ("anomalies", {"threshold": "-1"}, "threshold must be a number from 0 to 1000"),
        ("anomalies", {"threshold": "1e9"}, "threshold must be a number from 0 to 1000"),
        ("anomalies", {"threshold": "0.0000001"}, "with at most 6 decimals"),
        ("anomalies", {"threshold": "5)--"}, "threshold must be a number"),
        ("sample", {"since": "2022-02-30"}, "since must be a day like 2022-03-14"),
        ("sample", {"since": "20220301"}, "since must be a day like 2022-03-14"),
        ("sample", {"since": "2022-03-05", "until": "2022-03-04"}, "The period is empty"),
        ("sample", {"since": "2023-01-01"}, r"until 2022-03-31 \(the archive's last day\)"),
        ("sample", {"until": "2021-01-01"}, r"\(the archive's first day\)"),
        ("sample", {"limt": "5"}, "has no parameter 'limt'"),
    ],
)
def test_wrong_values_name_parameter_rule_and_value(
    query: str, given: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        bound(query, **given)


def test_an_unknown_parameter_suggests_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        bound("top-movers", limt="5")
    assert caught.value.hint == "Did you mean limit?"
    with pytest.raises(UsageError) as caught:
        bound("avg-volume", xyzzy="5")
    assert caught.value.hint == "It has since, until."


@pytest.mark.parametrize(
    ("text", "written"),
    [("5", "5"), ("5.50", "5.50"), ("1E+2", "100"), ("0", "0"), ("1e-3", "0.001")],
)
def test_decimals_are_written_without_an_exponent(text: str, written: str) -> None:
    assert f"> {written} * previous_close" in bound("anomalies", threshold=text)


def test_integers_are_written_as_integers() -> None:
    assert bound("top-movers", limit="7").endswith("LIMIT 7")


def test_assignments() -> None:
    assert parse_assignments(["limit=5", " by = gain ", "x=a=b"]) == {
        "limit": "5",
        "by": "gain",
        "x": "a=b",
    }
    for wrong in (["limit"], ["=5"], ["a=1", "a=2"]):
        with pytest.raises(UsageError):
            parse_assignments(wrong)


def test_console_sql_depends_on_nothing_but_the_stack() -> None:
    for query in QUERIES:
        sql = console_sql(query, NAMES)
        assert sql == console_sql(query, NAMES)
        assert ":" not in sql
        assert "CAST(CURRENT_DATE - INTERVAL '30' DAY AS VARCHAR)" in sql
        assert f'"{NAMES.database}"."{NAMES.glue_table}"' in sql
        parse_one(sql, read="athena")


def test_a_users_statement_is_one_statement() -> None:
    assert statement(" SELECT 1 ; ") == "SELECT 1"
    assert statement("SELECT nonsense (") == "SELECT nonsense ("
    for text in (
        "-- why\nSELECT 1,\n 2",
        "/* why\n */ (SELECT 1)",
        "with a AS (SELECT 1) SELECT 2",
    ):
        assert statement(text) == text
    for text in ("SELEC 1", "DROP TABLE t", "-- SELECT\nDELETE FROM t", "42"):
        with pytest.raises(UsageError, match="only reads"):
            statement(text)
    with pytest.raises(UsageError, match="empty"):
        statement(" ; ")
    with pytest.raises(UsageError, match="one statement at a time"):
        statement("SELECT 1; SELECT 2")


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
