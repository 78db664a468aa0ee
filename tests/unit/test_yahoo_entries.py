"""What an entry of Yahoo's batch quote becomes, be it whole, odd, recorded or broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from yahoo_script import (
    CLOSE,
    NOW,
    CountingClock,
    ScriptedYahoo,
    batch,
    entry,
    feed,
    looks,
    symbols_of,
)

from stockpipe.domain.quote import Quote
from stockpipe.errors import UsageError
from stockpipe.feeds.base import Feed, Round
from stockpipe.feeds.yahoo_api import Entry, quote_of_entry

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "market-data" / "yahoo"


def test_a_batch_entry_becomes_a_quote() -> None:
    source: Feed = feed(ScriptedYahoo(batch(entry("AAPL", regularMarketPrice=0.1))))
    assert (source.source, source.live, source.total) == ("yahoo", True, None)
    assert next(source.rounds()) == Round(
        quotes=(
            Quote(
                symbol="AAPL",
                open=269_280_000,
                high=271_410_000,
                low=267_110_000,
                price=100_000,
                previous_close=269_000_000,
                volume=43_332_154,
                timestamp="2025-10-29T20:00:01.000Z",
                ingested_at="2025-10-29T20:15:00.000Z",
                source="yahoo",
                utc_offset_s=-14_400,
            ),
        ),
        states={"AAPL": "REGULAR"},
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"regularMarketOpen": None}, "open: must not be null"),
        ({"regularMarketDayHigh": float("nan")}, "high: must not be null"),
        ({"regularMarketDayLow": float("inf")}, "low: must not be null"),
        ({"regularMarketPrice": 0}, "price: must be above 0"),
        ({"regularMarketPrice": -3.5}, "price: must be above 0"),
        ({"regularMarketPrice": "269.7"}, "price: must be a number"),
        ({"regularMarketVolume": None}, "volume: must not be null"),
        ({"regularMarketVolume": 1.5}, "volume: must be an integer"),
        ({"regularMarketTime": 0}, "timestamp: must be Unix seconds"),
        ({"regularMarketTime": 10**300}, "timestamp: must be Unix seconds"),
        ({"regularMarketTime": "now"}, "timestamp: must be Unix seconds"),
        ({"regularMarketTime": CLOSE + 90_000}, "timestamp: lies more than a day after"),
        ({"regularMarketTime": None}, "timestamp: must be Unix seconds, got None"),
        ({"regularMarketTime": True}, "timestamp: must be Unix seconds"),
        ({"gmtOffSetMilliseconds": 10**9}, "utc_offset_s: must lie in"),
        ({"regularMarketPrice": {"raw": -1, "fmt": "-1.00"}}, "price: must be above 0"),
        ({"regularMarketOpen": {"fmt": "269.28"}}, "open: must not be null"),
        ({"regularMarketOpen": {"raw": [1]}}, "open: must be a number"),
    ],
)
def test_a_bad_entry_is_left_out_and_the_others_go_on(fields: Entry, says: str) -> None:
    yahoo = ScriptedYahoo(
        batch(entry("BAD", **fields), entry("AAPL")),
        batch(entry("BAD", **fields), entry("AAPL", regularMarketTime=CLOSE + 1)),
        batch(entry("BAD"), entry("AAPL", regularMarketTime=CLOSE + 2)),
    )
    clock = CountingClock()
    rounds = looks(feed(yahoo, "BAD", "AAPL", clock=clock), 3)
    assert [symbols_of(round_) for round_ in rounds] == [["AAPL"], ["AAPL"], ["BAD", "AAPL"]]
    assert len(rounds[0].notices) == 1
    assert rounds[0].notices[0].startswith(f"BAD is left out for now ({says}")
    assert [round_.notices for round_ in rounds[1:]] == [(), ("BAD has quotes again.",)]
    assert clock.slept == [30, 30]


@pytest.mark.parametrize(
    ("symbol", "fields", "expected"),
    [
        pytest.param(
            "^GSPC",
            {"regularMarketPrice": 6890.59, "regularMarketVolume": 5_636_950_000},
            {"price": 6_890_590_000, "volume": 5_636_950_000},
            id="an index",
        ),
        pytest.param(
            "EURUSD=X",
            {"regularMarketPrice": 1.1598237, "regularMarketVolume": 0, "gmtOffSetMilliseconds": 0},
            {"price": 1_159_824, "volume": 0, "utc_offset_s": 0},
            id="a rate of exchange, without volume",
        ),
        pytest.param("ES=F", {"regularMarketPrice": 6921}, {"price": 6_921_000_000}, id="a future"),
        pytest.param(
            "7203.T", {"gmtOffSetMilliseconds": 32_400_000}, {"utc_offset_s": 32_400}, id="Tokyo"
        ),
        pytest.param(
            "SHIB-USD", {"regularMarketPrice": 1.0241e-05}, {"price": 10}, id="a tiny price"
        ),
        pytest.param(
            "AAPL",
            {
                "regularMarketPrice": {"raw": 269.7, "fmt": "269.70"},
                "regularMarketTime": {"raw": CLOSE, "fmt": "4:00PM EDT"},
                "regularMarketVolume": {"raw": 43332154, "fmt": "43.332M", "longFmt": "43,332,154"},
                "regularMarketPreviousClose": {},
            },
            {"price": 269_700_000, "volume": 43_332_154, "previous_close": None},
            id="formatted, though we ask for raw numbers",
        ),
        pytest.param(
            "AAPL", {"regularMarketTime": CLOSE + 0.25}, {"price": 269_700_000}, id="a fraction"
        ),
        pytest.param("AAPL", {"gmtOffSetMilliseconds": None}, {"utc_offset_s": None}, id="no zone"),
        pytest.param("AAPL", {"marketState": None, "market": 7}, {"volume": 43_332_154}, id="odd"),
    ],
)
def test_an_entry_of_another_kind_is_a_quote_too(
    symbol: str, fields: Entry, expected: dict[str, Any]
) -> None:
    round_ = looks(feed(ScriptedYahoo(batch(entry(symbol, **fields))), symbol), 1)[0]
    assert {name: getattr(round_.quotes[0], name) for name in expected} == expected
    assert (round_.quotes[0].symbol, round_.notices) == (symbol, ())


def test_whoever_has_an_entry_can_make_the_quote() -> None:
    quote = quote_of_entry("AAPL", entry("AAPL"), NOW, "elsewhere")
    assert (quote.source, quote.ingested_at) == ("elsewhere", "2025-10-29T20:15:00.000Z")


@pytest.mark.parametrize("nonsense", [None, 7, [], {}, {"symbol": 7}, {"regularMarketPrice": 1}])
def test_an_entry_that_is_none_spares_its_neighbours(nonsense: Any) -> None:
    round_ = looks(feed(ScriptedYahoo(batch(nonsense, entry("AAPL")))), 1)[0]
    assert symbols_of(round_) == ["AAPL"]


@pytest.mark.parametrize("previous", [None, 0, 0.0, float("nan")])
def test_a_first_day_of_trading_has_no_previous_close(previous: float | None) -> None:
    yahoo = ScriptedYahoo(batch(entry("NEW", regularMarketPreviousClose=previous)))
    assert looks(feed(yahoo, "NEW"), 1)[0].quotes[0].previous_close is None


@pytest.mark.parametrize(
    ("file", "symbols"),
    [
        ("quote_AAPL.json", ["AAPL"]),
        ("quote_AAPL-BABA.json", ["AAPL", "BABA"]),
        ("yfrs_quote_v7_AAPL.json", ["AAPL"]),
        ("yfrs_quote_v7_AAPL-MSFT.json", ["AAPL", "MSFT"]),
    ],
)
def test_recorded_answers(file: str, symbols: list[str]) -> None:
    round_ = looks(feed(ScriptedYahoo(recorded(file)), *symbols), 1)[0]
    assert symbols_of(round_) == symbols
    assert round_.states.keys() == set(symbols)
    assert round_.notices == ()
    assert all(quote.previous_close and quote.utc_offset_s for quote in round_.quotes)


def test_a_recorded_answer_to_the_cent() -> None:
    quote = looks(feed(ScriptedYahoo(recorded("quote_AAPL.json"))), 1)[0].quotes[0]
    assert (quote.open, quote.high, quote.low) == (241_070_000, 245_410_000, 241_000_000)
    assert (quote.price, quote.previous_close) == (244_600_000, 241_530_000)
    assert (quote.volume, quote.timestamp) == (40_896_227, "2025-02-14T21:00:00.000Z")
    assert (quote.day, quote.change_percent) == ("2025-02-14", "1.2711")


def test_a_recorded_answer_without_the_day_range_is_left_out() -> None:
    round_ = looks(feed(ScriptedYahoo(recorded("quote_MSFT_fields.json")), "MSFT"), 1)[0]
    assert round_.quotes == ()
    assert round_.states == {"MSFT": "CLOSED"}
    assert round_.notices == ("MSFT is left out for now (open: must not be null).",)


def test_a_recorded_answer_about_an_unknown_symbol() -> None:
    with pytest.raises(UsageError, match="GS2C"):
        looks(feed(ScriptedYahoo(recorded("yfrs_quote_v7_GS2C.json")), "GS2C"), 1)


def recorded(name: str) -> Any:
    """The body of a recorded answer; skips where the recordings are not at hand."""
    if not (RECORDED / name).is_file():
        pytest.skip("no recorded answers beside this checkout")
    return json.loads((RECORDED / name).read_text(encoding="utf-8"))["body"]
