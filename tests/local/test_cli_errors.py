"""What a user does wrong: one clear error, the right exit code, nothing sent, nothing made."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded import cleaned
from stockpipe_cli import Cli

from awaited import until
from stockpipe.infra.plan import Action, plan_provision
from stockpipe.local import daemon

pytest.importorskip("ministack")

HEADER = "symbol,timestamp,open,high,low,close,volume,previous_close\n"


def bar(
    symbol: str = "AAPL", time: str = "2022-03-14T13:31:00Z", close: str = "2", volume: str = "100"
) -> str:
    return f"{symbol},{time},1,2,1,{close},{volume},\n"


GOOD = bar(time="2022-03-14T13:30:00Z")


@contextlib.contextmanager
def unwatched(cli: Cli) -> Iterator[Cli]:
    """A stack is smaller without what nothing here looks at."""
    file = cli.home / "stockpipe.toml"
    file.write_text("alarms = false\ndashboard = false\nsweep = 'off'\n")
    try:
        yield cli
    finally:
        file.unlink()


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A stack that stays empty."""
    with cleaned(tmp_path_factory.mktemp("errors")) as home:
        daemon.ensure_running(home)
        with unwatched(Cli(home)) as found:
            found.make()
        yield found


@pytest.fixture(scope="module")
def fed(cli: Cli) -> Cli:
    """A stack that takes quotes."""
    with unwatched(Cli(cli.home, stack="fed")) as found:
        found.make()
    return found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["query", "top-mover"], "top-movers"),
        (["query", "top-movers", "-p", "limit=many"], "limit"),
        (["query", "top-movers", "-p", "limt=5"], "limit"),
        (["query", "top-movers", "-p", "by=up"], "abs, gain, loss"),
        (["query"], "--list"),
        (["query", "sample", "--format", "xml"], "table, json, csv, markdown"),
        (["query", "sample", "-p", "symbol=';DROP TABLE x"], "symbol"),
        (["alerts", "--since", "1h", "history"], "--since belongs behind history"),
        (["alerts", "--json", "subscribers"], "--json belongs behind subscribers"),
        (["stream", "--source", "bloomberg"], "yahoo-stream"),
        (["stream", "--source", "replay:sample", "--speed", "warp"], "60x"),
        (["stream", "AA PL", "--source", "replay:sample"], "1 to 20"),
        (["stream", "--interval", "0s"], "every tick"),
        (["stream", "--count", "0"], "count"),
        (["stream", "--source", "replay:sample", "NOPE"], "holds no quotes of NOPE"),
        (["tail", "--since", "yesterday"], "a time like"),
        (["provision", "--stack", "Prod"], "stack"),
        (["provision", "--target", "moon"], "target"),
        (["provision", "--region", "us-east"], "us-east-2"),
        (["teardown", "--confirm", "other"], "nothing was deleted"),
        (["local", "reset"], "--yes"),
        (["frobnicate"], "frobnicate"),
        (["demo", "--target", "aws"], "always runs on target local"),
    ],
)
def test_usage_errors_say_the_rule_and_exit_with_2(
    cli: Cli, arguments: list[str], said: str
) -> None:
    done = cli(*arguments, code=2)
    assert said in done.err
    assert done.out == ""


def test_errors_are_json_where_json_was_asked_for(cli: Cli) -> None:
    done = cli("query", "top-mover", "--json", code=2)
    problem = json.loads(done.err.splitlines()[-1])
    assert "top-mover" in problem["error"]
    assert "top-movers" in problem["hint"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER + GOOD + bar(close="x"), "line 3, column close: must be a number"),
        (HEADER + GOOD + bar(close="-2"), "line 3, column close: must be above 0"),
        (HEADER + bar(close="NaN"), "line 2, column close: must be a number"),
        (HEADER + bar(time="2022-03-14"), "line 2, column timestamp: must be ISO 8601"),
        (HEADER + bar(time="2022-03-14T13:31:00"), "column timestamp: has no time zone"),
        (HEADER + bar(symbol=""), "line 2, column symbol: must be 1 to 20"),
        (HEADER + bar(volume=""), "line 2, column volume: is missing"),
        (HEADER + "AAPL,2022-03-14T13:31:00Z,1,2\n", "line 2, column (all): has 4 fields, not 8"),
        ("symbol,timestamp,open,high,low,closing,volume\n", "line 1, column closing: is none of"),
        ("symbol,timestamp,open,high,low,volume\n", "column close: exactly one of close and price"),
        (HEADER, "holds no quotes"),
        ("", "is empty"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_and_nothing_is_sent(
    cli: Cli, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(text)
    done = cli("stream", "--source", f"replay:{file}", "--speed", "max", code=1)
    assert "prices.csv" in done.err
    assert said in done.err
    assert cli.items() == []


def test_a_file_that_is_not_there_or_not_text(cli: Cli, tmp_path: Path) -> None:
    missing = cli("stream", "--source", "replay:nowhere.csv", code=1)
    assert "There is no file nowhere.csv" in missing.err
    binary = tmp_path / "x.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    assert "not UTF-8" in cli("stream", "--source", f"replay:{binary}", code=1).err
    cut = tmp_path / "x.csv.gz"
    cut.write_bytes(b"\x1f\x8b\x08\x00broken")
    assert "gzip" in cli("stream", "--source", f"replay:{cut}", code=1).err


def test_settings_are_checked_where_they_are_read(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "stockpipe.toml"
    for text, said in (
        ('stack = "dev "\n', "space at its start or end"),
        ('stack = "d\u200bev"\n', "invisible"),
        ('stak = "dev"\n', "Did you mean stack"),
        ("interval = 0\n", "interval"),
        ('interval = "soon"\n', "30s"),
        ("batch_size = 0\n", "batch_size"),
        ("stack = \n", "is not TOML"),
        ('[[rules]]\nkind = "moon"\n', "kind"),
        ("[[rules]]\nfast = 20\nslow = 5\n", "fast < slow"),
        ("shards = 2\n", "provisioned"),
    ):
        file.write_text(text)
        done = cli("config", "show", cwd=tmp_path, code=2)
        assert said in done.err
        assert "stockpipe.toml" in done.err or "Did you mean" in said


def test_settings_show_their_origin(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "stockpipe.toml").write_text('symbols = ["msft", "AAPL"]\nregion = "eu-west-1"\n')
    done = cli("config", "show", "--json", cwd=tmp_path, env={"STOCKPIPE_REGION": "us-west-2"})
    shown = json.loads(done.out)
    assert shown["symbols"]["value"] == ["MSFT", "AAPL"]
    assert shown["symbols"]["origin"].endswith("stockpipe.toml")
    assert shown["region"] == {"value": "us-west-2", "origin": "STOCKPIPE_REGION"}
    assert shown["interval"] == {"value": 30.0, "origin": "default"}


def test_the_written_settings_file_is_valid_and_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    cli("config", "init", cwd=tmp_path)
    assert "left alone" in cli("config", "init", cwd=tmp_path, code=2).err
    file = tmp_path / "stockpipe.toml"
    before = json.loads(cli("config", "show", "--json", cwd=cli.home).out)
    shown = json.loads(cli("config", "show", "--json", cwd=tmp_path).out)
    assert shown == before
    live = [
        line[2:]
        for line in file.read_text().splitlines()
        if line.startswith("# ") and " = " in line
    ]
    values = [line for line in live if "unset" not in line and not line.startswith("shards")]
    tables = [f"[[rules]]\n{line}" if line.startswith("kind = ") else line for line in values]
    file.write_text("\n".join(tables))
    uncommented = json.loads(cli("config", "show", "--json", cwd=tmp_path).out)
    assert {k: v["value"] for k, v in uncommented.items()} == {
        k: v["value"] for k, v in before.items()
    }


def test_replayed_quotes_are_not_mixed_into_live_ones(fed: Cli, tmp_path: Path) -> None:
    aws = fed.aws
    live = {
        "symbol": "AAPL", "open": 1, "high": 1, "low": 1, "price": 1, "volume": 1,
        "timestamp": "2022-03-14T13:30:00Z", "source": "yahoo",
    }  # fmt: skip
    aws.client("kinesis").put_record(
        StreamName=aws.names.stream, Data=json.dumps(live).encode(), PartitionKey="AAPL"
    )
    until(lambda: "AAPL" in {item["symbol"]["S"] for item in fed.items()}, within_s=90)
    file = tmp_path / "prices.csv"
    file.write_text(HEADER + bar() + bar("IBM"))
    replay = ("stream", "--source", f"replay:{file}", "--speed", "max")
    refused = fed(*replay, code=2)
    assert "AAPL has live quotes" in refused.err
    assert "--mix" in refused.err
    fed(*replay, "IBM")


def test_without_a_stack_every_command_names_the_next_step(cli: Cli) -> None:
    empty = Cli(cli.home, stack="empty")
    for arguments in (
        ["stream", "--source", "replay:sample", "--speed", "max"],
        ["tail", "--no-follow"],
        ["query", "sample"],
        ["alerts", "history"],
    ):
        done = empty(*arguments, code=1)
        assert "provision" in done.err
    assert "Nothing is provisioned" in empty("status", code=1).err


def test_empty_results_say_where_they_looked(cli: Cli) -> None:
    for arguments in (["tail", "--no-follow"], ["query", "sample"], ["alerts", "history"]):
        done = cli(*arguments)
        assert done.out in ("", "\n") or arguments[0] == "query"
        assert "stack default" in done.err


def test_an_interrupt_ends_a_replay_with_its_summary(fed: Cli) -> None:
    process = subprocess.Popen(
        fed.command("stream", "MSFT", "--source", "replay:sample", "--speed", "86400x", "-v"),
        env=fed.environment(),
        cwd=fed.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "shardId" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "Interrupted. Sent " in err
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error(cli: Cli) -> None:
    process = subprocess.Popen(
        cli.command("query", "--list"),
        env=cli.environment(),
        cwd=cli.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(timeout=90)


@pytest.mark.parametrize("statement", ["DROP TABLE stock_data_table", "INSERT INTO t VALUES (1)"])
def test_a_query_only_reads(cli: Cli, statement: str) -> None:
    assert "only reads" in cli("query", "--sql", statement, code=2).err


def test_a_listener_that_goes_away_stops_no_provision(cli: Cli) -> None:
    with unwatched(Cli(cli.home, stack="half")) as half:
        process = subprocess.Popen(
            half.command("provision"),
            env=half.environment(),
            cwd=cli.home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        assert process.wait(timeout=90) == 0
        plan = plan_provision(half.resources())
    assert {change.action for change in plan.changes} == {Action.KEEP}
