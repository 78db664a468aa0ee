"""docs/feeds.md shows a whole feed of another package: here it is installed and run."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pip")

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "feeds.md").read_text("utf-8")
PARTS = DOCUMENT.partition("## A source of your own")[2]
CODE = re.findall(r"^```python\n(.*?)^```", PARTS, re.M | re.S)[0]
PROJECT = tomllib.loads(re.findall(r"^```toml\n(.*?)^```", PARTS, re.M | re.S)[0])["project"]
ENTRY_POINTS: dict[str, str] = PROJECT["entry-points"]["stockpipe.feeds"]
KEYS = {"APCA_API_KEY_ID": "id-of-a-test", "APCA_API_SECRET_KEY": "secret-of-a-test"}
BUDGET_S = 60


def wheel(directory: Path, name: str, code: str, entry_points: Mapping[str, str]) -> Path:
    """A wheel with one module, named as the package, made by hand: no build tool is needed.

    https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    points = "".join(f"{point} = {value}\n" for point, value in entry_points.items())
    files = {
        f"{module}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[stockpipe.feeds]\n{points}",
    }
    record = "".join(f"{path},{_digest(text)},{len(text)}\n" for path, text in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    made = directory / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as packed:
        for path, text in files.items():
            packed.writestr(path, text)
    return made


def _digest(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(
        hashlib.sha256(text.encode()).digest()
    ).decode().rstrip("=")


@dataclass
class Program:
    """The installed program, and packages beside it, in a place of their own."""

    place: Path

    @property
    def packages(self) -> Path:
        return self.place / "packages"

    def install(self, name: str, code: str, entry_points: Mapping[str, str]) -> None:
        made = wheel(self.place, name, code, entry_points)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run(
            [*pip, "--no-index", "--no-deps", "--target", str(self.packages), str(made)],
            check=True,
            timeout=BUDGET_S,
        )

    def unpack(self, name: str, code: str, entry_points: Mapping[str, str]) -> None:
        """What pip makes of such a wheel; pip itself takes half a second."""
        with zipfile.ZipFile(wheel(self.place, name, code, entry_points)) as packed:
            packed.extractall(self.packages)

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.place),
            "STOCKPIPE_HOME": str(self.place / "stockpipe"),
            "PYTHONPATH": str(self.packages),
            "NO_PROXY": "127.0.0.1",
            **more,
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "stockpipe", "stream", *arguments, "--dry-run"]

    def stream(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=BUDGET_S,
            check=False,
            cwd=self.place,
            env=self.environment(**more),
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """With the package of the document, exactly as it stands there."""
    made = Program(tmp_path_factory.mktemp("documented"))
    made.install(PROJECT["name"], CODE, ENTRY_POINTS)
    return made


def snapshot(price: float, time_text: str, **more: Any) -> dict[str, Any]:
    """One symbol, in the form of Alpaca's snapshots."""
    bar = {"t": "2025-10-29T04:00:00Z", "o": 269.28, "h": 271.41, "l": 267.11, "c": 269.7}
    return {
        "latestTrade": {"t": time_text, "x": "V", "p": price, "s": 100, "z": "C"},
        "minuteBar": bar | {"v": 1205},
        "dailyBar": bar | {"v": 43332154, "n": 5000, "vw": 269.5},
        "prevDailyBar": bar | {"c": 269.0, "v": 41534759},
        **more,
    }


@dataclass
class Endpoint:
    """What a loopback server answers, in turn; the last answer repeats."""

    answers: list[tuple[int, bytes]]
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        with self.lock:
            self.asked.append((path, {name.lower(): value for name, value in headers.items()}))
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def serving(*answers: tuple[int, Any]) -> Iterator[Endpoint]:
    """Answers are a status and what is JSON unless it is bytes."""
    endpoint = Endpoint(
        [(code, what if isinstance(what, bytes) else json.dumps(what).encode())
         for code, what in answers]
    )  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = endpoint.next(self.path, dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Keep quiet: ``asked`` is the log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v2/stocks/snapshots"
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def records(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_feed_of_the_document_is_whole_and_short() -> None:
    lines = [line for line in CODE.splitlines() if line.strip()]
    assert len(lines) < 40
    assert max(map(len, lines)) <= 100
    assert ENTRY_POINTS == {"alpaca": "stockpipe_alpaca:Alpaca"}


def test_an_installed_package_brings_quotes_under_its_label(documented: Program) -> None:
    first = {"AAPL": snapshot(269.71, "2025-10-29T19:59:59.435997104Z")}
    second = {"AAPL": first["AAPL"], "MSFT": snapshot(541.55, "2025-10-29T19:59:58Z")}
    with serving((200, first), (200, second)) as endpoint:
        done = documented.stream(
            "--source", "alpaca", "AAPL", "MSFT", "--interval", "1s", "--count", "2",
            ALPACA_URL=endpoint.url, **KEYS,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    apple, microsoft = records(done)  # the trade that was told twice is sent once
    assert apple == {
        "symbol": "AAPL", "open": 269.28, "high": 271.41, "low": 267.11, "price": 269.71,
        "previous_close": 269.0, "change": 0.71, "change_percent": 0.2639, "volume": 43332154,
        "timestamp": "2025-10-29T19:59:59.435Z", "source": "alpaca",
    }  # fmt: skip
    assert (microsoft["symbol"], microsoft["price"]) == ("MSFT", 541.55)
    path, headers = endpoint.asked[0]
    assert path == "/v2/stocks/snapshots?symbols=AAPL,MSFT"
    assert headers["apca-api-key-id"] == KEYS["APCA_API_KEY_ID"]
    assert headers["apca-api-secret-key"] == KEYS["APCA_API_SECRET_KEY"]
    assert KEYS["APCA_API_SECRET_KEY"] not in done.stderr


def test_its_troubles_are_waited_out_and_said_once(documented: Program) -> None:
    good = {"AAPL": snapshot(269.7, "2025-10-29T20:00:00Z"), "GONE": None}
    with serving((500, b"down"), (200, b"<html>"), (200, [1]), (200, good)) as endpoint:
        done = documented.stream(
            "--source", "alpaca", "AAPL", "GONE", "--interval", "1s", "--count", "1",
            ALPACA_URL=endpoint.url, **KEYS,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [record["symbol"] for record in records(done)] == ["AAPL"]
    assert len(endpoint.asked) == 4
    assert re.findall("^Alpaca: .*", done.stderr, re.M) == [
        "Alpaca: HTTP Error 500: Internal Server Error."
    ]


def test_it_ends_at_once_when_it_is_stopped_in_a_long_wait(documented: Program) -> None:
    with serving((200, {"AAPL": snapshot(269.7, "2025-10-29T20:00:00Z")})) as endpoint:
        environment = documented.environment(ALPACA_URL=endpoint.url, **KEYS)
        running = subprocess.Popen(
            documented.command("--source", "alpaca", "AAPL", "--interval", "1h"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=documented.place,
            env=environment,
        )
        with running:
            assert running.stdout is not None
            assert "269.7" in running.stdout.readline()  # from here on it waits for an hour
            running.send_signal(signal.SIGTERM)
            assert running.wait(BUDGET_S) == 130


def test_a_request_that_it_refuses_is_a_usage_error(documented: Program) -> None:
    done = documented.stream("--source", "alpaca", "AAPL")
    assert done.returncode == 2
    assert "alpaca needs symbols, APCA_API_KEY_ID and APCA_API_SECRET_KEY." in done.stderr


def test_a_misspelt_source_is_led_to_the_package(documented: Program) -> None:
    done = documented.stream("--source", "alpacca", "AAPL")
    assert done.returncode == 2
    assert "Did you mean alpaca?" in done.stderr


def test_a_quote_under_another_label_is_not_sent(program: Program) -> None:
    program.unpack(
        "mislabels", CODE.replace('"source": "alpaca"', '"source": "yahoo"'),
        {"alpaca": "mislabels:Alpaca"},
    )  # fmt: skip
    with serving((200, {"AAPL": snapshot(269.7, "2025-10-29T20:00:00Z")})) as endpoint:
        done = program.stream("--source", "alpaca", "AAPL", ALPACA_URL=endpoint.url, **KEYS)
    assert (done.returncode, done.stdout) == (1, "")
    assert "A quote of AAPL is labelled 'yahoo', the feed says 'alpaca'." in done.stderr


def test_an_error_of_the_feed_ends_the_stream_in_its_name(program: Program) -> None:
    program.unpack(
        "breaks", CODE.replace("self.clock.sleep(self.pause_s)", "self.clock.rest()"),
        {"alpaca": "breaks:Alpaca"},
    )  # fmt: skip
    with serving((200, {"AAPL": snapshot(269.7, "2025-10-29T20:00:00Z")})) as endpoint:
        done = program.stream("--source", "alpaca", "AAPL", ALPACA_URL=endpoint.url, **KEYS)
    assert done.returncode == 1
    assert [record["symbol"] for record in records(done)] == ["AAPL"]  # what it had brought
    assert "The feed Alpaca ended by an error of its own: AttributeError" in done.stderr


@pytest.mark.parametrize(
    ("code", "value", "words"),
    [
        ("import no_such_module", "feed:Feed", "cannot be loaded: ModuleNotFoundError"),
        ("", "feed:Feed", "cannot be loaded: AttributeError"),
        ("Feed = 1", "feed:Feed", "is nothing that can be called"),
    ],
)
def test_an_entry_point_that_leads_nowhere_is_named(
    program: Program, code: str, value: str, words: str
) -> None:
    program.unpack("feed", code, {"broken": value})
    done = program.stream("--source", "broken")
    assert done.returncode == 1
    assert f"The source broken of feed {words}" in done.stderr


def test_a_name_of_two_packages_is_refused_until_one_is_removed(program: Program) -> None:
    for name in ("feed-one", "feed-two"):
        program.unpack(name, CODE, {"alpaca": f"{name.replace('-', '_')}:Alpaca"})
    done = program.stream("--source", "alpaca", "AAPL", **KEYS)
    assert done.returncode == 1
    assert "The source alpaca comes with feed-one and feed-two." in done.stderr
    assert "Remove one of them." in done.stderr


def test_no_package_can_take_the_name_of_one_of_ours(program: Program) -> None:
    program.unpack("usurper", "raise SystemExit('loaded')", {"yahoo": "usurper:Feed"})
    done = program.stream("--source", "yahoo:anything", "AAPL")  # answered by ours, offline
    assert done.returncode == 2
    assert "--source yahoo takes no argument; got 'anything'." in done.stderr
