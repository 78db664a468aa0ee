"""``stockpipe tail``: the processed records, newest last, as they arrive."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Annotated

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import connect, edge_of, symbols_of

if TYPE_CHECKING:
    from stockpipe.aws import Aws
    from stockpipe.operate.records import Record

SPARK_READINGS = 16


MARKS = {
    "golden": ("▲ Golden cross", ui.GOLDEN),
    "death": ("▼ Death cross", ui.DEATH),
    "move": ("± Move", ui.ANOMALY),
    "price": ("! Price level", ui.ANOMALY),
    "spike": ("‼ Spike", ui.ANOMALY),
}


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
    edge = edge_of(since)
    chosen = symbols_of(session.settings, symbols, symbol, default=False)
    aws = session.aws
    records = Records(aws.client("dynamodb"), aws.names.table)
    follower = Follower(records, chosen, anomalies)
    printer = _Printer(json)
    alerts = _NewAlerts(aws) if signals else None

    def show(rows: list[Record]) -> None:
        found = alerts.since(rows) if alerts else []
        for row in sorted(rows + found, key=lambda row: (row["timestamp"], row["symbol"])):
            if "rule" in row or not anomalies or row["anomaly"] == "Yes":
                printer.show(row)

    older, first = follower.first(n, edge, context=SPARK_READINGS)
    printer.remember(older)
    if not first and n:
        what = ", ".join(chosen) or "any symbol"
        kind, period = "anomalies" if anomalies else "records", f" since {since}" if since else ""
        ui.note(
            f"No {kind} of {what}{period} in {session.place}."
            + ("" if follow else f" See {ui.program()} status{session.flags}."),
            "yellow",
        )
    show(first)
    if not follow:
        return
    printer.loud = True
    try:
        for rows in follower.follow():
            show([row for row in rows if edge is None or row["timestamp"] >= edge])
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


class _NewAlerts:
    """Alerts of the symbols on show, from the first reading shown on, each once."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._symbols: set[str] = set()
        self._floor: str | None = None
        self._told: set[tuple[str, str, str, str]] = set()

    def since(self, rows: list[Record]) -> list[Record]:
        """Alerts not told yet; an alert comes a moment after its reading, so ask at each look."""
        from stockpipe.operate.alerts import history

        self._symbols |= {row["symbol"] for row in rows}
        if self._floor is None and rows:
            self._floor = rows[0]["timestamp"]
        if not self._symbols:
            return []
        dynamodb, table = self._aws.client("dynamodb"), self._aws.names.alerts_table
        found = history(dynamodb, table, symbols=sorted(self._symbols), since=self._floor)
        fresh = [one for one in found if self._key(one) not in self._told]
        self._told.update(map(self._key, fresh))
        return fresh

    @staticmethod
    def _key(alert: Record) -> tuple[str, str, str, str]:
        """With its kind: a late reading may have turned the signal around."""
        return alert["symbol"], alert["timestamp"], alert["rule"], alert["kind"]


class _Printer:
    """Records as lines: JSON as they are, or one aligned line each with a sparkline."""

    def __init__(self, json: bool) -> None:
        self._json = json
        self.loud = False
        """Whether a signal is worth a notification: it has just come."""
        self._prices: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=SPARK_READINGS))

    def remember(self, rows: list[Record]) -> None:
        """Readings for the sparklines that are not shown themselves."""
        for row in rows:
            self._prices[row["symbol"]].append(float(row["price"]))

    def show(self, row: Record) -> None:
        if self._json:
            ui.json_line(row)
        elif "rule" in row:
            mark, style = MARKS[row["kind"]]
            what = f"{row['symbol']:<8} {mark} at {row['price']}"
            ui.out.print(f"{ui.cell(row['timestamp'])}  {what} ({row['status']})", style=style)
            if self.loud:
                ui.notify(what)
        else:
            prices = self._prices[row["symbol"]]
            prices.append(float(row["price"]))
            percent = row.get("change_percent")
            change = "" if percent is None else f"{percent:+.2f} %"
            anomaly = "  anomaly" if row["anomaly"] == "Yes" else ""
            ui.out.print(
                f"{ui.cell(row['timestamp'])}  {row['symbol']:<8} {ui.cell(row['price']):>12} "
                f"{change:>9}  "
                f"{ui.spark(list(prices))}{anomaly}",
                style=ui.ANOMALY if anomaly else None,
            )
