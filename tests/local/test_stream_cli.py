"""``stockpipe stream`` as a user calls it: what Yahoo says is stored, whatever else it says.

Yahoo is played by a proxy that nothing but environment variables lead the program to. All tests
share one pipeline, and each has symbols of its own.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from embedded import cleaned, servers, until
from stockpipe_cli import Cli

from stockpipe.domain.exact import moment_text
from stockpipe.feeds.synthetic import START, known_crossings
from stockpipe.local import daemon
from stockpipe.operate.records import plain
from yahoo_proxy import BATCH, CHART, Answer, YahooProxy, batch, chart, entry
from yahoo_socket import Line, StreamPlayer, pricing

pytest.importorskip("ministack")

NOON = 1761753600
"""Wednesday 2025-10-29, 12:00 in New York, in Unix seconds: the day that ``entry`` is of."""
LOG_LINE = re.compile(r"^\d\d:\d\d:\d\d ", re.MULTILINE)
FAST = ("--interval", "500ms")

LIMITED = Answer("Too Many Requests\r\n", status=429, content_type="text/html")
INVALID_CRUMB = Answer(
    {"finance": {"result": None, "error": {"code": "Unauthorized", "description": "Invalid"}}},
    status=401,
)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with cleaned(tmp_path_factory.mktemp("stream")) as home:
        # Old quotes are what is streamed here, and an alert of them is wanted all the same.
        (home / "stockpipe.toml").write_text('notify_max_age = "off"\n')
        daemon.ensure_running(home)
        found = Cli(home)
        found.make()
        yield found


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[YahooProxy]:
    with YahooProxy(tmp_path) as proxy:
        yield proxy
    assert not proxy.refused


def at(second: float) -> str:
    """A timestamp so many seconds after :data:`NOON`."""
    return moment_text(datetime.fromtimestamp(NOON, UTC) + timedelta(seconds=second))


def quoted(symbol: str, price: float, second: int, **fields: Any) -> dict[str, Any]:
    """The batch quote of a symbol in an open market."""
    return entry(
        symbol,
        marketState="REGULAR",
        regularMarketTime=NOON + second,
        regularMarketPrice=price,
        **fields,
    )


def tick(symbol: str, price: float, second: float = 0) -> str:
    return pricing(id=symbol, price=price, time=int(1000 * (NOON + second)), market_hours=1)


def stored(cli: Cli, *symbols: str) -> dict[tuple[str, str], float]:
    """The prices in the table, by symbol and time, once everything has arrived there."""
    cli.settle()
    return {
        (item["symbol"]["S"], item["timestamp"]["S"]): float(item["price"]["N"])
        for item in cli.items()
        if item["symbol"]["S"] in symbols
    }


def in_kinesis(cli: Cli, shard: str, first: str) -> dict[str, Any]:
    """The records of a shard from a sequence number on, by sequence number."""
    kinesis = cli.aws.client("kinesis")
    iterator = kinesis.get_shard_iterator(
        StreamName=cli.aws.names.stream,
        ShardId=shard,
        ShardIteratorType="AT_SEQUENCE_NUMBER",
        StartingSequenceNumber=first,
    )["ShardIterator"]
    records = kinesis.get_records(ShardIterator=iterator)["Records"]
    return {record["SequenceNumber"]: json.loads(record["Data"]) for record in records}


@contextmanager
def running(cli: Cli, yahoo: YahooProxy, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``stream --json``, which the test ends by an interrupt or kills by its own end."""
    with subprocess.Popen(
        cli.command("stream", *arguments, "--json"),
        env={**cli.environment(), **yahoo.environment()},
        cwd=cli.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged(process: subprocess.Popen[str], symbol: str, price: float) -> list[dict[str, Any]]:
    """The lines up to the one that says that Kinesis has this price."""
    lines: list[dict[str, Any]] = []
    assert process.stdout is not None
    for text in process.stdout:
        lines.append(json.loads(text))
        if (lines[-1]["symbol"], lines[-1]["price"]) == (symbol, price):
            return lines
    raise AssertionError(process.stderr.read() if process.stderr else lines)


def interrupted(process: subprocess.Popen[str]) -> str:
    """What it says when Ctrl-C ends it."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    return err


def test_every_quote_between_all_that_can_go_wrong_is_stored(cli: Cli, yahoo: YahooProxy) -> None:
    close = 14_401  # the time of the history, which stands in for the batch quote
    quotes = [
        Answer(
            batch(
                quoted("AAPL", 100 + number, close + 1 + number),
                quoted("MSFT", 500 + number, close + 1 + number),
            )
        )
        for number in range(8)
    ]
    # Twice where yfinance itself asks a second time, with a new cookie and crumb.
    faults: list[Sequence[Answer]] = [
        [LIMITED] * 2,
        [INVALID_CRUMB] * 2,
        [Answer("gone", status=404)] * 2,
        [Answer("oops", status=500)] * 2,
        [Answer(batch())],
        [Answer(batch(quoted("AAPL", 1, close + 99)), cut=400)],
        [Answer({"quoteResponse": ["nothing", 7]}), Answer('{"quoteResponse": {"resul')],
    ]
    by_history = 7  # looks, one for each of the other answers that are of no use
    script = [quotes[0]]
    for fault, after in zip(faults, quotes[1:], strict=True):
        script += [*fault, after]
    script[-1] = replace(script[-1], after_s=1.0)
    yahoo.answer(BATCH, *script)
    for symbol in ("AAPL", "MSFT"):
        yahoo.answer(CHART + symbol, Answer(chart(symbol)))
    rounds = str(len(quotes) + by_history)
    done = cli("stream", "AAPL", "MSFT", *FAST, "--count", rounds, env=yahoo.environment())
    assert stored(cli, "AAPL", "MSFT") == {
        (symbol, at(close + 1 + number)): base + number
        for number in range(8)
        for symbol, base in (("AAPL", 100), ("MSFT", 500))
    }
    assert "Sent 16 quotes" in done.err
    assert yahoo.asked(CHART + "MSFT")
    for said_once in ("Yahoo limits our requests (HTTP 429)", "Yahoo refuses to quote all"):
        assert done.err.count(said_once) == 1


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


@pytest.mark.parametrize("name", ["quote_AAPL-BABA.json", "yfrs_quote_v7_AAPL-MSFT.json"])
def test_what_yahoo_really_said_is_stored(
    cli: Cli, yahoo: YahooProxy, shared_data: Path, name: str
) -> None:
    payload = json.loads((shared_data / "yahoo" / name).read_text("utf-8"))["body"]
    told = payload["quoteResponse"]["result"]
    yahoo.answer(BATCH, Answer(payload))
    symbols = [one["symbol"] for one in told]
    cli("stream", *symbols, "--count", "1", env=yahoo.environment())
    expected = {
        (one["symbol"], at(one["regularMarketTime"] - NOON)): one["regularMarketPrice"]
        for one in told
    }
    assert expected
    assert expected.items() <= stored(cli, *symbols).items()


def test_a_symbol_that_does_not_exist_ends_it_before_anything_is_sent(
    cli: Cli, yahoo: YahooProxy
) -> None:
    yahoo.answer(BATCH, Answer(batch(quoted("REAL", 1, 0))))
    for source in ("yahoo", "yahoo-stream"):
        done = cli("stream", "REAL", "ZZZZ", "--source", source, env=yahoo.environment(), code=2)
        assert "Yahoo has no quote for ZZZZ." in done.err
        assert "finance.yahoo.com/lookup" in done.err
    assert stored(cli, "REAL") == {}


def test_the_stream_survives_drops_farewells_silence_and_garbage(
    cli: Cli, yahoo: YahooProxy
) -> None:
    garbage: list[str | bytes] = [
        "",
        "{",
        '{"type": "pricing", "message": "AAAA"}',
        b"\x00\xff",
        '{"message": 7}',
    ]

    def drops(line: Line) -> None:
        line.accept()
        line.subscription()
        line.send(tick("LIVE", 100), *garbage, tick("LIVE", 101, 1), *garbage)

    def says_goodbye(line: Line) -> None:
        line.accept()
        line.subscription()
        line.send(tick("LIVE", 102, 2))
        line.close(1001, "maintenance")

    def pauses(line: Line) -> None:
        line.accept()
        line.subscription()
        threading.Event().wait(1)  # silent, though not for as long as a broken line is
        line.send(tick("LIVE", 103, 3))
        line.until_closed()

    yahoo.answer(BATCH, Answer(batch(quoted("LIVE", 99, -60))))
    yahoo.stream = player = StreamPlayer(drops, says_goodbye, pauses)
    with running(cli, yahoo, "LIVE", "--source", "yahoo-stream", "--interval", "0") as process:
        acknowledged(process, "LIVE", 103)
        said = interrupted(process)
    assert stored(cli, "LIVE") == {("LIVE", at(number)): 100 + number for number in range(4)}
    assert len(player.lines) == 3
    assert player.lines[2].closed_with == 1000
    assert said.count("Yahoo's stream broke off") == 1
    assert said.count("what is no price") == 1
    assert "Interrupted. Sent 4 quotes" in said


def test_every_tick_is_sent_or_the_newest_of_an_interval(cli: Cli, yahoo: YahooProxy) -> None:
    def burst(line: Line) -> None:
        line.accept()
        (symbol,) = line.subscription()
        line.send(*[tick(symbol, 100 + number, number / 100) for number in range(40)])
        line.until_closed()

    yahoo.stream = StreamPlayer(burst)
    sent = {}
    for symbol, interval in (("EACH", "0"), ("NEWEST", "1s")):
        yahoo.answer(BATCH, Answer(batch(quoted(symbol, 99, -60))))
        call = (symbol, "--source", "yahoo-stream", "--interval", interval)
        with running(cli, yahoo, *call) as process:
            sent[symbol] = acknowledged(process, symbol, 139)
            interrupted(process)
    assert [line["price"] for line in sent["EACH"]] == [100 + number for number in range(40)]
    assert len(sent["NEWEST"]) <= 2
    assert len(stored(cli, "EACH")) == 40


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


def test_memory_does_not_grow_with_the_ticks(cli: Cli, yahoo: YahooProxy) -> None:
    ticks, step, warm = 12_000, 1_000, 2_000
    bare = Cli(
        cli.home, stack="bare"
    )  # a stream that nothing reads: only the producer is looked at
    bare.aws.client("kinesis").create_stream(
        StreamName=bare.aws.names.stream, StreamModeDetails={"StreamMode": "ON_DEMAND"}
    )
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
    with running(bare, yahoo, "MANY", "--source", "yahoo-stream", "--interval", "0") as process:
        resident = []
        for begin in range(0, ticks, step):
            assert len(acknowledged(process, "MANY", begin + step)) == step
            resident.append(resident_kib(process.pid))
            wanted.release()
        interrupted(process)
    grown = resident[-1] - resident[warm // step - 1]
    assert grown < 2_048, f"{grown} KiB in {ticks - warm} ticks: {resident}"


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("the memory of a process is read from /proc, which is not here")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
    assert found
    return int(found[1])


def test_a_closed_market_brings_one_quote_per_symbol_its_age_and_the_next_open(
    cli: Cli, yahoo: YahooProxy
) -> None:
    yahoo.answer(BATCH, Answer(batch(entry("SHUT"))))
    yahoo.answer(CHART + "SHUT", Answer(chart("SHUT")))
    done = cli("stream", "SHUT", *FAST, "--count", "3", env=yahoo.environment())
    assert "\x1b" not in done.err
    first, *later = [line for line in done.err.splitlines() if LOG_LINE.match(line)]
    assert first.endswith("SHUT 269.7 (+0.26 %)")
    assert len(later) == 2
    closed = r"1 unchanged \(CLOSED, quotes of [\d,]+ (d|h|min) ago, opens \w{3} \d\d:\d\d UTC\)$"
    assert all(re.search(closed, line) for line in later)
    assert "Sent 1 quotes" in done.err
    assert "2 unchanged" in done.err.splitlines()[-1]
    assert stored(cli, "SHUT") == {("SHUT", "2025-10-29T20:00:01.000Z"): 269.7}
    assert len(yahoo.asked(CHART + "SHUT")) == 1


def test_outside_market_hours_nothing_is_sent_and_that_is_said(cli: Cli, yahoo: YahooProxy) -> None:
    yahoo.answer(BATCH, Answer(batch(entry("AFTER"))))
    for source, until_then in (("yahoo", ("--count", "1")), ("yahoo-stream", ("--duration", "2s"))):
        call = ("AFTER", "--source", source, "--hours", "market", *until_then)
        done = cli("stream", *call, env=yahoo.environment())
        assert "closed" in done.err
        assert "Sent 0 quotes" in done.err
    assert stored(cli, "AFTER") == {}


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
    assert stored(cli, "HUSH") == {("HUSH", at(1)): 1.0}


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


def test_what_was_recorded_is_replayed_but_not_into_live_quotes(
    cli: Cli, yahoo: YahooProxy, tmp_path: Path
) -> None:
    file = tmp_path / "today.ndjson.gz"
    yahoo.answer(BATCH, *[Answer(batch(quoted("KEPT", 100 + n, n))) for n in range(3)])
    call = ("stream", "KEPT", *FAST, "--count", "3", "--record", str(file))
    live = cli(*call, "--json", env=yahoo.environment())
    assert [line["price"] for line in live.lines] == [100, 101, 102]
    assert "Recorded 3 quotes" in live.err
    again = cli(*call, env=yahoo.environment(), code=2)
    assert "is there already" in again.err
    assert again.out == ""
    cli.settle()

    replay = ("stream", "--source", f"replay:{file}", "--speed", "max")
    for source in (replay[2], "synthetic:rounds=2"):
        refused = cli("stream", "KEPT", "--source", source, "--speed", "max", code=2)
        assert "KEPT has live quotes" in refused.err
        assert "--mix" in refused.err
        assert refused.out == ""
    mixed = cli(*replay, "--mix", "--json")
    same = [(line["timestamp"], line["price"]) for line in live.lines]
    assert [(line["timestamp"], line["price"]) for line in mixed.lines] == same
    assert {line["source"] for line in mixed.lines} == {"replay"}


def test_made_up_symbols_may_live_beside_real_ones(cli: Cli, yahoo: YahooProxy) -> None:
    yahoo.answer(BATCH, Answer(batch(quoted("OTHER", 1, 1))))
    cli("stream", "OTHER", "--count", "1", env=yahoo.environment())
    cli.settle()
    done = cli("stream", "--source", "synthetic:rounds=2", "--speed", "max", "--json")
    assert {line["symbol"] for line in done.lines} == {"SIM-A", "SIM-B", "SIM-C"}


def test_the_archive_fills_a_table_that_a_bug_has_emptied(cli: Cli) -> None:
    cli("stream", "--source", "replay:sample", "--speed", "max", "IBM")
    cli.settle()
    before, alerts = rows(cli, "IBM"), fired(cli, "IBM")
    gone = [record for record in before if record["timestamp"] > "2009-05"]
    assert (len(before), len(gone)) == (252, 42)
    assert alerts
    keys = [{name: {"S": record[name]} for name in ("symbol", "timestamp")} for record in gone]
    for begin in range(0, len(keys), 25):
        deletes: Any = [{"DeleteRequest": {"Key": key}} for key in keys[begin : begin + 25]]
        cli.aws.client("dynamodb").batch_write_item(RequestItems={cli.aws.names.table: deletes})
    assert len(rows(cli, "IBM")) == 210
    done = cli("stream", "--source", "archive:2009-05-01..2009-06-30", "IBM")
    assert "Sent 42 quotes" in done.err
    cli.settle()
    assert rows(cli, "IBM") == before
    assert fired(cli, "IBM") == alerts


def rows(cli: Cli, symbol: str) -> list[dict[str, Any]]:
    """The records of a symbol in time order, with all that they tell."""
    records = [plain(item) for item in cli.items()]
    found = [record for record in records if record["symbol"] == symbol]
    return sorted(found, key=lambda record: str(record["timestamp"]))


def fired(cli: Cli, *symbols: str) -> list[tuple[str, str, str]]:
    """The alerts that were sent."""
    lines = cli("alerts", "history", "--json").lines
    assert {line["status"] for line in lines} == {"sent"}
    return sorted(
        (line["symbol"], line["timestamp"], line["kind"])
        for line in lines
        if line["symbol"] in symbols
    )


def test_the_alerts_of_made_up_prices_are_their_known_crossings(cli: Cli) -> None:
    seed, rounds, symbols = 7, 300, ("MADE-1", "MADE-2")
    source = f"synthetic:seed={seed},rounds={rounds}"
    done = cli("stream", *symbols, "--source", source, "--speed", "max", "--interval", "30s")
    assert "Sent 600 quotes" in done.err
    known = sorted(
        (found.symbol, moment_text(START + found.round * timedelta(seconds=30)), found.kind)
        for found in known_crossings(seed, symbols, rounds)
    )
    assert len(known) > 10
    cli.settle()

    def crossings() -> list[tuple[str, str, str]]:
        return [one for one in fired(cli, *symbols) if one[2] in ("golden", "death")]

    until(lambda: len(crossings()) >= len(known))
    assert crossings() == known
