"""The embedded cloud is killed at random during a replay: nothing is lost, every alert is there."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded import cleaned, servers
from stockpipe_cli import Cli

from awaited import until
from long import LONG
from real_bars import real_bars
from stockpipe.domain.quote import Quote
from stockpipe.domain.rules.crossover import crossings
from stockpipe.domain.signals import Reading
from stockpipe.infra.apply import apply
from stockpipe.infra.blueprint import blueprint
from stockpipe.infra.plan import plan_provision
from stockpipe.local import daemon
from stockpipe.local.contact import save
from stockpipe.local.home import Places
from stockpipe.local.outbox import NOTIFICATION, Outbox
from stockpipe.operate.alerts import history
from stockpipe.producer.sender import Sender
from stockpipe.settings import Settings

pytest.importorskip("ministack")

READER = "reader@example.com"


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    with cleaned(tmp_path / "home") as home:
        daemon.ensure_running(home)
        cli = Cli(home)
        settings = Settings(notify_max_age="off", emails=(READER,))
        apply(plan_provision(blueprint(cli.aws, settings)), lambda step: None)
        save(home)  # as provision does
        yield cli


def expected_alerts(quotes: list[Quote]) -> set[tuple[str, str]]:
    series: dict[str, list[Reading]] = defaultdict(list)
    for quote in quotes:
        series[quote.symbol].append(Reading(quote.timestamp, quote.price))
    return {
        (symbol, crossing.timestamp)
        for symbol, readings in series.items()
        for crossing in crossings(readings, 5, 20)
    }


@pytest.mark.parametrize(("kills", "bars"), [(4, 1_500), pytest.param(10, 7_790, marks=LONG)])
def test_kills_at_random_lose_no_record_and_no_alert(cli: Cli, kills: int, bars: int) -> None:
    """The producer sends again what was not acknowledged, and nothing else: what was is there."""
    quotes = real_bars(bars, recorded=False)
    expected = expected_alerts(quotes)
    assert len(quotes) == bars
    assert len(expected) > bars / 30
    producer = Sender(lambda: cli.aws.client("kinesis"), cli.aws.names.stream)
    failures: list[BaseException] = []

    def send() -> None:
        try:
            for start in range(0, bars, 100):
                producer.send(quotes[start : start + 100])
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    chance = random.Random(7)
    for number in range(kills):
        # Each kill falls somewhere into a tenth of the replay, and after what came before it.
        due = int((number + chance.random()) * bars / kills)
        until(lambda due=due: producer.totals.sent >= due or failures, within_s=60)  # type: ignore[misc]
        (server,) = servers(cli.home)
        os.kill(server, signal.SIGKILL)
        until(lambda: not daemon.status(cli.home).running)
        daemon.ensure_running(cli.home)
    sender.join(60)
    assert not sender.is_alive()
    assert not failures
    assert producer.totals.sent == bars

    cli.settle()
    keys = {quote.key for quote in quotes}
    assert {(item["symbol"]["S"], item["timestamp"]["S"]) for item in cli.items()} == keys
    assert {(line["symbol"], line["timestamp"]) for line in cli.archived()} == keys

    def alerted() -> Counter[tuple[str, str]]:
        table = cli.aws.names.alerts_table
        rows = history(cli.aws.client("dynamodb"), table)
        return Counter((row["symbol"], row["timestamp"]) for row in rows if row["status"] == "sent")

    until(lambda: len(alerted()) == len(expected), within_s=90)
    assert alerted() == Counter(expected)
    # A kill between publishing and marking is the one thing that doubles (docs/architecture.md).
    mails = [mail for mail in Outbox(Places(cli.home).local).read() if mail.type == NOTIFICATION]
    assert len(expected) <= len(mails) <= len(expected) + kills
