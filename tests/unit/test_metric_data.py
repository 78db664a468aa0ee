"""How metrics are kept, what is read out of log lines, and what state an alarm is in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpipe.domain.clock import SYSTEM_CLOCK
from stockpipe.functions.telemetry import metrics_line
from stockpipe.local.emulator.alarms import Rule, State, state_of
from stockpipe.local.metrics import points
from stockpipe.local.metrics.emf import metrics_in
from stockpipe.local.metrics.points import KEEP_S, MINUTE_S, VALUES_S, Point

NOON = 1_637_496_000.0


def added(*values: float, at: float = NOON) -> list[Point]:
    found: list[Point] = []
    for value in values:
        points.add(found, at, value, "Count", {"k": "v"})
    return found


# Points -------------------------------------------------------------------------------------


@given(st.lists(st.integers(-1000, 1000), min_size=1))
def test_a_minute_is_one_point_with_its_exact_statistics(values: list[int]) -> None:
    (point,) = added(*map(float, values))
    assert (point["Timestamp"], point["Unit"], point["Dimensions"]) == (NOON, "Count", {"k": "v"})
    assert point["_stat"] == {
        "SampleCount": len(values),
        "Sum": sum(values),
        "Minimum": min(values),
        "Maximum": max(values),
    }


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=50))
def test_percentiles_are_made_of_values_within_five_percent(values: list[float]) -> None:
    found = points.samples(added(*values)[0])
    assert found
    told = sorted(value for value, count in found for _ in range(int(count)))
    assert told == pytest.approx(sorted(values), rel=0.05)


def test_points_survive_being_saved_as_json() -> None:
    before = added(1.0, 0.25, 1.0)
    after = json.loads(json.dumps(before))
    assert after == before
    points.add(after, NOON, 0.25, "Count", {"k": "v"})
    assert after[0]["_stat"]["SampleCount"] == 4
    assert points.samples(after[0]) == [(1.0, 2.0), (0.25, 2.0)]


def test_what_comes_a_little_late_is_counted_in_its_own_minute() -> None:
    found = added(1.0)
    points.add(found, NOON + MINUTE_S, 1.0, "Count", {"k": "v"})
    points.add(found, NOON + 59.9, 1.0, "Count", {"k": "v"})
    assert [point["_stat"]["Sum"] for point in found] == [2.0, 1.0]


def test_minutes_that_take_turns_are_a_point_each() -> None:
    """Log lines of many functions reach one metric, each with the time that it gives itself."""
    found: list[Point] = []
    for _ in range(100):
        for minute in (9, 0, 5, 7, 2, 1):
            points.add(found, NOON + minute * MINUTE_S, 1.0, "Count", {})
    minutes = [(point["Timestamp"] - NOON) / MINUTE_S for point in found]
    assert minutes == [0, 1, 2, 5, 7, 9]
    assert {point["_stat"]["Sum"] for point in found} == {100.0}


def test_values_are_forgotten_after_some_hours_and_statistics_are_not() -> None:
    found = added(1.0, 2.0)
    points.add(found, NOON + VALUES_S, 3.0, "Count", {})
    points.forget_values(found, NOON + VALUES_S)
    assert points.samples(found[0]) == [(1.0, 1.0), (2.0, 1.0)]
    points.forget_values(found, NOON + VALUES_S + 1)
    points.add(found, NOON, 4.0, "Count", {})
    assert [points.samples(point) for point in found] == [None, [(3.0, 1.0)]]
    assert [point["_stat"]["Sum"] for point in found] == [7.0, 3.0]
    later = NOON + KEEP_S
    assert points.kept(found, later, others_since=later) == found


def test_a_busy_day_is_all_that_is_kept_of_a_busy_week() -> None:
    found: list[Point] = []
    for minute in range(7 * 24 * 60):
        for value in range(3):
            points.add(found, NOON + minute * MINUTE_S, float(value), "Count", {})
    assert len(found) == KEEP_S / MINUTE_S + 1


def test_points_that_others_put_stay_as_they_are() -> None:
    theirs: Point = {"Timestamp": NOON, "Value": 7.0, "Unit": "Count", "Dimensions": {}}
    found = [dict(theirs)]
    points.add(found, NOON, 1.0, "Count", {})
    assert found[0] == theirs
    assert points.samples(theirs) is None
    later = NOON + KEEP_S + MINUTE_S
    assert points.kept(found, later, others_since=NOON) == [theirs]


# Embedded Metric Format -----------------------------------------------------------------------


def document(**changed: Any) -> dict[str, Any]:
    directive = {
        "Namespace": "shop",
        "Dimensions": [["stage"], ["stage", "part"]],
        "Metrics": [{"Name": "orders", "Unit": "Count"}, {"Name": "took_ms"}],
    }
    return {
        "_aws": {"Timestamp": int(NOON * 1000), "CloudWatchMetrics": [directive]},
        "stage": "dev",
        "part": "till",
        "orders": 2,
        "took_ms": [1.5, 2],
        **changed,
    }


def altered(*path: Any, to: Any) -> dict[str, Any]:
    """The document with another value in one place."""
    whole: Any = json.loads(json.dumps(document()))
    inner = whole
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    assert isinstance(whole, dict)
    return whole


def test_every_dimension_set_makes_a_metric_of_its_own() -> None:
    found = metrics_in(json.dumps(document()))
    assert {(one.name, *one.dimensions.values(), one.unit, one.values) for one in found} == {
        ("orders", "dev", "Count", (2.0,)),
        ("orders", "dev", "till", "Count", (2.0,)),
        ("took_ms", "dev", "None", (1.5, 2.0)),
        ("took_ms", "dev", "till", "None", (1.5, 2.0)),
    }
    assert {(one.namespace, one.at) for one in found} == {("shop", NOON)}


def test_what_our_functions_print_is_in_this_format() -> None:
    line = metrics_line("dev", "process", {"records": 3, "lag_ms": 12.5}, {"why": None})
    found = {one.name: one for one in metrics_in(line)}
    assert {name: (one.values, one.unit) for name, one in found.items()} == {
        "records": ((3.0,), "Count"),
        "lag_ms": ((12.5,), "Milliseconds"),
    }
    for one in found.values():
        assert (one.namespace, one.dimensions) == (
            "stockpipe",
            {"stack": "dev", "function": "process"},
        )
        assert abs(SYSTEM_CLOCK.now().timestamp() - one.at) < 60


_DIRECTIVE = ("_aws", "CloudWatchMetrics", 0)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "START RequestId: 1",
        '{"level": "info"}',
        '{"_aws": ',
        '{"_aws": 1}',
        '{"_aws": {}}',
        "[" * 100_000 + '"_aws"',
        '{"_aws"' + ": [" * 100_000,
        json.dumps([document()]),
        json.dumps(document()) + " and more",
        json.dumps(document(stage=1)),
        json.dumps(document(stage=None)),
        json.dumps(document(orders="2")),
        json.dumps(document(orders=True)),
        json.dumps(document(orders=None)),
        json.dumps(document(orders=float("nan"))),
        json.dumps(document(orders=float("inf"))),
        json.dumps(document(orders=10**400)),
        json.dumps(document(orders={"value": 2})),
        json.dumps(document(took_ms=[1] * 101)),
        json.dumps(document(took_ms=["1"])),
        json.dumps(document(padding="x" * 256 * 1024)),
        json.dumps(altered("_aws", "Timestamp", to="now")),
        json.dumps(altered("_aws", "CloudWatchMetrics", to={})),
        json.dumps(altered(*_DIRECTIVE, to=[])),
        json.dumps(altered(*_DIRECTIVE, "Namespace", to="")),
        json.dumps(altered(*_DIRECTIVE, "Dimensions", to=["stage"])),
        json.dumps(altered(*_DIRECTIVE, "Dimensions", to=[["nobody"]])),
        json.dumps(altered(*_DIRECTIVE, "Dimensions", to=[["stage"] * 31])),
        json.dumps(altered(*_DIRECTIVE, "Metrics", to=[{"Name": "orders"}] * 101)),
        json.dumps(altered(*_DIRECTIVE, "Metrics", to=[{"Unit": "Count"}])),
        json.dumps(altered(*_DIRECTIVE, "Metrics", to=["orders"])),
    ],
    ids=lambda line: line[:20] + str(len(line)),
)
def test_any_other_line_is_an_ordinary_log_line(line: str) -> None:
    assert metrics_in(line) == []


# Alarms -------------------------------------------------------------------------------------

TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
KEEPS = "the state that it has"


@pytest.mark.parametrize(
    ("data", "needed", "expected"),
    [
        # The tables of "Configuring how CloudWatch alarms treat missing data", row by row: three
        # evaluation periods, and an evaluation range of five. First 3 out of 3,
        ("0 - X - X", 3, ("OK", "OK", "OK", "OK")),
        ("0 - - - -", 3, ("OK", "OK", "OK", "OK")),
        ("- - - - -", 3, ("INSUFFICIENT_DATA", KEEPS, "ALARM", "OK")),
        ("0 X X - X", 3, ("ALARM", "ALARM", "ALARM", "ALARM")),
        ("- - X - -", 3, ("ALARM", KEEPS, "ALARM", "OK")),
        # then 2 out of 3,
        ("0 - X - X", 2, ("ALARM", "ALARM", "ALARM", "ALARM")),
        ("0 0 X 0 X", 2, ("ALARM", "ALARM", "ALARM", "ALARM")),
        ("0 - X - -", 2, ("OK", "OK", "ALARM", "OK")),
        ("- - - - 0", 2, ("OK", "OK", "ALARM", "OK")),
        ("- - - X -", 2, ("ALARM", KEEPS, "ALARM", "OK")),
        # and the text below them: 3 out of 3 "does not go immediately into ALARM state" here.
        ("- - - - X", 3, (KEEPS, KEEPS, "ALARM", "OK")),
        ("- - - X -", 3, (KEEPS, KEEPS, "ALARM", "OK")),
        # A range as long as the three periods, as ours.
        ("- - -", 3, ("INSUFFICIENT_DATA", KEEPS, "ALARM", "OK")),
        ("X X X", 3, ("ALARM", "ALARM", "ALARM", "ALARM")),
        ("X - -", 3, ("ALARM", KEEPS, "ALARM", "OK")),
        ("- X -", 3, (KEEPS, KEEPS, "ALARM", "OK")),
        ("0 X X", 3, ("OK", "OK", "OK", "OK")),
        ("X 0 X", 2, ("ALARM", "ALARM", "ALARM", "ALARM")),
        ("0 X -", 2, ("OK", "OK", "ALARM", "OK")),
        ("- X -", 2, ("ALARM", KEEPS, "ALARM", "OK")),
        ("- - X", 2, (KEEPS, KEEPS, "ALARM", "OK")),
    ],
)
def test_an_alarm_s_state_follows_its_data_and_what_is_missing(
    data: str, needed: int, expected: tuple[str, ...]
) -> None:
    follows(data, 3, needed, expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("X", ("ALARM", "ALARM", "ALARM", "ALARM")),
        ("0", ("OK", "OK", "OK", "OK")),
        ("-", ("INSUFFICIENT_DATA", KEEPS, "ALARM", "OK")),
    ],
)
def test_one_of_one_as_most_of_ours_follows_its_one_period(
    data: str, expected: tuple[str, ...]
) -> None:
    follows(data, 1, 1, expected)


def follows(data: str, periods: int, needed: int, expected: tuple[str, ...]) -> None:
    """Whatever state it was in before."""
    breaching = [{"X": True, "0": False, "-": None}[one] for one in data.split()]
    states: tuple[State, ...] = ("OK", "ALARM", "INSUFFICIENT_DATA")
    for treatment, state in zip(TREATMENTS, expected, strict=True):
        for current in states:
            found = state_of(breaching, Rule(periods, needed, treatment), current)
            assert found == (current if state == KEEPS else state), (treatment, current)
