"""``stockpipe alerts``: what fired, and a test of who is told."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from stockpipe.cli import subscriptions, ui
from stockpipe.cli.choices import Kind, Status
from stockpipe.cli.context import connect, edge_of, symbols_of
from stockpipe.errors import UsageError

group = typer.Typer(help="What fired, and who is told.", rich_markup_mode=None)

COLUMNS = (
    "timestamp", "symbol", "rule", "kind", "price", "change", "sma_fast", "sma_slow", "level",
    "sigmas", "status",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    subscriptions.register(group)
    app.add_typer(group, name="alerts")


@group.callback(invoke_without_command=True)
def default(
    ctx: typer.Context,
    since: Annotated[str | None, typer.Option(help="Only younger ones: 10m, 2h, 7d.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One object per line.")] = False,
) -> None:
    """What fired (the same as `alerts history`), and who is told."""
    if ctx.invoked_subcommand is None:
        history(ctx, since=since, json=json)
    elif since or json:
        raise UsageError(
            f"{'--since' if since else '--json'} belongs behind {ctx.invoked_subcommand}.",
            hint=f"{ui.program()} alerts {ctx.invoked_subcommand} --help",
        )


@group.command(epilog="stockpipe alerts history --json; stockpipe alerts history AAPL --since 1d")
def history(
    ctx: typer.Context,
    symbols: Annotated[list[str] | None, typer.Argument(help="Symbols (default: all).")] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="A symbol; repeatable.")] = None,
    since: Annotated[str | None, typer.Option(help="Only younger ones: 10m, 2h, 7d.")] = None,
    kind: Annotated[list[Kind] | None, typer.Option(help="Only of it; repeatable.")] = None,
    status: Annotated[list[Status] | None, typer.Option(help="Only in it; repeatable.")] = None,
    n: Annotated[int | None, typer.Option("-n", min=1, help="Only so many newest.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One object per line.")] = False,
) -> None:
    """Every alert, oldest first, with what became of it."""
    from stockpipe.operate import alerts

    session = connect(ctx)
    found = alerts.history(
        session.aws.client("dynamodb"),
        session.aws.names.alerts_table,
        symbols=symbols_of(session.settings, symbols, symbol, default=False),
        since=edge_of(since),
        kinds=[one.value for one in kind or ()],
        statuses=[one.value for one in status or ()],
    )[-n if n else 0 :]
    if json:
        for alert in found:
            ui.json_line(alert)
    elif found:
        for alert in found:
            percent = alert["change_percent"]
            alert["change"] = None if percent is None else f"{percent:+.2f} %"
        columns = [one for one in COLUMNS if any(alert[one] is not None for alert in found)]
        ui.table(
            columns,
            ([alert[column] for column in columns] for alert in found),
            right=("price", "change", "sma_fast", "sma_slow", "level", "sigmas"),
            styles=[
                {"golden": ui.GOLDEN, "death": ui.DEATH}.get(alert["kind"], ui.ANOMALY)
                for alert in found
            ],
        )
        if muted := sum(alert["status"] == "muted" for alert in found):
            ui.note(
                f"{muted:,} muted: recorded and not sent, as their quotes were older than "
                "notify_max_age, or within a cooldown."
            )
    if not found:
        what = "such alerts" if symbols or symbol or since or kind or status else "alerts"
        ui.note(f"No {what} in {session.place}.", "yellow")


@group.command(
    "test", epilog="stockpipe alerts test; stockpipe alerts test --symbol MSFT --kind move"
)
def rehearsal(
    ctx: typer.Context,
    symbol: Annotated[str | None, typer.Option(help="Default: the first of the settings.")] = None,
    kind: Annotated[Kind, typer.Option(help="The kind of alert.")] = Kind.golden,
    json: Annotated[bool, typer.Option("--json", help="One document.")] = False,
) -> None:
    """Send a test alert, marked as such, and say whom it reaches."""
    from stockpipe.domain.clock import SYSTEM_CLOCK
    from stockpipe.domain.exact import moment_text
    from stockpipe.domain.rules import PriceRule
    from stockpipe.operate.alerts import beyond, rehearse, sample

    session = connect(ctx)
    [chosen, *_] = symbols_of(session.settings, [symbol] if symbol else None, None, default=True)
    wanted = "crossover" if kind in ("golden", "death") else kind
    rules = [one for one in session.settings.rules if one.kind == wanted and one.covers(chosen)]
    now = moment_text(SYSTEM_CLOCK.now())
    alert = sample(chosen, kind.value, rules[0].name if rules else "test", now)
    if not rules:
        ui.note(f"No rule of the settings brings alerts of this kind of {chosen}.", "yellow")
    elif isinstance(rules[0], PriceRule):
        alert = beyond(alert, rules[0])
    done = rehearse(session.aws, alert)
    groups = {name: getattr(done, name) for name in ("told", "filtered", "pending", "unknown")}
    if json:
        shown: dict[str, Any] = {
            name: [one.document() for one in found] for name, found in groups.items()
        }
        head = {"message_id": done.message_id, "subject": done.subject}
        ui.json_line({**head, "attributes": done.attributes, **shown})
        return
    confirmed = len(done.told) + len(done.filtered) + len(done.unknown)
    ui.note(f'Published "{done.subject}" ({done.attributes["rule"]}, {kind}) in {session.place}.')
    ui.note(f"Of {confirmed} confirmed, {len(done.told)} let it through.", "green")
    words = {
        "told": "told", "filtered": "filters it out", "pending": "has not confirmed",
        "unknown": "has a filter made elsewhere",
    }  # fmt: skip
    for name, found in groups.items():
        for one in found:
            ui.text(f"{words[name]:<18} {one.protocol:<6} {one.address}")
    if session.aws.endpoint:
        ui.note(f"See {ui.program()} local outbox -v: mail and SMS do not leave this machine.")
