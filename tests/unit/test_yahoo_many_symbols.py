"""The Yahoo feed with more symbols than one request holds, or than Yahoo quotes at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from yahoo_script import (
    LIMITED,
    CountingClock,
    ScriptedYahoo,
    echo,
    feed,
    looks,
    symbols_of,
)

from stockpipe.feeds.yahoo_answers import in_pieces
from stockpipe.feeds.yahoo_api import Trouble


def test_two_hundred_long_symbols_fit_one_request_and_more_take_the_fewest() -> None:
    def long(number: int) -> list[str]:
        return [f"{index:014d}.XYZ=F" for index in range(number)]

    assert in_pieces(long(200), 500) == [tuple(long(200))]
    assert [len(piece) for piece in in_pieces([f"S{n}" for n in range(1001)], 500)] == [500, 500, 1]
    pieces = in_pieces(long(700), 500)
    assert [symbol for piece in pieces for symbol in piece] == long(700)
    assert len(pieces) == 3
    assert in_pieces(["AAPL"], 500) == [("AAPL",)]


def at_most(limit: int, refusal: Trouble = LIMITED) -> Callable[[Sequence[str]], Any]:
    def answer(symbols: Sequence[str]) -> Any:
        if len(symbols) > limit:
            raise refusal
        return echo(symbols)

    return answer


def test_more_symbols_than_one_request_holds() -> None:
    symbols = [f"S{number}" for number in range(600)]
    yahoo = ScriptedYahoo(echo)
    rounds = looks(feed(yahoo, *symbols), 2)
    assert symbols_of(rounds[0]) == symbols
    assert [asked.count(",") + 1 for asked in yahoo.asked] == [500, 100] * 2


def test_a_limit_between_two_requests_keeps_what_came_and_goes_on_from_there() -> None:
    symbols = [f"S{number}" for number in range(600)]
    yahoo = ScriptedYahoo(echo, LIMITED, echo)
    rounds = looks(feed(yahoo, *symbols), 2)
    assert symbols_of(rounds[0]) == symbols[:500]
    assert rounds[0].notices[0].startswith("Yahoo limits our requests")
    assert symbols_of(rounds[1]) == symbols[500:]
    assert rounds[1].unchanged == 500
    assert rounds[1].notices == ("Yahoo answers as usual again.",)


def test_where_yahoo_refuses_so_many_at_once_it_is_asked_for_fewer() -> None:
    symbols = [f"S{number}" for number in range(200)]
    yahoo = ScriptedYahoo(at_most(99))
    clock = CountingClock()
    rounds = looks(feed(yahoo, *symbols, clock=clock), 40)
    assert [len(round_.quotes) + round_.unchanged for round_ in rounds[:6]] == [
        *[0, 0, 200, 0, 200, 200]
    ]
    assert [asked.count(",") + 1 for asked in yahoo.asked[:10]] == [
        *[200, 200, 99, 99, 2, 200, 99, 99, 2, 99]
    ]
    assert [notice for round_ in rounds for notice in round_.notices][2:] == [
        "Yahoo refuses 200 symbols at once; asking for 99 at a time."
    ]


def test_all_at_once_is_tried_again_after_an_hour() -> None:
    symbols = [f"S{number}" for number in range(200)]
    yahoo = ScriptedYahoo(*[LIMITED] * 2, *[echo] * 3, LIMITED, echo)
    clock = CountingClock()
    rounds = looks(feed(yahoo, *symbols, clock=clock, interval_s=600), 14)
    assert [asked.count(",") + 1 for asked in yahoo.asked[:6]] == [200, 200, 99, 99, 2, 200]
    assert yahoo.asked[-1].count(",") + 1 == 200
    assert len(rounds[-1].quotes) + rounds[-1].unchanged == 200


def test_an_ordinary_limit_does_not_split_the_request_for_long() -> None:
    symbols = [f"S{number}" for number in range(200)]
    yahoo = ScriptedYahoo(echo, *[LIMITED] * 4, echo)
    looks(feed(yahoo, *symbols), 8)
    assert [asked.count(",") + 1 for asked in yahoo.asked] == [
        *[200, 200, 200, 99, 99, 99, 99, 2, 200, 200]
    ]
