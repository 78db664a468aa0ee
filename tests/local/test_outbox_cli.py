"""`stockpipe local outbox`: a person sees every mail of the pipeline, with and without a server."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from embedded import cleaned
from outbox_messages import MAIL, SAMPLE, numbered
from stockpipe_cli import Cli, Result

from stockpipe.local import daemon
from stockpipe.local.home import Places
from stockpipe.local.outbox import Outbox

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A stack with a mail address, after real prices, of 40 days, went through it."""
    with cleaned(tmp_path_factory.mktemp("alerted")) as home:
        cli = Cli(home)
        (home / "stockpipe.toml").write_text(
            f'notify_max_age = "off"\nemails = ["{MAIL}"]\n'
            'alarms = false\ndashboard = false\nsweep = "off"\n'
        )
        daemon.ensure_running(home)
        cli.make()
        cli("stream", "--source", "replay:sample", "--speed", "max", "--count", "40")
        cli.settle()
        yield cli


def outbox(cli: Cli, *arguments: str) -> Result:
    return cli("local", "outbox", *arguments)


def test_every_alert_of_the_pipeline_is_one_mail(replayed: Cli) -> None:
    history = replayed("alerts", "history", "--json").lines
    invitation, *mails = outbox(replayed, "-n", "1000", "--json").lines
    assert invitation["type"] == "SubscriptionConfirmation"
    assert {mail["to"] for mail in mails} == {MAIL}
    told = [(mail["attributes"]["symbol"], mail["attributes"]["signal"]) for mail in mails]
    assert sorted(told) == sorted((one["symbol"], one["kind"]) for one in history)
    times = [line for mail in mails for line in mail["text"].splitlines() if "quote" in line]
    assert len(mails) == len(set(zip(told, times, strict=True))) == len(history) > 0


def test_a_person_reads_one_line_a_message_newest_last(replayed: Cli) -> None:
    said = outbox(replayed, "-n", "3").out.splitlines()
    newest = outbox(replayed, "-n", "3", "--json").lines
    assert len(said) == 3
    for line, mail in zip(said, newest, strict=True):
        first = mail["text"].splitlines()[0]
        assert line == f"{mail['time'][:19]}Z  email  {MAIL}  {mail['subject']}  {first}"
    whole = outbox(replayed, "-n", "1", "-v").out
    assert all(line in whole for line in newest[-1]["text"].splitlines())


def test_nothing_to_show_is_said_with_the_place_and_no_server_is_needed(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    for arguments in ((), ("--json",), ("--clear",)):
        found = outbox(cli, *arguments)
        assert found.out == ""
    empty = outbox(cli)
    assert str(Outbox(Places(tmp_path).local).path) in empty.err
    assert "--target aws" in empty.err
    assert not daemon.status(tmp_path).running


def test_it_is_read_and_cleared_without_a_server(tmp_path: Path) -> None:
    Places(tmp_path).make()
    Outbox(Places(tmp_path).local).append(
        replace(SAMPLE, text="a\x1b[2Jb"),
        replace(SAMPLE, protocol="http", status="failed", attempts=4, error="Connection refused"),
    )
    first, second = outbox(Cli(tmp_path)).out.splitlines()
    assert first.endswith("Stock Alert: AAPL  a [2Jb")  # nothing moves the cursor
    assert second.endswith("[NOT DELIVERED, 4 attempts: Connection refused]")
    outbox(Cli(tmp_path), "--clear")
    assert outbox(Cli(tmp_path)).out == ""


def test_a_follower_is_shown_what_comes_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    Places(tmp_path).make()
    kept, cli = Outbox(Places(tmp_path).local), Cli(tmp_path)
    kept.append(*numbered(1, 2))
    following = subprocess.Popen(
        cli.command("local", "outbox", "--follow", "--json", "-n", "1"),
        env=cli.environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    try:
        shown = [json.loads(following.stdout.readline())["message_id"]]
        kept.append(*numbered(3))
        shown.append(json.loads(following.stdout.readline())["message_id"])
        following.send_signal(signal.SIGINT)
        assert following.communicate(timeout=20)[0] == ""
    finally:
        following.kill()
        following.wait()
    assert (shown, following.returncode) == (["2", "3"], 130)
