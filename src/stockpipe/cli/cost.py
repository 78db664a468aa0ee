"""``stockpipe cost``: what a month on AWS costs, before anything is made."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import configuration
from stockpipe.errors import UsageError

if TYPE_CHECKING:
    from stockpipe.operate.cost import Estimate, Saving
    from stockpipe.operate.workload import Usage


def register(app: typer.Typer) -> None:
    app.command(epilog="stockpipe cost; stockpipe cost --symbols 10 --interval 1m --hours market")(
        cost
    )


def cost(
    ctx: typer.Context,
    symbols: Annotated[
        int | None, typer.Option(help="How many symbols (default: those of the settings).")
    ] = None,
    interval: Annotated[str | None, typer.Option(help="Between rounds: 30s, 1m.")] = None,
    hours: Annotated[
        str, typer.Option(help="When quotes are streamed: always, or market (6.5 h on 21 days).")
    ] = "always",
    json: Annotated[bool, typer.Option("--json", help="One document.")] = False,
) -> None:
    """What a month on AWS costs by service, and which setting makes it cheaper."""
    from stockpipe.operate import cost as operate
    from stockpipe.operate.workload import usage_of
    from stockpipe.settings import duration_s

    if symbols is not None and symbols < 1:
        raise UsageError(f"--symbols must be 1 or more, got {symbols}.")
    if hours not in ("always", "market"):
        raise UsageError(f"--hours must be always or market, got {hours!r}.")
    try:
        every = None if interval is None else duration_s(interval)
    except ValueError as error:
        raise UsageError(f"--interval {error}.") from None
    settings = configuration(ctx, interval=every).settings
    usage = usage_of(settings, symbols, cast(Literal["always", "market"], hours))
    found = operate.estimate(settings, usage)
    savings = operate.cheaper(settings, usage)
    if json:
        ui.json_line(_document(found, savings))
        return
    ui.note(f"{settings.target}, stack {settings.stack}, {settings.region}", "dim")
    if found.prices_from != found.region:
        ui.note(
            f"The prices of {found.region} are not known here; these are those of "
            f"{found.prices_from}, and most other regions cost more.",
            "yellow",
        )
    _show(found, savings)
    further = operate.estimate(settings, _later(usage))
    ui.note(
        f"{_said(found)}. Each further month of data adds ${further.total - found.total:,}.\n"
        "List prices without tax and data transfer. What is assumed, and where to check it: "
        "docs/cost.md",
        "dim",
    )
    if settings.target == "local":
        ui.note("On target local all of it costs nothing: these are amounts of target aws.", "dim")


def _later(usage: Usage) -> Usage:
    from dataclasses import replace

    return replace(usage, months=usage.months + 1)


def _document(found: Estimate, savings: list[Saving]) -> dict[str, object]:
    from stockpipe.operate.cost import CURRENCY

    return {
        "region": found.region,
        "prices_from": found.prices_from,
        "prices_seen": list(found.prices_seen),
        "currency": CURRENCY,
        "assumptions": found.assumptions,
        "lines": [line.as_document() for line in found.lines],
        "total": found.total,
        "total_after_free": found.total_after_free,
        "savings": [saving.as_document() for saving in savings],
    }


def _show(found: Estimate, savings: list[Saving]) -> None:
    rows: list[tuple[object, ...]] = [
        (
            line.price.service,
            line.price.what,
            line.quantity,
            line.price.unit,
            line.price.usd,
            _dollars(line.amount),
        )
        for line in found.lines
    ]
    ui.table(
        ("service", "what", "quantity", "unit", "$ a unit", "$ a month"),
        [*rows, ("total", "", None, "", None, _dollars(found.total))],
        right=("quantity", "$ a unit", "$ a month"),
        styles=[*[None] * len(rows), "bold"],
    )
    ui.text()
    oldest, newest = found.prices_seen
    ui.text(
        f"about ${found.total:,} a month at list prices of {found.prices_from} "
        f"({oldest} to {newest}),"
    )
    ui.text(
        f"${found.total_after_free:,} where nothing else in the account uses the free allowances"
    )
    if savings:
        ui.text()
        ui.table(
            ("cheaper with", "saves", "beyond free", "for it you get"),
            [
                (_written(one), _dollars(one.saves), _dollars(one.saves_after_free), one.instead)
                for one in savings
            ],
            right=("saves", "beyond free"),
        )


def _dollars(amount: Decimal) -> str:
    return "<0.01" if 0 < amount < Decimal("0.005") else f"{amount:,.2f}"


def _written(saving: Saving) -> str:
    """As it stands in ``stockpipe.toml``, or on the command line."""
    value = saving.value
    if saving.setting.startswith("--"):
        return f"{saving.setting} {value}"
    if isinstance(value, tuple):
        return f"{saving.setting} = []"
    return f"{saving.setting} = {ui.plain(value)}"


def _said(found: Estimate) -> str:
    facts = found.assumptions
    when = "around the clock" if facts["hours"] == "always" else "during market hours"
    return (
        f"{facts['symbols']:,} symbol{'s' if facts['symbols'] > 1 else ''} every "
        f"{facts['interval_s']:f} s {when}: {facts['records']:,} records, "
        f"{facts['alerts']:,} alerts, {facts['queries']} queries a month"
    )
