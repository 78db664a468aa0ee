"""The whole pipeline through the installed command, in stacks that are made for one test each."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded import cleaned
from sample_answers import alerted, changes, expected_signals
from stockpipe_cli import Cli
from terminal import on_terminal

import recorded
from long import LONG
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.local import daemon
from stockpipe.producer.sender import Sender
from yahoo_proxy import BATCH, Answer, YahooProxy, batch, entry

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """An embedded cloud in which nothing stands yet."""
    with cleaned(tmp_path_factory.mktemp("stacks")) as home:
        daemon.ensure_running(home)
        yield Cli(home)


def test_two_provisions_at_once_end_in_one_stack(cli: Cli) -> None:
    both = Cli(cli.home, stack="both")
    running = [
        subprocess.Popen(
            both.command("provision"),
            env=both.environment(),
            cwd=cli.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=90)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)
    plan = json.loads(both("provision", "--plan", "--json").out)
    assert changes(plan) == 0
    mappings = both.aws.client("lambda").list_event_source_mappings(
        FunctionName=both.aws.names.process_function
    )
    assert len(mappings["EventSourceMappings"]) == 1
    both.remove()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if bars < 1000 else LONG) for name, bars in recorded.BARS.items()],
)
def test_the_recorded_bars_give_exactly_the_recorded_signals(
    cli: Cli, shared_data: Path, name: str
) -> None:
    stack = Cli(cli.home, stack="recorded")
    stack.make()
    file = recorded.bars_file(shared_data, name)
    stack("stream", "--source", f"replay:{file}", "--speed", "max")
    stack.settle()
    keys = {quote.key for quote in read_csv(str(file))}
    assert len(keys) == recorded.BARS[name]
    assert {(item["symbol"]["S"], item["timestamp"]["S"]) for item in stack.items()} == keys
    assert {(line["symbol"], line["timestamp"]) for line in stack.archived()} == keys
    found = alerted(stack)
    crossings = sorted(recorded.crossings(shared_data, name))
    assert [one for one in found if one[2] != "move"] == crossings
    moves = sorted(recorded.moves(shared_data, name))
    assert [(one[0], one[1][:10]) for one in found if one[2] == "move"] == moves
    stack.remove()


def test_the_demo_works_in_a_pipe_and_again_on_a_terminal(tmp_path: Path) -> None:
    with cleaned(tmp_path / "home") as home:
        home.mkdir()
        cli = Cli(home)
        environment = {"STOCKPIPE_STACK": ""}
        piped = cli("demo", env=environment, cold=True)
        assert piped.err == ""
        assert "\x1b" not in piped.out
        assert "\a" not in piped.out
        assert sys.platform != "linux" or "labelled source=replay" in piped.out
        again = {**cli.environment(), **environment, "TERM": "xterm", "TERM_PROGRAM": "WezTerm"}
        shown = on_terminal(cli.command("demo"), again, cli.home)
        assert "removed first" in shown.raw
        # Of 63 crossings the first alone is a notification.
        (notified,) = re.findall(r"\x1b\]9;(.*?)\x07", shown.raw)
        assert re.fullmatch(r"[A-Z]+ (▲ golden|▼ death) cross at [\d.]+", notified)
        for said in (piped.out, shown.raw):
            assert "1,008 quotes sent, 1,008 records stored" in said
            assert "63 crossings (32 golden, 31 death) and 109 daily moves alerted" in said
        cli("teardown", "--stack", "demo", env=environment)
        assert "running        no" in cli("local", "status").out


def test_live_quotes_flow_from_yahoo_into_the_table(cli: Cli, tmp_path: Path) -> None:
    live = Cli(cli.home, stack="live")
    live.make()
    moments = [1761744600 + 60 * minute for minute in range(3)]
    answers = [
        Answer(batch(*(entry(symbol, regularMarketTime=at, marketState="REGULAR")
                       for symbol in ("AAPL", "BRK-B"))))
        for at in moments
    ]  # fmt: skip
    with YahooProxy(tmp_path) as yahoo:
        yahoo.answer(BATCH, *answers)
        sent = live(
            "stream", "AAPL", "--symbol", "brk-b", "--count", "3", "--interval", "500ms", "--json",
            env=yahoo.environment(),
        )  # fmt: skip
        assert len(yahoo.asked(BATCH)) == 3
    assert len(sent.lines) == 6
    assert all(line["shard"] and line["sequence_number"] for line in sent.lines)
    live.settle()
    items = live.items()
    assert {item["symbol"]["S"] for item in items} == {"AAPL", "BRK-B"}
    assert {item["source"]["S"] for item in items} == {"yahoo"}
    assert {item["price"]["N"] for item in items} == {"269.7"}
    assert len(items) == 6
    live.remove()


def test_capacity_mode_changes_in_place_and_shards_are_kept(cli: Cli) -> None:
    modes = Cli(cli.home, stack="modes")
    modes.make()
    provisioned = {"STOCKPIPE_STREAM_MODE": "provisioned"}
    plan = json.loads(modes("provision", "--plan", "--json", env=provisioned).out)
    (change,) = [one for one in plan["changes"] if one["action"] == "update"]
    assert change["settings"] == {"mode": ["on-demand", "provisioned"]}
    modes("provision", env=provisioned)
    again = json.loads(modes("provision", "--plan", "--json", env=provisioned).out)
    assert changes(again) == 0
    resharded = modes("provision", env={**provisioned, "STOCKPIPE_SHARDS": "3"}, code=1)
    assert "cannot reshard" in resharded.err
    modes.remove()
    modes("provision", env={**provisioned, "STOCKPIPE_SHARDS": "3"})
    quotes = read_csv("sample")[:160]
    Sender(lambda: modes.aws.client("kinesis"), modes.aws.names.stream).send(quotes)
    modes.settle()
    assert len(modes.items()) == 160
    assert alerted(modes) == expected_signals(quotes)
    modes.remove()


def test_a_table_made_anew_gets_its_mapping_anew(cli: Cli) -> None:
    again = Cli(cli.home, stack="again")
    again.make()
    again.aws.client("dynamodb").delete_table(TableName=again.aws.names.table)
    again("provision")
    found = again.aws.client("lambda").list_event_source_mappings(
        FunctionName=again.aws.names.trend_function
    )["EventSourceMappings"]
    table = again.aws.client("dynamodb").describe_table(TableName=again.aws.names.table)["Table"]
    assert [one["EventSourceArn"] for one in found] == [table["LatestStreamArn"]]
    again.remove()
    assert again.aws.client("lambda").list_event_source_mappings()["EventSourceMappings"] != found
