"""``stockpipe config``: the settings and where each came from, and the policies they need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import configuration
from stockpipe.errors import ConfigError, StockpipeError, UsageError

if TYPE_CHECKING:
    from stockpipe.domain.names import Names
    from stockpipe.settings import Settings

group = typer.Typer(help="Settings and where they come from.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="config")


@group.callback(invoke_without_command=True)
def default(ctx: typer.Context) -> None:
    """Settings and where they come from."""
    if ctx.invoked_subcommand is None:
        ui.text(ctx.get_help())


@group.command()
def show(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One document.")] = False,
) -> None:
    """Every setting, its value and its origin."""
    found = configuration(ctx)
    values = found.settings.model_dump()
    values["rules"] = [rule.as_table() for rule in found.settings.rules]
    if json:
        ui.json_line(
            {
                name: {"value": value, "origin": found.origins[name]}
                for name, value in values.items()
            }
        )
        return
    ui.table(
        ("setting", "value", "origin"),
        ([name, _shown(value), found.origins[name]] for name, value in values.items()),
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else ui.plain(value)


@group.command()
def init() -> None:
    """Write a commented stockpipe.toml into this directory; an existing one is left alone."""
    path = Path("stockpipe.toml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_commented_file())
    except FileExistsError:
        raise UsageError(f"{path} exists and is left alone.", hint="Edit it.") from None
    ui.note(f"Wrote {path}: every setting, commented out, with its default.", "green")


@group.command(
    epilog="stockpipe config policy produce > produce.json; "
    "aws iam create-policy --policy-name produce --policy-document file://produce.json"
)
def policy(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="provision, produce, read, teardown, or one of their documents."),
    ] = None,
) -> None:
    """The IAM policies that the operators of this stack need on AWS, as JSON.

    One document is printed as it is, several as an object by their names: an operator whose policy
    would be too long for IAM has two. Where the settings have a `permissions_boundary`, roles may
    be written only within it.
    """
    import json

    from stockpipe.infra.operators import operator_policies

    settings = configuration(ctx, target="aws").settings
    names = _names(settings)
    policies = operator_policies(names, settings)
    chosen = {key: policies[key] for key in policies if name in (None, key, key.split("-")[0])}
    if not chosen:
        raise UsageError(f"There is no policy {name!r}: {', '.join(policies)}.")
    ui.note(f"aws, stack {names.stack}, account {names.account}, {names.region}", "dim")
    if len(chosen) > 1:
        ui.note(f"{len(chosen)} policies, by name: {', '.join(chosen)}.", "dim")
    ui.text(json.dumps(chosen if len(chosen) > 1 else next(iter(chosen.values())), indent=2))


def _names(settings: Settings) -> Names:
    """For the account of the settings, else that of the credentials."""
    from stockpipe.aws import Aws
    from stockpipe.domain.names import Names

    account = settings.account
    if account is None:
        try:
            account = Aws(region=settings.region, profile=settings.profile).account_id
        except StockpipeError as error:
            raise ConfigError(
                f"A policy names its account, and there is none: {error.message}",
                hint="Set `account` in stockpipe.toml, or log in.",
            ) from error
    return Names(settings.stack, settings.region, account)


def _commented_file() -> str:
    """A ``stockpipe.toml`` in which every setting stands commented out, with its default."""
    from stockpipe.domain.rules import DEFAULT_RULES
    from stockpipe.settings import Settings

    lines = ["# Settings of stockpipe. What is commented out has the value shown.", ""]
    defaults = Settings()
    for name, field in Settings.model_fields.items():
        if name == "rules":
            continue
        value = getattr(defaults, name)
        lines += [f"# {field.description}", f"# {name} = {_toml(name, value)}", ""]
    lines.append("# What is alerted: one table per rule.")
    for rule in DEFAULT_RULES:
        lines.append("# [[rules]]")
        lines += [f"# {key} = {_toml(key, value)}" for key, value in rule.as_table().items()]
    return "\n".join(lines) + "\n"


def _toml(name: str, value: Any) -> str:
    if value is None:
        return " # unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    if isinstance(value, dict):
        return "{}"
    return f'"{value:g}s"' if isinstance(value, float) else str(value)
