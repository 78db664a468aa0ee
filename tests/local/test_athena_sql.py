"""SQL through Athena's API on the embedded cloud: a real ministack with our Athena in it."""

# ruff: noqa: S608 - statements made of the tests' own texts, to see what becomes of them
from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import athena_server
import pytest
from athena_archive import line, one, put, query
from athena_server import ACCOUNT, REGION, Cloud

from stockpipe.aws import Aws
from stockpipe.domain.names import Names
from stockpipe.errors import QueryFailed
from stockpipe.queries.athena import archive_days, run
from stockpipe.queries.schema import COLUMNS, PARTITION_KEYS

pytest.importorskip("ministack")


MANY = 10_000
MANY_DAYS = 2_500


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with athena_server.running(tmp_path_factory.mktemp("athena") / "home") as cloud:
        yield cloud


@pytest.fixture(scope="module")
def aws(cloud: Cloud) -> Aws:
    """A stack with two days of AAPL and TSLA, one quote of them delivered twice."""
    aws = cloud.stack("default")
    put(
        *(aws, "2022-03-01", "a"),
        line("AAPL", "2022-03-01T14:30:00.000Z", "160", "150", seq=1, volume=10),
        line("TSLA", "2022-03-01T14:30:00.000Z", "800.123457", "900", seq=2),
        line("AAPL", "2022-03-01T14:31:00.000Z", "151", "150", seq=3, volume=20),
    )
    put(
        *(aws, "2022-03-02", "b"),
        line("AAPL", "2022-03-02T14:30:00.000Z", "152", "151", seq=9, volume=30),
        line("GOOG", "2022-03-02T14:30:00.000Z", "100", None, seq=4),
    )
    # The same quote once more: an earlier delivery with another price, and the very same again.
    put(
        *(aws, "2022-03-02", "c"),
        line("AAPL", "2022-03-02T14:30:00.000Z", "999", "151", seq=8, volume=99),
        line("AAPL", "2022-03-02T14:30:00.000Z", "152", "151", seq=9, volume=30),
    )
    return aws


def populate(home: Path) -> int:
    """An archive of very many small objects, laid down where a server finds it at its start."""
    bucket = home / "s3" / ACCOUNT / Names("many", REGION, ACCOUNT).data_bucket
    total = 0
    for number in range(MANY):
        day = (date(2000, 1, 1) + timedelta(days=number % MANY_DAYS)).isoformat()
        folder = bucket / "raw-data" / f"day={day}"
        folder.mkdir(parents=True, exist_ok=True)
        moment = f"{day}T13:30:00.{number // MANY_DAYS:03d}Z"
        body = line("AAPL", moment, "150.25", "150", seq=number)
        (folder / f"{number}.json").write_text(body, encoding="ascii")
        total += len(body)
    return total


def test_top_movers_ranks_each_symbols_latest_quote(aws: Aws) -> None:
    rows = query(aws, "top-movers").rows
    assert [(row["symbol"], row["change_percent"]) for row in rows] == [
        ("TSLA", Decimal("-11.0974")),
        ("AAPL", Decimal("0.6623")),
        ("GOOG", None),
    ]
    assert list(rows[0]) == [
        *("symbol", "price", "previous_close", "change", "change_percent", "volume", "timestamp")
    ]
    assert query(aws, "top-movers", by="gain").rows[0]["symbol"] == "AAPL"
    assert query(aws, "top-movers", by="loss").rows[0]["symbol"] == "TSLA"
    assert len(query(aws, "top-movers", limit="1").rows) == 1
    (row, _) = query(aws, "top-movers", until="2022-03-01").rows
    assert (row["symbol"], row["price"]) == ("TSLA", Decimal("800.123457"))


def test_a_quote_delivered_twice_counts_once_and_its_last_delivery(aws: Aws) -> None:
    assert query(aws, "avg-volume").rows[0] == {
        "symbol": "AAPL",
        "avg_volume": 20,
        "quotes": 3,
        "first_timestamp": "2022-03-01T14:30:00.000Z",
        "last_timestamp": "2022-03-02T14:30:00.000Z",
    }
    prices = [row["price"] for row in query(aws, "sample", symbol="AAPL", limit="1").rows]
    assert prices == [Decimal("152")]
    assert len(query(aws, "sample").rows) == 5


def test_anomalies_are_computed_exactly_newest_first(aws: Aws) -> None:
    rows = query(aws, "anomalies").rows
    assert [row["symbol"] for row in rows] == ["AAPL", "TSLA"]
    # 160 against 150 is 6.666... percent; 6.6667 as stored would be above 6.66667.
    assert [row["symbol"] for row in query(aws, "anomalies", threshold="6.666667").rows] == ["TSLA"]
    assert [row["symbol"] for row in query(aws, "anomalies", threshold="6.666666").rows] == [
        *("AAPL", "TSLA")
    ]


def test_values_have_athenas_types(aws: Aws) -> None:
    result = run(
        aws,
        'SELECT price, volume, "timestamp", from_iso8601_timestamp("timestamp") AS moment, '
        "cast(day AS date) AS d, price > 1 AS yes, 1e0 AS x, utc_offset_s FROM stock_data_table "
        "WHERE symbol = 'TSLA'",
    )
    assert dict(result.columns) == {
        "price": "decimal(18,6)",
        "volume": "bigint",
        "timestamp": "varchar",
        "moment": "timestamp with time zone",
        "d": "date",
        "yes": "boolean",
        "x": "double",
        "utc_offset_s": "integer",
    }
    assert list(result.rows[0].values()) == [
        *(Decimal("800.123457"), 7, "2022-03-01T14:30:00.000Z", "2022-03-01 14:30:00.000 UTC"),
        *("2022-03-01", True, 1.0, None),
    ]


def test_select_star_has_the_tables_columns_and_then_its_partition(aws: Aws) -> None:
    result = run(aws, "SELECT * FROM stock_data_table LIMIT 1")
    assert [name for name, _ in result.columns] == [name for name, _ in COLUMNS + PARTITION_KEYS]
    assert result.rows[0]["day"] in ("2022-03-01", "2022-03-02")


def test_names_may_be_qualified_as_on_athena(aws: Aws) -> None:
    table = "awsdatacatalog.stock_data_db.Stock_Data_Table"
    assert one(aws, f"SELECT count(*) FROM {table} AS q WHERE q.symbol = 'GOOG'") == 1
    sql = "SELECT count(stock_data_db.stock_data_table.symbol) FROM stock_data_db.stock_data_table"
    assert one(aws, sql) == 7


def test_an_empty_table_has_no_rows_but_columns(cloud: Cloud) -> None:
    aws = cloud.stack("empty")
    assert archive_days(aws) is None
    for name in ("top-movers", "avg-volume", "anomalies", "sample"):
        result = query(aws, name)
        assert (result.rows, result.bytes_scanned) == ([], 0)
        assert result.columns[0] == ("symbol", "varchar")


def test_results_of_several_pages_arrive_whole(aws: Aws) -> None:
    rows = run(aws, "SELECT n FROM UNNEST(sequence(1, 2500)) AS s (n)").rows
    assert [row["n"] for row in rows] == list(range(1, 2501))


def test_the_result_is_written_where_athena_says_it_is(aws: Aws) -> None:
    made = run(aws, "SELECT symbol, change FROM stock_data_table WHERE symbol = 'GOOG'")
    execution = aws.client("athena").get_query_execution(QueryExecutionId=made.execution_id)
    location = execution["QueryExecution"]["ResultConfiguration"]["OutputLocation"]
    assert location == f"s3://{aws.names.results_bucket}/results/{made.execution_id}.csv"
    key = f"results/{made.execution_id}.csv"
    stored = aws.client("s3").get_object(Bucket=aws.names.results_bucket, Key=key)
    assert stored["Body"].read() == b'"symbol","change"\n"GOOG",\n'


def test_results_that_are_no_longer_held_are_an_error_and_not_empty(aws: Aws) -> None:
    client, first = aws.client("athena"), run(aws, "SELECT 1").execution_id
    for _ in range(20):
        run(aws, "SELECT 1")
    with pytest.raises(client.exceptions.InvalidRequestException, match="have expired"):
        client.get_query_results(QueryExecutionId=first)


def test_bytes_scanned_are_those_of_the_days_that_are_meant(cloud: Cloud) -> None:
    aws = cloud.stack("bytes")
    sizes = {
        day: put(aws, day, "x", *(line("AAPL", f"{day}T14:30:00.000Z", "1", seq=1),) * copies)
        for copies, day in enumerate(("2022-03-01", "2022-03-02", "2022-03-03"), start=1)
    }
    first, second, third = sizes.values()
    aws.client("s3").put_object(Bucket=aws.names.data_bucket, Key="quarantine/day=x/y", Body=b"{")
    for where, scanned in {
        "": first + second + third,
        "WHERE day = '2022-03-02'": second,
        "WHERE day BETWEEN '2022-03-02' AND '2022-03-09' AND price > 0": second + third,
        "WHERE day IN ('2022-03-01', '2022-03-03')": first + third,
        "WHERE day > '2022-03-02' OR day < '2022-03-02'": first + third,
        "WHERE NOT day = '2022-03-02'": first + third,
        "WHERE '2022-03-01' >= day": first,
        "WHERE day = '2021-01-01'": 0,
        "WHERE substr(day, 10) = '1'": first + second + third,
        "WHERE day = '2022-03-02' OR price > 5": first + second + third,
    }.items():
        table = aws.names.glue_table
        assert run(aws, f"SELECT * FROM {table} {where}").bytes_scanned == scanned, where
    nested = f"SELECT count(*) FROM (SELECT * FROM {aws.names.glue_table} WHERE day = '2022-03-02')"
    assert run(aws, nested).bytes_scanned == second
    assert query(aws, "sample", since="2022-03-03").bytes_scanned == third


def test_ten_thousand_small_objects_in_bounded_memory(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = tmp_path_factory.mktemp("many") / "home"
    total = populate(home)
    with athena_server.running(home) as cloud:
        aws = cloud.stack("many")
        before = cloud.memory_mib()
        table = aws.names.glue_table
        result = run(aws, f"SELECT count(*) AS n, count(DISTINCT day) AS days FROM {table}")
        assert result.rows == [{"n": MANY, "days": MANY_DAYS}]
        assert result.bytes_scanned == total
        assert archive_days(aws) == ("2000-01-01", "2006-11-04")
        narrow = run(aws, f"SELECT count(*) AS n FROM {table} WHERE day < '2000-01-11'")
        assert narrow.rows == [{"n": MANY // MANY_DAYS * 10}]
        assert narrow.bytes_scanned < total / 200
        assert cloud.memory_mib() - before < 200
        assert not cloud.leftovers()


def test_table_ddl_stays_the_emulators(cloud: Cloud) -> None:
    aws = cloud.stack("ddl")
    run(
        aws,
        f"CREATE EXTERNAL TABLE notes (text string) ROW FORMAT SERDE "
        f"'org.openx.data.jsonserde.JsonSerDe' LOCATION 's3://{aws.names.data_bucket}/notes/'",
    )
    aws.client("s3").put_object(
        Bucket=aws.names.data_bucket, Key="notes/a.json", Body=json.dumps({"text": "hi"}).encode()
    )
    assert one(aws, "SELECT text FROM notes") == "hi"
    run(aws, "DROP TABLE notes")
    with pytest.raises(QueryFailed, match="TABLE_NOT_FOUND"):
        run(aws, "SELECT text FROM notes")
