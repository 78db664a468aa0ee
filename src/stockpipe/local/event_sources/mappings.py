"""An event source mapping as ListEventSourceMappings describes it, read into what we act on.

Defaults are those of the tables in
https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-parameters.html and
https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-params.html.
"""

from __future__ import annotations

from collections.abc import Mapping as Fields
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from stockpipe.errors import LocalCloudError
from stockpipe.local.event_sources.batching import Policy
from stockpipe.local.event_sources.filters import Accepts, compile_criteria

Kind = Literal["kinesis", "dynamodb"]


class Refused(LocalCloudError):
    """A mapping has a setting that we do not honour, so nothing of it may run."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a mapping without a checkpoint begins; ``at`` in epoch seconds for AT_TIMESTAMP."""

    position: Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"]
    at: float | None = None


@dataclass(frozen=True, slots=True)
class EventMapping:
    """One Kinesis or DynamoDB Streams mapping. ``function`` has no qualifier."""

    uuid: str
    region: str
    kind: Kind
    source: str
    function: str
    qualifier: str | None
    policy: Policy
    start: Start
    accepts: Accepts | None
    destination: str | None
    enabled: bool

    @property
    def account(self) -> str:
        return self.function.split(":")[4]

    @property
    def function_name(self) -> str:
        return self.function.split(":")[6]


def stream_kind(arn: str) -> Kind | None:
    """The kind of stream behind an event source ARN, None when it is something else."""
    parts = arn.split(":", 5)
    if len(parts) == 6 and parts[2] == "kinesis":
        return "kinesis"
    if len(parts) == 6 and parts[2] == "dynamodb" and "/stream/" in parts[5]:
        return "dynamodb"
    return None


def read_mapping(raw: Fields[str, Any], region: str) -> EventMapping:
    """The mapping that a description stands for.

    Raises :class:`Refused`, naming the setting, instead of ignoring one. ``raw`` must be of a kind
    that :func:`stream_kind` knows.
    """
    source = str(raw["EventSourceArn"])
    kind = stream_kind(source)
    if kind is None:
        raise Refused(f"{source} is not a stream")
    _refuse_unsupported(raw, kind)
    try:
        accepts = compile_criteria(raw.get("FilterCriteria"))
    except ValueError as error:
        raise Refused(f"FilterCriteria: {error}") from None
    arn = str(raw["FunctionArn"]).split(":")
    return EventMapping(
        uuid=str(raw["UUID"]),
        region=region,
        kind=kind,
        source=source,
        function=":".join(arn[:7]),
        qualifier=arn[7] if len(arn) > 7 else None,
        policy=Policy(
            batch_size=int(raw.get("BatchSize") or 100),
            window_s=float(raw.get("MaximumBatchingWindowInSeconds") or 0),
            max_retries=_limit(raw.get("MaximumRetryAttempts")),
            # 0 is not an age that AWS takes; like -1 it must not mean "discard everything".
            max_age_s=_limit(raw.get("MaximumRecordAgeInSeconds")) or None,
            bisect=bool(raw.get("BisectBatchOnFunctionError")),
            partial="ReportBatchItemFailures" in (raw.get("FunctionResponseTypes") or []),
        ),
        start=_start(raw, kind),
        accepts=accepts,
        destination=_destination(raw),
        enabled=str(raw.get("State", "Enabled")) in ("Enabled", "Enabling", "Creating", "Updating"),
    )


def _limit(value: Any) -> int | None:
    return None if value is None or int(value) < 0 else int(value)


def _refuse_unsupported(raw: Fields[str, Any], kind: Kind) -> None:
    factor = raw.get("ParallelizationFactor") or 1
    if factor != 1:
        raise Refused(f"ParallelizationFactor {factor}: only 1 keeps the order of a shard")
    if raw.get("TumblingWindowInSeconds"):
        raise Refused("TumblingWindowInSeconds: windowed state is not kept here")
    if kind == "kinesis" and "/consumer/" in str(raw["EventSourceArn"]):
        raise Refused("EventSourceArn names a consumer: enhanced fan-out is not read here")


def _start(raw: Fields[str, Any], kind: Kind) -> Start:
    match raw.get("StartingPosition"):
        case "TRIM_HORIZON":
            return Start("TRIM_HORIZON")
        case "LATEST":
            return Start("LATEST")
        case "AT_TIMESTAMP" if kind == "kinesis":
            at = raw.get("StartingPositionTimestamp")
            if at is None:
                raise Refused("StartingPosition AT_TIMESTAMP without StartingPositionTimestamp")
            return Start("AT_TIMESTAMP", at.timestamp() if isinstance(at, datetime) else float(at))
        case other:
            raise Refused(f"StartingPosition {other!r} is not for a {kind} stream")


def _destination(raw: Fields[str, Any]) -> str | None:
    target = ((raw.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
    if not target:
        return None
    if target.split(":")[2:3] not in (["s3"], ["sqs"], ["sns"]):
        raise Refused(f"OnFailure destination {target!r}: only an S3 bucket, a queue or a topic")
    return str(target)
