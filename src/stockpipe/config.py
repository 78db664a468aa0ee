"""One frozen :class:`Settings` out of flags, environment, files and defaults.

Precedence: flag > environment (``STOCKPIPE_*``) > ``./stockpipe.toml`` >
``~/.config/stockpipe/config.toml`` > AWS profile (region only) > default. Every value keeps its
origin, and every value is checked when it is read: an error names origin, key and rule.
"""

from __future__ import annotations

import configparser
import difflib
import os
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
)

from stockpipe.domain.exact import InvalidQuote
from stockpipe.domain.names import STACK_RULE, valid_stack
from stockpipe.domain.quote import parse_symbol
from stockpipe.domain.rules import DEFAULT_RULES, InvalidRule, Rule, parse_rules
from stockpipe.errors import ConfigError

ENV_PREFIX = "STOCKPIPE_"
RETENTIONS = (1, 3, 5, 7, 14, 30, 60, 90, 180, 365)
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_FLAGS = {"emails": "email", "symbols": "symbol"}
"""What is said once per item on the command line."""
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


def duration_s(text: str) -> float:
    """Seconds in ``30s``, ``500ms``, ``1m``, ``2h`` or ``1d``; raises ValueError with the rule."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"must be a time like 30s, 500ms, 1m or 2h, got {text!r}")
    seconds = Decimal(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= 366 * 86400:
        raise ValueError(f"must be longer than 0 and at most 366d, got {text!r}")
    return float(seconds)


def _duration(value: object) -> object:
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
        return tuple(dict.fromkeys(parse_symbol(str(item)) for item in value))
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
    interval: Duration = Field(30.0, ge=0.5, description="time between two rounds of quotes")
    anomaly_percent: Decimal = Field(
        Decimal(5), gt=0, lt=1000, decimal_places=6, description="|change| above it is an anomaly"
    )
    notify_max_age: Annotated[float, BeforeValidator(_duration)] | Literal["off"] = Field(
        3600.0, description="older signals are recorded as muted; off publishes all of them"
    )
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
    tags: Annotated[dict[str, str], AfterValidator(_tags)] = Field(
        default_factory=dict, max_length=15, description="added to every resource"
    )
    permissions_boundary: str | None = Field(
        None, pattern=r"^arn:aws[a-z-]*:iam::\d{12}:policy/.+", description="ARN for both roles"
    )
    rules: Annotated[tuple[InstanceOf[Rule], ...], BeforeValidator(_rules)] = Field(
        DEFAULT_RULES, description="what is alerted: [[rules]] tables"
    )


class Configuration(BaseModel):
    """Settings and, per key, where the value came from."""

    model_config = ConfigDict(frozen=True)

    settings: Settings
    origins: dict[str, str]


def config_files(environment: Mapping[str, str], directory: Path) -> list[Path]:
    """The files that are read, the weakest first."""
    base = environment.get("XDG_CONFIG_HOME")
    user = Path(base) if base else _home(environment) / ".config"
    return [user / "stockpipe" / "config.toml", directory / "stockpipe.toml"]


def load(
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Configuration:
    """Read every source and check every value. Flags that are None were not given.

    Raises :class:`ConfigError` with origin, key and rule.
    """
    environment = os.environ if environment is None else environment
    layers: list[tuple[str, dict[str, Any]]] = []
    for path in config_files(environment, directory or Path.cwd()):
        if path.is_file():
            layers.append((str(path), _read_file(path)))
    layers.append(("environment", _read_environment(environment)))
    layers.append(
        ("flag", {key: value for key, value in (flags or {}).items() if value is not None})
    )
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        for key, value in layer.items():
            _check(origin, key, value)
            values[key] = value
            origins[key] = f"{ENV_PREFIX}{key.upper()}" if origin == "environment" else origin
    if "region" not in values and values.get("target", "local") == "aws":
        region = _profile_region(environment, values.get("profile"))
        if region:
            values["region"] = region
            origins["region"] = "AWS profile"
            _check("AWS profile", "region", region)
    settings = Settings(**values)
    if settings.stream_mode == "on-demand" and "shards" in values:
        raise ConfigError(
            f"{origins['shards']}: shards: only a provisioned stream has them",
            hint='Set stream_mode = "provisioned", or remove shards.',
        )
    return Configuration(
        settings=settings,
        origins={key: origins.get(key, "default") for key in Settings.model_fields},
    )


def _home(environment: Mapping[str, str]) -> Path:
    home = environment.get("HOME")
    return Path(home) if home else Path.home()


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8", hint="Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """``STOCKPIPE_TARGET=aws`` sets ``target``; ``STOCKPIPE_HOME`` is a place, not a setting."""
    values: dict[str, Any] = {}
    for name, value in environment.items():
        key = name[len(ENV_PREFIX) :].lower()
        if name.startswith(ENV_PREFIX) and key != "home" and value != "":
            if key in ("tags", "rules"):
                raise ConfigError(f"{name}: {key} can only be set in a file")
            values[key] = value
    return values


def _check(origin: str, key: str, value: Any) -> None:
    """Check one value alone, so that the message can name its origin."""
    name = f"{ENV_PREFIX}{key.upper()}" if origin == "environment" else key
    where = name if origin in ("flag", "environment") else f"{origin}: {key}"
    where = f"--{_FLAGS.get(key, key)}" if origin == "flag" else where
    if key not in Settings.model_fields:
        close = difflib.get_close_matches(key, Settings.model_fields, n=1)
        raise ConfigError(
            f"{where}: unknown setting",
            hint=f"Did you mean {close[0]}?" if close else "See stockpipe config show.",
        )
    for text in _texts(value):
        if text != text.strip():
            raise ConfigError(f"{where}: has a space at its start or end: {text!a}")
        if any(unicodedata.category(character) in ("Cf", "Cc") for character in text):
            raise ConfigError(f"{where}: has an invisible character: {text!a}")
    try:
        Settings(**{key: value})
    except ValidationError as error:
        details = error.errors()[0]
        message = details["msg"].removeprefix("Value error, ")
        shown = "" if "got" in message else f", got {value!r}"
        raise ConfigError(f"{where}: {message[0].lower() + message[1:]}{shown}") from None


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in _texts(item)]
    return []


def _profile_region(environment: Mapping[str, str], profile: str | None) -> str | None:
    """The region of the environment or of ``~/.aws/config``, without loading botocore."""
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if region:
        return region
    name = profile or environment.get("AWS_PROFILE") or "default"
    file = environment.get("AWS_CONFIG_FILE") or _home(environment) / ".aws" / "config"
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        return None  # botocore reports a broken profile itself, with the better message
    section = "default" if name == "default" else f"profile {name}"
    return parser.get(section, "region", fallback=None)
