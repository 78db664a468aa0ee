"""The live stream over real sockets and TLS, in a process of its own, against a played Yahoo."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from yahoo_stream_program import NOON, OPEN, PROGRAM, environment_of, run, subscribed, tick

from yahoo_proxy import BATCH, Answer, YahooProxy, batch, entry
from yahoo_socket import Line, StreamPlayer, message, pricing


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[YahooProxy]:
    with YahooProxy(tmp_path) as proxy:
        proxy.answer(BATCH, OPEN)
        yield proxy
    assert not proxy.refused


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "home"
    directory.mkdir()
    return directory


def test_ticks_of_both_forms_become_quotes(yahoo: YahooProxy, home: Path) -> None:
    asked: list[list[str]] = []

    def scene(line: Line) -> None:
        asked.append(subscribed(line))
        line.send(pricing(**tick(270.5)), message(**tick(541.55, symbol="MSFT")))
        line.until_closed()

    yahoo.stream = player = StreamPlayer(scene)
    ran = run(home, 2, "AAPL", "MSFT", environment=yahoo.environment())
    assert ran.stderr == ""
    assert ran.quotes == [["AAPL", "16:00:00", 270.5], ["MSFT", "16:00:00", 541.55]]
    assert ran.lines[0]["states"] == {"AAPL": "REGULAR", "MSFT": "REGULAR"}
    assert ran.notices == []
    assert asked == [["AAPL", "MSFT"]]
    assert len(yahoo.asked(BATCH)) == 1
    assert [line.closed_with for line in player.lines] == [1000]
    assert list(home.iterdir()) == []


def test_garbage_is_left_out_and_said_once(yahoo: YahooProxy, home: Path) -> None:
    garbage: list[str | bytes] = [
        "",
        "no base64!",
        "{",
        "[]",
        '{"type": "pricing", "message": 7}',
        '{"type": "pricing", "message": "AAAA"}',
        '{"type": "error", "message": "Internal error"}',
        '{"message": null}',
        b"\x00\xff\xfe",
        message(price=1.5, time=NOON),
    ]

    def scene(line: Line) -> None:
        subscribed(line)
        line.send(*garbage, pricing(**tick(99.5, symbol="ZZZZ")), pricing(**tick(270.5)))
        line.send(*garbage, pricing(**tick(270.6, 1)))
        line.until_closed()

    yahoo.stream = player = StreamPlayer(scene)
    ran = run(home, 2, environment=yahoo.environment())
    assert ran.stderr == ""
    assert [price for _, _, price in ran.quotes] == [270.5, 270.6]
    assert ran.notices == [
        "Yahoo's stream sent what is no price (no symbol); left out.",
        "Yahoo's stream sent 'ZZZZ', unasked; left out.",
    ]
    assert len(player.lines) == 1


def test_ticks_wait_while_the_batch_quote_is_refused(yahoo: YahooProxy, home: Path) -> None:
    def scene(line: Line) -> None:
        subscribed(line)
        line.send(pricing(**tick(270.5)))
        line.until_closed()

    limited = Answer("Too Many Requests\r\n", status=429, content_type="text/html")
    yahoo.answer(BATCH, limited, limited, OPEN)  # yfinance tries each request a second time
    yahoo.stream = StreamPlayer(scene)
    ran = run(home, 1, environment=yahoo.environment(), speed=30)
    assert ran.stderr == ""
    assert ran.quotes == [["AAPL", "16:00:00", 270.5]]
    assert ran.notices == [
        "Yahoo does not tell opens, highs and lows (HTTP 429); asking again.",
        "Yahoo tells opens, highs and lows again.",
    ]


def test_a_closed_market_takes_no_connection(yahoo: YahooProxy, home: Path) -> None:
    def scene(line: Line) -> None:
        subscribed(line)
        line.send(pricing(**tick(270.5)))
        line.until_closed()

    shut = Answer(batch(entry("AAPL", marketState="POSTPOST")))
    yahoo.answer(BATCH, shut, shut, OPEN)
    yahoo.stream = player = StreamPlayer(scene)
    ran = run(home, 1, environment=yahoo.environment(), speed=600, market_hours=True)
    assert ran.stderr == ""
    assert [line["states"]["AAPL"] for line in ran.lines[:3]] == ["POSTPOST"] * 3
    assert ran.quotes == [["AAPL", "16:00:00", 270.5]]
    assert ran.notices == [
        "The market is closed; the stream waits until it opens.",
        "The market is open.",
    ]
    assert len(player.lines) == 1


def test_an_interruption_closes_the_connection(yahoo: YahooProxy, home: Path) -> None:
    def scene(line: Line) -> None:
        subscribed(line)
        line.send(pricing(**tick(270.5)))
        line.until_closed()

    yahoo.stream = player = StreamPlayer(scene)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps([2, 1, False, "AAPL"])],
        env=environment_of(home, yahoo.environment()),
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdout is not None
            while '"AAPL", "16:00:00"' not in program.stdout.readline():
                assert program.poll() is None
            program.send_signal(signal.SIGINT)
            out, _ = program.communicate(timeout=60)
        finally:
            program.kill()
    assert json.loads(out.splitlines()[-1]) == {"interrupted": True}
    assert [line.closed_with for line in player.lines] == [1000]


def test_a_symbol_that_does_not_exist(yahoo: YahooProxy, home: Path) -> None:
    ran = run(home, 1, "AAPL", "ZZZZ", environment=yahoo.environment())
    assert ran.lines[0]["error"] == "Yahoo has no quote for ZZZZ."
    assert ran.lines[0]["code"] == 2


def test_importing_the_feed_loads_nothing_heavy() -> None:
    program = (
        "import sys, stockpipe.feeds.yahoo_stream;"
        "print({'yfinance', 'pandas', 'curl_cffi', 'websockets', 'google'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"
