"""Data points as they are kept: a statistic set for each metric and minute, for a day.

A point has the shape that ministack's queries read, and one member more: how often which value was
seen, which is what percentiles are made of. It is emptied after some hours: it takes a hundred
times the room of the rest. So a busy function costs a point a minute, and not five
for every call.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import takewhile
from operator import itemgetter
from typing import Any

Point = dict[str, Any]

MINUTE_S = 60
"""The resolution of AWS's own metrics, and of EMF unless it says otherwise."""
KEEP_S = 24 * 3600
"""The longest evaluation range of our alarms. CloudWatch keeps minutes for 15 days."""
VALUES_S = 3 * 3600
"""How long percentiles can be had: what CloudWatch's console shows of a dashboard at first."""
AHEAD_S = 2 * 3600
"""How far in the future a time stamp may lie:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html"""

_SEEN = "stockpipe"


def add(
    points: list[Point], at: float, value: float, unit: str, dimensions: Mapping[str, str]
) -> None:
    """Count ``value`` in the minute of ``at`` (epoch seconds), and forget what is a day older.

    Points of ours are in order. A reader in another thread sees a point before
    or after, never in between: its statistics are replaced as a whole.
    """
    minute = at // MINUTE_S * MINUTE_S
    place = bisect_right(points, minute, key=itemgetter("Timestamp"))
    before = (points[at] for at in range(place - 1, -1, -1))
    same = takewhile(lambda one: one["Timestamp"] == minute, before)
    point = next((one for one in same if _SEEN in one), None)
    if point is None:
        points.insert(
            place,
            {
                "Timestamp": minute,
                "Unit": unit,
                "Dimensions": points[-1]["Dimensions"] if points else dict(dimensions),
                "_stat": {"SampleCount": 1, "Sum": value, "Minimum": value, "Maximum": value},
                _SEEN: {_bin(value): 1},
            },
        )
        while points[0]["Timestamp"] < minute - KEEP_S:
            del points[0]
        return
    known, seen = point["_stat"], point[_SEEN]
    point["_stat"] = {
        "SampleCount": known["SampleCount"] + 1,
        "Sum": known["Sum"] + value,
        "Minimum": min(known["Minimum"], value),
        "Maximum": max(known["Maximum"], value),
    }
    if seen:  # not a forgotten one, which would now tell of the late values only
        seen[_bin(value)] = seen.get(_bin(value), 0) + 1


def _bin(value: float) -> str:
    """Two digits: percentiles are right within 5 %, and a minute has at most 90 bins a decade.

    Text, because JSON, in which points are saved, has no other keys.
    """
    return f"{value:.2g}"


def samples(point: Point) -> list[tuple[float, float]] | None:
    """(value, how often) of a point of ours; None where that is not known (any more)."""
    seen = point.get(_SEEN)
    return [(float(value), float(count)) for value, count in list(seen.items())] if seen else None


def forget_values(points: Sequence[Point], now: float) -> None:
    """Points of ours that are older than VALUES_S keep their statistics only."""
    for point in points:
        if point.get(_SEEN) and point["Timestamp"] < now - VALUES_S:
            point[_SEEN] = {}


def kept(points: Sequence[Point], now: float, others_since: float) -> list[Point]:
    """The points that stay: ours for a day, those of another make from ``others_since`` on."""
    ours_since = now - KEEP_S
    return [
        point
        for point in points
        if point["Timestamp"] >= (ours_since if _SEEN in point else others_since)
    ]
