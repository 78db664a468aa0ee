"""What every command starts from: the settings, the target, and a client factory for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from stockpipe.cli import ui
from stockpipe.errors import UsageError

if TYPE_CHECKING:
    from stockpipe.aws import Aws
    from stockpipe.config import Configuration
    from stockpipe.settings import Settings


@dataclass
class Options:
    """The options that stand before or after every command; None means not given."""

    target: str | None = None
    stack: str | None = None
    region: str | None = None
    profile: str | None = None
    verbose: bool = False
    debug: bool = False


def options(ctx: typer.Context) -> Options:
    found = ctx.find_root().obj
    return found if isinstance(found, Options) else Options()


def configuration(ctx: typer.Context, **flags: Any) -> Configuration:
    """The settings under this call's flags. Raises ConfigError."""
    from stockpipe import config

    given = options(ctx)
    return config.load(
        {
            "target": given.target,
            "stack": given.stack,
            "region": given.region,
            "profile": given.profile,
            **flags,
        }
    )


@dataclass
class Session:
    """Settings and clients of one call."""

    settings: Settings
    aws: Aws

    @property
    def flags(self) -> str:
        """What to append to a command so that it means the same place."""
        target = "" if self.settings.target == "local" else " --target aws"
        stack = self.settings.stack
        return target + ("" if stack == "default" else f" --stack {stack}")

    @property
    def place(self) -> str:
        """Target, stack and, on aws, account and region: named by every command and emptiness."""
        where = f"{self.settings.target}, stack {self.settings.stack}"
        if self.settings.target == "aws":
            return f"{where}, account {self.aws.account_id}, {self.settings.region}"
        endpoint = self.aws.endpoint
        return f"{where}, {endpoint.url}" if endpoint else where

    def keep(self) -> None:
        """On local, put what was just made on disk, so that a crash a moment later spares it."""
        if self.settings.target == "local":
            from stockpipe.local.contact import save
            from stockpipe.local.home import home

            save(home())


def connect(ctx: typer.Context, **flags: Any) -> Session:
    """Settings and clients; on ``local`` the embedded cloud is started where it is not running."""
    from stockpipe.aws import Aws

    settings = configuration(ctx, **flags).settings
    endpoint = None
    if settings.target == "local":
        from stockpipe.local import daemon
        from stockpipe.local.home import home

        endpoint = daemon.endpoint(home())
        if endpoint is None:
            with ui.waiting("Starting the embedded cloud"):
                endpoint = daemon.ensure_running(home())
    session = Session(
        settings,
        Aws(
            region=settings.region,
            stack=settings.stack,
            endpoint=endpoint,
            profile=settings.profile,
            account=settings.account,
        ),
    )
    ui.place_flags = session.flags
    elsewhere = os.environ.get("AWS_ENDPOINT_URL")
    if endpoint is None and elsewhere:
        ui.note(f"AWS_ENDPOINT_URL is set: this goes to {elsewhere}, not to AWS.", "bold yellow")
    ui.note(session.place, "dim")
    return session


def symbols_of(
    settings: Settings, positional: list[str] | None, option: list[str] | None, *, default: bool
) -> list[str]:
    """Symbols as given, upper-cased and checked, without repetition; else those of the settings."""
    from stockpipe.domain.exact import InvalidQuote
    from stockpipe.domain.quote import parse_symbol

    given = [*(positional or []), *(option or [])]
    if not given:
        return list(settings.symbols) if default else []
    try:
        return list(dict.fromkeys(parse_symbol(symbol) for symbol in given))
    except InvalidQuote as error:
        raise UsageError(f"Not a symbol: {error.rule}.") from None


def edge_of(since: str | None) -> str | None:
    """The timestamp that lies ``--since`` back; raises UsageError."""
    from datetime import timedelta

    from stockpipe.domain.clock import SYSTEM_CLOCK
    from stockpipe.domain.exact import moment_text
    from stockpipe.settings import duration_s

    if since is None:
        return None
    try:
        seconds = duration_s(since)
    except ValueError as error:
        raise UsageError(f"--since {error}.") from None
    return moment_text(SYSTEM_CLOCK.now() - timedelta(seconds=seconds))
