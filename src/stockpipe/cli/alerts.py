"""``stockpipe alerts``: what fired."""

from __future__ import annotations

from typing import Annotated

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import connect, symbols_of
from stockpipe.cli.tail import _edge as edge_of

group = typer.Typer(help="What fired.", rich_markup_mode=None, no_args_is_help=False)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="alerts")


@group.callback(invoke_without_command=True)
def default(
    ctx: typer.Context,
    since: Annotated[str | None, typer.Option(help="Only younger ones: 10m, 2h, 7d.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One object per line.")] = False,
) -> None:
    """What fired (the same as `alerts history`)."""
    if ctx.invoked_subcommand is None:
        history(ctx, since=since, json=json)


@group.command(epilog="stockpipe alerts history --json; stockpipe alerts history AAPL --since 1d")
def history(
    ctx: typer.Context,
    symbols: Annotated[list[str] | None, typer.Argument(help="Symbols (default: all).")] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="A symbol; repeatable.")] = None,
    since: Annotated[str | None, typer.Option(help="Only younger ones: 10m, 2h, 7d.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One object per line.")] = False,
) -> None:
    """Every alert, oldest first, with what became of it."""
    from stockpipe.operate import alerts

    session = connect(ctx)
    chosen = symbols_of(session.settings, symbols, symbol, default=False)
    found = alerts.history(
        session.aws.client("dynamodb"),
        session.aws.names.alerts_table,
        symbols=chosen,
        since=edge_of(since),
    )
    if json:
        for alert in found:
            ui.json_line(alert)
    elif found:
        columns = ("timestamp", "symbol", "kind", "price", "sma_fast", "sma_slow", "status")
        ui.table(
            columns,
            ([alert[column] for column in columns] for alert in found),
            right=("price", "sma_fast", "sma_slow"),
            styles=[ui.GOLDEN if alert["kind"] == "golden" else ui.DEATH for alert in found],
        )
    if not found:
        ui.note(f"No alerts in {session.place}.", "yellow")
