"""One structured log line per invocation, which is also its CloudWatch metrics.

Embedded Metric Format: CloudWatch reads the metrics out of the log line, without a call and its
latency. Dimensions are stack and function only; a symbol dimension would cost $0.30 a month each.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
import sys
from typing import Any

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock

NAMESPACE = "stockpipe"
_UNITS = {"lag_ms": "Milliseconds", "pending_s": "Seconds"}


def metrics_line(
    stack: str,
    function: str,
    metrics: dict[str, float],
    decided: dict[str, Any],
    *,
    clock: Clock = SYSTEM_CLOCK,
) -> str:
    """The line: ``metrics`` by name (counts, but for ``_UNITS``), ``decided`` as facts.

    What was decided, and why, stands beside the numbers: refused records with their reasons,
    sequence numbers handed back, alerts.
    """
    document = {
        "_aws": {
            "Timestamp": int(clock.now().timestamp() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": NAMESPACE,
                    "Dimensions": [["stack", "function"]],
                    "Metrics": [
                        {"Name": name, "Unit": _UNITS.get(name, "Count")} for name in metrics
                    ],
                }
            ],
        },
        "stack": stack,
        "function": function,
        **metrics,
        **decided,
    }
    return json.dumps(document, separators=(",", ":"), default=str)


def emit(line: str) -> None:
    """Write one log line. Lambda sends stdout to CloudWatch Logs line by line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
