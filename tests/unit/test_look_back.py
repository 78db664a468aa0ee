"""The look back: what no event told of is found in the table itself, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from stores import THROTTLED, refused
from trend_stack import RULE, START, Stack, at, wave

from stockpipe.domain.signals import Reading
from stockpipe.domain.sweep_event import EVENT, LookBack, look_back_of, payload
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
    assert stack.look("AAPL", "TSLA").unjudged == {"AAPL": THROTTLED}
    assert {one[0] for one in stack.true()} == {"TSLA"}


def test_a_table_that_does_not_answer_as_it_should_is_an_error() -> None:
    stack = Quiet()
    stack.table.fault = lambda *_: refused("ValidationException", status=400)
    with pytest.raises(Exception, match="ValidationException"):
        stack.look()


def test_out_of_time_it_says_so() -> None:
    stack = Quiet()
    stack.store_all("AAPL", wave(30))
    assert stack.look(left=lambda: 0.0).unjudged == {"AAPL": "out of time"}
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
