"""Queries of the embedded Athena that come to no answer: refused, failed, cut off, stopped."""

# ruff: noqa: S608 - statements made of the tests' own texts, to see what becomes of them
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import athena_server
import pytest
from athena_archive import line, one, put, query
from athena_server import ACCOUNT, REGION, Cloud

from awaited import until
from stockpipe.aws import Aws
from stockpipe.errors import LocalCloudError, NotProvisioned, QueryFailed
from stockpipe.queries.athena import archive_days, run

pytest.importorskip("ministack")


BILLION_ROWS = "SELECT sum(a.volume * b.volume * c.volume) FROM {t} a, {t} b, {t} c"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with athena_server.running(tmp_path_factory.mktemp("athena") / "home") as cloud:
        yield cloud


@pytest.fixture(scope="module")
def aws(cloud: Cloud) -> Aws:
    """A stack with one quote."""
    aws = cloud.stack("default")
    put(aws, "2022-03-01", "a", line("AAPL", "2022-03-01T14:30:00.000Z", "160", "150", seq=1))
    return aws


def state(aws: Aws, execution_id: str) -> str:
    execution = aws.client("athena").get_query_execution(QueryExecutionId=execution_id)
    found: str = execution["QueryExecution"]["Status"]["State"]
    return found


def long_query(cloud: Cloud, name: str) -> tuple[Aws, str]:
    """A stack, and a statement that would run for hours on it."""
    aws = cloud.stack(name)
    body = (line("AAPL", f"2022-03-01T14:30:00.{n:03d}Z", "1", seq=n) for n in range(1000))
    put(aws, "2022-03-01", "x", *(list(body) * 5))
    return aws, BILLION_ROWS.format(t=aws.names.glue_table)


def begin(aws: Aws, sql: str) -> str:
    """Start and do not wait; out: the execution's id."""
    started = aws.client("athena").start_query_execution(
        QueryString=sql,
        WorkGroup=aws.names.workgroup,
        QueryExecutionContext={"Database": aws.names.database},
    )
    execution_id: str = started["QueryExecutionId"]
    return execution_id


def test_a_line_that_is_not_json_is_named(cloud: Cloud) -> None:
    aws = cloud.stack("bad")
    put(aws, "2022-03-01", "x", line("AAPL", "2022-03-01T14:30:00.000Z", "1", seq=1), "oops\n")
    with pytest.raises(QueryFailed, match=r"HIVE_BAD_DATA: .*day=2022-03-01/x\.json, line 2"):
        query(aws, "sample")
    assert not cloud.leftovers()


@pytest.mark.parametrize(
    ("sql", "why", "error"),
    [
        ("SELEC 1", "SYNTAX_ERROR: line 1:1: mismatched input 'SELEC'", QueryFailed),
        ("SELECT nope FROM stock_data_table", "COLUMN_NOT_FOUND: Column 'nope'", QueryFailed),
        ("SELECT 1 FROM nope", "TABLE_NOT_FOUND: Table .*'? does not exist", QueryFailed),
        ("SELECT 1 FROM nope.t", "SCHEMA_NOT_FOUND: Schema 'nope' does not exist", QueryFailed),
        ("SELECT list_sum(ARRAY[1])", "FUNCTION_NOT_FOUND: .*'list_sum'", QueryFailed),
        ("SELECT soundex('a')", "NOT_SUPPORTED", QueryFailed),
        ("SELECT cast('x' AS integer)", "Could not convert string 'x'", QueryFailed),
    ],
)
def test_a_statement_fails_with_a_reason(
    aws: Aws, sql: str, why: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=why):
        run(aws, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_json('{file}')",
        "SELECT * FROM '{file}'",
        'SELECT * FROM "{file}"',
        "SELECT * FROM stock_data_table, '{file}'",
        "SELECT * FROM glob('{folder}/*')",
        "WITH t AS (SELECT * FROM read_blob('{file}')) SELECT * FROM t",
        "SELECT (SELECT content FROM read_text('{file}')) FROM stock_data_table",
        "COPY (SELECT 1) TO '{folder}/out'",
        "ATTACH '{folder}/out' AS x",
        "SELECT 1; COPY (SELECT 1) TO '{folder}/out'",
        "SELECT * FROM s3://x/y",
        "SELECT * FROM read_csv('s3://../../etc/passwd')",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SET threads = 64",
        "EXPORT DATABASE '{folder}'",
        "EXPLAIN SELECT * FROM read_csv('{file}')",
        "CREATE TABLE x AS SELECT * FROM read_csv('{file}')",
        "SHOW TABLES",
    ],
)
def test_the_hosts_files_are_out_of_reach(aws: Aws, tmp_path: Path, sql: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("user,password\nroot,hunter2\n", encoding="utf-8")
    with pytest.raises(QueryFailed) as caught:
        run(aws, sql.format(file=secret, folder=tmp_path))
    assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [secret]


def test_what_is_not_provisioned_is_said_so(cloud: Cloud) -> None:
    absent = Aws(region=REGION, stack="absent", endpoint=cloud.endpoint)
    with pytest.raises(NotProvisioned, match="workgroup stockpipe-absent"):
        run(absent, "SELECT 1")
    with pytest.raises(NotProvisioned, match="bucket"):
        archive_days(absent)
    absent.client("athena").create_work_group(
        Name=absent.names.workgroup,
        Configuration={"ResultConfiguration": {"OutputLocation": "s3://nowhere/"}},
    )
    with pytest.raises(NotProvisioned, match="Schema"):
        query(absent, "sample", since="2022-03-01", until="2022-03-02")
    with pytest.raises(QueryFailed, match="could not be written to s3://nowhere"):
        run(absent, "SELECT 1")


def test_the_workgroups_limit_cuts_a_query_off(cloud: Cloud) -> None:
    aws = cloud.stack("cutoff")
    put(aws, "2022-03-01", "x", line("AAPL", "2022-03-01T14:30:00.000Z", "1", seq=1))
    put(aws, "2022-03-02", "x", " " * 10_000_001)
    aws.client("athena").update_work_group(
        WorkGroup=aws.names.workgroup,
        ConfigurationUpdates={"BytesScannedCutoffPerQuery": 10_000_000},
    )
    assert len(query(aws, "sample", until="2022-03-01").rows) == 1
    with pytest.raises(QueryFailed, match="Bytes scanned limit was exceeded") as caught:
        query(aws, "sample")
    assert "query_limit_mb" in (caught.value.hint or "")


def test_a_stopped_query_stays_stopped_and_leaves_room(cloud: Cloud) -> None:
    aws, sql = long_query(cloud, "stop")
    client, started = aws.client("athena"), [begin(aws, sql) for _ in range(3)]
    until(lambda: [state(aws, one) for one in started] == ["RUNNING", "RUNNING", "QUEUED"])
    for execution_id in started:
        client.stop_query_execution(QueryExecutionId=execution_id)
        assert state(aws, execution_id) == "CANCELLED"
    # The engine has room again, so the others have really ended; and their state is final.
    assert one(aws, "SELECT 1") == 1
    assert {state(aws, execution_id) for execution_id in started} == {"CANCELLED"}
    until(lambda: not cloud.leftovers())


def test_an_interrupted_caller_stops_its_query(cloud: Cloud) -> None:
    aws, sql = long_query(cloud, "ctrl-c")
    started: list[str] = []

    def interrupt(execution_id: str) -> None:
        started.append(execution_id)
        until(lambda: state(aws, execution_id) == "RUNNING")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(aws, sql, on_started=interrupt)
    assert state(aws, started[0]) == "CANCELLED"
    until(lambda: not cloud.leftovers())


def test_the_server_answers_while_a_query_runs_and_exits_in_spite_of_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = tmp_path_factory.mktemp("exit") / "home"
    with athena_server.running(home) as cloud:
        aws, sql = long_query(cloud, "exit")
        begin(aws, sql)
        until(lambda: len(cloud.leftovers()) == 1)
        aws.client("s3").list_buckets()  # or it would wait until that query's end, for hours
        cloud.process.terminate()
        cloud.process.wait(timeout=30)
        assert not cloud.leftovers()


def test_a_query_that_a_restart_cut_short_does_not_run_for_ever() -> None:
    from stockpipe.local.athena.emulated import FixedAthena

    status = {"State": "RUNNING", "StateChangeReason": ""}
    module = ModuleType("athena")
    module.__dict__["_executions"] = {"id": {"Status": status}}
    responses = ModuleType("responses")
    responses.__dict__["get_account_id"] = lambda: ACCOUNT
    fixed = FixedAthena(module, ModuleType("glue"), ModuleType("s3"), responses)
    fixed.get_stock = lambda data: (200, {}, b"")
    assert fixed.get({"QueryExecutionId": "id"})[0] == 200
    assert status["State"] == "FAILED"
    assert "restarted" in status["StateChangeReason"]


def test_a_part_of_the_emulator_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from ministack.services import s3

    from stockpipe.local.athena import emulated as athena

    monkeypatch.delattr(s3, "_object_disk_path")
    with pytest.raises(LocalCloudError, match=r"ministack\.services\.s3\._object_disk_path"):
        athena.install()


def test_the_fix_is_still_needed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fails once ministack itself does what our Athena is for; then ours can go."""
    home = tmp_path_factory.mktemp("stock") / "home"
    with athena_server.running(home, "stock") as cloud:
        aws = cloud.stack("stock")
        put(aws, "2022-03-01", "a", line("AAPL", "2022-03-01T14:30:00.000Z", "1.5", seq=1))
        secret = home / "secret.csv"
        secret.write_text("word\nhunter2\n", encoding="utf-8")
        # It reads the host's files.
        assert one(aws, f"SELECT word FROM read_csv('{secret}')") == "hunter2"
        # It has neither Athena's functions nor the table's types, and invents the bytes.
        table = aws.names.glue_table
        with pytest.raises(QueryFailed):
            run(aws, f'SELECT from_iso8601_timestamp("timestamp") FROM {table}')
        result = run(aws, f"SELECT price FROM {table} WHERE day = '2022-03-01'")
        assert result.columns == (("price", "double"),)
        assert result.bytes_scanned < 20
        # It takes what Athena refuses, and a workgroup that is not there.
        assert one(aws, "SELECT 1::int") == 1
