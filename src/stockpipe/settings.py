"""The settings: every key, what it accepts, and with which words it refuses the rest."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
)

from stockpipe.domain.exact import InvalidQuote
from stockpipe.domain.names import STACK_RULE, valid_stack
from stockpipe.domain.quote import parse_symbol
from stockpipe.domain.rules import DEFAULT_RULES, InvalidRule, Rule, parse_rules
from stockpipe.domain.sweep_event import MOST_LOOK_BACK_S

RETENTIONS = (1, 3, 5, 7, 14, 30, 60, 90, 180, 365)
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
_TAG = re.compile(r"[\w\s.:/=+\-@]*")
_PHONE = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)  # E.164, as SNS wants it
_SECONDS: dict[str, Decimal | int] = {
    "ms": Decimal("0.001"),
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": 86400,
}


MOST_S = 366 * 86_400


def duration_s(text: str) -> float:
    """Seconds in ``30s``, ``500ms``, ``1m``, ``2h`` or ``1d``; raises ValueError with the rule."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"must be a time like 30s, 500ms, 1m or 2h, got {text!r}")
    seconds = Decimal(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= MOST_S:
        raise ValueError(f"must be longer than 0 and at most 366d, got {text!r}")
    return float(seconds)


def _duration(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"must be a time like 30s, 500ms, 1m or 2h, got {value!r}")
    return duration_s(value) if isinstance(value, str) else value


def _region(value: str) -> str:
    if not _REGION.fullmatch(value):
        raise ValueError(f"must be a region like us-east-2, got {value!r}")
    return value


def _stack(value: str) -> str:
    if not valid_stack(value):
        raise ValueError(f"must be {STACK_RULE}, got {value!r}")
    return value


def _retention(value: int) -> int:
    if value not in RETENTIONS:
        raise ValueError(f"must be one of {', '.join(map(str, RETENTIONS))}, got {value}")
    return value


def _symbols(value: object) -> object:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("must be a list of symbols")
    try:
        return tuple(dict.fromkeys(parse_symbol(item) for item in value))
    except InvalidQuote as error:
        raise ValueError(error.rule) from None


def _rules(value: object) -> object:
    if isinstance(value, tuple):
        return value
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ValueError("must be [[rules]] tables")
    try:
        return parse_rules(value)
    except InvalidRule as error:
        raise ValueError(str(error)) from None


def _listed(value: object) -> object:
    """A list, or text with commas as an environment variable holds it."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise ValueError("must be a list")
    return tuple(dict.fromkeys(value))


def _email(value: str) -> str:
    if not _EMAIL.fullmatch(value):
        raise ValueError(f"must be an e-mail address, got {value!r}")
    return value


def _phone(value: str) -> str:
    number = re.sub(r"[ ().-]", "", value)
    if not _PHONE.fullmatch(number):
        raise ValueError(f"must be a number with its country's code, like +15550100, got {value!r}")
    return number


def _tags(value: dict[str, str]) -> dict[str, str]:
    """What every service takes; what says whose a thing is, is not the user's to set."""
    for key, text in value.items():
        if not _TAG.fullmatch(key) or not 1 <= len(key) <= 128:
            raise ValueError(
                f"must have keys of 1 to 128 letters, digits and _.:/=+-@, got {key!r}"
            )
        if key.lower().startswith(("aws:", "stockpipe:")):
            raise ValueError(f"must not use the reserved keys aws: and stockpipe:, got {key!r}")
        if not _TAG.fullmatch(text) or len(text) > 256:
            raise ValueError(f"must have values of up to 256 letters and digits, got {text!r}")
    return value


def _sweep(value: object) -> object:
    """EventBridge counts in whole minutes."""
    if value == "off":
        return value
    seconds = duration_s(value) if isinstance(value, str) else value
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds % 60 == 0:
        return float(seconds)
    raise ValueError(f"must be whole minutes like 5m, or off, got {value!r}")


def _or_off(value: object) -> object:
    return value if value == "off" else _duration(value)


Duration = Annotated[float, BeforeValidator(_duration)]
Item = TypeVar("Item")
Recipients = Annotated[tuple[Item, ...], BeforeValidator(_listed)]


class Settings(BaseModel):
    """Everything that can be set. Times in seconds, ``anomaly_percent`` in percent."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, validate_default=True
    )

    target: Literal["local", "aws"] = Field("local", description="where the pipeline runs")
    stack: Annotated[str, AfterValidator(_stack)] = Field(
        "default", description="the copy of the pipeline that is meant"
    )
    region: Annotated[str, AfterValidator(_region)] = Field(
        "us-east-2", description="the AWS region"
    )
    profile: str | None = Field(None, description="the AWS profile (target aws)")
    account: Annotated[str, Field(pattern=r"^\d{12}$")] | None = Field(
        None, description="refuse any other AWS account"
    )
    symbols: Annotated[tuple[str, ...], BeforeValidator(_symbols)] = Field(
        ("AAPL",), description="what stream sends when no symbol is named"
    )
    interval: Duration = Field(
        30.0, ge=0.5, le=MOST_S, description="time between two rounds of quotes"
    )
    anomaly_percent: Decimal = Field(
        Decimal(5), gt=0, lt=1000, decimal_places=6, description="|change| above it is an anomaly"
    )
    notify_max_age: (
        Annotated[float, BeforeValidator(_or_off), Field(ge=1, le=MOST_S)] | Literal["off"]
    ) = Field(3600.0, description="older signals are recorded as muted; off publishes all of them")
    batch_size: int = Field(500, ge=1, le=1000, description="records per invocation, at most")
    stream_mode: Literal["on-demand", "provisioned"] = Field(
        "on-demand", description="capacity mode of the Kinesis stream"
    )
    shards: int = Field(1, ge=1, le=100, description="shards of a provisioned stream")
    stream_retention_hours: int = Field(
        24, ge=24, le=8760, description="how long the stream keeps a record; above 24 costs more"
    )
    log_retention_days: Annotated[int, AfterValidator(_retention)] = Field(
        14, description="how long function logs are kept"
    )
    ttl_days: int | None = Field(
        None, ge=1, le=3650, description="delete items this long after their quote (default: never)"
    )
    query_limit_mb: int = Field(
        1024, ge=10, le=1_000_000, description="a query that would scan more is cut off"
    )
    point_in_time_recovery: bool = Field(
        False, description="restore the records' table to any second of the last 35 days"
    )
    deletion_protection: bool = Field(
        False, description="the records' table cannot be deleted until this is off again"
    )
    reserved_concurrency: int | None = Field(
        None, ge=1, le=1000, description="invocations reserved for each function (default: none)"
    )
    emails: Recipients[Annotated[str, AfterValidator(_email)]] = Field(
        (), max_length=15, description="who gets alerts by e-mail"
    )
    sms: Recipients[Annotated[str, AfterValidator(_phone)]] = Field(
        (), max_length=15, description="who gets alerts by SMS"
    )
    alarms: bool = Field(True, description="CloudWatch alarms on what goes wrong")
    dashboard: bool = Field(True, description="a CloudWatch dashboard")
    sweep: Annotated[float, BeforeValidator(_sweep), Field(ge=60, le=86400)] | Literal["off"] = (
        Field(300.0, description="how often unsent alerts are looked for; off: never")
    )
    sweep_look_back: (
        Annotated[float, BeforeValidator(_or_off), Field(ge=60, le=MOST_LOOK_BACK_S)]
        | Literal["off"]
    ) = Field("off", description="the sweep judges again what was stored so recently of symbols")
    tags: Annotated[dict[str, str], AfterValidator(_tags)] = Field(
        default_factory=dict, max_length=15, description="added to every resource"
    )
    permissions_boundary: str | None = Field(
        None, pattern=r"^arn:aws[a-z-]*:iam::\d{12}:policy/.+", description="ARN for both roles"
    )
    rules: Annotated[tuple[InstanceOf[Rule], ...], BeforeValidator(_rules)] = Field(
        DEFAULT_RULES, description="what is alerted: [[rules]] tables"
    )
