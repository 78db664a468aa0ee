"""``stockpipe status``: every resource's health, the newest record per symbol."""

from __future__ import annotations

from typing import Annotated

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import connect


def register(app: typer.Typer) -> None:
    app.command(epilog="stockpipe status; stockpipe status --json")(status)


def status(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One document.")] = False,
) -> None:
    """Is everything there, does it work, what came last? Exit code 1 when not healthy."""
    from stockpipe.infra.blueprint import blueprint
    from stockpipe.operate import status as operate

    session = connect(ctx)
    found = operate.status(session.aws, blueprint(session.aws, session.settings))
    if json:
        ui.json_line(found.as_document())
    elif not found.provisioned:
        ui.note(
            f"Nothing is provisioned in {session.place}. "
            f"Next: {ui.program()} provision{session.flags}",
            "yellow",
        )
    else:
        ui.table(
            ("kind", "name", "state"),
            ([one["kind"], one["name"], one["state"]] for one in found.resources),
            styles=[None if one["state"] in operate.GOOD_STATES else "red"
                    for one in found.resources],
        )  # fmt: skip
        if found.functions:
            ui.text()
            ui.table(
                ("function", "calls in 15 min", "errors", "behind"),
                ([f["name"], f["invocations"], f["errors"], _age(f["lag_s"])]
                 for f in found.functions),
                right=("behind",),
                styles=["red" if f["errors"] else None for f in found.functions],
            )  # fmt: skip
        if found.symbols:
            ui.text()
            ui.table(
                ("symbol", "last", "age", "price", "source"),
                ([s["symbol"], s["last"], _age(s["age_s"]), s["price"], s["source"]]
                 for s in found.symbols),
                right=("price", "age"),
            )  # fmt: skip
        ui.text()
        ui.text(
            f"quarantined {_counted(found.quarantined)}, failed batches "
            f"{_counted(found.failures)}, alerts pending {found.pending_alerts}"
        )
        verdict = "healthy" if found.healthy else "NOT healthy"
        ui.note(f"{session.place}: {verdict}", "green" if found.healthy else "bold red")
    if not found.healthy:
        raise typer.Exit(1)


def _counted(count: int) -> str:
    from stockpipe.operate.status import COUNT_LIMIT

    return f"{count:,}" if count < COUNT_LIMIT else f"{COUNT_LIMIT:,} or more"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for size, unit in ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"
