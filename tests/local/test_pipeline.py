"""The whole pipeline through the installed command: what goes in comes out, exactly, once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from embedded import cleaned
from sample_answers import alerted, expected_signals
from stockpipe_cli import Cli

from stockpipe.feeds.csv_bars import read_csv
from stockpipe.infra.plan import plan_provision, plan_teardown
from stockpipe.local import daemon

pytest.importorskip("ministack")

REPLAY = ("--source", "replay:sample", "--speed", "max")
DAYS = 150
QUOTES = read_csv("sample")[: 4 * DAYS]  # more than one request to Kinesis may hold
QUERIES = ("top-movers", "avg-volume", "anomalies", "sample")


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A provisioned stack in an embedded cloud of its own."""
    with cleaned(tmp_path_factory.mktemp("pipeline")) as home:
        daemon.ensure_running(home)
        found = Cli(home)
        found("provision")
        yield found


@pytest.fixture(scope="module")
def archived(cli: Cli) -> list[dict[str, Any]]:
    """What one replay archives; looked at before a test replays the same again."""
    cli("stream", *REPLAY, "--count", str(DAYS))
    cli.settle()
    return cli.archived()


@pytest.fixture(scope="module")
def replayed(cli: Cli, archived: list[dict[str, Any]]) -> Cli:
    return cli


@pytest.fixture
def beside(cli: Cli) -> Cli:
    """Another stack in the same cloud: what it stores is no part of the sample."""
    found = Cli(cli.home, stack="dev")
    found.make()
    return found


def asked(cli: Cli) -> list[str]:
    return [cli("query", name, "--json").out for name in QUERIES]


def test_every_quote_is_stored_archived_and_every_signal_alerted_once(
    replayed: Cli, archived: list[dict[str, Any]]
) -> None:
    keys = {quote.key for quote in QUOTES}
    items = replayed.items()
    assert {(item["symbol"]["S"], item["timestamp"]["S"]) for item in items} == keys
    assert len(archived) == len(keys)
    assert {(line["symbol"], line["timestamp"]) for line in archived} == keys
    assert alerted(replayed) == expected_signals(QUOTES)


def test_the_same_replay_again_changes_nothing(replayed: Cli) -> None:
    before = (alerted(replayed), len(replayed.items()), asked(replayed))
    replayed("stream", "AAPL", *REPLAY, "--count", str(DAYS))
    replayed.settle()
    assert (alerted(replayed), len(replayed.items()), asked(replayed)) == before


def test_provisioning_again_changes_nothing(cli: Cli) -> None:
    assert "Nothing to do" in cli("provision").err


def test_top_movers_has_one_row_per_symbol_its_latest(replayed: Cli) -> None:
    rows = json.loads(replayed("query", "top-movers", "-p", "by=gain", "--json").out)
    latest = {quote.symbol: quote for quote in QUOTES}
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
    assert len(flagged) > 90


def test_tail_shows_the_newest_records_as_plain_json(replayed: Cli) -> None:
    lines = replayed("tail", "AAPL", "--no-follow", "-n", "5", "--json").lines
    newest = [quote for quote in QUOTES if quote.symbol == "AAPL"][-5:]
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


def test_poison_goes_to_quarantine_and_good_neighbours_are_stored(beside: Cli) -> None:
    poison = [
        b"not json", b"\xff\xfe", b"", b'{"symbol": "POIS"}', quote_json(price=-1),
        quote_json(price=10**15), quote_json(price=float("nan")), quote_json(symbol="<script>"),
    ]  # fmt: skip
    batch = [item for one in poison for item in (one, quote_json())]
    put(beside, *[item for item in batch if item], quote_json(price=2, volume=0))
    beside.settle()
    aws = beside.aws
    stored = [item for item in beside.items(aws) if item["symbol"]["S"] == "POIS"]
    assert [item["price"]["N"] for item in stored] == ["2"]
    s3, bucket = aws.client("s3"), aws.names.data_bucket
    kept = s3.list_objects_v2(Bucket=bucket, Prefix="quarantine/").get("Contents", [])
    documents = [
        json.loads(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()) for entry in kept
    ]
    assert len(documents) == len([item for item in poison if item])
    assert all(document["reason"] and document["sequence_number"] for document in documents)
    # Not its exit code: the alarm on quarantine is on within a minute.
    assert "failed batches 0" in beside("status", code=None).out


def test_another_stack_lives_beside_it_and_goes_without_a_trace(replayed: Cli, beside: Cli) -> None:
    tables = beside.aws.client("dynamodb").list_tables()["TableNames"]
    own = {beside.aws.names.table, beside.aws.names.alerts_table}
    beside("stream", "IBM", *REPLAY, "--count", "40")
    beside.settle()
    assert len([item for item in beside.items() if item["symbol"]["S"] == "IBM"]) == 40
    beside("teardown")
    assert plan_teardown(beside.resources()).changes == ()
    left = replayed.aws.client("dynamodb").list_tables()["TableNames"]
    assert set(left) == set(tables) - own
    assert {"stock-market-alerts", "stock-market-data"} <= set(left)
    assert plan_provision(replayed.resources()).pending == []
