"""The live stream's connection over real sockets and TLS: it breaks, is replaced, or never is."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from yahoo_stream_program import OPEN, run, subscribed, tick

from stockpipe.feeds.yahoo_socket import Broken, connected
from yahoo_proxy import BATCH, YahooProxy
from yahoo_socket import Line, StreamPlayer, pricing


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
    # On a loaded machine one between them may be given up too: so fast is the clock.
    assert [player.lines[place].closed_with for place in (0, -1)] == [1000, 1000]


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
