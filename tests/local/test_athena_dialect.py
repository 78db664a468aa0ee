"""The embedded Athena without a server: what it refuses, how it translates, what it answers."""

# ruff: noqa: S608 - statements made of the tests' own texts, to see what becomes of them
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpipe.local.athena.answers import MACROS
from stockpipe.local.athena.engine import text
from stockpipe.local.athena.judge import Refused, judge
from stockpipe.local.athena.translate import Statement, TableName, Translation, may_hold
from stockpipe.queries.schema import COLUMNS, PARTITION_KEYS

T = TableName("db", "t")
SCHEMA = {T: dict(COLUMNS + PARTITION_KEYS), TableName("db", "u"): {"x": "bigint", "day": "string"}}


def translate(sql: str) -> Translation:
    return Statement(judge(sql), "db").translate(SCHEMA)


# What Athena runs

ACCEPTED = """
SELECT 1
SELECT 1 -- a comment
/* c */ SELECT 'it''s', 'a;b', '--x';
VALUES (1, 'a'), (2, 'b')
SELECT * FROM (VALUES (1, 'a')) AS v (id, name)
SELECT symbol, "timestamp" FROM t WHERE day = '2022-03-14' AND symbol IN ('AAPL', 'BRK-B') LIMIT 5
SELECT price FROM awsdatacatalog.db.t ORDER BY 1 DESC NULLS FIRST OFFSET 2 LIMIT 3
SELECT "t"."price", db.t.symbol FROM "db"."t"
WITH a AS (SELECT 1 x), b (y) AS (SELECT 2) SELECT * FROM a, b
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT * FROM n
SELECT count(*) FILTER (WHERE price > 1) OVER (PARTITION BY symbol ORDER BY day) FROM t
SELECT sum(volume) OVER w FROM t WINDOW w AS (ORDER BY day ROWS 1 PRECEDING)
SELECT symbol, day, sum(volume) FROM t GROUP BY GROUPING SETS ((symbol), (day)) HAVING count(*) > 1
SELECT symbol, grouping(symbol) FROM t GROUP BY ROLLUP (symbol)
SELECT * FROM t CROSS JOIN UNNEST(ARRAY[1, 2]) WITH ORDINALITY AS u (a, n)
SELECT a.symbol FROM t a JOIN t AS b ON a.symbol = b.symbol LEFT JOIN u USING (day) CROSS JOIN u c
SELECT CASE symbol WHEN 'A' THEN 1 ELSE 2 END, CASE WHEN price > 1 THEN 1 END, price IS NULL FROM t
SELECT symbol FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.day = t.day)
SELECT symbol FROM t WHERE volume > ALL (SELECT x FROM u) AND symbol IN (SELECT day FROM u)
SELECT DISTINCT symbol FROM t UNION SELECT 'x' EXCEPT SELECT 'y' INTERSECT SELECT 'z'
SELECT symbol LIKE 'a!_%' ESCAPE '!', symbol NOT LIKE 'b', price NOT BETWEEN 1 AND 2, -price FROM t
SELECT symbol || day, volume % 2, volume <> 1, volume != 2, symbol IS DISTINCT FROM day FROM t
SELECT cast(price AS varchar(10)), cast(price AS decimal(10, 2)), try_cast(day AS bigint) FROM t
SELECT transform(ARRAY[1], x -> x + 1), filter(ARRAY[1], x -> x > 0), MAP(ARRAY['a'], ARRAY[1])
SELECT EXTRACT(hour FROM now()), POSITION('a' IN symbol), TRIM(BOTH 'x' FROM symbol) FROM t
SELECT listagg(symbol, ',') WITHIN GROUP (ORDER BY day), array_agg(symbol ORDER BY day) FROM t
SELECT lag(price) IGNORE NULLS OVER (ORDER BY day) FROM t
SELECT current_date, current_timestamp, localtimestamp, now(), INTERVAL '1' DAY, DATE '2022-01-01'
(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1 LIMIT 1
SELECT symbol FROM t TABLESAMPLE BERNOULLI (10)
""".strip().splitlines()


@pytest.mark.parametrize("sql", ACCEPTED)
def test_what_athena_runs_is_translated(sql: str) -> None:
    assert duckdb.extract_statements(translate(sql).sql)


# What Athena would refuse

DUCKDB_ONLY = """
SELECT * FROM read_csv('/etc/passwd')
SELECT * FROM "read_csv"('/etc/passwd')
SELECT content FROM read_text('/etc/passwd')
SELECT * FROM read_json_auto('/etc/passwd')
SELECT * FROM read_blob('/etc/passwd')
SELECT * FROM parquet_scan('/etc/passwd')
SELECT * FROM glob('/*')
SELECT * FROM sniff_csv('/etc/passwd')
SELECT * FROM '/etc/passwd'
SELECT * FROM t, '/etc/passwd'
WITH read_csv (a) AS (SELECT 1) SELECT * FROM read_csv('/etc/passwd')
SELECT * FROM query('SELECT 1')
SELECT * FROM duckdb_settings()
SELECT * FROM pragma_table_info('t')
SELECT * FROM range(5)
SELECT getenv('HOME')
SELECT current_setting('memory_limit')
SELECT list_transform(a, x -> x + 1) FROM t
SELECT strftime(a, '%Y') FROM t
SELECT epoch_ms(1)
SELECT symbol.upper() FROM t
SELECT COLUMNS('a') FROM t
COPY (SELECT 1) TO '/tmp/x'
COPY t FROM '/etc/passwd'
ATTACH 'x.db' AS y
DETACH y
PRAGMA version
INSTALL httpfs
LOAD httpfs
SET memory_limit = '1TB'
RESET memory_limit
EXPORT DATABASE 'x'
IMPORT DATABASE 'x'
CALL pragma_version()
SUMMARIZE t
PIVOT t ON symbol
CHECKPOINT
SELECT 1; SELECT 2
SELECT 1; COPY t TO '/tmp/x'
SELECT price::int FROM t
SELECT `price` FROM t
SELECT {'a': 1}
SELECT * EXCLUDE (price) FROM t
SELECT * REPLACE (1 AS price) FROM t
FROM t
FROM t SELECT price
SELECT 1 FROM (FROM t)
SELECT price FROM t QUALIFY row_number() OVER () = 1
SELECT price FROM t WHERE symbol ILIKE 'b'
SELECT price FROM t WHERE symbol GLOB 'b'
SELECT price FROM t LIMIT 5 OFFSET 2
SELECT price FROM t LIMIT 10%
SELECT price FROM t USING SAMPLE 10
SELECT price,, symbol FROM t
SELECT price, FROM t
SELECT DISTINCT ON (symbol) price FROM t
SELECT symbol FROM t GROUP BY ALL
SELECT symbol FROM t ORDER BY ALL
SELECT price FROM t ASOF JOIN u USING (day)
SELECT price FROM t SEMI JOIN u USING (day)
SELECT price FROM t ANTI JOIN u USING (day)
SELECT price FROM t POSITIONAL JOIN u
SELECT price FROM t JOIN u
SELECT price == 1 FROM t
SELECT volume // 2 FROM t
SELECT volume ** 2 FROM t
SELECT volume ^ 2 FROM t
SELECT volume & 1 FROM t
SELECT volume << 1 FROM t
SELECT ~volume FROM t
SELECT symbol ->> '$.x' FROM t
SELECT symbol <=> day FROM t
SELECT $1
SELECT ?
SELECT :x
SELECT @x
SELECT $$x$$
SELECT CAST(1 AS HUGEINT)
SELECT CAST(1 AS TEXT)
SELECT 1 INTO x
SELECT 1 AS 'x'
SELECT * FROM t UNION BY NAME SELECT 1
SELECT price FROM t FOR UPDATE
SELECT price FROM s3://x/y
SELECT 1 +
SELECT 'a
SELEC 1
;
""".strip("\n").splitlines()


@pytest.mark.parametrize("sql", DUCKDB_ONLY)
def test_what_only_duckdb_knows_is_refused(sql: str) -> None:
    with pytest.raises(Refused):
        translate(sql)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (
            "SELECT read_csv('x')",
            "FUNCTION_NOT_FOUND: line 1:8: Function 'read_csv' not registered",
        ),
        ("SELEC 1", "SYNTAX_ERROR: line 1:1: mismatched input 'SELEC'."),
        ("SELECT 1\nLIMIT 5 OFFSET 2", "SYNTAX_ERROR: line 2:9: mismatched input 'OFFSET'."),
        ("SHOW TABLES", "NOT_SUPPORTED: the embedded cloud runs SELECT"),
        ("DESCRIBE t", "NOT_SUPPORTED: the embedded cloud runs SELECT"),
        ("CREATE TABLE x AS SELECT 1", "NOT_SUPPORTED: the embedded cloud runs SELECT"),
        ("UNLOAD (SELECT 1) TO 's3://x/'", "NOT_SUPPORTED: the embedded cloud runs SELECT"),
        ("SELECT * FROM other.db.t", "NOT_SUPPORTED: the embedded cloud has no catalog 'other'"),
        ("SELECT * FROM information_schema.tables", "NOT_SUPPORTED: .* no information_schema"),
        ("SELECT repeat('x', 3)", "NOT_SUPPORTED: repeat"),
        ("SELECT sequence(1, 10001)", "INVALID_FUNCTION_ARGUMENT: result of sequence"),
        # DuckDB would take these, and the statement would fail on AWS.
        ("SELECT * FROM t WHERE day >= DATE '2022-01-01'", "TYPE_MISMATCH: .* varchar with date"),
        ("SELECT * FROM t WHERE day BETWEEN current_date AND day", "TYPE_MISMATCH"),
        ("SELECT * FROM t WHERE day IN (DATE '2022-01-01')", "TYPE_MISMATCH"),
        (
            "SELECT * FROM t WHERE \"timestamp\" > current_timestamp - INTERVAL '1' DAY",
            "TYPE_MISMATCH: .* varchar with timestamp",
        ),
        ("SELECT symbol AS x FROM t WHERE x = 'A'", "COLUMN_NOT_FOUND: Column 'x' cannot be"),
        ("SELECT symbol AS x, 1 FROM t GROUP BY x", "COLUMN_NOT_FOUND: Column 'x' cannot be"),
    ],
)
def test_reasons_are_worded_as_athenas(sql: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        translate(sql)


# Names


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        (
            "SELECT count(*), symbol, price AS Foo, price + 1 FROM t",
            ["_col0", "symbol", "Foo", "_col3"],
        ),
        ("SELECT *, price * 2 FROM u, (SELECT 1 AS price)", ["x", "day", "price", "_col3"]),
        ("SELECT symbol FROM t UNION ALL SELECT day FROM t", ["symbol"]),
    ],
)
def test_columns_are_named_as_athena_names_them(sql: str, columns: list[str]) -> None:
    assert translate(sql).columns == columns


def test_tables_are_found_once_and_ctes_are_none() -> None:
    sql = "WITH u AS (SELECT * FROM T) SELECT * FROM u JOIN Db.t AS a ON a.day = u.day"
    assert Statement(judge(sql), "db").tables == [T]


# Answers: on the left Athena's SQL, on the right what Trino's documentation says it gives

ANSWERS: list[tuple[str, str | None]] = [
    ("7 / 2", "3"),
    ("-7 / 2", "-3"),
    ("cast(1 AS decimal(3,2)) / 3", "0.33"),
    ("decimal '1.50'", "1.50"),
    ("cast(2 AS decimal)", "2"),
    ("avg(cast(x AS decimal(18,6)))", "2.000000"),
    ("sum(x)", "6"),
    ("cast(2.5e0 AS bigint)", "3"),
    ("cast(-2.5e0 AS bigint)", "-3"),
    ("round(-2.5e0)", "-3.0"),
    ("date_diff('day', timestamp '2022-03-14 23:00:00', timestamp '2022-03-15 01:00:00')", "0"),
    ("date_diff('hour', timestamp '2022-03-14 23:59:00', timestamp '2022-03-15 01:00:00')", "1"),
    ("date_diff('day', date '2022-03-14', date '2022-03-10')", "-4"),
    ("date_add('day', -7, date '2022-03-14')", "2022-03-07"),
    ("date_add('hour', 1, timestamp '2022-03-14 13:05:00')", "2022-03-14 14:05:00.000"),
    ("date_trunc('month', date '2022-03-14')", "2022-03-01"),
    ("date_trunc('hour', timestamp '2022-03-14 13:05:00')", "2022-03-14 13:00:00.000"),
    ("date_format(timestamp '2022-03-14 13:05:00', '%Y/%m/%d %H:%i')", "2022/03/14 13:05"),
    ("date_parse('2022-03-14', '%Y-%m-%d')", "2022-03-14 00:00:00.000"),
    ("day_of_week(date '2022-03-13')", "7"),
    ("from_iso8601_timestamp('2022-03-14T13:05:00.000Z')", "2022-03-14 13:05:00.000 UTC"),
    ("hour(from_iso8601_timestamp('2022-03-14T13:30:00Z') AT TIME ZONE 'America/New_York')", "9"),
    ("hour(at_timezone(from_iso8601_timestamp('2022-03-14T13:30:00Z'), 'Asia/Tokyo'))", "22"),
    ("to_unixtime(timestamp '2022-03-14 13:05:00')", "1.6472631E9"),
    ("cast('2022-03-14' AS date)", "2022-03-14"),
    ("regexp_extract('abc', 'z')", None),
    ("regexp_extract('abc', 'b(c)', 1)", "c"),
    ("regexp_replace('aXbX', 'X', 'y')", "ayby"),
    ("split_part('a,b', ',', 2)", "b"),
    ("split_part('a,b', ',', 5)", None),
    ("substr('abc', -2)", "bc"),
    ("strpos('abc', 'c')", "3"),
    ("format('%s-%05d', 'a', 7)", "a-00007"),
    ("codepoint('A')", "65"),
    ("'a' || NULL", None),
    ("array_position(ARRAY['a'], 'z')", "0"),
    ("slice(ARRAY[1, 2, 3], 2, 2)", "[2, 3]"),
    ("element_at(ARRAY[1, 2], 5)", None),
    ("cardinality(ARRAY[1, 2])", "2"),
    ("reduce(ARRAY[1, 2, 3], 0, (s, x) -> s + x, s -> s)", "6"),
    ("sequence(1, 3)", "[1, 2, 3]"),
    ("sequence(date '2022-03-01', date '2022-03-02')", "[2022-03-01, 2022-03-02]"),
    ("MAP(ARRAY['a'], ARRAY[1])", "{a=1}"),
    ('json_extract_scalar(\'{"a":{"b":"x"}}\', \'$.a.b\')', "x"),
    ("approx_distinct(x)", "3"),
    ("max_by(x, -x)", "1"),
    ("count_if(x > 1)", "2"),
    ("every(x > 0)", "true"),
    ("array_agg(x ORDER BY x DESC)", "[3, 2, 1]"),
    ("avg(cast(x AS decimal(18,6))) FILTER (WHERE x > 1)", "2.500000"),
    ("try(cast('x' AS integer))", None),
    ("1e10", "1.0E10"),
    ("1e-4", "1.0E-4"),
    ("0.5e0", "0.5"),
    ("nan()", "NaN"),
    ("-infinity()", "-Infinity"),
    ("ln(e())", "1.0"),
    ("true", "true"),
    ("INTERVAL '2' DAY", "2 00:00:00.000"),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    with duckdb.connect(":memory:") as connection:
        for macro in MACROS:
            connection.execute(macro)
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


@pytest.mark.parametrize(("expression", "answer"), ANSWERS)
def test_answers_are_athenas(engine: Any, expression: str, answer: str | None) -> None:
    sql = translate(f"SELECT {expression} FROM (VALUES 1, 2, 3) AS v (x)").sql
    assert text(engine.execute(sql).fetchone()[0]) == answer


# Pruning

DAY = st.sampled_from([f"2022-03-{day:02d}" for day in range(1, 8)])
COMPARISON = st.one_of(
    st.builds("day {} '{}'".format, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), DAY),
    st.builds("'{}' {} day".format, DAY, st.sampled_from(["=", "<", ">="])),
    st.builds("day BETWEEN '{}' AND '{}'".format, DAY, DAY),
    st.builds("day IN ('{}', '{}')".format, DAY, DAY),
    st.builds("x > {}".format, st.integers(0, 8)),
    st.sampled_from(["day IS NULL", "substr(day, 10) = '3'", "x IS NULL", "day = NULL"]),
)
CONDITION = st.recursive(
    COMPARISON,
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def week(engine: Any) -> Any:
    """DuckDB with one row of ``u`` per day."""
    rows = ", ".join(f"('2022-03-{day:02d}', {day})" for day in range(1, 8))
    engine.execute("CREATE SCHEMA db")
    engine.execute("CREATE TABLE db.u (day VARCHAR, x BIGINT)")
    engine.execute(f"INSERT INTO db.u VALUES {rows}")
    return engine


@settings(max_examples=150, deadline=None)
@given(condition=CONDITION)
def test_no_day_with_a_matching_row_is_pruned(week: Any, condition: str) -> None:
    translated = translate(f"SELECT day FROM u WHERE {condition}")
    matching = {str(row[0]) for row in week.execute(translated.sql).fetchall()}
    (mentioned,) = translated.conditions[TableName("db", "u")]
    read = {
        day
        for day in (f"2022-03-{day:02d}" for day in range(1, 8))
        if may_hold(mentioned, {"day": day})
    }
    assert matching <= read
    if "x" not in condition and "substr" not in condition and "NULL" not in condition:
        assert matching == read


def test_a_condition_on_another_table_prunes_nothing() -> None:
    joined = "u a LEFT JOIN u b ON a.x = b.x AND b.day = '2022-03-01'"
    sql = f"SELECT 1 FROM {joined} WHERE a.day = '2022-03-02'"
    first, second = translate(sql).conditions[TableName("db", "u")]
    assert [may_hold(first, {"day": f"2022-03-0{day}"}) for day in (1, 2)] == [False, True]
    assert [may_hold(second, {"day": f"2022-03-0{day}"}) for day in (1, 2)] == [True, True]
