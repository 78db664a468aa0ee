"""A replay that is killed or interrupted goes on where it stopped, and repeats little or none."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from embedded import cleaned
from faulty_stream import World, assert_whole_and_in_order, head_of, key, records, run
from kinesis_proxy import Fault
from stockpipe_cli import Cli

from awaited import until
from real_bars import daily_bars
from stockpipe.domain.quote import Quote
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.local import daemon

pytest.importorskip("ministack")

WITHIN_S = 20.0
ANSWER_S = 0.25
A_SECOND = 5
"""How many answers a second brings at most, and the first after it, when each takes that long."""
A_REQUEST = 500


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cleaned(tmp_path_factory.mktemp("stream-faults")) as home:
        daemon.ensure_running(home)
        yield World(home, count())


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real bars as a file: more than are read ahead of what is sent."""
    return head_of(daily_bars(tmp_path_factory.mktemp("daily")), 7_000)


@pytest.fixture(scope="module")
def few(daily: Path) -> Path:
    """The first of them."""
    return head_of(daily, 700)


@pytest.fixture(scope="module")
def quotes(daily: Path) -> list[Quote]:
    return read_csv(str(daily))


@dataclass(frozen=True)
class Running:
    """The installed program in the middle of a replay at full speed."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def ends_with(self, code: int) -> str:
        """What it said, once it has ended with this exit code."""
        found = self.process.wait(WITHIN_S)
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
        world.proxy([*[Fault.NONE] * 9, Fault.HOLD], delay_s=ANSWER_S) as proxy,
        running(cli, daily, world.through(proxy), tmp_path) as program,
    ):
        until(lambda: proxy.fired[Fault.HOLD])
        program.process.kill()
        program.process.wait()
    before, position = records(cli), saved(world.home)
    assert A_REQUEST < position <= len(before) < len(quotes)
    assert len(before) - position <= A_SECOND * A_REQUEST < len(before) - A_REQUEST

    with world.proxy() as proxy:
        said = run(cli, daily, world.through(proxy), "--resume")
    assert f"Going on after the first {position:,} of {len(quotes):,} quotes." in said
    assert f"Sent {len(quotes) - position:,} quotes" in said
    found = records(cli)
    assert_whole_and_in_order(found, quotes)
    copies = Counter(key(quote) for quote in found)
    repeated = [quote for quote in before if copies[key(quote)] == 2]
    assert len(repeated) == len(found) - len(quotes) == len(before) - position
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


def test_resume_after_a_run_that_was_finished_begins_at_the_beginning(
    world: World, few: Path
) -> None:
    cli = world.bare()
    with world.proxy() as proxy:
        run(cli, few, world.through(proxy))
        said = run(cli, few, world.through(proxy), "--resume")
    assert "No earlier run of this replay was cut off here" in said
    assert len(records(cli)) == 2 * len(read_csv(str(few)))


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
        assert program.process.wait(WITHIN_S) == 130  # Kinesis would let it wait for ever
        assert "Traceback" not in program.err.read_text()
    assert records(cli) == []
