"""The journal's files: what is in them once, cut off, damaged, superfluous, or on a full disk."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from embedded import client, kill, servers
from journal_home import (
    after_a_snapshot,
    entry,
    items,
    journaled,
    journals,
    journals_in,
    left_behind,
    saved,
    with_quotes_and_things,
)

from awaited import until
from stockpipe.aws import Endpoint
from stockpipe.errors import LocalCloudError
from stockpipe.local import daemon
from stockpipe.local.emulator.journal import Journal
from stockpipe.local.home import Places

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with journaled(tmp_path_factory.mktemp("journal")) as home:
        yield home


@pytest.fixture
def cloud(home: Path) -> Endpoint:
    return with_quotes_and_things(home)


def test_a_snapshot_makes_the_journal_before_it_superfluous(home: Path, cloud: Endpoint) -> None:
    def put(key: str) -> None:
        client("dynamodb", cloud).put_item(TableName="things", Item={"k": {"S": key}})

    put("first")
    snapshot = Places(home).state / "snapshot.jsonl"
    until(lambda: b'"first"' in snapshot.read_bytes())
    until(lambda: not any(b"first" in file.read_bytes() for file in journals(home)))
    put("second")
    kept = b"".join(file.read_bytes() for file in [*journals(home), snapshot])
    assert b"second" in kept
    assert daemon.stop(home)
    assert b"".join(file.read_bytes() for file in journals(home)) == b""


@pytest.mark.parametrize("cut", [slice(20), slice(-5)], ids=["in its header", "in its body"])
def test_an_entry_that_was_cut_off_was_never_acknowledged(
    home: Path, cloud: Endpoint, cut: slice
) -> None:
    client("dynamodb", cloud).put_item(TableName="things", Item={"k": {"S": "whole"}})
    kill(home)
    left_behind(home, entry("things", "parts")[cut])
    assert items(daemon.ensure_running(home)) == {"whole": None}


def test_a_damaged_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    Places(tmp_path).make()
    damaged = Places(tmp_path).state / "journal-1000"
    damaged.write_bytes(b"no entry\n")
    with pytest.raises(LocalCloudError, match="journal-1000 is damaged") as caught:
        daemon.ensure_running(tmp_path)
    assert "reset" in str(caught.value.hint)
    assert damaged.read_bytes() == b"no entry\n"


def test_what_cannot_be_repeated_is_said_in_the_log_and_keeps_no_cloud_from_starting(
    home: Path, cloud: Endpoint
) -> None:
    kill(home)
    unheard_of = entry("things", "k", "UpdateItem", Key={"k": {"S": "k"}}, UpdateExpression="HM v")
    breaks_its_handler = entry("things", "k", "BatchWriteItem", RequestItems=7)
    of_no_table = entry("gone", "k") * 2
    left_behind(home, of_no_table + unheard_of + breaks_its_handler + entry("things", "after"))

    assert items(daemon.ensure_running(home)) == {"after": None}
    log = Places(home).log.read_text()
    assert "4 of 5 writes since the last snapshot could not be repeated: " in log
    (line,) = [line for line in log.splitlines() if "could not be repeated" in line]
    assert "ResourceNotFoundException" in line
    assert "(2); " in line
    assert "Invalid UpdateExpression" in line
    assert "Traceback" in log


def test_a_journal_that_a_snapshot_holds_already_is_not_done_again(
    home: Path, cloud: Endpoint
) -> None:
    """A kill may come after the snapshot is in place, and before the older files are gone."""
    kill(home)
    add = entry(
        "things", "", "UpdateItem", Key={"k": {"S": "counter"}}, UpdateExpression="ADD v :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )  # fmt: skip
    number = saved(home)
    for old in (number - 1, number - 2):
        (Places(home).state / f"journal-{old}").write_bytes(add)
    left_behind(home, add)
    assert items(daemon.ensure_running(home)) == {"counter": "1"}


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process's files")
def test_a_snapshot_that_cannot_be_written_costs_no_journal(home: Path, cloud: Endpoint) -> None:
    dynamodb = client("dynamodb", cloud)
    for number in range(4):  # so that a snapshot is longer than all of the journal below
        dynamodb.put_item(
            TableName="things", Item={"k": {"S": f"filler-{number}"}, "v": {"S": "x" * 30_000}}
        )
    after_a_snapshot(home, cloud)
    [server] = servers(home)
    unlimited = resource.prlimit(server, resource.RLIMIT_FSIZE)
    resource.prlimit(server, resource.RLIMIT_FSIZE, (20_000, unlimited[1]))
    dynamodb.put_item(TableName="things", Item={"k": {"S": "acknowledged"}})
    until(lambda: "writes are refused for now" in Places(home).log.read_text())
    kill(home)
    assert "acknowledged" in items(daemon.ensure_running(home))


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process's files")
def test_after_a_write_that_could_not_be_kept_no_other_is_taken_until_a_snapshot(
    home: Path, cloud: Endpoint
) -> None:
    """It is done, though not acknowledged: a condition of the next attempt is told so."""
    dynamodb = client("dynamodb", cloud)
    after_a_snapshot(home, cloud)
    [server] = servers(home)
    unlimited = resource.prlimit(server, resource.RLIMIT_FSIZE)
    resource.prlimit(server, resource.RLIMIT_FSIZE, (0, unlimited[1]))

    def put() -> None:
        dynamodb.put_item(
            TableName="things",
            Item={"k": {"S": "once"}},
            ConditionExpression="attribute_not_exists(k)",
        )

    with pytest.raises(ClientError, match=r"InternalFailure.*File too large"):
        put()
    with pytest.raises(ClientError, match="cannot save its data: File too large"):
        put()
    resource.prlimit(server, resource.RLIMIT_FSIZE, unlimited)

    def answer() -> str:
        with pytest.raises(ClientError) as caught:
            put()
        return str(caught.value.response["Error"]["Code"])

    until(lambda: answer() == "ConditionalCheckFailedException")
    kill(home)
    assert items(daemon.ensure_running(home)) == {"once": None}


@pytest.mark.skipif(sys.platform != "linux", reason="limits the files of this process")
def test_an_entry_that_was_written_in_part_is_taken_back(tmp_path: Path) -> None:
    """Or what follows would be read as its body."""
    journal, moment = Journal(tmp_path), [1, 1, 1.0]
    journal.keep("service", moment, {}, b"first")
    [file] = journals_in(tmp_path)
    first = file.read_bytes()
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(first) + 200, unlimited[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.keep("service", moment, {}, b"x" * 1_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert file.read_bytes() == first
    journal.keep("service", moment, {}, b"first")
    assert file.read_bytes() == first * 2
