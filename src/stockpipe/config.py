"""One frozen :class:`Settings` out of flags, environment, files and defaults.

Precedence: flag > environment (``STOCKPIPE_*``) > ``./stockpipe.toml`` >
``~/.config/stockpipe/config.toml`` > AWS profile (region only) > default. Every value keeps its
origin, and every value is checked when it is read: an error names origin, key and rule.
"""

from __future__ import annotations

import configparser
import difflib
import json
import os
import tomllib
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from stockpipe.domain.sweep_event import LookBack, payload
from stockpipe.errors import ConfigError
from stockpipe.settings import Settings

ENV_PREFIX = "STOCKPIPE_"
MOST_EVENT_CHARACTERS = 8192
"""Of the input that EventBridge passes on. https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_Target.html"""
_FLAGS = {"emails": "email", "symbols": "symbol"}
"""What is said once per item on the command line."""


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
    _check_together(settings, values, origins)
    return Configuration(
        settings=settings,
        origins={key: origins.get(key, "default") for key in Settings.model_fields},
    )


def _check_together(
    settings: Settings, values: Mapping[str, Any], origins: Mapping[str, str]
) -> None:
    """What each value alone cannot break."""
    if settings.stream_mode == "on-demand" and "shards" in values:
        raise ConfigError(
            f"{origins['shards']}: shards: only a provisioned stream has them",
            hint='Set stream_mode = "provisioned", or remove shards.',
        )
    look_back = settings.sweep_look_back
    if look_back == "off":
        return
    if settings.sweep == "off":
        raise ConfigError(
            f"{origins['sweep_look_back']}: sweep_look_back: without a sweep nothing looks back",
            hint='Set sweep = "5m", or sweep_look_back = "off".',
        )
    if settings.ttl_days is not None and look_back > settings.ttl_days * 86_400 / 2:
        raise ConfigError(
            f"{origins['sweep_look_back']}: sweep_look_back: must be at most half of ttl_days, "
            "since what has expired cannot be judged again",
            hint="Make it shorter, or keep items longer.",
        )
    event = json.dumps(payload(LookBack(settings.symbols, look_back)))
    if len(event) > MOST_EVENT_CHARACTERS:
        raise ConfigError(
            f"{origins['sweep_look_back']}: sweep_look_back: {len(settings.symbols)} symbols do "
            f"not fit into the {MOST_EVENT_CHARACTERS} characters of a rule's event",
            hint="Name fewer symbols, or leave it off: records bring alerts without it.",
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
