"""How the pipeline is: every resource, how far behind its functions are, the newest record per
symbol, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from stockpipe.aws import Aws
from stockpipe.domain.alerts import PENDING
from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import parse_moment
from stockpipe.domain.names import FAILURES_PREFIX, QUARANTINE_PREFIX
from stockpipe.functions.faults import error_code
from stockpipe.infra.console import console_url
from stockpipe.infra.plan import read_all
from stockpipe.infra.resource import Live, Resource
from stockpipe.operate.alerts import history
from stockpipe.operate.records import Records

GOOD_STATES = frozenset(
    {"active", "enabled", "updating", "inactive", "ok", "insufficient_data",
     "confirmed", "pending", "unsubscribed"}
)  # fmt: skip
"""``inactive`` is a function that was not called for weeks: the next event wakes it. An alarm
without data is quiet, and a recipient is free to leave."""
COUNT_LIMIT = 1000
RECENT = timedelta(minutes=15)
"""What is told about functions; CloudWatch has metrics of AWS's within some two minutes."""
FIGURES = (("Invocations", "Sum"), ("Errors", "Sum"), ("IteratorAge", "Maximum"))
"""Metrics of a function, and the statistic that counts."""
MISSING = "missing"
FOREIGN = "not ours"


@dataclass(frozen=True)
class Status:
    """What ``status`` tells; ``as_document`` is the JSON that scripts rely on."""

    target: str
    stack: str
    region: str
    resources: list[dict[str, Any]]
    functions: list[dict[str, Any]] = field(default_factory=list)
    symbols: list[dict[str, Any]] = field(default_factory=list)
    quarantined: int = 0
    failures: int = 0
    pending_alerts: int = 0

    @property
    def provisioned(self) -> bool:
        return any(resource["state"] != MISSING for resource in self.resources)

    @property
    def healthy(self) -> bool:
        """Everything is there and works, and nothing waits for a person."""
        return self.failures == 0 and all(
            resource["state"] in GOOD_STATES for resource in self.resources
        )

    def as_document(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "stack": self.stack,
            "region": self.region,
            "healthy": self.healthy,
            "resources": self.resources,
            "functions": self.functions,
            "symbols": self.symbols,
            "quarantined": self.quarantined,
            "failures": self.failures,
            "pending_alerts": self.pending_alerts,
        }


def status(aws: Aws, resources: Sequence[Resource], *, clock: Clock = SYSTEM_CLOCK) -> Status:
    """Read everything live; counts of objects stop at ``COUNT_LIMIT``."""
    lives = read_all(resources)
    listed = [
        _listed(aws, resource, live)
        for resource, live in zip(resources, lives, strict=True)
        if resource.wanted or live
    ]
    there = {resource.name for resource, live in zip(resources, lives, strict=True) if live}
    names = aws.names
    called = [name for name in (names.process_function, names.trend_function) if name in there]
    with ThreadPoolExecutor(5) as pool:
        functions = pool.submit(_functions, aws, called, clock) if called else None
        symbols = pool.submit(_symbols, aws, clock) if names.table in there else None
        bucket = names.data_bucket in there
        quarantined = pool.submit(_count, aws, QUARANTINE_PREFIX) if bucket else None
        failures = pool.submit(_count, aws, FAILURES_PREFIX) if bucket else None
        alerts = (
            pool.submit(history, aws.client("dynamodb"), names.alerts_table)
            if names.alerts_table in there
            else None
        )
        return Status(
            target=aws.target,
            stack=names.stack,
            region=names.region,
            resources=listed,
            functions=functions.result() if functions else [],
            symbols=symbols.result() if symbols else [],
            quarantined=quarantined.result() if quarantined else 0,
            failures=failures.result() if failures else 0,
            pending_alerts=sum(a["status"] == PENDING for a in alerts.result()) if alerts else 0,
        )


def _listed(aws: Aws, resource: Resource, live: Live | None) -> dict[str, Any]:
    state = MISSING if live is None else live.state if live.ours else FOREIGN
    there = live is not None and aws.target == "aws"
    return {
        "kind": resource.kind,
        "name": resource.name,
        "arn": live.arn if live else None,
        "state": state,
        "console": console_url(resource.kind, resource.name, aws.names) if there else None,
    }


def _functions(aws: Aws, names: Sequence[str], clock: Clock) -> list[dict[str, Any]]:
    """Calls and errors of ``RECENT``, and the newest lag behind the stream, in seconds.

    The lag is None where nothing was sent to the function in that time.
    """
    now = clock.now().replace(second=0, microsecond=0)  # as CloudWatch rounds it
    queries = [
        {
            "Id": f"{metric.lower()}{number}",
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/Lambda",
                    "MetricName": metric,
                    "Dimensions": [{"Name": "FunctionName", "Value": name}],
                },
                "Period": 60,
                "Stat": statistic,
            },
        }
        for number, name in enumerate(names)
        for metric, statistic in FIGURES
    ]
    answer = aws.client("cloudwatch").get_metric_data(
        MetricDataQueries=queries, StartTime=now - RECENT, EndTime=now + timedelta(minutes=1)
    )
    series: dict[str, list[tuple[datetime, float]]] = {
        one["Id"]: sorted(zip(one["Timestamps"], one["Values"], strict=True))
        for one in answer["MetricDataResults"]
    }
    return [
        {
            "name": name,
            "invocations": round(sum(value for _, value in series[f"invocations{number}"])),
            "errors": round(sum(value for _, value in series[f"errors{number}"])),
            "lag_s": next(
                (round(ms / 1000, 1) for _, ms in reversed(series[f"iteratorage{number}"])), None
            ),
        }
        for number, name in enumerate(names)
    ]


def _symbols(aws: Aws, clock: Clock) -> list[dict[str, Any]]:
    records = Records(aws.client("dynamodb"), aws.names.table)
    now = clock.now()
    found = []
    for symbol in records.symbols():
        newest = records.newest(symbol, 1)[-1]
        age = (now - parse_moment(newest["timestamp"])).total_seconds()
        found.append(
            {
                "symbol": symbol,
                "last": newest["timestamp"],
                "age_s": round(age, 1),
                "price": newest["price"],
                "source": newest.get("source"),
            }
        )
    return found


def _count(aws: Aws, prefix: str) -> int:
    """Objects under a prefix of the data bucket, at most ``COUNT_LIMIT``."""
    names = aws.names
    try:
        answer = aws.client("s3").list_objects_v2(
            Bucket=names.data_bucket,
            Prefix=prefix,
            MaxKeys=COUNT_LIMIT,
            ExpectedBucketOwner=names.account,
        )
    except Exception as error:
        if error_code(error) == "NoSuchBucket":
            return 0
        raise
    return int(answer["KeyCount"])
