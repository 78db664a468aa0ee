"""The Yahoo feed over the real yfinance, in a process of its own, against a Yahoo on 127.0.0.1."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from yahoo_feed_program import (
    INVALID_CRUMB,
    recorded,
    run,
)

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


def test_two_hundred_symbols_are_one_request_per_round(yahoo: YahooProxy, home: Path) -> None:
    symbols = [f"{number:014d}.XYZ=F" for number in range(200)]
    yahoo.answer(BATCH, Answer(batch(*map(entry, symbols))))
    ran = run(home, 3, *symbols, **yahoo.environment())
    assert ran.stderr == ""
    assert ran.quotes == [symbols, [], []]
    asked = yahoo.asked(BATCH)
    assert [request.query["symbols"].split(",") for request in asked] == [symbols] * 3
    assert max(len(request.target) for request in asked) < 8_000


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
