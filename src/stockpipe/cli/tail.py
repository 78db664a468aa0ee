"""``stockpipe tail``: the processed records, newest last, as they arrive."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import connect, symbols_of
from stockpipe.errors import UsageError

if TYPE_CHECKING:
    from stockpipe.operate.records import Record

SPARK_READINGS = 20


def register(app: typer.Typer) -> None:
    app.command(epilog="stockpipe tail; stockpipe tail AAPL -n 5 --no-follow --json")(tail)


def tail(
    ctx: typer.Context,
    symbols: Annotated[list[str] | None, typer.Argument(help="Symbols (default: all).")] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="A symbol; repeatable.")] = None,
    n: Annotated[int, typer.Option("-n", min=0, help="Records to begin with.")] = 10,
    since: Annotated[str | None, typer.Option(help="Only younger ones: 10m, 2h.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on.")] = True,
    anomalies: Annotated[bool, typer.Option("--anomalies", help="Only anomalies.")] = False,
    signals: Annotated[bool, typer.Option("--signals", help="Alerts among them.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One object per line.")] = False,
) -> None:
    """Follow the records of all symbols, or of some."""
    from stockpipe.operate.records import Follower, Records

    session = connect(ctx)
    edge = _edge(since)
    chosen = symbols_of(session.settings, symbols, symbol, default=False)
    aws = session.aws
    follower = Follower(Records(aws.client("dynamodb"), aws.names.table), chosen)
    printer = _Printer(json)
    known: set[tuple[str, str]] = set()

    def show(rows: list[Record]) -> None:
        marked = _signals(aws, {row["symbol"] for row in rows}, edge) if signals and rows else []
        fresh = [m for m in marked if (m["symbol"], m["timestamp"] + m["rule"]) not in known]
        known.update((m["symbol"], m["timestamp"] + m["rule"]) for m in fresh)
        for row in sorted(rows + fresh, key=lambda row: (row["timestamp"], row["symbol"])):
            if "rule" in row or not anomalies or row["anomaly"] == "Yes":
                printer.show(row)

    first = follower.first(n, edge)
    if not first:
        what = ", ".join(chosen) or "any symbol"
        ui.note(
            f"No records of {what} in {session.place}."
            + ("" if follow else f" Send some: {ui.program()} stream"),
            "yellow",
        )
    show(first)
    if not follow:
        return
    try:
        for rows in follower.follow():
            show([row for row in rows if edge is None or row["timestamp"] >= edge])
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _edge(since: str | None) -> str | None:
    from datetime import timedelta

    from stockpipe.config import duration_s
    from stockpipe.domain.clock import SYSTEM_CLOCK
    from stockpipe.domain.quote import moment_text

    if since is None:
        return None
    try:
        seconds = duration_s(since)
    except ValueError as error:
        raise UsageError(f"--since {error}.") from None
    return moment_text(SYSTEM_CLOCK.now() - timedelta(seconds=seconds))


def _signals(aws: Any, symbols: set[str], edge: str | None) -> list[Record]:
    from stockpipe.operate.alerts import history

    table = aws.names.alerts_table
    return history(aws.client("dynamodb"), table, symbols=sorted(symbols), since=edge)


class _Printer:
    """Records as lines: JSON as they are, or one aligned line each with a sparkline."""

    def __init__(self, json: bool) -> None:
        self._json = json
        self._prices: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=SPARK_READINGS))

    def show(self, row: Record) -> None:
        if self._json:
            ui.json_line(row)
        elif "rule" in row:
            style = ui.GOLDEN if row["kind"] == "golden" else ui.DEATH
            mark = "▲ Golden cross" if row["kind"] == "golden" else "▼ Death cross"
            ui.out.print(
                f"{row['timestamp']}  {row['symbol']:<8} {mark} at {row['price']}"
                f" ({row['status']})",
                style=style,
            )
        else:
            prices = self._prices[row["symbol"]]
            prices.append(float(row["price"]))
            percent = row.get("change_percent")
            change = "" if percent is None else f"{percent:+.2f} %"
            anomaly = "  anomaly" if row["anomaly"] == "Yes" else ""
            ui.out.print(
                f"{row['timestamp']}  {row['symbol']:<8} {ui.cell(row['price']):>14} {change:>10}  "
                f"{ui.spark(list(prices))}{anomaly}",
                style=ui.ANOMALY if anomaly else None,
            )
