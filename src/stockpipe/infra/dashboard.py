"""The dashboard: what the pipeline does, how late it is, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stockpipe.aws import Aws
from stockpipe.domain.names import Names
from stockpipe.functions.telemetry import NAMESPACE
from stockpipe.infra.monitoring import PERIOD_S, PROCESS, TREND, our_dimensions, watches
from stockpipe.infra.resources.cloudwatch import Dashboard
from stockpipe.settings import Settings

GRID_WIDTH = 24
"""CloudWatch's; heights are in the same unit."""
TEXT_HEIGHT, ALARMS_HEIGHT = 2, 3
GRAPH_WIDTH, GRAPH_HEIGHT = 8, 6


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
        dimensions = [part for pair in our_dimensions(names, side).items() for part in pair]
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
