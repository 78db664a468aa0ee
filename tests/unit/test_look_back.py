"""The look back: what no event told of is found in the table itself, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from stores import THROTTLED, refused
from trend_stack import RULE, START, Stack, at, wave

from stockpipe.domain.exact import moment_text
from stockpipe.domain.signals import Reading
from stockpipe.domain.sweep_event import EVENT, LookBack, look_back_of, payload
from stockpipe.functions import analysis, readings
from stockpipe.functions.analysis import SETTLE_S, Outcome

HOUR_S = 3600.0


class Quiet(Stack):
    """A table whose stream tells nobody, looked at half an hour after its first row."""

    def __init__(self, *, max_age_s: float | None = None) -> None:
        super().__init__(RULE, max_age_s=max_age_s)
        self.clock.moment = START + timedelta(minutes=30)

    def look(
        self,
        *symbols: str,
        seconds: float = HOUR_S,
        left: Callable[[], float] = lambda: 50.0,
    ) -> Outcome:
        return self.analysis.look_back(symbols or ("AAPL",), seconds, left)

    def store_all(self, symbol: str, rows: list[Reading]) -> None:
        for reading in rows:
            self.store(symbol, reading)


def test_every_crossing_that_no_event_told_of_is_alerted_once() -> None:
    stack = Quiet()
    stack.store_all("AAPL", wave(30))
    assert len(stack.look().alerts) == len(stack.expected()) > 1
    assert stack.true() == stack.expected()
    writes = stack.alerts.writes
    assert stack.look().settled == {}
    assert stack.alerts.writes == writes
    assert len(stack.topic.messages) == len(stack.expected())


def test_an_event_that_comes_late_after_all_finds_it_known() -> None:
    stack = Quiet()
    batch = [stack.store("AAPL", reading) for reading in wave(30)]
    stack.look()
    assert stack.judge(batch).alerts == []
    assert stack.true() == stack.expected()


def test_only_rows_within_the_look_back_are_judged() -> None:
    stack = Quiet()
    stack.store_all("AAPL", wave(30))
    outcome = stack.look(seconds=600)
    assert outcome.records == 9  # of minutes 21 to 29
    assert {one[1] for one in stack.true()} == {
        one[1] for one in stack.expected() if one[1] > at(20)
    }


def test_it_supersedes_nothing_where_old_rows_have_expired() -> None:
    stack = Quiet()
    stack.judge([stack.store("AAPL", reading) for reading in wave(30)])
    before = stack.true()
    for minute in range(14):
        del stack.table.items["AAPL", at(minute)]
    assert stack.look().superseded == []
    assert stack.true() == before


def test_a_row_that_arrives_while_it_looks_makes_it_supersede_nothing_either() -> None:
    stack = Quiet()
    stack.judge([stack.store("AAPL", reading) for reading in wave(30)])
    before = stack.true()
    for minute in range(14):
        del stack.table.items["AAPL", at(minute)]

    def arrives(*_: Any) -> None:
        if len(stack.table.calls) == 2:
            stack.store("AAPL", Reading(at(29).replace("00.000Z", "30.000Z"), 10**7))

    stack.table.fault = arrives
    assert stack.look().superseded == []
    assert stack.true() == before


def late_row(stack: Quiet, *prices: int) -> None:
    """Rows that change what was read before, judged by the invocation that is told of them."""
    rows = [Reading(at(12 + place), price * 10**6) for place, price in enumerate(prices)]
    stack.other.run([stack.store("AAPL", row) for row in rows], lambda: 50.0)


def test_what_another_invocation_made_wrong_before_the_claim_is_not_sent() -> None:
    stack = Quiet()
    stack.store_all("AAPL", wave(17))
    ((_, wrong, _, _),) = [one for one in stack.expected() if one[1] > at(11)]

    def late(operation: str, request: dict[str, Any]) -> None:
        if operation == "update_item" and request["Key"]["id"]["S"] == wrong:
            stack.alerts.fault = lambda *_: None
            late_row(stack, 15, 15, 15, 15, 15)

    stack.alerts.fault = late
    stack.look()
    assert {one[1]: one[3] for one in stack.true()}[wrong] == "superseded"
    assert {one for one in stack.true() if one[3] != "superseded"} == stack.expected()
    assert len(stack.topic.messages) == len(stack.expected())


def test_what_cannot_be_verified_is_not_sent_and_found_by_the_next_look() -> None:
    stack = Quiet()
    stack.store_all("AAPL", wave(17))

    def fails(operation: str, _: dict[str, Any]) -> Exception | None:
        return refused(THROTTLED) if operation == "query" and stack.alerts.writes else None

    stack.table.fault = fails
    assert "AAPL" in next(iter(stack.look().handed_back.values()))
    assert {one[3] for one in stack.true()} == {"superseded"}
    stack.table.fault = lambda *_: None
    stack.look()
    assert stack.true() == stack.expected()
    assert len(stack.topic.messages) == len(stack.expected())


def test_a_signal_that_an_event_has_turned_around_is_left_to_it() -> None:
    stack = Quiet()
    stack.store_all("AAPL", wave(14))  # down at 6... up at 12
    found = {one[1]: one[2] for one in stack.expected()}
    last = max(found)

    def turned(operation: str, request: dict[str, Any]) -> None:
        if operation == "update_item" and request["Key"]["id"]["S"] == last:
            stack.alerts.fault = lambda *_: None
            other = {"golden": "death", "death": "golden"}[found[last]]
            stack.alerts.items["AAPL", last] = {
                **request["Key"], "kind": {"S": other}, "status": {"S": "sent"},
            }  # fmt: skip

    stack.alerts.fault = turned
    assert stack.look().settled["known"] == 1
    assert stack.alerts.items["AAPL", last]["status"]["S"] == "sent"
    assert stack.alerts.items["AAPL", last]["kind"]["S"] != found[last]


def test_where_time_ran_out_the_next_look_begins() -> None:
    stack = Quiet()
    symbols = [f"S{number}" for number in range(6)]
    for symbol in symbols:
        stack.store_all(symbol, wave(17))
    asked: list[None] = []

    def left() -> float:
        asked.append(None)
        return 50.0 - len(asked)

    for _ in range(9):
        asked.clear()
        stack.look(*symbols, left=left)
    assert {one[0] for one in stack.true()} == set(symbols)
    assert stack.true() == stack.expected()


def test_more_rows_than_are_read_at_once_are_judged_in_slices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readings, "MOST_ROWS", 500)
    monkeypatch.setattr(analysis, "SLICE_ROWS", 100)
    stack = Quiet()
    ticks = [
        Reading(moment_text(stack.clock.moment - timedelta(seconds=3 * n)), price * 10**6)
        for n in range(700, 0, -1)
        for price in [10 + n // 60 % 2]
    ]
    stack.store_all("AAPL", ticks)
    outcome = stack.look(seconds=86_400)
    assert (outcome.unjudged, outcome.records) == ({}, 700)
    assert stack.true() == stack.expected()
    assert len(stack.true()) == 10


def test_a_row_that_is_being_written_is_not_judged_across() -> None:
    stack = Quiet()
    rows = wave(20)
    stack.store_all("AAPL", rows[:7])
    stack.store("AAPL", rows[8], after=at(7))
    assert "not visible yet" in next(iter(stack.look().handed_back.values()))
    assert stack.true() == set()
    stack.store("AAPL", rows[7], after=at(6))
    stack.look()
    assert stack.true() == stack.expected()


def test_a_row_that_never_comes_is_given_up_in_the_end() -> None:
    stack = Quiet()
    rows = wave(20)
    stack.store_all("AAPL", rows)
    stack.store("AAPL", Reading(at(21), 10**7), after=at(20))
    assert stack.look().handed_back
    stack.clock.moment += timedelta(seconds=SETTLE_S + 1)
    assert stack.look().handed_back == {}
    assert stack.true() == stack.expected()


def test_a_symbol_that_cannot_be_read_is_named_and_stops_no_other() -> None:
    stack = Quiet()
    stack.store_all("AAPL", wave(30))
    stack.store_all("TSLA", wave(30))
    stack.table.fault = lambda _, request: (
        refused(THROTTLED)
        if request["ExpressionAttributeValues"][":symbol"]["S"] == "AAPL"
        else None
    )
    assert stack.look("AAPL", "TSLA").unread == {"AAPL": THROTTLED}
    assert {one[0] for one in stack.true()} == {"TSLA"}


def test_a_table_that_does_not_answer_as_it_should_is_an_error() -> None:
    stack = Quiet()
    stack.table.fault = lambda *_: refused("ValidationException", status=400)
    with pytest.raises(Exception, match="ValidationException"):
        stack.look()


def test_out_of_time_it_says_so() -> None:
    stack = Quiet()
    stack.store_all("AAPL", wave(30))
    assert stack.look(left=lambda: 0.0).unread == {"AAPL": "out of time"}
    assert stack.table.calls == []


def test_a_crossing_found_too_late_is_recorded_and_not_sent() -> None:
    stack = Quiet(max_age_s=60)
    stack.store_all("AAPL", wave(25))
    stack.look()
    assert stack.true() == stack.expected("muted")
    assert stack.topic.messages == []


@pytest.mark.parametrize(
    "look_back", [None, LookBack(("AAPL", "^GSPC"), 900.0), LookBack(("AAPL",), 86_400.0)]
)
def test_what_the_rule_sends_is_what_the_function_reads(look_back: LookBack | None) -> None:
    assert look_back_of(payload(look_back)) == look_back


def test_an_operator_may_spell_symbols_as_everywhere() -> None:
    event = {**EVENT, "symbols": ["aapl", "AAPL", "brk-b"], "look_back_s": 60}
    assert look_back_of(event) == LookBack(("AAPL", "BRK-B"), 60)


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"symbol": ["AAPL"]}, "does not know 'symbol'"),
        ({"symbols": ["AAPL"]}, "look_back_s: must be a number of seconds, got None"),
        ({"look_back_s": 60}, "symbols: must be a list of some, got None"),
        ({"symbols": [], "look_back_s": 60}, "symbols: must be a list of some"),
        ({"symbols": "AAPL", "look_back_s": 60}, "symbols: must be a list of some"),
        ({"symbols": ["A APL"], "look_back_s": 60}, "symbol"),
        ({"symbols": ["AAPL"], "look_back_s": "60"}, "must be a number of seconds, got '60'"),
        ({"symbols": ["AAPL"], "look_back_s": True}, "must be a number of seconds, got True"),
        ({"symbols": ["AAPL"], "look_back_s": 0}, "must lie above 0 and up to 86400"),
        ({"symbols": ["AAPL"], "look_back_s": 86_401}, "must lie above 0 and up to 86400"),
        ({"symbols": ["AAPL"], "look_back_s": float("nan")}, "must lie above 0"),
    ],
)
def test_any_other_event_is_refused_with_the_rule_it_breaks(
    more: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        look_back_of({**EVENT, **more})
