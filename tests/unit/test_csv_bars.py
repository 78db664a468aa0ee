"""Rows without anything odd about them are read on a shorter way, to the same end."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpipe.domain.quote import Quote
from stockpipe.errors import BadRow
from stockpipe.feeds.csv_bars import _Rows

HEADER = ["symbol", "timestamp", "open", "high", "low", "close", "volume", "previous_close"]
NOW = datetime(2022, 3, 15, tzinfo=UTC)

NUMBERS = st.one_of(
    st.decimals(0, 10**13, places=6).map(lambda number: format(number, "f")),
    st.sampled_from(
        [
            "0",
            "0.0000001",
            "00.5",
            "1e3",
            "1.",
            ".5",
            "-1",
            "+2",
            "",
            " 7 ",
            "٣",
            "1_0",
            "99999999999.9",
        ]
    ),
    st.integers(0, 10**16).map(str),
)
TIMES = st.sampled_from(
    [
        "2022-03-14T13:30:00Z", "2022-03-14 13:30:00Z", "2022-03-14T13:30:00.5Z",
        "2022-03-14T13:30:00+01:00", "2022-02-30T13:30:00Z", "1969-12-31T23:59:59Z",
        "2022-03-17T00:00:00Z", "2022-03-14T13:30:00", " 2022-03-14T13:30:00Z",
    ]
)  # fmt: skip
SYMBOLS = st.sampled_from(["AAPL", "aapl", " AAPL", "BRK-B", "A B", ""])


def end(read: object, line: int, row: list[str]) -> Quote | str:
    try:
        quote = read(line, row)  # type: ignore[operator]
    except BadRow as error:
        return error.message
    assert isinstance(quote, Quote)
    return quote


@given(SYMBOLS, TIMES, st.lists(NUMBERS, min_size=4, max_size=4), NUMBERS, NUMBERS)
def test_the_short_way_leads_where_the_long_one_does(
    symbol: str, time: str, prices: list[str], volume: str, before: str
) -> None:
    row = [symbol, time, *prices, volume, before]
    rows = _Rows("file", HEADER, NOW)
    expected = end(rows._any, 2, row)
    for _ in range(2):  # the second time its symbol is known
        assert end(rows.quote, 2, row) == expected


@pytest.mark.parametrize("width", [7, 9])
def test_a_row_of_another_width_is_refused(width: int) -> None:
    row = ["AAPL", "2022-03-14T13:30:00Z", *["1"] * (width - 2)]
    with pytest.raises(BadRow, match=f"has {width} fields"):
        _Rows("file", HEADER, NOW).quote(2, row)


def test_the_ordinary_row_takes_the_short_way() -> None:
    rows = _Rows("file", HEADER, NOW)
    row = ["AAPL", "2022-03-14T13:30:00Z", "1", "2.5", "0.5", "1.123456", "10", "1"]
    assert rows._usual(row) is None  # its symbol is new
    assert rows._usual(row) == rows._any(2, row)
