"""Data points as they are kept: a statistic set for each metric and minute, for a day.

A point has the shape that ministack's queries read, and one member more: how often which value was
seen, which is what percentiles are made of. So a busy function costs a point a minute, and not five
for every call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Point = dict[str, Any]

MINUTE_S = 60
"""The resolution of AWS's own metrics, and of EMF unless it says otherwise."""
KEEP_S = 24 * 3600
"""The longest evaluation range of our alarms. CloudWatch keeps minutes for 15 days."""
AHEAD_S = 2 * 3600
"""How far in the future a time stamp may lie:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html"""

_SEEN = "stockpipe"
_LATE_MINUTES = 3


def add(
    points: list[Point], at: float, value: float, unit: str, dimensions: Mapping[str, str]
) -> None:
    """Count ``value`` in the minute of ``at`` (epoch seconds), and forget what is a day older.

    Points are in order, but for what comes late. A reader in another thread sees a point before
    or after, never in between: its statistics are replaced as a whole.
    """
    minute = at // MINUTE_S * MINUTE_S
    recent = (one for one in reversed(points[-_LATE_MINUTES:]) if _SEEN in one)
    point = next((one for one in recent if one["Timestamp"] == minute), None)
    if point is None:
        points.append(
            {
                "Timestamp": minute,
                "Unit": unit,
                "Dimensions": points[-1]["Dimensions"] if points else dict(dimensions),
                "_stat": {"SampleCount": 1, "Sum": value, "Minimum": value, "Maximum": value},
                _SEEN: {_bin(value): 1},
            }
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
    seen[_bin(value)] = seen.get(_bin(value), 0) + 1


def _bin(value: float) -> str:
    """Two digits: percentiles are right within 5 %, and a minute has at most 90 bins a decade.

    Text, because JSON, in which points are saved, has no other keys.
    """
    return f"{value:.2g}"


def samples(point: Point) -> list[tuple[float, float]] | None:
    """(value, how often) of a point of ours, None for one of another make."""
    if _SEEN not in point:
        return None
    return [(float(value), float(count)) for value, count in list(point[_SEEN].items())]


def kept(points: Sequence[Point], now: float, others_since: float) -> list[Point]:
    """The points that stay: ours for a day, those of another make from ``others_since`` on."""
    ours_since = now - KEEP_S
    return [
        point
        for point in points
        if point["Timestamp"] >= (ours_since if _SEEN in point else others_since)
    ]
