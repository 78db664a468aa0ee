"""The Yahoo feed while Yahoo limits, refuses or forgets: what is asked instead, waited and said."""

from __future__ import annotations

from typing import Any

import pytest
from yahoo_script import (
    CLOSE,
    LIMITED,
    OFFLINE,
    REFUSED,
    UNKNOWN,
    CountingClock,
    ScriptedYahoo,
    batch,
    echo,
    entry,
    feed,
    looks,
    symbols_of,
)

from stockpipe.errors import FeedError, UsageError
from stockpipe.feeds.base import Round
from stockpipe.feeds.yahoo import LONGEST_PAUSE_S
from stockpipe.feeds.yahoo_api import Trouble


def test_no_network_at_the_start_is_one_error_with_the_alternative() -> None:
    with pytest.raises(FeedError) as caught:
        looks(feed(ScriptedYahoo(OFFLINE)), 1)
    assert caught.value.message == (
        "Yahoo could not be reached: Could not resolve host: query1.finance.yahoo.com."
    )
    assert "stockpipe stream --source replay:sample --speed max" in str(caught.value.hint)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("trouble", "says"),
    [(LIMITED, "Yahoo limits our requests (HTTP 429)"), (OFFLINE, "Yahoo cannot be reached")],
)
def test_trouble_is_waited_out_and_said_once(trouble: Trouble, says: str) -> None:
    clock = CountingClock()
    yahoo = ScriptedYahoo(
        batch(entry("AAPL")),
        *[trouble] * 12,
        batch(entry("AAPL", regularMarketTime=CLOSE + 400)),
        batch(entry("AAPL", regularMarketTime=CLOSE + 430)),
    )
    rounds = looks(feed(yahoo, clock=clock), 15)
    assert all(round_ == Round(()) for round_ in rounds[2:13])
    assert [len(round_.quotes) for round_ in rounds] == [1, *[0] * 12, 1, 1]
    assert rounds[1].notices[0].startswith(says)
    assert rounds[13].notices == ("Yahoo answers as usual again.",)
    assert rounds[14].notices == ()
    # Differences of times that have passed: rounded in their last places.
    assert [clock.slept[0], clock.slept[-1]] == pytest.approx([30, 30])
    for number, waited in enumerate(clock.slept[1:-1]):
        assert 30 - 1e-6 <= waited <= 30 + min(30 * 2**number, LONGEST_PAUSE_S) + 1e-6


def test_a_limit_at_the_start_ends_nothing() -> None:
    yahoo = ScriptedYahoo(LIMITED, LIMITED, OFFLINE, batch(entry("AAPL")))
    rounds = looks(feed(yahoo), 4)
    assert [len(round_.notices) for round_ in rounds] == [1, 0, 1, 1]
    assert symbols_of(rounds[3]) == ["AAPL"]


def test_pauses_grow_from_a_second_where_the_interval_is_tiny() -> None:
    clock = CountingClock()
    looks(feed(ScriptedYahoo(LIMITED), clock=clock, interval_s=0.5), 30)
    assert all(0.5 <= waited <= 0.5 + LONGEST_PAUSE_S for waited in clock.slept)
    assert sum(clock.slept) > 300


@pytest.mark.parametrize(
    "answer",
    [
        REFUSED,
        None,
        [],
        "Will be right back",
        {"finance": {"result": None, "error": {"code": "Unauthorized"}}},
        {"quoteResponse": None},
        {"quoteResponse": {"result": None}},
        {"quoteResponse": {"result": [None]}},
        {"quoteResponse": {"result": [{"regularMarketPrice": 1}]}},
    ],
)
def test_where_the_batch_quote_fails_each_symbol_is_asked_for(answer: Any) -> None:
    today = {symbol: {**entry(symbol), "marketState": None} for symbol in ("AAPL", "MSFT")}
    clock = CountingClock()
    yahoo = ScriptedYahoo(answer, answer, batch(entry("AAPL"), entry("MSFT")), today={**today})
    rounds = looks(feed(yahoo, "AAPL", "MSFT", clock=clock), 3)
    assert yahoo.asked == [*["AAPL,MSFT", "today AAPL", "today MSFT"] * 2, "AAPL,MSFT"]
    assert symbols_of(rounds[0]) == ["AAPL", "MSFT"]
    assert rounds[0].states == {}
    assert [round_.unchanged for round_ in rounds] == [0, 2, 2]
    assert rounds[0].notices[0].startswith("Yahoo refuses to quote all symbols at once (")
    assert rounds[1].notices == ()
    assert rounds[2].notices == ("Yahoo answers as usual again.",)
    assert clock.slept == [30, 30]


def test_an_empty_batch_is_no_answer_once_the_symbols_are_known() -> None:
    later = entry("AAPL", regularMarketTime=CLOSE + 60)
    yahoo = ScriptedYahoo(batch(entry("AAPL")), batch(), today={"AAPL": later})
    rounds = looks(feed(yahoo), 2)
    assert symbols_of(rounds[1]) == ["AAPL"]
    assert len(rounds[1].notices) == 1


def test_one_bad_history_does_not_stop_the_others() -> None:
    no_bars = Trouble("unusable", "no prices of today")
    yahoo = ScriptedYahoo(REFUSED, today={"BAD": no_bars, "AAPL": entry("AAPL")})
    rounds = looks(feed(yahoo, "BAD", "AAPL"), 2)
    assert symbols_of(rounds[0]) == ["AAPL"]
    assert rounds[0].notices[1:] == ("BAD is left out for now (no prices of today).",)
    assert rounds[1].notices == ()


def test_a_history_tells_of_a_symbol_that_does_not_exist() -> None:
    yahoo = ScriptedYahoo(REFUSED, today={"AAPL": entry("AAPL"), "ZZZZ": UNKNOWN})
    with pytest.raises(UsageError, match="ZZZZ"):
        looks(feed(yahoo, "AAPL", "ZZZZ"), 1)


def test_where_every_history_fails_too_it_waits_longer() -> None:
    clock = CountingClock()
    yahoo = ScriptedYahoo(
        batch(entry("AAPL"), entry("MSFT")), REFUSED, today={"AAPL": REFUSED, "MSFT": UNKNOWN}
    )
    rounds = looks(feed(yahoo, "AAPL", "MSFT", clock=clock), 4)
    assert [len(round_.notices) for round_ in rounds] == [0, 2, 0, 0]
    assert clock.slept[0] == 30
    assert sum(clock.slept) > 90


def test_a_limit_among_the_histories_keeps_what_came_and_goes_on_from_there() -> None:
    clock = CountingClock()
    later = CLOSE + 60
    yahoo = ScriptedYahoo(
        REFUSED, today={"A": entry("A"), "B": entry("B"), "C": LIMITED, "D": entry("D")}
    )
    rounds = feed(yahoo, "A", "B", "C", "D", clock=clock).rounds()
    first = next(rounds)
    assert symbols_of(first) == ["A", "B"]
    assert [notice.split(" (")[0] for notice in first.notices] == [
        "Yahoo refuses to quote all symbols at once",
        "Yahoo limits our requests",
    ]
    yahoo.histories.update(A=LIMITED, C=entry("C", regularMarketTime=later))
    second = next(rounds)
    assert symbols_of(second) == ["C", "D"]
    assert second.notices == ()
    assert yahoo.asked[-4:] == ["A,B,C,D", "today C", "today D", "today A"]
    assert clock.slept[0] > 30


@pytest.mark.parametrize("trouble", [LIMITED, OFFLINE])
def test_a_limit_at_the_first_history_is_an_outage_and_no_error(trouble: Trouble) -> None:
    yahoo = ScriptedYahoo(REFUSED, today={"AAPL": trouble})
    rounds = looks(feed(yahoo), 3)
    assert [len(round_.notices) for round_ in rounds] == [2, 0, 0]


def test_a_symbol_that_one_answer_forgot_is_asked_for_again_at_the_start() -> None:
    yahoo = ScriptedYahoo(batch(entry("AAPL")), batch(entry("MSFT")), echo)
    rounds = looks(feed(yahoo, "AAPL", "MSFT"), 2)
    assert symbols_of(rounds[0]) == ["AAPL", "MSFT"]
    assert yahoo.asked == ["AAPL,MSFT", "MSFT", "AAPL,MSFT"]


def test_a_symbol_that_disappears_later_never_ends_the_feed() -> None:
    yahoo = ScriptedYahoo(
        REFUSED, batch(entry("AAPL")), today={"AAPL": entry("AAPL"), "IDLE": REFUSED}
    )
    rounds = looks(feed(yahoo, "AAPL", "IDLE"), 2)
    assert rounds[1].unchanged == 1


def test_yahoo_is_left_alone_for_as_long_as_it_asks_for() -> None:
    clock = CountingClock()
    yahoo = ScriptedYahoo(Trouble("limited", "HTTP 429", retry_after_s=900), echo)
    looks(feed(yahoo, clock=clock), 2)
    assert clock.slept == [900]


def test_a_trouble_that_comes_and_goes_is_not_said_each_time() -> None:
    answers = [LIMITED if number % 2 else batch(entry("AAPL")) for number in range(20)]
    rounds = looks(feed(ScriptedYahoo(*answers), interval_s=5), 20)
    assert len([notice for round_ in rounds for notice in round_.notices]) == 2


def test_a_trouble_that_comes_back_to_stay_is_said_in_the_end() -> None:
    clock = CountingClock()
    yahoo = ScriptedYahoo(echo, LIMITED, echo, *[LIMITED] * 30)
    rounds = looks(feed(yahoo, clock=clock), 33)
    said = [notice for round_ in rounds[3:] for notice in round_.notices]
    assert len(said) == 1
    assert said[0].startswith("Yahoo limits our requests")
