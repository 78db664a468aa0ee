"""The live stream over real sockets and TLS, in a process of its own, against a played Yahoo."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from stockpipe.feeds.yahoo_socket import Broken, connected
from yahoo_proxy import BATCH, Answer, YahooProxy, batch, entry
from yahoo_socket import Line, StreamPlayer, message, pricing

NOON = 1761753600_000
"""Wednesday 2025-10-29, 12:00 in New York: the day that ``entry`` is of. In milliseconds."""
OPEN = Answer(batch(entry("AAPL", marketState="REGULAR"), entry("MSFT", marketState="REGULAR")))

PROGRAM = """
import json, signal, sys, threading, time
from datetime import UTC, datetime
from stockpipe.errors import StockpipeError
from stockpipe.feeds.base import Request
from stockpipe.feeds.yahoo_stream import open_feed

quotes, speed, interval_s, market_hours, *symbols = json.loads(sys.argv[1])

interrupted = threading.Event()
signal.signal(signal.SIGINT, lambda *_: interrupted.set())

class Fast:
    def now(self): return datetime.now(UTC)
    def monotonic(self): return time.monotonic() * speed
    def sleep(self, seconds):
        if interrupted.wait(seconds / speed): raise KeyboardInterrupt

request = Request(tuple(symbols), interval_s=interval_s, market_hours=market_hours, clock=Fast())
try:
    rounds = open_feed(request).rounds()
    while quotes > 0:
        round_ = next(rounds)
        quotes -= len(round_.quotes)
        print(json.dumps({
            "quotes": [
                [quote.symbol, quote.timestamp[11:19], quote.price / 1e6] for quote in round_.quotes
            ],
            "unchanged": round_.unchanged, "states": round_.states, "notices": round_.notices,
        }), flush=True)
    rounds.close()
except KeyboardInterrupt:
    print(json.dumps({"interrupted": True}))
except StockpipeError as error:
    print(json.dumps({"error": error.message, "hint": error.hint, "code": error.exit_code}))
"""


@dataclass
class Ran:
    """What the program wrote: a line per round, or the error that it ended with."""

    lines: list[dict[str, Any]]
    stderr: str

    @property
    def quotes(self) -> list[list[Any]]:
        """Symbol, time of day and price of all quotes, in order."""
        return [quote for line in self.lines for quote in line.get("quotes", [])]

    @property
    def notices(self) -> list[str]:
        return [notice for line in self.lines for notice in line.get("notices", [])]


def started(
    home: Path,
    quotes: int,
    *symbols: str,
    environment: dict[str, str],
    speed: float = 1,
    interval_s: float = 0,
    market_hours: bool = False,
) -> subprocess.Popen[str]:
    """The feed until it has brought so many quotes, on a clock that is ``speed`` times as fast."""
    lent = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("XDG_", "PYTHON"))
    }
    arguments = json.dumps([quotes, speed, interval_s, market_hours, *(symbols or ("AAPL",))])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, arguments],
        env={**lent, "HOME": str(home), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(program: subprocess.Popen[str]) -> Ran:
    with program:
        try:
            stdout, stderr = program.communicate(timeout=60)
        finally:
            program.kill()
    return Ran([json.loads(line) for line in stdout.splitlines()], stderr)


def run(home: Path, quotes: int, *symbols: str, **options: Any) -> Ran:
    return ended(started(home, quotes, *symbols, **options))


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


def tick(price: float, second: int = 0, symbol: str = "AAPL", **fields: Any) -> dict[str, Any]:
    return {
        "id": symbol,
        "price": price,
        "time": NOON + 1000 * second,
        "exchange": "NMS",
        "quote_type": 8,
        "market_hours": 1,
        **fields,
    }


def subscribed(line: Line) -> list[str]:
    line.accept()
    return line.subscription()


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


@pytest.mark.parametrize(
    ("goes", "why"),
    [
        (lambda line: line.close(1001, "maintenance"), "closed with code 1001 'maintenance'"),
        (lambda line: line.close(1011), "closed with code 1011"),
        (lambda line: None, "cut off without a close frame"),
    ],
    ids=["going away", "internal error", "drop"],
)
def test_after_a_break_everything_is_subscribed_again(
    yahoo: YahooProxy, home: Path, goes: Any, why: str
) -> None:
    asked: list[list[str]] = []

    def broken(line: Line) -> None:
        asked.append(subscribed(line))
        line.send(pricing(**tick(270.5)))
        goes(line)

    def whole(line: Line) -> None:
        asked.append(subscribed(line))
        line.send(pricing(**tick(270.5)), pricing(**tick(270.6, 1)))
        line.subscription()  # comes again while the connection lasts
        line.send(pricing(**tick(270.7, 2)))
        line.until_closed()

    yahoo.stream = StreamPlayer(broken, whole)
    ran = run(home, 3, "AAPL", "MSFT", environment=yahoo.environment(), speed=30)
    assert ran.stderr == ""
    assert [price for _, _, price in ran.quotes] == [270.5, 270.6, 270.7]
    assert sum(line["unchanged"] for line in ran.lines) == 1
    assert ran.notices == [
        f"Yahoo's stream broke off ({why}); connecting again.",
        "Yahoo's stream is back.",
    ]
    assert asked == [["AAPL", "MSFT"]] * 2


def test_a_silent_connection_is_replaced(yahoo: YahooProxy, home: Path) -> None:
    def silent(line: Line) -> None:
        subscribed(line)
        line.until_closed()

    def lively(line: Line) -> None:
        subscribed(line)
        line.send(pricing(**tick(270.5)))
        line.until_closed()

    yahoo.stream = player = StreamPlayer(silent, lively)
    ran = run(home, 1, environment=yahoo.environment(), speed=60)
    assert ran.stderr == ""
    assert ran.quotes == [["AAPL", "16:00:00", 270.5]]
    assert len(ran.notices) == 1
    assert ran.notices[0].startswith("Yahoo's stream broke off (silent for ")
    assert [line.closed_with for line in player.lines] == [1000, 1000]


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


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (Frame(Opcode.TEXT, b"\xff\xfe"), "invalid start byte at position 0"),
        (Frame(Opcode.TEXT, b"{" * (2**20 + 1)), "limit"),
        (Frame(Opcode.CONT, b"AAAA"), "unexpected continuation frame"),
    ],
    ids=["not UTF-8", "too large", "no beginning"],
)
def test_what_breaks_the_protocol_breaks_the_connection(
    yahoo: YahooProxy, home: Path, frame: Frame, why: str
) -> None:
    def broken(line: Line) -> None:
        subscribed(line)
        line.send_raw(frame)
        line.until_closed()

    def whole(line: Line) -> None:
        subscribed(line)
        line.send(pricing(**tick(270.5)))
        line.until_closed()

    yahoo.stream = player = StreamPlayer(broken, whole)
    ran = run(home, 1, environment=yahoo.environment(), speed=30)
    assert ran.stderr == ""
    assert len(ran.quotes) == 1
    assert len(player.lines) == 2
    assert why in ran.notices[0]


def test_a_refused_handshake_is_tried_again(yahoo: YahooProxy, home: Path) -> None:
    def scene(line: Line) -> None:
        subscribed(line)
        line.send(pricing(**tick(270.5)))
        line.until_closed()

    yahoo.stream = player = StreamPlayer(
        lambda line: line.reject(429), lambda line: line.reject(503), lambda line: None, scene
    )
    ran = run(home, 1, environment=yahoo.environment(), speed=30)
    assert ran.stderr == ""
    assert len(ran.quotes) == 1
    assert ran.notices == ["Yahoo's stream cannot be opened (HTTP 429); trying again."]
    assert len(player.lines) == 4


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
    program = started(home, 2, environment=yahoo.environment())
    assert program.stdout is not None
    while '"AAPL", "16:00:00"' not in program.stdout.readline():
        assert program.poll() is None
    program.send_signal(signal.SIGINT)
    assert ended(program).lines[-1] == {"interrupted": True}
    assert [line.closed_with for line in player.lines] == [1000]


def test_a_symbol_that_does_not_exist(yahoo: YahooProxy, home: Path) -> None:
    ran = run(home, 1, "AAPL", "ZZZZ", environment=yahoo.environment())
    assert ran.lines[0]["error"] == "Yahoo has no quote for ZZZZ."
    assert ran.lines[0]["code"] == 2


def test_without_a_network_it_ends_with_one_error(home: Path) -> None:
    with socket.socket() as bound:  # but not listening: whoever connects is refused
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        ran = run(home, 1, environment={"HTTPS_PROXY": address})
    assert ran.stderr == ""
    assert ran.lines[0]["error"].startswith("Yahoo could not be reached: ")
    assert "--source replay:sample" in ran.lines[0]["hint"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy says HTTP 407"),
        (b"no HTTP\r\n\r\n", "the proxy gives an answer that is none"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "TLS failed: UNEXPECTED_EOF_WHILE_READING"),
    ],
)
def test_a_proxy_that_does_not_let_us_through(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, why: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)
                connection.recv(4096)

        proxy = threading.Thread(target=refuse)
        proxy.start()
        broken = refusal(monkeypatch, f"http://127.0.0.1:{server.getsockname()[1]}")
        proxy.join()
    assert (str(broken), broken.unreachable) == (why, True)


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("http://me:secret/@host:1", "the address of the proxy is not valid"),
        ("ftp://me:secret@127.0.0.1", "the address of the proxy is not valid"),
        ("socks5://127.0.0.1:1", "a SOCKS proxy takes the package python-socks"),
    ],
)
def test_a_proxy_that_cannot_be_one(monkeypatch: pytest.MonkeyPatch, proxy: str, why: str) -> None:
    broken = refusal(monkeypatch, proxy)
    assert (str(broken), broken.unreachable) == (why, True)


def refusal(monkeypatch: pytest.MonkeyPatch, proxy: str) -> Broken:
    """Why no connection can be opened through ``proxy``."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(Broken) as broken, connected():
        pass
    return broken.value


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    yahoo: YahooProxy, home: Path
) -> None:
    # The batch quote goes by curl's bundle, the stream by SSL_CERT_FILE.
    environment = {k: v for k, v in yahoo.environment().items() if k != "SSL_CERT_FILE"}
    yahoo.stream = player = StreamPlayer(lambda line: None)
    ran = run(home, 1, environment=environment)
    assert ran.stderr == ""
    assert ran.lines[-1]["error"].startswith(
        "Yahoo's stream could not be reached: the certificate is bad: "
    )
    assert player.lines == []


def test_importing_the_feed_loads_nothing_heavy() -> None:
    program = (
        "import sys, stockpipe.feeds.yahoo_stream;"
        "print({'yfinance', 'pandas', 'curl_cffi', 'websockets', 'google'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"
