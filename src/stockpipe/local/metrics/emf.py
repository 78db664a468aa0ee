"""Embedded Metric Format: the metrics that stand in a log line.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

A line that breaks the specification anywhere is an ordinary log line, as a whole. All metrics are
kept by the minute, whatever their StorageResolution.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

LINE_LIMIT = 256 * 1024
"""Characters. CloudWatch's limit is in bytes, of a log event."""
METRICS_LIMIT = VALUES_LIMIT = 100
DIMENSIONS_LIMIT = 30
LARGEST = 2**360
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html"""


@dataclass(frozen=True, slots=True)
class Metric:
    """Values of one metric under one set of dimensions; ``at`` in epoch seconds."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    unit: str
    at: float
    values: tuple[float, ...]


class _Malformed(ValueError):
    """The line is no document of this format."""


def metrics_in(line: str) -> list[Metric]:
    """The metrics of a log line; none of a line that is not in this format."""
    if '"_aws"' not in line or not line.startswith("{") or len(line) > LINE_LIMIT:
        return []
    try:
        return list(_read(_as(dict, json.loads(line))))
    except (ValueError, RecursionError):
        return []


def _read(root: dict[str, Any]) -> Iterator[Metric]:
    about = _as(dict, root.get("_aws"))
    at = _number(about.get("Timestamp")) / 1000
    for directive in _as(list, about.get("CloudWatchMetrics")):
        namespace = _text(_as(dict, directive).get("Namespace"))
        definitions = _some(directive.get("Metrics"), METRICS_LIMIT)
        for wanted in _as(list, directive.get("Dimensions")):
            names = [_text(name) for name in _some(wanted, DIMENSIONS_LIMIT)]
            dimensions = {name: _text(root.get(name)) for name in names}
            for definition in definitions:
                name = _text(_as(dict, definition).get("Name"))
                unit = _text(definition.get("Unit", "None"))
                yield Metric(namespace, name, dimensions, unit, at, _values(root.get(name)))


def _values(target: Any) -> tuple[float, ...]:
    found = _some(target, VALUES_LIMIT) if isinstance(target, list) else [target]
    return tuple(_number(value) for value in found)


def _number(value: Any) -> float:
    # The last comparison is false for NaN, too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise _Malformed
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _Malformed
    return value


def _some(value: Any, limit: int) -> list[Any]:
    found = _as(list, value)
    if len(found) > limit:
        raise _Malformed
    return found


def _as(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind):
        raise _Malformed
    return value
