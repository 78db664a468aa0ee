"""``stockpipe provision``: the plan, the question, the work, and what there is afterwards."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import Session, configuration, connect
from stockpipe.cli.converge import CHANGES, converge, show
from stockpipe.errors import ConfirmationRequired, UsageError

if TYPE_CHECKING:
    from stockpipe.infra.plan import Plan
    from stockpipe.infra.resource import Resource


def register(app: typer.Typer) -> None:
    app.command(epilog="stockpipe provision --plan; stockpipe provision --target aws --stack dev")(
        provision
    )


def provision(
    ctx: typer.Context,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    email: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Also alert this address.")
    ] = None,
    sms: Annotated[
        list[str] | None, typer.Option(metavar="NUMBER", help="Also alert this phone.")
    ] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over what has our names and is not ours.")
    ] = False,
    allow_replace: Annotated[
        bool, typer.Option("--allow-replace", help="Replace even what holds data.")
    ] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="With --plan: 3 when there are changes.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Plan and outputs as JSON.")] = False,
) -> None:
    """Make the pipeline, or bring it to what the settings say. Safe to repeat."""
    from stockpipe.infra.blueprint import blueprint
    from stockpipe.infra.limits import check_concurrency
    from stockpipe.infra.plan import plan_provision

    asked = _recipients(ctx, email, sms)
    session = connect(ctx)
    resources = blueprint(session.aws, session.settings, asked=asked)
    with ui.waiting("Reading what is there"):
        check_concurrency(session.aws, resources)
        found = plan_provision(resources, adopt=adopt)
    asks = bool(found.pending) and session.settings.target == "aws" and not (yes or plan)
    if asks or not json:
        with ui.aloud() if asks else nullcontext():  # nobody confirms what he has not seen
            show(found)
            _show_cost(session)
            _explain_recipients(session, found)
    if plan:
        if json:
            ui.json_line(found.as_document())
        raise typer.Exit(CHANGES if detailed_exitcode and found.pending else 0)
    if asks:
        _confirm(f"Make these changes in {session.place}? [y/N]")
    converge(found, allow_replace=allow_replace)
    session.keep()
    if json:
        ui.json_line({**found.as_document(), "outputs": outputs(session, resources)})
        return
    if not found.pending:
        ui.note(f"Nothing to do: {session.place} is as the settings say.", "green")
        return
    _show_outputs(session, resources)
    ui.note(
        f"Provisioned {session.place}. Next: {ui.program()} stream --source replay:sample"
        f" --speed max{session.flags}",
        "green",
    )


def _recipients(
    ctx: typer.Context, email: list[str] | None, sms: list[str] | None
) -> list[tuple[str, str]]:
    """(protocol, endpoint) of the flags, by the rules of the settings of that name."""
    checked = configuration(ctx, emails=email or None, sms=sms or None).settings
    return [("email", one) for one in checked.emails if email] + [
        ("sms", one) for one in checked.sms if sms
    ]


def _show_cost(session: Session) -> None:
    """What a month costs, and the setting that would lower it most."""
    from stockpipe.operate.cost import cheapest_saving, estimate

    found, saving = estimate(session.settings), cheapest_saving(session.settings)
    usage = found.workload.usage
    counted = f"{usage.symbols} symbol{'s' if usage.symbols > 1 else ''}"
    ui.note(
        ("Here it costs nothing; on AWS " if session.settings.target == "local" else "Costs ")
        + f"about ${found.total} a month for {counted} every {usage.interval_s:g} s, day and night,"
        " at list prices (see stockpipe cost)."
    )
    if saving and session.settings.target == "aws":
        value = f'"{saving.value}"' if isinstance(saving.value, str) else saving.value
        ui.note(f"Cheaper: {saving.setting} = {value} saves ${saving.saves}; {saving.instead}.")


def _explain_recipients(session: Session, plan: Plan) -> None:
    """What becomes of addresses: nobody should wait for mail that is not sent."""
    new = [c for c in plan.pending if c.resource.kind == "subscription"]
    if new and session.settings.target == "local":
        ui.note(
            f"No mail and no SMS leaves this machine: read them with {ui.program()} local outbox. "
            "On AWS each address must first click a link.",
            "yellow",
        )
    elif any(c.resource.name.startswith("email") for c in new):
        ui.note("SNS mails each address a link: alerts begin once it is clicked (48 hours).")


def outputs(session: Session, resources: list[Resource]) -> list[dict[str, Any]]:
    """What other tools want to know, live: kind, name, ARN and, on aws, the console's page."""
    from stockpipe.infra.console import console_url
    from stockpipe.infra.plan import read_all

    shown = [one for one in resources if one.kind in SHOWN]
    aws = session.settings.target == "aws"
    return [
        {
            "kind": one.kind,
            "name": one.name,
            "arn": live.arn,
            "console": console_url(one.kind, one.name, session.aws.names) if aws else None,
        }
        for one, live in zip(shown, read_all(shown), strict=True)
        if live
    ]


SHOWN = frozenset({"stream", "table", "bucket", "function", "topic", "workgroup", "dashboard"})


def _show_outputs(session: Session, resources: list[Resource]) -> None:
    found = outputs(session, resources)
    ui.note("")
    for one in found:
        ui.note(f"  {one['kind']:<10} {one['arn']}")
        if one["console"] and one["kind"] in ("dashboard", "stream", "table"):
            ui.note(f"             {one['console']}", "dim")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise ConfirmationRequired(
            "Nothing was changed: on aws this asks first, and there is no terminal to ask on.",
            hint="Look at it with --plan, then confirm with --yes.",
        )
    if ui.ask(question).lower() not in ("y", "yes"):
        raise UsageError("Not confirmed: nothing was changed.")
