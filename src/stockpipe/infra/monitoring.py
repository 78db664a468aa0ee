"""What is watched: which alarms there are, and what the dashboard shows.

Ten alarms, as many as an account has for nothing. Lambda's metrics:
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stockpipe.aws import Aws
from stockpipe.config import Settings
from stockpipe.domain.names import Names
from stockpipe.functions.telemetry import NAMESPACE
from stockpipe.infra.resources.cloudwatch import Alarm, Dashboard
from stockpipe.infra.resources.mappings import EventSourceMapping

MINUTE_S = 60
PERIOD_S = 5 * MINUTE_S

BEHIND_S = 10 * MINUTE_S
"""A healthy pipeline is seconds behind; at ``notify_max_age`` (1 h) alerts are muted, and this
leaves time to do something about it."""

THROTTLED_PERIODS = 3
"""What is throttled is called again by itself; a quarter of an hour of it is a lasting shortage."""

PENDING_S = 15 * MINUTE_S
"""Three sweeps at their default: one that fails is made up for by the next."""

LONGEST_PERIOD_S = 86_400
"""CloudWatch's limit for the period of an alarm."""

GRID_WIDTH = 24
"""CloudWatch's; heights are in the same unit."""
TEXT_HEIGHT, ALARMS_HEIGHT = 2, 3
GRAPH_WIDTH, GRAPH_HEIGHT = 8, 6

PROCESS, TREND = "process", "trend"
"""The two sides of the pipeline, as ``functions.telemetry`` names them."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One alarm as data: what counts, and from when on it is too much.

    Without ``dimensions`` it counts what the mapping in front of ``side`` does. ``tells_end``: its
    end means that something is over, and not just that nothing more was counted.
    """

    what: str
    side: str
    metric: str
    description: str
    dimensions: Mapping[str, str] | None = None
    namespace: str = "AWS/Lambda"
    statistic: str = "Sum"
    threshold: float = 0.0
    period_s: int = PERIOD_S
    periods: int = 1
    tells_end: bool = False
    wanted: bool = True


def watches(names: Names, settings: Settings) -> list[Watch]:
    """Every alarm that a stack can have; those that the settings switch off are not ``wanted``."""
    sides = ((PROCESS, names.process_function), (TREND, names.trend_function))
    found = [watch for side in sides for watch in _of_function(*side)]
    found.append(
        Watch(
            "quarantine",
            PROCESS,
            "quarantined",
            "Records that are no quotes were put into quarantine, each with its reason.",
            namespace=NAMESPACE,
            dimensions=_ours(names, PROCESS),
        )
    )
    found.append(
        Watch(
            "pending",
            TREND,
            "pending_s",
            f"An alert cannot be published: see the log of {names.trend_function}.",
            namespace=NAMESPACE,
            dimensions=_ours(names, TREND),
            statistic="Maximum",
            threshold=float(PENDING_S),
            # Two sweeps: however they fall, each period holds one.
            period_s=PERIOD_S
            if settings.sweep == "off"
            else min(LONGEST_PERIOD_S, 2 * int(settings.sweep)),
            tells_end=True,
            wanted=settings.sweep != "off",
        )
    )
    return found


def _of_function(side: str, function: str) -> list[Watch]:
    dimensions = {"FunctionName": function}
    return [
        Watch(
            f"{side}-errors",
            side,
            "Errors",
            # What is transient is handed back, not raised: an error is a bug or a time-out.
            f"{function} failed: its log says why. The batch is delivered again.",
            dimensions,
        ),
        Watch(
            f"{side}-behind",
            side,
            "IteratorAge",
            # The one metric that tells when all that happens is being handed back.
            f"{function} is more than {BEHIND_S // MINUTE_S} minutes behind its stream.",
            dimensions,
            statistic="Maximum",
            threshold=BEHIND_S * 1000.0,  # milliseconds
            tells_end=True,
        ),
        Watch(
            f"{side}-throttles",
            side,
            "Throttles",
            f"{function} is throttled for {THROTTLED_PERIODS * PERIOD_S // MINUTE_S} minutes now: "
            "see the concurrency of the function and of the account.",
            dimensions,
            periods=THROTTLED_PERIODS,
            tells_end=True,
        ),
        Watch(
            f"{side}-failures",
            side,
            # Records that get lost on the way there (DroppedEventCount) have no alarm of their own:
            # they were retried for hours, and "behind" has been on for as long.
            "OnFailureDestinationDeliveredEventCount",
            f"Records that {function} could not process in time lie under failures.",
        ),
    ]


def alarms(
    aws: Aws,
    settings: Settings,
    *,
    quotes: EventSourceMapping,
    changes: EventSourceMapping,
    tags: Mapping[str, str],
) -> list[Alarm]:
    """The alarms of a stack, to its operations topic.

    ``quotes`` and ``changes`` are the mappings in front of the two functions.
    """
    names = aws.names
    topic, mappings = names.operations_topic, {PROCESS: quotes, TREND: changes}
    return [
        Alarm(
            aws,
            names.alarm(watch.what),
            namespace=watch.namespace,
            metric=watch.metric,
            dimensions=_dimensions(watch, mappings[watch.side]),
            statistic=watch.statistic,
            threshold=watch.threshold,
            period_s=watch.period_s,
            periods=watch.periods,
            description=watch.description,
            alarm_actions=(names.operations_topic_arn,),
            ok_actions=(names.operations_topic_arn,) if watch.tells_end else (),
            wanted=settings.alarms and watch.wanted,
            needs=(
                f"topic/{topic}",
                *((mappings[watch.side].id,) if watch.dimensions is None else ()),
            ),
            tags=tags,
        )
        for watch in watches(names, settings)
    ]


def dashboard(aws: Aws, settings: Settings, tags: Mapping[str, str]) -> Dashboard:
    """The dashboard of a stack, with the alarms that it has."""
    names = aws.names
    listed = [names.alarm(watch.what) for watch in watches(names, settings) if watch.wanted]
    return Dashboard(
        aws,
        names.dashboard,
        body=dashboard_body(names, listed if settings.alarms else []),
        wanted=settings.dashboard,
        tags=tags,
    )


def dashboard_body(names: Names, alarm_names: Sequence[str]) -> dict[str, Any]:
    """CloudWatch's Dashboard Body Structure: a line of text, the alarms, and the graphs.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
    """
    widgets = [_text(names)]
    if alarm_names:
        widgets.append(_alarm_states(names, alarm_names))
    top = sum(widget["height"] for widget in widgets)
    for number, (title, statistic, metrics) in enumerate(_graphs(names)):
        row, column = divmod(number, GRID_WIDTH // GRAPH_WIDTH)
        widgets.append(
            {
                "type": "metric",
                "x": column * GRAPH_WIDTH,
                "y": top + row * GRAPH_HEIGHT,
                "width": GRAPH_WIDTH,
                "height": GRAPH_HEIGHT,
                "properties": {
                    "title": title,
                    "view": "timeSeries",
                    "region": names.region,
                    "stat": statistic,
                    "period": PERIOD_S,
                    "metrics": metrics,
                },
            }
        )
    return {"widgets": widgets}


def _graphs(names: Names) -> list[tuple[str, str, list[list[str]]]]:
    """Title, statistic and metrics of each graph."""
    stream, table, alerts = names.stream, names.table, names.alerts_table

    def both(metric: str) -> list[list[str]]:
        functions = (names.process_function, names.trend_function)
        return [["AWS/Lambda", metric, "FunctionName", function] for function in functions]

    def incoming(what: str) -> list[list[str]]:
        return [["AWS/Kinesis", f"Incoming{what}", "StreamName", stream]]

    def latency(of: str, operation: str) -> list[str]:
        metric = ["AWS/DynamoDB", "SuccessfulRequestLatency"]
        return [*metric, "TableName", of, "Operation", operation]

    def ours(metric: str, side: str) -> list[str]:
        dimensions = [part for pair in _ours(names, side).items() for part in pair]
        return [NAMESPACE, metric, *dimensions]

    return [
        ("Invocations", "Sum", both("Invocations")),
        ("Errors and throttles", "Sum", both("Errors") + both("Throttles")),
        ("Duration (ms)", "p95", both("Duration")),
        ("Behind the stream (ms)", "Maximum", both("IteratorAge")),
        ("Incoming records", "Sum", incoming("Records")),
        ("Incoming bytes", "Sum", incoming("Bytes")),
        (
            "DynamoDB latency (ms)",
            "Average",
            [
                latency(table, "BatchWriteItem"),
                latency(table, "Query"),
                latency(alerts, "UpdateItem"),
            ],
        ),
        ("Lag (ms)", "p95", [ours("lag_ms", PROCESS), ours("lag_ms", TREND)]),
        (
            "Stored, quarantined, signals",
            "Sum",
            [ours("stored", PROCESS), ours("quarantined", PROCESS), ours("signals", TREND)],
        ),
    ]


def _text(names: Names) -> dict[str, Any]:
    text = (
        f"**stockpipe**, stack {names.stack}, {names.region}. Made by `stockpipe provision`: what "
        "is changed here by hand is put back by the next one."
    )
    return {
        "type": "text",
        "x": 0,
        "y": 0,
        "width": GRID_WIDTH,
        "height": TEXT_HEIGHT,
        "properties": {"markdown": text},
    }


def _alarm_states(names: Names, alarm_names: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "alarm",
        "x": 0,
        "y": TEXT_HEIGHT,
        "width": GRID_WIDTH,
        "height": ALARMS_HEIGHT,
        "properties": {
            "title": "Alarms",
            "alarms": [names.alarm_arn(name) for name in alarm_names],
        },
    }


def _ours(names: Names, side: str) -> dict[str, str]:
    """The dimensions of our own metrics, as ``functions.telemetry`` writes them."""
    return {"stack": names.stack, "function": side}


def _dimensions(
    watch: Watch, mapping: EventSourceMapping
) -> Callable[[], Mapping[str, str] | None]:
    def of_mapping() -> Mapping[str, str] | None:
        uuid = mapping.uuid()
        return {"EventSourceMappingUUID": uuid} if uuid else None

    return of_mapping if watch.dimensions is None else lambda: watch.dimensions
