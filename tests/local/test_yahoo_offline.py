"""The Yahoo feed over the real yfinance, in a process of its own, against a Yahoo on 127.0.0.1."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from yahoo_proxy import (
    BATCH,
    CHART,
    Answer,
    YahooProxy,
    batch,
    chart,
    entry,
    no_such_symbol,
)

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "market-data" / "yahoo"
TOO_MANY = Answer("Too Many Requests\r\n", status=429, content_type="text/html")
INVALID_CRUMB = Answer(
    {
        "finance": {
            "result": None,
            "error": {"code": "Unauthorized", "description": "Invalid Crumb"},
        }
    },
    status=401,
)

PROGRAM = """
import json, os, sys
from datetime import UTC, datetime
from stockpipe.errors import StockpipeError
from stockpipe.feeds.yahoo import YahooFeed
from stockpipe.feeds.yahoo_api import YFinance

class Impatient:
    def now(self): return datetime.now(UTC)
    def monotonic(self): return 0.0
    def sleep(self, seconds): slept.append(seconds)

slept = []
number, *symbols = sys.argv[1:]
yahoo = YFinance(float(os.environ.get("TIMEOUT_S", "10")))
feed = YahooFeed(symbols, 30, Impatient(), yahoo)
try:
    for _, round_ in zip(range(int(number)), feed.rounds()):
        print(json.dumps({
            "quotes": [[quote.symbol, quote.timestamp, quote.price] for quote in round_.quotes],
            "unchanged": round_.unchanged, "states": round_.states, "notices": round_.notices,
            "next_open": sorted(round_.next_open), "slept": slept,
        }))
except StockpipeError as error:
    print(json.dumps({
        "error": error.message, "hint": error.hint, "code": error.exit_code,
    }))
"""


@dataclass
class Ran:
    """What the program wrote: a line per round, or the error that it ended with."""

    lines: list[dict[str, Any]]
    stderr: str

    @property
    def quotes(self) -> list[list[str]]:
        """The symbols of each round."""
        return [[quote[0] for quote in line["quotes"]] for line in self.lines]

    @property
    def notices(self) -> list[list[str]]:
        return [line["notices"] for line in self.lines]


def run(home: Path, rounds: int, *symbols: str, **environment: str) -> Ran:
    """Run the feed with ``environment`` added to ours, which lends neither proxy nor caches."""
    lent = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("XDG_", "PYTHON"))
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(rounds), *symbols],
        env={**lent, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran([json.loads(line) for line in done.stdout.splitlines()], done.stderr)


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[YahooProxy]:
    with YahooProxy(tmp_path) as proxy:
        yield proxy
    assert not proxy.refused


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "home"
    directory.mkdir()
    return directory


def test_one_request_per_round_no_noise_and_no_files(yahoo: YahooProxy, home: Path) -> None:
    yahoo.answer(
        BATCH,
        Answer(batch(entry("AAPL"), entry("MSFT"))),
        Answer(batch(entry("AAPL"), entry("MSFT", regularMarketTime=1761768031))),
    )
    yahoo.answer(CHART + "AAPL", Answer(chart("AAPL")))
    ran = run(home, 3, "AAPL", "MSFT", **yahoo.environment())
    assert ran.stderr == ""
    assert ran.lines[0] == {
        "quotes": [
            ["AAPL", "2025-10-29T20:00:01.000Z", 269_700_000],
            ["MSFT", "2025-10-29T20:00:01.000Z", 269_700_000],
        ],
        "unchanged": 0,
        "states": {"AAPL": "CLOSED", "MSFT": "CLOSED"},
        "notices": [],
        "next_open": ["AAPL", "MSFT"],
        "slept": [],
    }
    assert ran.quotes[1:] == [["MSFT"], []]
    assert [line["unchanged"] for line in ran.lines] == [0, 1, 2]
    asked = yahoo.asked()
    paths = [request.path for request in asked]
    # The closed market is asked for its hours, once; the crumb serves all of it.
    assert paths[paths.index("/v1/test/getcrumb") :] == [
        *["/v1/test/getcrumb", BATCH, CHART + "AAPL", BATCH, BATCH]
    ]
    assert asked[-1].query["symbols"] == "AAPL,MSFT"
    assert list(home.iterdir()) == []


def test_a_limit_is_waited_out(yahoo: YahooProxy, home: Path) -> None:
    # Five, for yfinance itself tries each request a second time.
    yahoo.answer(BATCH, *[TOO_MANY] * 5, Answer(batch(entry("AAPL"))))
    ran = run(home, 4, "AAPL", **yahoo.environment())
    assert ran.stderr == ""
    assert ran.quotes == [[], [], ["AAPL"], []]
    assert [len(notices) for notices in ran.notices] == [1, 0, 1, 0]
    assert "429" in ran.notices[0][0]


def test_a_limit_is_respected_for_as_long_as_it_says(yahoo: YahooProxy, home: Path) -> None:
    waiting = replace(TOO_MANY, headers=(("Retry-After", "1234"),))
    yahoo.answer(BATCH, *[waiting] * 2, Answer(batch(entry("AAPL"))))
    ran = run(home, 2, "AAPL", **yahoo.environment())
    assert ran.quotes == [[], ["AAPL"]]
    assert ran.lines[1]["slept"] == [1234]


def test_it_recovers_from_every_refusal_as_it_was_recorded(yahoo: YahooProxy, home: Path) -> None:
    names = ("429", "429_edge", "401_crumb", "404_chart", "422_chart_1m_range")
    refusals = [refused(f"error_{name}.json") for name in names]
    good = Answer(batch(entry("AAPL")))
    # Two a look, for yfinance itself asks a second time, with a new cookie and crumb.
    yahoo.answer(BATCH, good, *[answer for refusal in refusals for answer in [refusal] * 2], good)
    yahoo.answer(CHART + "AAPL", refusals[2])
    ran = run(home, 7, "AAPL", **yahoo.environment())
    assert ran.stderr == ""
    assert ran.quotes == [["AAPL"], *[[]] * 6]
    assert [line["unchanged"] for line in ran.lines] == [*[0] * 6, 1]
    assert [len(notices) for notices in ran.notices] == [0, 1, 0, 2, 0, 0, 1]
    assert "HTTP 429" in ran.notices[1][0]
    assert "HTTP 401" in ran.notices[3][0]
    assert ran.notices[6] == ["Yahoo answers as usual again."]


def test_a_crumb_that_has_expired_is_replaced_unnoticed(yahoo: YahooProxy, home: Path) -> None:
    later = Answer(batch(entry("AAPL", regularMarketTime=1761768031)))
    yahoo.answer(BATCH, Answer(batch(entry("AAPL"))), INVALID_CRUMB, later)
    yahoo.answer(
        "/v1/test/getcrumb",
        Answer("first.crumb", content_type="text/plain"),
        Answer("second.crumb", content_type="text/plain"),
    )
    ran = run(home, 3, "AAPL", **yahoo.environment())
    assert ran.stderr == ""
    assert ran.quotes == [["AAPL"], ["AAPL"], []]
    assert ran.notices == [[], [], []]
    crumbs = [request.query["crumb"] for request in yahoo.asked(BATCH)]
    assert crumbs == ["first.crumb", "first.crumb", "second.crumb", "second.crumb"]


def test_without_cookie_and_crumb_the_histories_still_come(yahoo: YahooProxy, home: Path) -> None:
    yahoo.answer("/v1/test/getcrumb", TOO_MANY)
    yahoo.answer(BATCH, INVALID_CRUMB)
    yahoo.answer(CHART + "AAPL", Answer(chart("AAPL")))
    ran = run(home, 2, "AAPL", **yahoo.environment())
    assert ran.stderr == ""
    assert ran.quotes == [["AAPL"], []]
    assert ran.lines[0]["states"] == {"AAPL": "CLOSED"}
    assert ran.lines[0]["next_open"] == ["AAPL"]
    assert [len(notices) for notices in ran.notices] == [1, 0]


def test_an_answer_that_takes_too_long_is_given_up(yahoo: YahooProxy, home: Path) -> None:
    good = Answer(batch(entry("AAPL")))
    slow = Answer(batch(entry("AAPL")), after_s=20)
    yahoo.answer(BATCH, good, slow, good)
    ran = run(home, 3, "AAPL", TIMEOUT_S="1", **yahoo.environment())
    assert ran.stderr == ""
    assert ran.quotes == [["AAPL"], [], []]
    assert [len(notices) for notices in ran.notices] == [0, 1, 1]
    assert ran.notices[1][0].startswith("Yahoo cannot be reached (Operation timed out")


def test_two_hundred_symbols_are_one_request_per_round(yahoo: YahooProxy, home: Path) -> None:
    symbols = [f"{number:014d}.XYZ=F" for number in range(200)]
    yahoo.answer(BATCH, Answer(batch(*map(entry, symbols))))
    ran = run(home, 3, *symbols, **yahoo.environment())
    assert ran.stderr == ""
    assert ran.quotes == [symbols, [], []]
    asked = yahoo.asked(BATCH)
    assert [request.query["symbols"].split(",") for request in asked] == [symbols] * 3
    assert max(len(request.target) for request in asked) < 8_000


def test_a_refused_crumb_brings_the_histories(yahoo: YahooProxy, home: Path) -> None:
    yahoo.answer(BATCH, INVALID_CRUMB)
    yahoo.answer(CHART + "AAPL", Answer(chart("AAPL")))
    yahoo.answer(CHART + "MSFT", Answer(chart("MSFT")))
    yahoo.answer(CHART + "IDLE", Answer(chart("IDLE", bars=False)))
    ran = run(home, 2, "AAPL", "IDLE", "MSFT", **yahoo.environment())
    assert ran.stderr == ""
    assert ran.lines[0]["quotes"] == [
        ["AAPL", "2025-10-29T20:00:01.000Z", 269_700_000],
        ["MSFT", "2025-10-29T20:00:01.000Z", 269_700_000],
    ]
    assert ran.notices == [
        [
            "Yahoo refuses to quote all symbols at once (HTTP 401); asking for one after the "
            "other.",
            "IDLE is left out for now (no prices of today).",
        ],
        [],
    ]
    assert ran.lines[1]["unchanged"] == 2
    assert len(yahoo.asked(CHART + "AAPL")) == 2
    assert yahoo.asked(CHART + "AAPL")[0].query["interval"] == "1m"


def test_a_limited_history_is_an_outage(yahoo: YahooProxy, home: Path) -> None:
    yahoo.answer(BATCH, INVALID_CRUMB)
    yahoo.answer(CHART + "AAPL", TOO_MANY)
    ran = run(home, 2, "AAPL", **yahoo.environment())
    assert ran.stderr == ""
    assert [len(notices) for notices in ran.notices] == [2, 0]


def test_it_recovers_from_every_kind_of_nonsense(yahoo: YahooProxy, home: Path) -> None:
    good = Answer(batch(entry("AAPL"), entry("MSFT")))
    yahoo.answer(
        BATCH,
        good,
        Answer(batch(), cut=400),
        Answer("<html>Will be right back</html>", content_type="text/html"),
        Answer('{"quoteResponse": {"result": [{'),
        Answer({"quoteResponse": {"result": None, "error": {"code": "Internal"}}}),
        *[Answer("oops", status=500)] * 2,
        *[Answer("gone", status=404)] * 2,
        Answer(batch()),
        good,
    )
    yahoo.answer(CHART + "AAPL", Answer("<html>", content_type="text/html"))
    yahoo.answer(CHART + "MSFT", Answer("oops", status=500))
    ran = run(home, 9, "AAPL", "MSFT", **yahoo.environment())
    assert ran.stderr == ""
    assert ran.quotes == [["AAPL", "MSFT"], *[[]] * 8]
    assert [len(notices) for notices in ran.notices] == [0, 2, *[0] * 6, 1]
    assert ran.lines[8]["unchanged"] == 2


def test_values_that_json_does_not_have_spare_the_neighbours(yahoo: YahooProxy, home: Path) -> None:
    bad = entry("BAD", regularMarketPrice=float("nan"))
    yahoo.answer(BATCH, Answer(batch(bad, entry("AAPL"))))
    ran = run(home, 1, "BAD", "AAPL", **yahoo.environment())
    assert ran.quotes == [["AAPL"]]
    assert ran.notices == [["BAD is left out for now (price: must not be null)."]]


def test_a_symbol_that_does_not_exist(yahoo: YahooProxy, home: Path) -> None:
    yahoo.answer(BATCH, Answer(batch(entry("AAPL"))))
    ran = run(home, 1, "AAPL", "ZZZZ", **yahoo.environment())
    assert ran.stderr == ""
    assert ran.lines[0]["error"] == "Yahoo has no quote for ZZZZ."
    assert ran.lines[0]["code"] == 2


def test_a_symbol_that_does_not_exist_while_the_batch_fails(yahoo: YahooProxy, home: Path) -> None:
    yahoo.answer(BATCH, INVALID_CRUMB)
    yahoo.answer(CHART + "AAPL", Answer(chart("AAPL")))
    yahoo.answer(CHART + "ZZZZ", Answer(no_such_symbol(), status=404))
    ran = run(home, 1, "AAPL", "ZZZZ", **yahoo.environment())
    assert ran.stderr == ""
    assert ran.lines[0]["error"] == "Yahoo has no quote for ZZZZ."


def test_without_a_network_it_ends_with_one_error(home: Path) -> None:
    with socket.socket() as bound:  # but not listening: whoever connects is refused
        bound.bind(("127.0.0.1", 0))
        ran = run(home, 1, "AAPL", HTTPS_PROXY=f"http://127.0.0.1:{bound.getsockname()[1]}")
    assert ran.stderr == ""
    assert len(ran.lines) == 1
    assert ran.lines[0]["error"].startswith("Yahoo could not be reached: Failed to connect to ")
    assert ran.lines[0]["error"].endswith("Could not connect to server.")
    assert "curl" not in ran.lines[0]["error"]
    assert "--source replay:sample" in ran.lines[0]["hint"]
    assert ran.lines[0]["code"] == 1


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    yahoo: YahooProxy, home: Path
) -> None:
    proxied = {name: value for name, value in yahoo.environment().items() if "PROXY" in name}
    ran = run(home, 1, "AAPL", **proxied)
    assert ran.stderr == ""
    assert "certificate" in ran.lines[0]["error"]
    assert yahoo.asked() == []


def test_a_home_that_cannot_be_written(yahoo: YahooProxy) -> None:
    yahoo.answer(BATCH, Answer(batch(entry("AAPL"))))
    ran = run(Path(os.devnull) / "nobody", 1, "AAPL", **yahoo.environment())
    assert ran.stderr == ""
    assert ran.quotes == [["AAPL"]]


def test_a_recorded_answer(yahoo: YahooProxy, home: Path) -> None:
    yahoo.answer(BATCH, Answer(recorded("yfrs_quote_v7_AAPL-MSFT.json")["body"]))
    yahoo.answer(
        CHART + "AAPL", Answer(recorded("chart_1m_AAPL_weekend_no_timestamp.json")["body"])
    )
    ran = run(home, 2, "AAPL", "MSFT", **yahoo.environment())
    assert ran.quotes == [["AAPL", "MSFT"], []]
    assert ran.notices == [[], []]
    assert ran.lines[0]["states"] == {"AAPL": "POSTPOST", "MSFT": "POSTPOST"}
    assert ran.lines[0]["next_open"] == ["AAPL", "MSFT"]


def test_importing_the_feed_loads_nothing_heavy() -> None:
    program = (
        "import sys, stockpipe.feeds.yahoo;"
        "print({'yfinance', 'pandas', 'numpy', 'curl_cffi'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"


def recorded(name: str) -> dict[str, Any]:
    """A recorded answer: status, content_type, body; skips where the recordings are not at hand."""
    if not (RECORDED / name).is_file():
        pytest.skip("no recorded answers beside this checkout")
    recording: dict[str, Any] = json.loads((RECORDED / name).read_text(encoding="utf-8"))
    return recording


def refused(name: str) -> Answer:
    recording = recorded(name)
    return Answer(recording["body"], recording["status"], recording["content_type"])
