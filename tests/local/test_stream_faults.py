"""What is streamed arrives, as it was and in order, whatever Kinesis does.

Every test says how often its faults must have hit: a fault that hit nothing has proved nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from embedded import cleaned, client
from faulty_stream import World, assert_whole_and_in_order, content, head_of, key, records, run
from kinesis_proxy import Fault, mixed
from stockpipe_cli import Cli

from real_bars import daily_bars, real_bars
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.feeds.recording import Recorder
from stockpipe.local import daemon
from stockpipe.producer.sender import Sender

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cleaned(tmp_path_factory.mktemp("stream-faults")) as home:
        (home / "stockpipe.toml").write_text('alarms = false\ndashboard = false\nsweep = "off"\n')
        daemon.ensure_running(home)
        Cli(home).make()
        yield World(home, count())


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real bars as a file: more than are read ahead of what is sent."""
    return head_of(daily_bars(tmp_path_factory.mktemp("daily")), 7_000)


@pytest.fixture(scope="module")
def few(daily: Path) -> Path:
    """The first of them."""
    return head_of(daily, 700)


def bars(symbols: int, each: int) -> list[Quote]:
    """Real prices as minutes of one day, so many of each of so many symbols, in time order."""
    found: dict[str, list[Quote]] = {}
    for quote in real_bars(12_000, recorded=False):
        found.setdefault(quote.symbol, []).append(quote)
    pieces = (
        [
            replace(
                quote,
                symbol=f"{symbol}-{first}",
                timestamp=f"2022-03-14T{13 + minute // 60}:{minute % 60:02d}:00.000Z",
            )
            for minute, quote in enumerate(of_symbol[first : first + each])
        ]
        for symbol, of_symbol in found.items()
        for first in range(0, len(of_symbol) - each + 1, each)
    )
    chosen = [quote for piece in islice(pieces, symbols) for quote in piece]
    assert len(chosen) == symbols * each
    return sorted(chosen, key=lambda quote: quote.timestamp)


def test_under_faults_of_every_kind_every_quote_is_stored_as_it_was_and_in_order(
    world: World, tmp_path: Path
) -> None:
    quotes, file = bars(symbols=15, each=14), tmp_path / "bars.ndjson"
    with Recorder(file) as recorder:
        recorder.write(quotes)
    whole = Cli(world.home)
    with world.proxy(mixed()) as proxy:
        said = whole(
            *("--target", "aws", "stream", "--source", f"replay:{file}"),
            *("--speed", "max"),
            env=world.through(proxy),
        ).err
    assert proxy.refused > len(quotes) / 10
    assert proxy.fired[Fault.SOME] > 10
    for fault in (Fault.THROTTLE, Fault.BROKEN, Fault.RESET, Fault.UNANSWERED, Fault.SLOW):
        assert proxy.fired[fault] > 0, fault
    assert f"Sent {len(quotes):,} quotes" in said
    assert "sent again" in said
    assert said.count("Nothing is dropped") == 1

    assert_whole_and_in_order(records(whole), quotes)
    whole.settle()
    items = {(item["symbol"]["S"], item["timestamp"]["S"]): item for item in whole.items()}
    assert items.keys() == {quote.key for quote in quotes}
    for quote in quotes:
        stored = items[quote.key]
        for field in ("open", "high", "low", "price"):
            assert round(float(stored[field]["N"]) * 10**6) == getattr(quote, field)
        assert int(stored["volume"]["N"]) == quote.volume
    archived = {
        key(line): content(line) for line in sorted(whole.archived(), key=lambda line: line["seq"])
    }
    assert archived == {quote.key: content(json.loads(quote_json(quote))) for quote in quotes}


def test_it_is_not_botocore_that_retries(world: World) -> None:
    """The sender alone: with a client that tries once."""
    cli, quotes, heard = world.bare(), bars(symbols=30, each=15), Counter[int]()
    cloud = cli.aws.endpoint
    assert cloud
    with world.proxy(mixed()) as proxy:
        connections: list[Any] = []

        def connect() -> Any:
            connections.append(client("kinesis", cloud._replace(url=proxy.url)))
            return connections[-1]

        sender = Sender(
            connect, cli.aws.names.stream, on_sent=lambda sent: heard.update([sent.position])
        )
        sender.send(quotes)
        assert sender.totals.requests == proxy.requests
    found = records(cli)
    assert_whole_and_in_order(found, quotes)
    assert heard == dict.fromkeys(range(len(quotes)), 1)
    assert sender.totals.resent >= len(found) - len(quotes) > 0
    assert proxy.fired[Fault.UNANSWERED] > 0


def test_expired_credentials_pause_and_resume(world: World, few: Path) -> None:
    cli = world.bare()
    with world.proxy([Fault.NONE, Fault.EXPIRED, Fault.EXPIRED]) as proxy:
        said = run(cli, few, world.through(proxy))
    assert proxy.fired[Fault.EXPIRED] == 2
    assert said.count("waiting for new ones: log in again") == 1
    assert_whole_and_in_order(records(cli), read_csv(str(few)))
