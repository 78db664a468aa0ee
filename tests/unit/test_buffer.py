"""The buffer between reader and sender: in order, bounded; of live quotes the newest always lives.

One thread puts and one takes, so the order of what is taken is the order of what was put.
"""

from __future__ import annotations

import time
from itertools import cycle, islice

import pytest
from feed_clock import FeedClock
from hypothesis import given
from hypothesis import strategies as st
from in_thread import BUDGET_S, InThread

from stockpipe.domain.quote import Quote
from stockpipe.producer.buffer import Buffer, Waiting
from stockpipe.producer.stop import StoppableClock, Stopped

steps = st.lists(
    st.lists(st.sampled_from("ABCD"), min_size=1, max_size=8) | st.integers(0, 4), max_size=60
)
"""Symbols to put, or how many to take."""


def quote(symbol: str, number: int = 0) -> Quote:
    return Quote(symbol, 1, 1, 1, 1, None, number, "2022-03-14T13:30:00.000Z")


def buffer(capacity: int = 10, *, live: bool = False) -> Buffer:
    return Buffer(StoppableClock(), newest_wins=live, capacity=capacity)


def taken(found: Buffer, limit: int = 1000) -> list[str]:
    return [waiting.quote.symbol for waiting in found.take(limit, wait_s=0)]


@given(steps, st.integers(1, 8))
def test_a_recording_comes_out_whole_and_in_order_and_never_more_than_the_capacity_waits(
    script: list[list[str] | int], capacity: int
) -> None:
    found, put, came = buffer(capacity), 0, []
    for step in script:
        if isinstance(step, int):
            before = len(found)
            some = found.take(step, wait_s=0)
            assert len(some) == min(step, before)
            came += some
        else:
            fitting = step[: capacity - len(found)]
            found.put(quote(symbol, put + index) for index, symbol in enumerate(fitting))
            put += len(fitting)
        assert len(found) <= capacity
    came += found.take(capacity, wait_s=0)
    assert [one.position for one in came] == [one.quote.volume for one in came] == list(range(put))
    assert found.replaced == 0


@given(steps, st.integers(1, 8))
def test_of_live_quotes_the_newest_of_each_symbol_survives_and_none_overtakes_another(
    script: list[list[str] | int], capacity: int
) -> None:
    found, newest, came = buffer(capacity, live=True), dict[str, int](), list[Waiting]()
    put = 0
    for step in script:
        if isinstance(step, int):
            came += found.take(step, wait_s=0)
            continue
        for symbol in step:
            found.put([quote(symbol, put)])
            newest[symbol] = put
            put += 1
        # One of each symbol always has room.
        assert len(found) <= max(capacity, len(newest))
    left = len(found)
    came += found.take(left, wait_s=0)
    positions = [one.position for one in came]
    assert positions == sorted(set(positions))
    assert all(one.position == one.quote.volume for one in came)
    last = {one.quote.symbol: one.position for one in came}
    assert last == newest
    assert len(came) + found.replaced == put


@given(st.lists(st.sampled_from("ABC"), min_size=1, max_size=40), st.integers(1, 9))
def test_of_live_quotes_that_are_not_taken_the_latest_fill_the_capacity(
    symbols: list[str], capacity: int
) -> None:
    found = buffer(capacity, live=True)
    found.put(quote(symbol) for symbol in symbols)
    assert len(found) == min(len(symbols), max(capacity, len(set(symbols))))
    assert found.replaced == len(symbols) - len(found)


def test_a_live_symbol_makes_room_by_its_own_oldest_before_that_of_another() -> None:
    found = buffer(4, live=True)
    found.put(quote(symbol, number) for number, symbol in enumerate("AABB"))
    found.put([quote("B", 9)])
    assert [(w.quote.symbol, w.quote.volume) for w in found.take(9, wait_s=0)] == [
        ("A", 0), ("A", 1), ("B", 3), ("B", 9),
    ]  # fmt: skip


def test_a_new_live_symbol_takes_its_room_from_the_one_with_most_waiting() -> None:
    found = buffer(4, live=True)
    found.put(map(quote, "ABBBC"))
    assert taken(found) == ["A", "B", "B", "C"]
    assert found.replaced == 1


def test_more_live_symbols_than_the_capacity_have_room_for_one_quote_each() -> None:
    found = buffer(3, live=True)
    found.put(islice(map(quote, cycle("ABCDEFGH")), 80))
    assert sorted(taken(found)) == list("ABCDEFGH")
    assert found.replaced == 72


def test_positions_count_from_where_the_feed_began() -> None:
    found = buffer()
    found.start_at(41)
    found.put(map(quote, "AB"))
    assert [waiting.position for waiting in found.take(9, wait_s=0)] == [41, 42]


def test_whoever_replays_waits_for_room() -> None:
    found = buffer(2)
    putting = InThread(lambda: found.put(map(quote, "ABC")))
    assert putting.runs_on()
    assert taken(found, 1) == ["A"]
    putting.result()
    assert taken(found) == ["B", "C"]


def test_a_stop_ends_the_wait_for_room_and_what_was_put_is_still_there() -> None:
    clock = StoppableClock()
    found = Buffer(clock, newest_wins=False, capacity=2)
    putting = InThread(lambda: found.put(map(quote, "ABC")))
    assert putting.runs_on()
    clock.stop()
    with pytest.raises(Stopped):
        putting.result()
    assert taken(found) == ["A", "B"]


def test_live_quotes_never_wait_for_room_not_even_after_a_stop() -> None:
    clock = StoppableClock()
    found = Buffer(clock, newest_wins=True, capacity=1)
    clock.stop()
    found.put(map(quote, "AB"))
    assert taken(found) == ["A", "B"]


def test_the_first_quote_is_waited_for_and_no_longer_than_asked() -> None:
    found = buffer()
    taking = InThread(lambda: found.take(1, wait_s=BUDGET_S * 2))
    assert taking.runs_on()
    found.put([quote("A")])
    assert [waiting.quote.symbol for waiting in taking.result()] == ["A"]
    assert found.take(1, wait_s=0.01) == []


def test_a_quote_lingers_for_company_until_the_request_is_full() -> None:
    found = buffer()
    found.put([quote("A")])
    taking = InThread(lambda: found.take(3, wait_s=0, linger_s=BUDGET_S * 2))
    assert taking.runs_on()
    found.put([quote("B")])
    assert taking.runs_on()
    found.put(map(quote, "CD"))
    assert [waiting.quote.symbol for waiting in taking.result()] == ["A", "B", "C"]


def test_a_lonely_quote_lingers_no_longer_than_asked() -> None:
    found = buffer()
    begun = time.monotonic()
    found.put([quote("A")])
    assert len(found.take(3, wait_s=0, linger_s=0.05)) == 1
    assert 0.05 <= time.monotonic() - begun < BUDGET_S


def test_lingering_counts_from_when_a_quote_was_put() -> None:
    clock = FeedClock()
    found = Buffer(StoppableClock(), newest_wins=True, clock=clock)
    found.put([quote("A")])
    clock.sleep(60)
    taking = InThread(lambda: found.take(3, wait_s=0, linger_s=60))
    assert taking.result() == [Waiting(0, quote("A"), 0.0)]


def test_nothing_is_taken_and_nothing_waited_for_where_there_is_no_room() -> None:
    found = buffer()
    assert InThread(lambda: found.take(0, wait_s=BUDGET_S * 2)).result() == []
    found.put([quote("A")])
    assert found.take(-5, wait_s=0) == []
    assert len(found) == 1


@pytest.mark.parametrize("linger_s", [0.0, BUDGET_S * 2])
def test_closing_ends_the_wait_for_more(linger_s: float) -> None:
    found = buffer()
    if linger_s:
        found.put([quote("A")])
    taking = InThread(lambda: found.take(3, wait_s=BUDGET_S * 2, linger_s=linger_s))
    assert taking.runs_on()
    found.close()
    assert len(taking.result()) == bool(linger_s)


def test_it_is_drained_once_it_is_closed_and_empty() -> None:
    found = buffer()
    assert not found.drained
    found.put([quote("A")])
    found.close()
    assert not found.drained
    assert taken(found) == ["A"]
    assert found.drained


@pytest.mark.parametrize("live", [False, True])
def test_two_threads_at_full_speed_neither_hang_nor_lose_nor_swap(live: bool) -> None:
    found, count = buffer(7, live=live), 20_000
    symbols = list(islice(cycle("ABCDE"), count))

    def put() -> None:
        for first in range(0, count, 13):
            some = enumerate(symbols[first : first + 13], first)
            found.put(quote(symbol, number) for number, symbol in some)
        found.close()

    def take() -> list[int]:
        came: list[int] = []
        while not found.drained:
            came += (waiting.quote.volume for waiting in found.take(3, wait_s=0.1))
        return came

    putting, taking = InThread(put), InThread(take)
    putting.result()
    came = taking.result()
    assert came == sorted(came)
    assert len(came) + found.replaced == count
    assert set(range(count - 5, count)) <= set(came)
    assert live or found.replaced == 0
