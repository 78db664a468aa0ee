"""``stockpipe provision`` and what it shares with ``teardown``: showing and running a plan."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import connect
from stockpipe.errors import ConfirmationRequired, UsageError

if TYPE_CHECKING:
    from stockpipe.infra.apply import Step
    from stockpipe.infra.plan import Change, Plan

MARKS = {"create": "+", "update": "~", "replace": "-/+", "keep": "=", "delete": "-"}
STYLES = {"create": "green", "update": "yellow", "replace": "red", "delete": "red"}
CHANGES = 3


def register(app: typer.Typer) -> None:
    app.command(epilog="stockpipe provision --plan; stockpipe provision --target aws --stack dev")(
        provision
    )


def provision(
    ctx: typer.Context,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="With --plan: 3 when there are changes.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The plan as JSON.")] = False,
) -> None:
    """Make the pipeline, or bring it to what the settings say. Safe to repeat."""
    from stockpipe.infra.blueprint import blueprint
    from stockpipe.infra.plan import plan_provision

    session = connect(ctx)
    with ui.waiting("Reading what is there"):
        found = plan_provision(blueprint(session.aws, session.settings))
    if json:
        ui.json_line(found.as_document())
    else:
        show(found)
    if plan:
        raise typer.Exit(CHANGES if detailed_exitcode and found.pending else 0)
    if not found.pending:
        ui.note(f"Nothing to do: {session.place} is as the settings say.", "green")
        return
    if session.settings.target == "aws" and not yes:
        _confirm(f"Make these changes in {session.place}? [y/N]")
    run(found)
    ui.note(
        f"Provisioned {session.place}. Next: {ui.program()} stream --source replay:sample"
        f" --speed max{session.flags}",
        "green",
    )


def show(plan: Plan) -> None:
    """The plan for people: changes in full, what is kept as a number."""
    for change in plan.pending:
        mark = MARKS[change.action]
        ui.note(f"  {mark:>3} {change.resource.kind} {change.resource.name}", STYLES[change.action])
        if change.action in ("update", "replace"):
            for name, (old, new) in change.settings.items():
                for key, before, after in _by_key(name, old, new):
                    ui.note(f"        {key}: {_brief(before)} -> {_brief(after)}")
    counted = [f"{count} to {action}" for action, count in plan.summary.items() if count]
    ui.note(f"Plan: {', '.join(counted) or 'nothing to do'}.")


def _by_key(name: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """A setting's difference; of a mapping, only the keys that differ."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [(name, old, new)]
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [(f"{name}.{key}", old.get(key), new.get(key)) for key in keys]


def _brief(value: Any) -> str:
    text = ui.plain(value)
    return text if len(text) <= 60 else text[:57] + "..."


def run(plan: Plan) -> None:
    """Carry a plan out with a line per resource; raises ProvisionError."""
    from stockpipe.infra.apply import apply

    total = len(plan.pending)
    with ui.counting("Converging", total) as advance:

        def on_step(step: Step) -> None:
            if step.phase == "done":
                advance(1)
                ui.note(f"  done    {_subject(step.change)}")
            elif step.phase == "failed":
                ui.note(f"  failed  {_subject(step.change)}: {step.reason}", "red")

        try:
            apply(plan, on_step)
        except KeyboardInterrupt:
            ui.note(
                "Interrupted between two calls; what was made stands. "
                "The same command goes on from here.",
                "yellow",
            )
            raise


def _subject(change: Change) -> str:
    return f"{change.action} {change.resource.kind} {change.resource.name}"


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise ConfirmationRequired(
            "Nothing was changed: on aws this asks first, and there is no terminal to ask on.",
            hint="Look at it with --plan, then confirm with --yes.",
        )
    if ui.ask(question).lower() not in ("y", "yes"):
        raise UsageError("Not confirmed: nothing was changed.")
