"""What is streamed arrives, as it was and in order: under faults, after a crash, at a Ctrl-C.

Every test says how often its faults must have hit: a fault that hit nothing has proved nothing.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from embedded import cleaned, client, until
from kinesis_proxy import Fault, KinesisProxy, mixed
from stockpipe_cli import Cli

from real_bars import daily_bars, real_bars
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.feeds.recording import Recorder
from stockpipe.local import daemon
from stockpipe.producer.sender import Sender

pytest.importorskip("ministack")

LEAVES_WITHIN_S = 3.0
SAVED_EVERY_S = 1.0
SLACK_S = 0.5
"""What a loaded machine may add to a second."""


class Record(NamedTuple):
    """One record of a stream."""

    quote: dict[str, Any]
    arrived_s: float

    @property
    def key(self) -> tuple[str, str]:
        return self.quote["symbol"], self.quote["timestamp"]


@dataclass(frozen=True)
class World:
    """An embedded cloud with one whole stack, and as many with a stream alone as a test wants."""

    home: Path
    whole: Cli
    numbers: Iterator[int]

    def bare(self) -> Cli:
        """A stack of its own that is a stream and nothing else."""
        cli = Cli(self.home, f"bare-{next(self.numbers)}")
        cli.aws.client("kinesis").create_stream(StreamName=cli.aws.names.stream, ShardCount=1)
        return cli

    def through(self, proxy: KinesisProxy) -> dict[str, str]:
        """The environment that leads target aws into the embedded cloud, Kinesis by the proxy."""
        cloud = self.whole.aws.endpoint
        assert cloud
        return {
            "AWS_ENDPOINT_URL": cloud.url,
            "AWS_ENDPOINT_URL_KINESIS": proxy.url,
            "AWS_ACCESS_KEY_ID": cloud.access_key_id,
            "AWS_SECRET_ACCESS_KEY": cloud.secret_access_key,
        }

    @contextmanager
    def proxy(self, faults: Iterable[Fault] = (), **settings: float) -> Iterator[KinesisProxy]:
        cloud = self.whole.aws.endpoint
        assert cloud
        with KinesisProxy(cloud, faults, **settings).running() as proxy:
            yield proxy


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cleaned(tmp_path_factory.mktemp("stream-faults")) as home:
        daemon.ensure_running(home)
        cli = Cli(home)
        cli.make()
        yield World(home, cli, count())


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real bars as a file: more than are read ahead of what is sent."""
    file = daily_bars(tmp_path_factory.mktemp("daily"))
    head = file.with_name("head.csv")
    head.write_text("".join(file.read_text().splitlines(keepends=True)[:9_001]))
    return head


@pytest.fixture(scope="module")
def quotes(daily: Path) -> list[Quote]:
    return read_csv(str(daily))


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


def records(cli: Cli) -> list[Record]:
    """All records of a stack's stream in stream order."""
    kinesis, stream = cli.aws.client("kinesis"), cli.aws.names.stream
    (shard,) = kinesis.list_shards(StreamName=stream)["Shards"]
    place = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    found: list[Record] = []
    while some := kinesis.get_records(ShardIterator=place)["Records"]:
        found += (
            Record(json.loads(one["Data"]), one["ApproximateArrivalTimestamp"].timestamp())
            for one in some
        )
        place = kinesis.get_shard_iterator(
            StreamName=stream,
            ShardId=shard["ShardId"],
            ShardIteratorType="AFTER_SEQUENCE_NUMBER",
            StartingSequenceNumber=some[-1]["SequenceNumber"],
        )["ShardIterator"]
    return found


def assert_whole_and_in_order(found: list[Record], quotes: list[Quote]) -> None:
    """Every quote exactly as it was, none that was not sent, and last copies in order."""
    last = {record.key: place for place, record in enumerate(found)}
    expected = {quote.key: content(json.loads(quote_json(quote))) for quote in quotes}
    assert {key: content(found[place].quote) for key, place in last.items()} == expected
    order: dict[str, list[int]] = {}
    for quote in quotes:
        order.setdefault(quote.symbol, []).append(last[quote.key])
    assert [symbol for symbol, places in order.items() if places != sorted(places)] == []


def content(quote: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent, but for when it was read and its place in the stream."""
    return {key: value for key, value in quote.items() if key not in ("ingested_at", "seq")}


def test_under_faults_of_every_kind_every_quote_is_stored_as_it_was_and_in_order(
    world: World, tmp_path: Path
) -> None:
    quotes, file = bars(symbols=100, each=14), tmp_path / "bars.ndjson"
    with Recorder(file) as recorder:
        recorder.write(quotes)
    with world.proxy(mixed()) as proxy:
        said = world.whole(
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

    assert_whole_and_in_order(records(world.whole), quotes)
    world.whole.settle()
    items = {(item["symbol"]["S"], item["timestamp"]["S"]): item for item in world.whole.items()}
    assert items.keys() == {quote.key for quote in quotes}
    for quote in quotes:
        stored = items[quote.key]
        for field in ("open", "high", "low", "price"):
            assert round(float(stored[field]["N"]) * 10**6) == getattr(quote, field)
        assert int(stored["volume"]["N"]) == quote.volume
    archived = {
        (line["symbol"], line["timestamp"]): content(line)
        for line in sorted(world.whole.archived(), key=lambda line: line["seq"])
    }
    assert archived == {quote.key: content(json.loads(quote_json(quote))) for quote in quotes}


def test_it_is_not_botocore_that_retries(world: World) -> None:
    """The sender alone: with a client that tries once."""
    cli, quotes, heard = world.bare(), bars(symbols=100, each=15), Counter[int]()
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


def test_expired_credentials_pause_and_resume(world: World) -> None:
    cli = world.bare()
    with world.proxy([Fault.NONE, Fault.EXPIRED, Fault.EXPIRED]) as proxy:
        said = run(cli, "sample", world.through(proxy))
    assert proxy.fired[Fault.EXPIRED] == 2
    assert said.count("waiting for new ones: log in again") == 1
    assert_whole_and_in_order(records(cli), read_csv("sample"))


def run(cli: Cli, file: Path | str, environment: Mapping[str, str], *options: str) -> str:
    """What a replay at full speed says; it has to end well."""
    return cli(
        *("--target", "aws", "stream", "--source", f"replay:{file}", "--speed", "max", "--mix"),
        *options,
        env=environment,
    ).err


@dataclass(frozen=True)
class Running:
    """The installed program in the middle of a replay at full speed."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def ends_with(self, code: int) -> str:
        """What it said, once it has ended with this exit code."""
        found = self.process.wait(20)
        said = self.err.read_text()
        assert found == code, said
        assert "Traceback" not in said
        return said

    @property
    def acknowledged(self) -> int:
        return self.out.read_bytes().count(b"\n")


@contextmanager
def running(cli: Cli, file: Path, environment: Mapping[str, str], place: Path) -> Iterator[Running]:
    out, err = place / "out", place / "err"
    command = cli.command(
        *("--target", "aws", "stream", "--source", f"replay:{file}"),
        *("--speed", "max", "--mix", "--json"),
    )
    with (
        out.open("wb") as output,
        err.open("wb") as errors,
        subprocess.Popen(
            command, stdout=output, stderr=errors, stdin=subprocess.DEVNULL, cwd=place,
            env={**cli.environment(), **environment},
        ) as process,
    ):  # fmt: skip
        try:
            yield Running(process, out, err)
        finally:
            process.kill()


def saved(home: Path) -> int:
    """The position of the only replay that is not finished."""
    files = list((home / "streams").glob("*.json"))
    assert len(files) <= 1
    return int(json.loads(files[0].read_text())["position"]) if files else 0


@pytest.fixture(autouse=True)
def _forget_replays(world: World) -> None:
    for file in world.home.glob("streams/*"):
        file.unlink()


def test_a_replay_that_was_killed_is_resumed_and_repeats_what_a_second_brought(
    world: World, daily: Path, quotes: list[Quote], tmp_path: Path
) -> None:
    cli = world.bare()
    with (
        world.proxy([*[Fault.NONE] * 15, Fault.HOLD], delay_s=0.1) as proxy,
        running(cli, daily, world.through(proxy), tmp_path) as program,
    ):
        until(lambda: proxy.fired[Fault.HOLD])
        program.process.kill()
        program.process.wait()
    before, position = records(cli), saved(world.home)
    assert 500 < position <= len(before) < len(quotes)

    with world.proxy() as proxy:
        said = run(cli, daily, world.through(proxy), "--resume")
    assert f"Going on after the first {position:,} of {len(quotes):,} quotes." in said
    assert f"Sent {len(quotes) - position:,} quotes" in said
    found = records(cli)
    assert_whole_and_in_order(found, quotes)
    copies = Counter(record.key for record in found)
    repeated = [record for record in before if copies[record.key] == 2]
    assert len(repeated) == len(found) - len(quotes) == len(before) - position
    oldest_s = min((record.arrived_s for record in repeated), default=before[-1].arrived_s)
    assert before[-1].arrived_s - oldest_s <= SAVED_EVERY_S + SLACK_S
    assert saved(world.home) == 0  # what is finished begins from the beginning


def interrupted(world: World, cli: Cli, file: Path, place: Path, number: signal.Signals) -> int:
    """A replay that gets a signal while Kinesis is slow; out: how many quotes it has sent."""
    with (
        world.proxy([Fault.NONE, Fault.HOLD], delay_s=0.02) as proxy,
        running(cli, file, world.through(proxy), place) as program,
    ):
        until(lambda: proxy.fired[Fault.HOLD])
        program.process.send_signal(number)
        proxy.go_on()
        said = program.ends_with(130)
    sent = len(records(cli))
    assert sent > 1_000
    assert program.acknowledged == sent == saved(world.home)
    assert f"Sent {sent:,} quotes" in said
    assert "are not sent" not in said
    return sent


def test_an_interrupted_replay_sends_what_was_read_and_is_resumed_without_repeating_any(
    world: World, daily: Path, quotes: list[Quote], tmp_path: Path
) -> None:
    cli = world.bare()
    sent = interrupted(world, cli, daily, tmp_path, signal.SIGINT)
    assert sent < len(quotes)
    with world.proxy() as proxy:
        said = run(cli, daily, world.through(proxy), "--resume")
    assert f"Sent {len(quotes) - sent:,} quotes" in said
    found = records(cli)
    assert len(found) == len(quotes)
    assert_whole_and_in_order(found, quotes)


def test_without_resume_a_replay_begins_anew_and_says_that_it_could_go_on(
    world: World, daily: Path, quotes: list[Quote], tmp_path: Path
) -> None:
    cli = world.bare()
    sent = interrupted(world, cli, daily, tmp_path, signal.SIGTERM)
    with world.proxy() as proxy:
        said = run(cli, daily, world.through(proxy))
    assert f"An earlier run stopped after {sent:,} quotes; --resume goes on there." in said
    found = records(cli)
    assert len(found) == sent + len(quotes)
    assert_whole_and_in_order(found, quotes)


def test_a_terminal_that_is_closed_interrupts_too(
    world: World, daily: Path, tmp_path: Path
) -> None:
    interrupted(world, world.bare(), daily, tmp_path, signal.SIGHUP)


def test_resume_after_a_run_that_was_finished_begins_at_the_beginning(world: World) -> None:
    cli = world.bare()
    with world.proxy() as proxy:
        run(cli, "sample", world.through(proxy))
        said = run(cli, "sample", world.through(proxy), "--resume")
    assert "No earlier run of this replay was cut off here" in said
    assert len(records(cli)) == 2 * len(read_csv("sample"))


def test_a_second_interrupt_while_kinesis_does_not_answer_leaves_at_once(
    world: World, daily: Path, tmp_path: Path
) -> None:
    cli = world.bare()
    with (
        world.proxy([Fault.HOLD]) as proxy,
        running(cli, daily, world.through(proxy), tmp_path) as program,
    ):
        until(lambda: proxy.fired[Fault.HOLD])
        program.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            program.process.wait(0.5)
        program.process.send_signal(signal.SIGINT)
        assert program.process.wait(LEAVES_WITHIN_S) == 130
        assert "Traceback" not in program.err.read_text()
    assert records(cli) == []
