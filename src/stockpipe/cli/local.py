"""``stockpipe local``: the embedded cloud itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import configuration, options
from stockpipe.errors import ConfirmationRequired, UsageError

if TYPE_CHECKING:
    from stockpipe.local.outbox import Message

group = typer.Typer(help="The embedded cloud on this machine.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="local")


@group.callback(invoke_without_command=True)
def default(ctx: typer.Context) -> None:
    """The embedded cloud on this machine."""
    if ctx.invoked_subcommand is None:
        ui.text(ctx.get_help())


@group.command()
def start() -> None:
    """Start it in the background (every command that needs it does so too)."""
    from stockpipe.local import daemon
    from stockpipe.local.home import home

    with ui.waiting("Starting the embedded cloud"):
        endpoint = daemon.ensure_running(home())
    ui.note(f"The embedded cloud runs at {endpoint.url}.", "green")


@group.command()
def stop() -> None:
    """Stop it; what it holds is kept."""
    from stockpipe.local import daemon
    from stockpipe.local.home import home

    stopped = daemon.stop(home())
    ui.note("Stopped; its data are kept." if stopped else "It was not running.")


@group.command()
def status(
    json: Annotated[bool, typer.Option("--json", help="One document.")] = False,
) -> None:
    """Does it run, where, since when, with how much? Exit code 1 when it died."""
    from dataclasses import asdict

    from stockpipe.local import daemon
    from stockpipe.local.home import home

    found = daemon.status(home())
    document = {**asdict(found), "home": str(found.home)}
    if json:
        ui.json_line(document)
    else:
        for name, value in document.items():
            if value is not None:
                ui.text(f"{name:<14} {_human(name, value)}")
    if found.died:
        ui.note("It died; `stockpipe local start` starts it again.", "bold red")
        raise typer.Exit(1)


def _human(name: str, value: object) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value / 1_048_576:,.1f} MB"
    if name == "uptime_s" and isinstance(value, float):
        return f"{value:,.0f} s"
    return "yes" if value is True else "no" if value is False else str(value)


@group.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop it and delete everything it holds, all stacks."""
    from stockpipe.local import daemon
    from stockpipe.local.home import home

    where = home()
    if not yes:
        if not sys.stdin.isatty():
            raise ConfirmationRequired(
                "Nothing was deleted: this asks first, and there is no terminal to ask on.",
                hint="Confirm with --yes.",
            )
        if ui.ask(f"Delete everything under {where / 'local'}? [y/N]").lower() not in ("y", "yes"):
            raise UsageError("Not confirmed: nothing was deleted.")
    daemon.reset(where)
    ui.note("The embedded cloud is stopped and empty.", "green")


@group.command()
def logs(
    n: Annotated[int, typer.Option("-n", min=1, help="Lines.")] = 50,
) -> None:
    """The last lines of its log."""
    from stockpipe.local import daemon
    from stockpipe.local.home import home

    for line in daemon.tail_log(home(), n):
        ui.text(line)


@group.command(epilog='eval "$(stockpipe local env)" && aws dynamodb list-tables')
def env(ctx: typer.Context) -> None:
    """Lines for a shell, so that `aws`, boto3 or any other tool can look at it too."""
    from stockpipe.local import daemon
    from stockpipe.local.home import home

    settings = configuration(ctx).settings
    endpoint = daemon.ensure_running(home())
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint.url),
        ("AWS_ACCESS_KEY_ID", endpoint.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", endpoint.secret_access_key),
        ("AWS_DEFAULT_REGION", settings.region),
        ("AWS_REGION", settings.region),
    ):
        ui.text(f"export {name}={value}")
    # A session token or profile of another account would be sent along.
    ui.text("unset AWS_SESSION_TOKEN AWS_PROFILE")


@group.command(epilog="stockpipe local outbox; stockpipe local outbox -v -n 1; ... --follow --json")
def outbox(
    ctx: typer.Context,
    n: Annotated[int, typer.Option("-n", min=0, help="Messages to begin with.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One object per line.")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all of them.")] = False,
) -> None:
    """Mail and SMS that SNS would have sent, and what became of webhooks. -v: the whole text."""
    from dataclasses import asdict

    from stockpipe.local.home import Places, home
    from stockpipe.local.outbox import Outbox

    kept, verbose = Outbox(Places(home()).local), options(ctx).verbose
    if clear:
        kept.clear()
        ui.note("The outbox is empty.", "green")
        return
    looks = kept.follow()
    messages = next(looks)
    if not messages:
        ui.note(
            f"The outbox is empty ({kept.path}): mail and SMS of the embedded cloud come here. "
            "With --target aws they are really sent.",
            "yellow",
        )

    def show(found: list[Message]) -> None:
        for message in found:
            if json:
                ui.json_line(asdict(message))
            else:
                for line in _lines(message, whole=verbose):
                    ui.text(line)
        sys.stdout.flush()

    try:
        show(messages[-n:] if n else [])
        while follow:
            show(next(looks))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _lines(message: Message, *, whole: bool) -> list[str]:
    """A message for a person: a line, or with its whole text. Nothing in it moves the cursor."""
    text = [_printable(line) for line in message.text.splitlines()] or [""]
    subject = f"{_printable(message.subject)}  " if message.subject else ""
    ended = "" if message.status == "kept" else f"  [{_ended(message)}]"
    to = f"{message.time[:19]}Z  {message.protocol:<5}  {_printable(message.to)}  {subject}"
    if whole:
        return [(to + ended).rstrip(), *(f"    {line}".rstrip() for line in text), ""]
    return [to + text[0] + ended]


def _ended(message: Message) -> str:
    if message.error is None:
        return message.status
    times = f"{message.attempts} attempt{'' if message.attempts == 1 else 's'}"
    return f"NOT DELIVERED, {times}: {_printable(message.error)}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
