"""``stockpipe demo``: all of it, on this machine, on real prices, in a minute."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import Session, connect, options
from stockpipe.cli.converge import converge
from stockpipe.errors import StockpipeError, UsageError

if TYPE_CHECKING:
    from stockpipe.domain.quote import Quote
    from stockpipe.operate.records import Record

STACK = "demo"
QUERIES = ("top-movers", "avg-volume", "anomalies", "sample")
LIMITS = {"anomalies": ["limit=5"], "sample": ["limit=5"]}
BULK = 500
"""Quotes that are sent together."""
SETTLE_BUDGET_S = 180.0
"""How long the demo waits for the last record and alert before it says what is missing."""


def register(app: typer.Typer) -> None:
    app.command(epilog="stockpipe demo; stockpipe demo --rm")(demo)


def demo(
    ctx: typer.Context,
    rm: Annotated[bool, typer.Option("--rm", help="Remove everything at the end.")] = False,
) -> None:
    """See the whole pipeline run on this machine: no account, no Docker, no network."""
    from stockpipe.domain.clock import SYSTEM_CLOCK

    given = options(ctx)
    if given.target not in (None, "local") or given.stack not in (None, STACK):
        raise UsageError(
            f"The demo always runs on target local, stack {STACK}.",
            hint="Without --target and --stack: stockpipe demo",
        )
    begun = SYSTEM_CLOCK.monotonic()
    ui.tell_on_stdout()
    ui.note_markup(
        "[bold]stockpipe demo[/]  quotes -> Kinesis -> Lambda -> DynamoDB + S3 -> Lambda -> SNS,"
        " and Athena over it"
    )
    ui.heading(1, "Embedded cloud", "AWS on 127.0.0.1: nothing leaves this machine")
    given.target, given.stack = "local", STACK
    # A replay of 2008 is older than an hour; here its alerts are published all the same.
    session = connect(ctx, notify_max_age="off")

    ui.heading(2, "Provision", "one command, every resource, least privilege")
    _provision(session)

    ui.heading(3, "Stream", "a replay of real daily prices, fast-forwarded")
    told = _Streamed(session).run()

    ui.heading(4, "Queries", "Athena SQL over the raw archive in S3")
    for name in QUERIES:
        _query(session, name)

    seconds = SYSTEM_CLOCK.monotonic() - begun
    ui.heading(None, "Done", f"in {seconds:.0f} s")
    ui.note(told)
    program = ui.program()
    if rm:
        _remove(session)
        return
    ui.note_markup("\n[bold]Still running[/]  the embedded cloud, with the stack demo in it. Try:")
    for command, what in (
        (f"{program} tail --stack {STACK} -n 5 --no-follow", "the newest records"),
        (f"{program} alerts history --stack {STACK}", "everything that was alerted"),
        (f"{program} query top-movers -p by=loss --stack {STACK}", "your own question"),
        (f"{program} status --stack {STACK}", "is all of it healthy?"),
        (f"{program} teardown --stack {STACK}", "remove all of it and stop"),
    ):
        ui.note(f"    {command:<62} {what}")
    ui.note("\nPast prices, replayed. Nothing here is investment advice.", "dim")


def _provision(session: Session) -> None:
    from stockpipe.infra.blueprint import blueprint
    from stockpipe.infra.plan import plan_provision, plan_teardown

    resources = blueprint(session.aws, session.settings)
    leftover = plan_teardown(resources)
    if leftover.pending:
        ui.note("   The last demo is still here: it is removed first, so that this one starts new.")
        _quietly(lambda: converge(leftover))
    plan = plan_provision(resources)
    _quietly(lambda: converge(plan))
    session.keep()
    kinds: dict[str, int] = {}
    for change in plan.pending:
        kinds[change.resource.kind] = kinds.get(change.resource.kind, 0) + 1
    listed = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
    ui.note(f"   {len(plan.pending)} resources made: {listed}")


def _remove(session: Session) -> None:
    from stockpipe.cli.teardown import stop_if_empty
    from stockpipe.infra.blueprint import blueprint
    from stockpipe.infra.plan import plan_teardown

    _quietly(lambda: converge(plan_teardown(blueprint(session.aws, session.settings))))
    ui.note("   Removed again: nothing of the demo is left.")
    stop_if_empty(session)


def _quietly(action: Callable[[], None]) -> None:
    """Without the line per resource: the demo has its own story to tell."""
    before, ui.quiet = ui.quiet, True
    try:
        action()
    finally:
        ui.quiet = before


def _query(session: Session, name: str) -> None:
    from stockpipe.cli.query import bound, render
    from stockpipe.queries import athena

    result = athena.run(session.aws, bound(session, name, LIMITS.get(name, [])))
    ui.note_markup(
        f"\n   [bold]{name}[/]  [dim]{result.bytes_scanned:,} bytes scanned,"
        f" {result.duration_s:.1f} s[/]"
    )
    render(result, "table", terminal=True)


class _Streamed:
    """Sends the sample and shows what comes out at the other end, until everything has."""

    def __init__(self, session: Session) -> None:
        from stockpipe.feeds.replay import ReplayFeed
        from stockpipe.operate.records import Follower, Records
        from stockpipe.producer.sender import Sender

        names = session.aws.names
        self._session = session
        self._dynamodb = session.aws.client("dynamodb")
        self._feed = ReplayFeed("sample")
        self._sender = Sender(lambda: session.aws.client("kinesis"), names.stream)
        self._follower = Follower(Records(self._dynamodb, names.table), sorted(self._feed.symbols))
        self._quotes: list[Quote] = []
        self._failure: list[BaseException] = []
        self._stored: set[tuple[str, str]] = set()
        self._anomalies = 0
        self._alerts: dict[tuple[str, str], Record] = {}
        self._notified = False

    def run(self) -> str:
        """Stream, watch, and return the sentence that sums it up."""
        self._quotes = [quote for taken in self._feed.rounds() for quote in taken.quotes]
        symbols = sorted(self._feed.symbols)
        ui.note(
            f"   {len(self._quotes):,} quotes of {', '.join(symbols)}, "
            f"{self._quotes[0].day} to {self._quotes[-1].day}, labelled source=replay"
        )
        if not ui.live_terminal():
            ui.note("   Moves above 10 % and every crossing, as they arrive:")
        sending = threading.Thread(target=self._send, daemon=True)
        sending.start()
        with ui.Board("Records", "Anomalies > 5 %", "Golden and death crosses") as board:
            self._watch(board)
        sending.join()
        if self._failure:
            raise self._failure[0]
        kinds = Counter(alert["kind"] for alert in self._alerts.values())
        crossings = kinds["golden"] + kinds["death"]
        return (
            f"   {self._sender.totals.sent:,} quotes sent, {len(self._stored):,} records stored, "
            f"{self._anomalies:,} anomalies flagged,\n   {crossings:,} crossings "
            f"({kinds['golden']} golden, {kinds['death']} death) and {kinds['move']} daily moves "
            "alerted through SNS, each once."
        )

    def _send(self) -> None:
        try:
            for start in range(0, len(self._quotes), BULK):
                self._sender.send(self._quotes[start : start + BULK])
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            self._failure.append(error)

    def _watch(self, board: ui.Board) -> None:
        from stockpipe.domain.alerts import SENT
        from stockpipe.domain.clock import SYSTEM_CLOCK
        from stockpipe.domain.rules.history import reading_of, signals
        from stockpipe.domain.signals import Reading
        from stockpipe.operate.alerts import history

        readings: dict[str, list[Reading]] = {}
        for quote in self._quotes:
            readings.setdefault(quote.symbol, []).append(reading_of(quote))
        expected = sum(
            1
            for symbol, series in readings.items()
            for rule in self._session.settings.rules
            if rule.covers(symbol)
            for _ in signals(rule, series)
        )
        deadline = SYSTEM_CLOCK.monotonic() + SETTLE_BUDGET_S
        for rows in self._follower.follow():
            for row in rows:
                self._record(board, row)
            table = self._session.aws.names.alerts_table
            for alert in history(self._dynamodb, table):
                key = (alert["symbol"], alert["timestamp"] + alert["rule"])
                if alert["status"] == SENT and key not in self._alerts:
                    self._alerts[key] = alert
                    self._alert(board, alert)
            total = len(self._quotes)
            board.show(
                f"   sent {self._sender.totals.sent:,}/{total:,}   stored "
                f"{len(self._stored):,}/{total:,}   alerted {len(self._alerts)}/{expected}"
            )
            if self._failure:
                return
            if len(self._stored) >= total and len(self._alerts) >= expected:
                return
            if SYSTEM_CLOCK.monotonic() > deadline:
                raise StockpipeError(
                    f"After {SETTLE_BUDGET_S:.0f} s {len(self._stored):,} of {total:,} records "
                    f"are stored and {len(self._alerts)} of {expected} signals alerted.",
                    hint=f"See what it says: {ui.program()} local logs",
                )

    def _record(self, board: ui.Board, row: Record) -> None:
        key = (row["symbol"], row["timestamp"])
        if key in self._stored:
            return
        self._stored.add(key)
        day, change = row["timestamp"][:10], row.get("change_percent")
        percent = "" if change is None else f"{change:+6.1f} %"
        board.add("Records", f"{day} {row['symbol']:<5}{row['price']:>8.2f} {percent}", piped=False)
        if row["anomaly"] == "Yes":
            self._anomalies += 1
            board.add(
                "Anomalies > 5 %",
                f"{day} {row['symbol']:<5}{row['price']:>8.2f} {percent}",
                ui.ANOMALY,
                piped=abs(change or 0) > 10,
            )

    def _alert(self, board: ui.Board, alert: Record) -> None:
        if alert["kind"] not in ("golden", "death"):
            return  # the anomaly is shown already
        golden = alert["kind"] == "golden"
        if not self._notified:  # sixty in ten seconds are nobody's pleasure
            self._notified = True
            mark = "▲ golden" if golden else "▼ death"
            ui.notify(f"{alert['symbol']} {mark} cross at {alert['price']:.2f}")
        board.add(
            "Golden and death crosses",
            f"{alert['timestamp'][:10]} {alert['symbol']:<5}"
            f"{'▲ golden' if golden else '▼ death '} {alert['price']:>8.2f}",
            ui.GOLDEN if golden else ui.DEATH,
        )
