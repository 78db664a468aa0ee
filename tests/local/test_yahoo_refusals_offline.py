"""The Yahoo feed over the real yfinance while a Yahoo on 127.0.0.1 refuses, limits or fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from yahoo_feed_program import (
    INVALID_CRUMB,
    TOO_MANY,
    refused,
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
