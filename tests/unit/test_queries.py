"""The named queries: their catalog, the table's schema, and what is bound into them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlglot import exp, parse_one

from stockpipe.domain.names import Names
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.errors import StockpipeError, UsageError
from stockpipe.queries import catalog
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
