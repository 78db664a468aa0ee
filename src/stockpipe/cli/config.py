"""``stockpipe config``: the settings and where each came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import configuration
from stockpipe.errors import UsageError

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


def _commented_file() -> str:
    """A ``stockpipe.toml`` in which every setting stands commented out, with its default."""
    from stockpipe.config import Settings
    from stockpipe.domain.rules import DEFAULT_RULES

    lines = ["# Settings of stockpipe. What is commented out has the value shown.", ""]
    defaults = Settings()
    for name, field in Settings.model_fields.items():
        if name == "rules":
            continue
        value = getattr(defaults, name)
        lines += [f"# {field.description}", f"# {name} = {_toml(name, value)}", ""]
    lines += ["# What is alerted: one table per rule.", "# [[rules]]"]
    lines += [
        f"# {key} = {_toml(key, value)}" for key, value in DEFAULT_RULES[0].as_table().items()
    ]
    return "\n".join(lines) + "\n"


def _toml(name: str, value: Any) -> str:
    if value is None:
        return '""  # unset'
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    if isinstance(value, dict):
        return "{}"
    return f'"{value:g}s"' if name in ("interval", "notify_max_age") else str(value)
