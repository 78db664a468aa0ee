"""``stockpipe teardown``: everything ours, nothing else."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import Session, connect
from stockpipe.cli.converge import CHANGES, converge, show
from stockpipe.errors import ConfirmationRequired, UsageError


def register(app: typer.Typer) -> None:
    app.command(epilog="stockpipe teardown --plan; stockpipe teardown --target aws --confirm dev")(
        teardown
    )


def teardown(
    ctx: typer.Context,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be deleted.")] = False,
    confirm: Annotated[
        str | None, typer.Option(metavar="STACK", help="The stack's name instead of the question.")
    ] = None,
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Keep tables and archive for a later provision.")
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also delete this adopted table or bucket."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="On local: do not ask.")] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="With --plan: 3 when there are changes.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The plan as JSON.")] = False,
) -> None:
    """Delete the pipeline with its data: everything ours, nothing else."""
    from stockpipe.infra.blueprint import blueprint
    from stockpipe.infra.plan import plan_teardown

    session = connect(ctx)
    resources = blueprint(session.aws, session.settings)
    unknown = set(include or ()) - {one.name for one in resources if one.precious}
    if unknown:
        raise UsageError(
            f"--include: nothing adopted can be called {', '.join(sorted(unknown))} here.",
            hint=f"See what is adopted: {ui.program()} teardown --plan{session.flags}",
        )
    with ui.waiting("Reading what is there"):
        found = plan_teardown(resources, keep_data=keep_data, include=include or ())
    asks = bool(found.pending) and not plan and _asks(session, confirm, yes)
    if asks or not json:
        with ui.aloud() if asks else nullcontext():  # nobody confirms what he has not seen
            show(found)
    if plan:
        if json:
            ui.json_line(found.as_document())
        raise typer.Exit(CHANGES if detailed_exitcode and found.pending else 0)
    if found.pending:
        if asks:
            _confirm(session)
        converge(found)
    if json:
        ui.json_line(found.as_document())
    kept = ", ".join(f"{change.resource.kind} {change.resource.name}" for change in found.kept)
    if not found.pending:
        ui.note(f"Nothing to delete in {session.place}." + (f" Kept: {kept}." if kept else ""))
    elif kept:
        ui.note(f"Removed from {session.place}. Kept: {kept}.", "green")
    else:
        ui.note(f"Removed: nothing of ours is left in {session.place}.", "green")
    if session.settings.target == "local" and not kept:
        stop_if_empty(session)


def _asks(session: Session, confirm: str | None, yes: bool) -> bool:
    """Whether a person has to confirm; raises UsageError where ``confirm`` names another stack."""
    stack = session.settings.stack
    if confirm is not None:
        if confirm != stack:
            raise UsageError(
                f"--confirm says {confirm!r}, but the stack is {stack!r}: nothing was deleted."
            )
        return False
    return session.settings.target == "aws" or (sys.stdin.isatty() and not yes)


def _confirm(session: Session) -> None:
    stack = session.settings.stack
    if session.settings.target == "local":
        if ui.ask(f"Delete all of this from {session.place}? [y/N]").lower() not in ("y", "yes"):
            raise UsageError("Not confirmed: nothing was deleted.")
        return
    if not sys.stdin.isatty():
        raise ConfirmationRequired(
            "Nothing was deleted: on aws this asks for the stack's name.",
            hint=f"Without a terminal: --confirm {stack}",
        )
    if ui.ask(f"This deletes the data too, in {session.place}. Type the stack's name:") != stack:
        raise UsageError("That is not the stack's name: nothing was deleted.")


def stop_if_empty(session: Session) -> None:
    """The last local stack takes the embedded cloud along: it would only use memory."""
    from stockpipe.local import daemon
    from stockpipe.local.home import home
    from stockpipe.operate.stacks import any_stack

    if not any_stack(session.aws):
        daemon.stop(home())
        ui.note("That was the last stack: the embedded cloud was stopped.")
