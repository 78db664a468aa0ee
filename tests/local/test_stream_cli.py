"""``stockpipe stream`` as a user calls it: what Yahoo says is stored, whatever else it says.

Yahoo is played by a proxy that nothing but environment variables lead the program to. All tests
share one pipeline, and each has symbols of its own.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from embedded import cleaned
from stockpipe_cli import Cli
from yahoo_streaming import (
    FAST,
    LOG_LINE,
    NOON,
    acknowledged,
    at,
    interrupted,
    quoted,
    running,
    stored,
    tick,
)

from awaited import until
from stockpipe.domain.exact import moment_text
from stockpipe.domain.quote import Quote
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.feeds.recording import Recorder
from stockpipe.feeds.synthetic import START, known_crossings
from stockpipe.local import daemon
from stockpipe.operate.records import plain
from yahoo_proxy import BATCH, CHART, Answer, YahooProxy, batch, chart, entry
from yahoo_socket import Line, StreamPlayer

pytest.importorskip("ministack")

LIMITED = Answer("Too Many Requests\r\n", status=429, content_type="text/html")
INVALID_CRUMB = Answer(
    {"finance": {"result": None, "error": {"code": "Unauthorized", "description": "Invalid"}}},
    status=401,
)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with cleaned(tmp_path_factory.mktemp("stream")) as home:
        # Old quotes are what is streamed here, and an alert of them is wanted all the same.
        (home / "stockpipe.toml").write_text(
            'notify_max_age = "off"\nalarms = false\ndashboard = false\nsweep = "off"\n'
        )
        daemon.ensure_running(home)
        found = Cli(home)
        found.make()
        yield found


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[YahooProxy]:
    with YahooProxy(tmp_path) as proxy:
        yield proxy
    assert not proxy.refused


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


def test_the_archive_fills_a_table_that_a_bug_has_emptied(cli: Cli, tmp_path: Path) -> None:
    spring = [quote for quote in read_csv("sample") if in_spring(quote)]
    with Recorder(tmp_path / "spring.ndjson") as recorder:
        recorder.write(spring)
    cli("stream", "--source", f"replay:{tmp_path / 'spring.ndjson'}", "--speed", "max")
    cli.settle()
    before, alerts = rows(cli, "IBM"), fired(cli, "IBM")
    gone = [record for record in before if record["timestamp"] > "2009-05"]
    assert (len(before), len(gone)) == (94, 42)
    assert alerts
    keys = [{name: {"S": record[name]} for name in ("symbol", "timestamp")} for record in gone]
    for begin in range(0, len(keys), 25):
        deletes: Any = [{"DeleteRequest": {"Key": key}} for key in keys[begin : begin + 25]]
        cli.aws.client("dynamodb").batch_write_item(RequestItems={cli.aws.names.table: deletes})
    assert len(rows(cli, "IBM")) == 52
    done = cli("stream", "--source", "archive:2009-05-01..2009-06-30", "IBM")
    assert "Sent 42 quotes" in done.err
    cli.settle()
    assert rows(cli, "IBM") == before
    assert fired(cli, "IBM") == alerts


def in_spring(quote: Quote) -> bool:
    return quote.symbol == "IBM" and "2009-02-15" < quote.timestamp < "2009-07"


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
    seed, rounds, symbols = 7, 80, ("MADE-1", "MADE-2")
    source = f"synthetic:seed={seed},rounds={rounds}"
    done = cli("stream", *symbols, "--source", source, "--speed", "max", "--interval", "30s")
    assert "Sent 160 quotes" in done.err
    known = sorted(
        (found.symbol, moment_text(START + found.round * timedelta(seconds=30)), found.kind)
        for found in known_crossings(seed, symbols, rounds)
    )
    kinds = {(symbol, kind) for symbol, _, kind in known}
    assert kinds == {(symbol, kind) for symbol in symbols for kind in ("golden", "death")}
    cli.settle()

    def crossings() -> list[tuple[str, str, str]]:
        return [one for one in fired(cli, *symbols) if one[2] in ("golden", "death")]

    until(lambda: len(crossings()) >= len(known))
    assert crossings() == known
