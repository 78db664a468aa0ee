"""The whole pipeline through the installed command: what goes in comes out, exactly, once."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded import cleaned
from stockpipe_cli import Cli

from stockpipe.domain.exact import normalise_timestamp
from stockpipe.domain.signals import Reading, crossings
from stockpipe.feeds.replay import read_csv
from stockpipe.operate.status import GOOD_STATES
from yahoo_proxy import BATCH, Answer, YahooProxy, batch, entry

pytest.importorskip("ministack")

QUERIES = ("top-movers", "avg-volume", "anomalies", "sample")


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A provisioned stack in an embedded cloud of its own."""
    with cleaned(tmp_path_factory.mktemp("pipeline")) as home:
        found = Cli(home)
        found("provision")
        yield found


@pytest.fixture(scope="module")
def replayed(cli: Cli) -> Cli:
    cli("stream", "--source", "replay:sample", "--speed", "max")
    cli.settle()
    return cli


def expected_crossings() -> set[tuple[str, str, str]]:
    series: dict[str, list[Reading]] = {}
    for quote in read_csv("sample"):
        series.setdefault(quote.symbol, []).append(Reading(quote.timestamp, quote.price))
    return {
        (symbol, crossing.timestamp, crossing.kind)
        for symbol, readings in series.items()
        for crossing in crossings(readings, 5, 20)
    }


def alerted(cli: Cli) -> list[tuple[str, str, str]]:
    lines = cli("alerts", "history", "--json").lines
    return sorted((line["symbol"], line["timestamp"], line["kind"]) for line in lines)


def asked(cli: Cli) -> list[str]:
    return [cli("query", name, "--json").out for name in QUERIES]


def test_every_quote_is_stored_archived_and_every_crossing_alerted_once(replayed: Cli) -> None:
    keys = {quote.key for quote in read_csv("sample")}
    items = replayed.items()
    assert {(item["symbol"]["S"], item["timestamp"]["S"]) for item in items} == keys
    archived = replayed.archived()
    assert len(archived) == len(keys)
    assert {(line["symbol"], line["timestamp"]) for line in archived} == keys
    assert alerted(replayed) == sorted(expected_crossings())


def test_the_same_replay_again_changes_nothing(replayed: Cli) -> None:
    before = (alerted(replayed), len(replayed.items()), asked(replayed))
    replayed("stream", "--source", "replay:sample", "--speed", "max")
    replayed.settle()
    assert (alerted(replayed), len(replayed.items()), asked(replayed)) == before


def changes(plan: dict[str, Any]) -> int:
    """How many things the plan would touch; it must know of some that it keeps."""
    summary = plan["summary"]
    assert summary["keep"]
    return sum(int(count) for action, count in summary.items() if action != "keep")


def test_provisioning_again_changes_nothing(cli: Cli) -> None:
    plan = json.loads(cli("provision", "--plan", "--json", "--detailed-exitcode").out)
    assert changes(plan) == 0
    assert "Nothing to do" in cli("provision").err


def test_top_movers_has_one_row_per_symbol_its_latest(replayed: Cli) -> None:
    rows = json.loads(replayed("query", "top-movers", "-p", "by=gain", "--json").out)
    latest = {quote.symbol: quote for quote in read_csv("sample")}
    assert {row["symbol"]: row["timestamp"] for row in rows} == {
        symbol: quote.timestamp for symbol, quote in latest.items()
    }
    changes = [row["change_percent"] for row in rows]
    assert changes == sorted(changes, reverse=True)
    assert all(isinstance(change, float) for change in changes)
    (best,) = json.loads(
        replayed("query", "top-movers", "-p", "by=gain", "-p", "limit=1", "--json").out
    )
    assert best == rows[0]


def test_anomalies_agree_with_the_stored_flags(replayed: Cli) -> None:
    rows = json.loads(replayed("query", "anomalies", "-p", "limit=1000", "--json").out)
    flagged = {
        (item["symbol"]["S"], item["timestamp"]["S"])
        for item in replayed.items()
        if item["anomaly"]["S"] == "Yes"
    }
    assert {(row["symbol"], row["timestamp"]) for row in rows} == flagged
    assert len(flagged) > 100


def test_tail_shows_the_newest_records_as_plain_json(replayed: Cli) -> None:
    lines = replayed("tail", "AAPL", "--no-follow", "-n", "5", "--json").lines
    newest = [quote for quote in read_csv("sample") if quote.symbol == "AAPL"][-5:]
    assert [line["timestamp"] for line in lines] == [quote.timestamp for quote in newest]
    assert [round(line["price"] * 10**6) for line in lines] == [q.price for q in newest]
    assert len(replayed("tail", "--no-follow", "-n", "5").out.splitlines()) == 5


def test_status_is_healthy_and_names_every_symbol(replayed: Cli) -> None:
    document = json.loads(replayed("status", "--json").out)
    assert document["healthy"] is True
    assert {one["symbol"] for one in document["symbols"]} == {"AAPL", "GOOG", "IBM", "MSFT"}
    assert all(one["arn"] for one in document["resources"])


def put(cli: Cli, *payloads: bytes) -> None:
    """Straight into Kinesis, past our producer, as any other program would."""
    aws = cli.aws
    answer = aws.client("kinesis").put_records(
        StreamName=aws.names.stream,
        Records=[{"Data": payload, "PartitionKey": "X"} for payload in payloads],
    )
    assert answer["FailedRecordCount"] == 0


def quote_json(**changes: Any) -> bytes:
    fields = {
        "symbol": "POIS", "open": 1, "high": 1, "low": 1, "price": 1, "previous_close": 1,
        "volume": 1, "timestamp": "2022-03-14T13:30:00Z", **changes,
    }  # fmt: skip
    return json.dumps(fields).encode()


def test_poison_goes_to_quarantine_and_good_neighbours_are_stored(replayed: Cli) -> None:
    poison = [
        b"not json", b"\xff\xfe", b"", b'{"symbol": "POIS"}', quote_json(price=-1),
        quote_json(price=10**15), quote_json(price=float("nan")), quote_json(symbol="<script>"),
    ]  # fmt: skip
    batch = [item for one in poison for item in (one, quote_json())]
    put(replayed, *[item for item in batch if item], quote_json(price=2, volume=0))
    replayed.settle()
    aws = replayed.aws
    stored = [item for item in replayed.items(aws) if item["symbol"]["S"] == "POIS"]
    assert [item["price"]["N"] for item in stored] == ["2"]
    s3, bucket = aws.client("s3"), aws.names.data_bucket
    kept = s3.list_objects_v2(Bucket=bucket, Prefix="quarantine/").get("Contents", [])
    documents = [
        json.loads(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()) for entry in kept
    ]
    assert len(documents) == len([item for item in poison if item])
    assert all(document["reason"] and document["sequence_number"] for document in documents)
    # Not its exit code: the alarm on quarantine is on within a minute.
    assert "failed batches 0" in replayed("status", code=None).out


def test_another_stack_lives_beside_it_and_goes_without_a_trace(replayed: Cli) -> None:
    dev = Cli(replayed.home, stack="dev")
    dev("provision")
    dev("stream", "--source", "replay:sample", "--speed", "max", "IBM")
    dev.settle()
    assert len(dev.items()) == 252
    dev("teardown")
    plan = json.loads(dev("teardown", "--plan", "--json").out)
    assert plan["summary"]["delete"] == 0
    aws = replayed.aws
    assert aws.client("dynamodb").list_tables()["TableNames"] == [
        "stock-market-alerts", "stock-market-data",
    ]  # fmt: skip
    states = json.loads(replayed("status", "--json", code=None).out)["resources"]
    assert all(one["state"] in GOOD_STATES for one in states if one["kind"] != "alarm")


def test_a_foreign_table_of_our_name_is_refused_before_anything_is_made(cli: Cli) -> None:
    aws = cli.aws
    for name in ("stock-market-data-theirs", "stock-market-alerts-theirs"):
        aws.client("dynamodb").create_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
    theirs = Cli(cli.home, stack="theirs")
    refused = theirs("provision", code=1)
    assert "stock-market-data-theirs" in refused.err
    assert "stock-market-alerts-theirs" in refused.err
    assert "--stack" in refused.err
    assert "stock-market-stream-theirs" not in str(aws.client("kinesis").list_streams())
    theirs("teardown")
    assert len(aws.client("dynamodb").list_tables()["TableNames"]) >= 2
    for name in ("stock-market-data-theirs", "stock-market-alerts-theirs"):
        aws.client("dynamodb").delete_table(TableName=name)


def test_two_provisions_at_once_end_in_one_stack(cli: Cli) -> None:
    import subprocess

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
    both("teardown")


def test_the_recorded_bars_give_exactly_the_recorded_crossings(
    tmp_path: Path, shared_data: Path
) -> None:
    name = "intraday_1m_2022-03"
    bars = shared_data / "bars" / f"{name}.csv.gz"
    with cleaned(tmp_path / "home") as home:
        home.mkdir()
        cli = Cli(home)
        cli("provision")
        cli("stream", "--source", f"replay:{bars}", "--speed", "max")
        cli.settle()
        with gzip.open(bars, "rt") as stream:
            keys = {
                (r["symbol"], normalise_timestamp(r["timestamp"])) for r in csv.DictReader(stream)
            }
        assert len(keys) == 7790
        assert {(i["symbol"]["S"], i["timestamp"]["S"]) for i in cli.items()} == keys
        assert {(line["symbol"], line["timestamp"]) for line in cli.archived()} == keys
        with (shared_data / "expected" / f"{name}.crosses.csv").open() as stream:
            expected = sorted(
                (row["symbol"], normalise_timestamp(row["timestamp"]), row["kind"])
                for row in csv.DictReader(stream)
            )
        assert alerted(cli) == expected
        cli("teardown")
        assert "running        no" in cli("local", "status").out


def test_the_demo_works_twice_and_is_plain_when_piped(tmp_path: Path) -> None:
    with cleaned(tmp_path / "home") as home:
        home.mkdir()
        cli = Cli(home)
        environment = {"STOCKPIPE_STACK": ""}
        first = cli("demo", env=environment)
        again = cli("demo", env=environment)
        for said in (first, again):
            assert said.err == ""
            assert "1,008 quotes sent, 1,008 records stored" in said.out
            assert "63 crossings alerted through SNS, each once" in said.out
            assert "\x1b" not in said.out
            assert sys.platform != "linux" or "labelled source=replay" in said.out
        assert "removed first" in again.out
        cli("teardown", "--stack", "demo", env=environment)
        assert "running        no" in cli("local", "status").out


def test_live_quotes_flow_from_yahoo_into_the_table(cli: Cli, tmp_path: Path) -> None:
    live = Cli(cli.home, stack="live")
    live("provision")
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
    live("teardown")


def test_without_a_network_there_is_one_error_and_the_way_that_works(cli: Cli) -> None:
    closed = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    done = cli("stream", "--symbol", "AAPL", "--count", "5", env=closed, code=1)
    assert done.out == ""
    assert done.err.count("error:") == 1
    assert "Yahoo could not be reached" in done.err
    assert "replay:sample" in done.err


def test_capacity_mode_changes_in_place_and_shards_are_kept(cli: Cli) -> None:
    modes = Cli(cli.home, stack="modes")
    modes("provision")
    provisioned = {"STOCKPIPE_STREAM_MODE": "provisioned"}
    plan = json.loads(modes("provision", "--plan", "--json", env=provisioned).out)
    (change,) = [one for one in plan["changes"] if one["action"] == "update"]
    assert change["settings"] == {"mode": ["on-demand", "provisioned"]}
    modes("provision", env=provisioned)
    again = json.loads(modes("provision", "--plan", "--json", env=provisioned).out)
    assert changes(again) == 0
    resharded = modes("provision", env={**provisioned, "STOCKPIPE_SHARDS": "3"}, code=1)
    assert "cannot reshard" in resharded.err
    modes("teardown")
    modes("provision", env={**provisioned, "STOCKPIPE_SHARDS": "3"})
    modes("stream", "--source", "replay:sample", "--speed", "max")
    modes.settle()
    assert len(modes.items()) == 1008
    assert alerted(modes) == sorted(expected_crossings())
    modes("teardown")


def test_a_table_made_anew_gets_its_mapping_anew(cli: Cli) -> None:
    again = Cli(cli.home, stack="again")
    again("provision")
    again.aws.client("dynamodb").delete_table(TableName=again.aws.names.table)
    again("provision")
    found = again.aws.client("lambda").list_event_source_mappings(
        FunctionName=again.aws.names.trend_function
    )["EventSourceMappings"]
    table = again.aws.client("dynamodb").describe_table(TableName=again.aws.names.table)["Table"]
    assert [one["EventSourceArn"] for one in found] == [table["LatestStreamArn"]]
    again("teardown")
    assert again.aws.client("lambda").list_event_source_mappings()["EventSourceMappings"] != found
