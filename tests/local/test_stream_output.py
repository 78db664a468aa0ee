"""``stockpipe stream`` as a user sees it: what is sent and said, in a pipe, as JSON or not at all.

All tests share a stream that nothing reads, and each has symbols of its own.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from embedded import cleaned, servers
from stockpipe_cli import Cli
from yahoo_streaming import (
    FAST,
    LOG_LINE,
    acknowledged,
    at,
    in_kinesis,
    interrupted,
    quoted,
    running,
    tick,
)

from stockpipe.local import daemon
from yahoo_proxy import BATCH, Answer, YahooProxy, batch, entry
from yahoo_socket import Line, StreamPlayer

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with cleaned(tmp_path_factory.mktemp("streamed")) as home:
        daemon.ensure_running(home)
        found = Cli(home)
        found.aws.client("kinesis").create_stream(StreamName=found.aws.names.stream, ShardCount=1)
        yield found


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[YahooProxy]:
    with YahooProxy(tmp_path) as proxy:
        yield proxy
    assert not proxy.refused


def sent(cli: Cli, *symbols: str) -> list[tuple[str, str, float]]:
    """What is in the stream of these symbols."""
    kinesis, stream = cli.aws.client("kinesis"), cli.aws.names.stream
    (shard,) = kinesis.list_shards(StreamName=stream)["Shards"]
    first = shard["SequenceNumberRange"]["StartingSequenceNumber"]
    return [
        (record["symbol"], record["timestamp"], record["price"])
        for record in in_kinesis(cli, shard["ShardId"], first).values()
        if record["symbol"] in symbols
    ]


def test_a_record_carries_all_that_yahoo_tells(cli: Cli, yahoo: YahooProxy) -> None:
    yahoo.answer(BATCH, Answer(batch(quoted("WHOLE", 271.5, 7))))
    (line,) = cli("stream", "WHOLE", "--count", "1", "--json", env=yahoo.environment()).lines
    record = in_kinesis(cli, line["shard"], line["sequence_number"])[line["sequence_number"]]
    arrived = datetime.fromisoformat(record.pop("ingested_at"))
    assert abs(datetime.now(UTC) - arrived) < timedelta(minutes=1)
    assert record == {
        "symbol": "WHOLE", "open": 269.28, "high": 271.41, "low": 267.11, "price": 271.5,
        "previous_close": 269, "change": 2.5, "change_percent": 0.9294, "volume": 43332154,
        "timestamp": at(7), "source": "yahoo", "utc_offset_s": -14400,
    }  # fmt: skip


def test_a_symbol_that_does_not_exist_ends_it_before_anything_is_sent(
    cli: Cli, yahoo: YahooProxy
) -> None:
    yahoo.answer(BATCH, Answer(batch(quoted("REAL", 1, 0))))
    for source in ("yahoo", "yahoo-stream"):
        done = cli("stream", "REAL", "ZZZZ", "--source", source, env=yahoo.environment(), code=2)
        assert "Yahoo has no quote for ZZZZ." in done.err
        assert "finance.yahoo.com/lookup" in done.err
    assert sent(cli, "REAL") == []


def test_outside_market_hours_nothing_is_sent_and_that_is_said(cli: Cli, yahoo: YahooProxy) -> None:
    yahoo.answer(BATCH, Answer(batch(entry("AFTER"))))
    for source, until_then in (("yahoo", ("--count", "1")), ("yahoo-stream", ("--duration", "2s"))):
        call = ("AFTER", "--source", source, "--hours", "market", *until_then)
        done = cli("stream", *call, env=yahoo.environment())
        assert "closed" in done.err
        assert "Sent 0 quotes" in done.err
    assert sent(cli, "AFTER") == []


def test_in_a_pipe_each_interval_is_one_line(cli: Cli, yahoo: YahooProxy) -> None:
    yahoo.answer(BATCH, *[Answer(batch(quoted("PIPE", 100 + n, n))) for n in range(4)])
    done = cli("stream", "PIPE", *FAST, "--count", "4", env=yahoo.environment())
    lines = [line[9:] for line in done.err.splitlines() if LOG_LINE.match(line)]
    assert [line.partition(" (")[0] for line in lines] == [f"PIPE {100 + n}" for n in range(4)]
    assert done.out == ""
    assert "\x1b" not in done.err


def test_json_and_verbose_say_where_each_quote_is_in_kinesis(cli: Cli, yahoo: YahooProxy) -> None:
    yahoo.answer(BATCH, Answer(batch(quoted("ONE", 1.5, 1), quoted("TWO", 2.25, 2))))
    call = ("stream", "ONE", "TWO", "--count", "1")
    lines = cli(*call, "--json", env=yahoo.environment()).lines
    records = in_kinesis(cli, lines[0]["shard"], lines[0]["sequence_number"])
    for line in lines:
        record = records[line["sequence_number"]]
        names = ("symbol", "timestamp", "price", "source")
        assert [line[name] for name in names] == [record[name] for name in names]
    told = [line.split() for line in cli(*call, "-v", env=yahoo.environment()).out.splitlines()]
    assert [words[:3] for words in told] == [["ONE", at(1), "1.5"], ["TWO", at(2), "2.25"]]
    records = in_kinesis(cli, told[0][3], told[0][4])
    assert [records[words[4]]["symbol"] for words in told] == ["ONE", "TWO"]


def test_quiet_says_nothing_and_sends_all(cli: Cli, yahoo: YahooProxy) -> None:
    yahoo.answer(BATCH, Answer(batch(quoted("HUSH", 1, 1))))
    done = cli("stream", "HUSH", "--count", "1", "-q", env=yahoo.environment())
    assert (done.out, done.err) == ("", "")
    assert sent(cli, "HUSH") == [("HUSH", at(1), 1)]


def test_a_dry_run_takes_no_cloud_and_leaves_nothing(tmp_path: Path, yahoo: YahooProxy) -> None:
    yahoo.answer(BATCH, Answer(batch(quoted("AAPL", 1.5, 1), quoted("MSFT", 2, 1))))
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    cli = Cli(nowhere)
    done = cli("stream", "AAPL", "MSFT", "--count", "1", "--dry-run", env=yahoo.environment())
    assert [(line["symbol"], line["price"]) for line in done.lines] == [("AAPL", 1.5), ("MSFT", 2)]
    assert "nothing was sent" in done.err
    replay = cli("stream", "--source", "replay:sample", "--speed", "max", "--dry-run", "IBM")
    assert len(replay.lines) == 252
    assert list(nowhere.iterdir()) == []
    assert servers(nowhere) == []


def test_a_list_of_symbols_may_come_from_a_file(tmp_path: Path, yahoo: YahooProxy) -> None:
    file = tmp_path / "watch.txt"
    file.write_text("\ufeff# mine\naapl, msft  # two\n\nBRK-B\taapl\n^GSPC\n", "utf-8")
    symbols = ["SPY", "AAPL", "MSFT", "BRK-B", "^GSPC"]
    yahoo.answer(BATCH, Answer(batch(*(quoted(symbol, 1, 1) for symbol in symbols))))
    call = ("stream", "SPY", "--symbols-file", str(file), "--count", "1", "--dry-run")
    done = Cli(tmp_path)(*call, env=yahoo.environment())
    assert [line["symbol"] for line in done.lines] == symbols


def test_two_hundred_symbols_are_one_request_per_interval(cli: Cli, yahoo: YahooProxy) -> None:
    symbols = [f"S{number:03d}" for number in range(200)]
    yahoo.answer(
        BATCH,
        *[Answer(batch(*(quoted(one, 10, second) for one in symbols))) for second in range(3)],
    )
    done = cli("stream", *symbols, *FAST, "--count", "3", "--json", env=yahoo.environment())
    assert [len(asked.query["symbols"].split(",")) for asked in yahoo.asked(BATCH)] == [200] * 3
    assert {(line["symbol"], line["timestamp"]) for line in done.lines} == {
        (symbol, at(second)) for symbol in symbols for second in range(3)
    }


def test_the_newest_tick_of_an_interval_is_sent(cli: Cli, yahoo: YahooProxy) -> None:
    def burst(line: Line) -> None:
        line.accept()
        line.subscription()
        line.send(*[tick("NEWEST", 100 + number, number / 100) for number in range(40)])
        line.until_closed()

    yahoo.stream = StreamPlayer(burst)
    yahoo.answer(BATCH, Answer(batch(quoted("NEWEST", 99, -60))))
    call = ("NEWEST", "--source", "yahoo-stream", "--interval", "1s")
    with running(cli, yahoo, *call) as process:
        assert len(acknowledged(process, "NEWEST", 139)) <= 2
        interrupted(process)


def test_every_tick_is_sent_and_memory_does_not_grow_with_them(cli: Cli, yahoo: YahooProxy) -> None:
    ticks, step, warm = 8_000, 1_000, 3_000
    wanted = threading.Semaphore(0)

    def many(line: Line) -> None:
        line.accept()
        line.subscription()
        for begin in range(0, ticks, step):
            line.send(*[tick("MANY", 1 + n, n) for n in range(begin, begin + step)])
            wanted.acquire()
        line.until_closed()

    yahoo.answer(BATCH, Answer(batch(quoted("MANY", 1, -60))))
    yahoo.stream = StreamPlayer(many)
    with running(cli, yahoo, "MANY", "--source", "yahoo-stream", "--interval", "0") as process:
        resident = []
        for begin in range(0, ticks, step):
            lines = acknowledged(process, "MANY", begin + step)
            assert [line["price"] for line in lines] == list(range(begin + 1, begin + step + 1))
            resident.append(resident_kib(process.pid))
            wanted.release()
        interrupted(process)
    grown = resident[-1] - resident[warm // step - 1]
    assert grown < 1_024, f"{grown} KiB in {ticks - warm} ticks: {resident}"


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("the memory of a process is read from /proc, which is not here")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
    assert found
    return int(found[1])
