"""Where metrics come from: functions, their mappings, their log lines, streams and tables.

All of it is counted in passing, in the process that does the work: no call, no timer. ministack
counts calls of functions alone, a point for each, the asynchronous as successes and the throttled
twice; the rest is new.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from stockpipe.local.emulator.parts import replace
from stockpipe.local.event_sources.mappings import EventMapping
from stockpipe.local.metrics import emf, points

Response = tuple[int, dict[str, Any], Any]

LAMBDA, KINESIS, DYNAMODB = "AWS/Lambda", "AWS/Kinesis", "AWS/DynamoDB"

_OPERATIONS = {
    "_batch_get_item": "BatchGetItem",
    "_batch_write_item": "BatchWriteItem",
    "_delete_item": "DeleteItem",
    "_get_item": "GetItem",
    "_put_item": "PutItem",
    "_query": "Query",
    "_scan": "Scan",
    "_update_item": "UpdateItem",
}
"""ministack's functions, and the dimension Operation of SuccessfulRequestLatency."""

_one_at_a_time = threading.Lock()
"""Functions end in threads of their own; requests are served in another."""


def install() -> None:
    """All of the below; once, before the server starts. Raises LocalCloudError by ``replace``."""
    keep_statistic_sets()
    measure_functions()
    measure_streams()
    measure_tables()
    read_log_lines()


def record(
    namespace: str,
    name: str,
    value: float,
    unit: str,
    dimensions: Mapping[str, str],
    at: float | None = None,
) -> None:
    """Count a value, at the present time unless said otherwise (epoch seconds).

    It goes to the account and region that the calling code works for.
    """
    from ministack.services import cloudwatch

    when = time.time() if at is None else at
    with _one_at_a_time:
        bucket = cloudwatch._metric_bucket((namespace, name, cloudwatch._dims_key(dimensions)))
        points.add(bucket, when, value, unit, dimensions)


def keep_statistic_sets() -> None:
    """Percentiles of our points, which are statistic sets; and points are dropped in peace.

    ministack has no percentiles of statistic sets. It drops old points at every request, by
    putting new lists in the place of those that a function is just being counted in, and in the
    region of that request alone; here ``alarms.evaluate`` asks for it once a minute.
    """
    from ministack.services import cloudwatch

    def samples(found: list[points.Point]) -> list[tuple[float, float]] | None:
        all_samples: list[tuple[float, float]] = []
        for point in found:
            of_point = points.samples(point)
            if of_point is None:
                of_point = of_others([point])
            if of_point is None or any(value < 0 for value, _ in of_point):
                return None
            all_samples += of_point
        return all_samples or None

    def evict(now: float | None = None) -> None:
        """In all accounts and regions; nothing when a request asks for it, without ``now``."""
        if now is None:
            return
        with _one_at_a_time:
            for key, bucket in cloudwatch._metrics.all_items():
                points.forget_values(bucket, now)
                left = points.kept(bucket, now, now - cloudwatch.TWO_WEEKS_SECONDS)
                if not left:
                    cloudwatch._metrics.pop_scoped(*key)
                elif len(left) < len(bucket):
                    cloudwatch._metrics.set_scoped(*key, left)

    of_others: Callable[..., Any] = replace(cloudwatch, "_percentile_samples", samples)
    replace(cloudwatch, "_evict_old_metrics", evict)


def measure_functions() -> None:
    """Invocations, Errors, Duration and Throttles of every call, however it came.

    At the one point that all of them pass, in the function's account and region. Throttled calls
    are no invocations; time stamps are those of the call:
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    """
    from ministack.services import lambda_svc

    def acquire(function: Any, config: dict[str, Any]) -> Any:
        slot, limit = acquire_slot(function, config)
        if slot is None:
            _count_throttle(config, throttled=True)
        return slot, limit

    def dispatch(
        function: Any, config: dict[str, Any], event: Any, request_id: str, started: float
    ) -> Any:
        began = time.monotonic()
        result = execute(function, config, event, request_id, started)
        took_ms = (time.monotonic() - began) * 1000
        throttled = bool(result.get("throttle"))
        _count_throttle(config, throttled=throttled)
        if not throttled:
            of_function = {"FunctionName": config["FunctionName"]}
            failed = float(bool(result.get("error")))
            record(LAMBDA, "Invocations", 1, "Count", of_function, started)
            record(LAMBDA, "Errors", failed, "Count", of_function, started)
            record(LAMBDA, "Duration", took_ms, "Milliseconds", of_function, started)
        return result

    replace(lambda_svc, "_emit_lambda_metrics", lambda *call, **outcome: None)
    acquire_slot: Callable[..., Any] = replace(lambda_svc, "_acquire_execution_slot", acquire)
    execute: Callable[..., Any] = replace(lambda_svc, "_execute_function_dispatch", dispatch)


def _count_throttle(config: Mapping[str, Any], *, throttled: bool) -> None:
    dimensions = {"FunctionName": config["FunctionName"]}
    record(LAMBDA, "Throttles", float(throttled), "Count", dimensions)


def of_mapping(mapping: EventMapping, figures: Mapping[str, float]) -> None:
    """What a worker tells about its mapping: a listener for ``event_sources.report``.

    IteratorAge belongs to the function; the event counts to the mapping, where its MetricsConfig
    asks for them.
    """
    from ministack.core.responses import request_scope
    from ministack.services import lambda_svc

    raw = lambda_svc._esms.get_scoped(mapping.account, mapping.region, mapping.uuid) or {}
    counted = "EventCount" in (raw.get("MetricsConfig") or {}).get("Metrics", [])
    with request_scope(mapping.account, mapping.region):
        for name, value in figures.items():
            if name == "IteratorAge":
                of_function = {"FunctionName": mapping.function_name}
                record(LAMBDA, name, value, "Milliseconds", of_function)
            elif counted:
                of_uuid = {"EventSourceMappingUUID": mapping.uuid}
                record(LAMBDA, name, value, "Count", of_uuid)


def read_log_lines() -> None:
    """Metrics in Embedded Metric Format, of every line that reaches a log group.

    Out of a missing group, or too old to be kept, nothing is read.
    """
    from ministack.services import cloudwatch_logs

    def append(stream: Any, events: list[dict[str, Any]]) -> None:
        append_events(stream, events)
        now = time.time()
        for metric in (metric for event in events for metric in emf.metrics_in(event["message"])):
            if now - points.KEEP_S <= metric.at <= now + points.AHEAD_S:
                for value in metric.values:
                    record(
                        *(metric.namespace, metric.name, value, metric.unit),
                        *(metric.dimensions, metric.at),
                    )

    append_events: Callable[..., None] = replace(cloudwatch_logs, "_append_log_events", append)


def measure_streams() -> None:
    """IncomingRecords and IncomingBytes of Kinesis: what was put, not what was tried."""
    from ministack.services import kinesis

    def counting(put: Callable[..., Response]) -> Callable[..., Response]:
        def put_and_count(wanted: dict[str, Any]) -> Response:
            answer = put(wanted)
            if answer[0] == 200:
                name, _ = kinesis._resolve_stream(wanted)
                records = wanted.get("Records", [wanted])
                size = sum(_decoded_size(one.get("Data", "")) for one in records)
                record(KINESIS, "IncomingRecords", len(records), "Count", {"StreamName": name})
                record(KINESIS, "IncomingBytes", size, "Bytes", {"StreamName": name})
            return answer

        return put_and_count

    for name in ("_put_record", "_put_records"):
        _wrap(kinesis, name, counting)


def _decoded_size(data: str | bytes) -> int:
    """Bytes behind base64, or as they are where the client sent them so (CBOR)."""
    if isinstance(data, bytes):
        return len(data)
    return len(data) // 4 * 3 - data[-2:].count("=")


def measure_tables() -> None:
    """SuccessfulRequestLatency of DynamoDB, for each table that a request names."""
    from ministack.services import dynamodb

    def timing(operation: str) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
        def timed(handle: Callable[..., Response]) -> Callable[..., Response]:
            def handle_and_time(wanted: dict[str, Any]) -> Response:
                began = time.monotonic()
                answer = handle(wanted)
                if answer[0] == 200:
                    took_ms = (time.monotonic() - began) * 1000
                    for table in wanted.get("RequestItems") or [wanted.get("TableName", "")]:
                        dimensions = {
                            "TableName": table.rpartition("/")[2],
                            "Operation": operation,
                        }
                        name = "SuccessfulRequestLatency"
                        record(DYNAMODB, name, took_ms, "Milliseconds", dimensions)
                return answer

            return handle_and_time

        return timed

    for name, operation in _OPERATIONS.items():
        _wrap(dynamodb, name, timing(operation))


def _wrap(module: Any, name: str, around: Callable[[Any], Any]) -> None:
    setattr(module, name, around(replace(module, name, None)))
