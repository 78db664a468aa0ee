"""The embedded Athena's files and engine, without a server: reading, limits, the locked door."""

from __future__ import annotations

import threading
from decimal import Decimal
from pathlib import Path

import pytest

from stockpipe.local.athena import engine as athena_engine
from stockpipe.local.athena.data import DataFile, JsonTable
from stockpipe.local.athena.engine import Answer, Cancelled, Run, athena_type, text
from stockpipe.local.athena.judge import Refused
from stockpipe.local.athena.translate import TableName, Translation
from stockpipe.queries.schema import COLUMNS, PARTITION_KEYS

T = TableName("db", "t")


class Memory:
    """Objects by key, in the place of S3."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self._objects = objects

    def objects(self, bucket: str) -> list[tuple[str, int]]:
        assert bucket == "b"
        return [(key, len(body)) for key, body in self._objects.items()]

    def read(self, bucket: str, key: str) -> bytes:
        return self._objects[key]


def table(**parameters: str) -> JsonTable:
    return JsonTable(
        T,
        {
            "Parameters": parameters,
            "PartitionKeys": [{"Name": name, "Type": kind} for name, kind in PARTITION_KEYS],
            "StorageDescriptor": {
                "Columns": [{"Name": name, "Type": kind} for name, kind in COLUMNS],
                "Location": "s3://b/raw",
                "SerdeInfo": {"SerializationLibrary": "org.apache.hive.hcatalog.data.JsonSerDe"},
            },
        },
    )


def answer(sql: str, objects: dict[str, bytes], run: Run | None = None) -> tuple[Answer, int]:
    store, source = Memory(objects), table()
    files = source.choose(store, [None])
    return (run or Run()).execute(Translation(sql, None, {}), {source: files}, store)


def test_projected_partitions_are_the_well_formed_days_only() -> None:
    keys = [
        *(
            "raw/day=2022-03-01/a.json",
            "raw/day=oops/a.json",
            "raw/a.json",
            "rawer/day=2022-03-01/a",
        ),
        *("raw/day=2022-03-01/_hidden.json", "raw/day=2022-03-01/", "raw/x/day=2022-03-01/a.json"),
    ]
    projection = {"projection.enabled": "true", "projection.day.type": "date"}
    store = Memory(dict.fromkeys(keys, b""))
    expected = [DataFile("raw/day=2022-03-01/a.json", 0, ("2022-03-01",))]
    assert table(**projection).choose(store, [None]) == expected
    template = {"storage.location.template": "s3://b/raw/x/day=${day}"}
    chosen = table(**projection, **template).choose(store, [None])
    assert [file.key for file in chosen] == ["raw/x/day=2022-03-01/a.json"]


def test_lines_are_read_by_the_tables_columns() -> None:
    lines = (
        b'{"symbol":"A","price":999999999999.123457,"open":0.1,"volume":7,"new":1}\r\n\n  \n'
        b'{"timestamp":"x","day":"ignored","volume":null,"low":1e20}'
    )
    result, scanned = answer(
        "SELECT symbol, price, open, volume, timestamp, low, day FROM db.t",
        {"raw/day=2022-03-01/a.json": lines},
    )
    assert scanned == len(lines)
    assert result.types[1] == "decimal(18,6)"
    assert result.rows == [
        ["A", "999999999999.123457", "0.100000", "7", None, None, "2022-03-01"],
        [None, None, None, None, "x", None, "2022-03-01"],
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"not json", "a.json, line 2: is not JSON"),
        (b'{"symbol":"A"', "a.json, line 2: is not JSON"),
        (b"[1]", "a.json, line 2: is not a JSON object"),
        (b'{"volume":"many"}', "Failed to cast value to numerical"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: bytes, why: str) -> None:
    with pytest.raises(Refused, match=f"HIVE_BAD_DATA: .*{why}"):
        answer("SELECT * FROM db.t", {"raw/day=2022-03-01/a.json": b"{}\n" + line})


def test_only_json_tables_are_read() -> None:
    with pytest.raises(Refused, match="NOT_SUPPORTED"):
        JsonTable(T, {"StorageDescriptor": {"SerdeInfo": {"SerializationLibrary": "LazySimple"}}})


# The locked engine: even SQL that no judge has seen reaches nothing


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_json('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM glob('{folder}/*')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "COPY db.t FROM '{file}'",
        "ATTACH '{folder}/out.db' AS other",
        "EXPORT DATABASE '{folder}/out'",
        "IMPORT DATABASE '{folder}'",
        "SET enable_external_access = true",
        "SET temp_directory = '{folder}'",
        "RESET enable_external_access",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_csv('http://127.0.0.1:9/x')",
        "SELECT * FROM objects",
    ],
)
def test_the_engine_is_locked(sql: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"a": "secret"}\n', encoding="utf-8")
    objects = {"raw/day=2022-03-01/a.json": b'{"symbol":"A"}'}
    with pytest.raises(Refused):
        answer(sql.format(file=secret, folder=tmp_path), objects)
    assert list(tmp_path.iterdir()) == [secret]


def test_memory_is_limited_and_spills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(athena_engine, "MEMORY_LIMIT", "200MB")
    lines = b"".join(
        b'{"symbol":"A%d","seq":"%040d"}\n' % (n, n * 7919 % 99991) for n in range(30_000)
    )
    objects = {f"raw/day=2022-03-{day:02d}/a.json": lines for day in range(1, 9)}
    sql = (
        "SELECT count(*), min(place) FROM (SELECT row_number() OVER (ORDER BY seq || day || symbol "
        "|| repeat(seq, 10)) AS place FROM db.t)"
    )
    assert answer(sql, objects)[0].rows == [["240000", "1"]]


def test_a_result_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(athena_engine, "RESULT_LIMIT", 1000)
    with pytest.raises(Refused, match="the result exceeds"):
        answer("SELECT * FROM range(5000)", {})


def test_an_interrupt_ends_a_running_statement_and_clears_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run, outcome = Run(), list[BaseException]()

    def work() -> None:
        try:
            answer("SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b", {}, run)
        except Cancelled as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        run.interrupt()
        thread.join(0.05)
    assert outcome
    assert not list(tmp_path.iterdir())


def test_texts_of_values() -> None:
    assert text(Decimal("1E+3")) == "1000"
    assert text(b"\x0a\xff") == "0a ff"
    assert text({"a": None, "b": [1, True]}) == "{a=null, b=[1, true]}"


@pytest.mark.parametrize(
    ("duckdb_type", "expected"),
    [
        *(("DECIMAL(18,6)", "decimal(18,6)"), ("HUGEINT", "bigint"), ("INTEGER[]", "array")),
        *(("TIMESTAMP WITH TIME ZONE", "timestamp with time zone"), ("TIMESTAMP_MS", "timestamp")),
        *(("STRUCT(a INTEGER)", "row"), ("MAP(VARCHAR, INTEGER)", "map"), ("BOOLEAN", "boolean")),
    ],
)
def test_types_are_named_as_athenas(duckdb_type: str, expected: str) -> None:
    assert athena_type(duckdb_type) == expected
