"""``stockpipe stream``: quotes into the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import Session, connect, options, symbols_of
from stockpipe.errors import UsageError

if TYPE_CHECKING:
    from stockpipe.feeds.base import Feed, Round
    from stockpipe.producer import Producer, Sent

SOURCES = "yahoo, replay:FILE or replay:sample"


def register(app: typer.Typer) -> None:
    app.command(
        epilog="stockpipe stream AAPL MSFT; stockpipe stream --source replay:sample --speed max"
    )(stream)


def stream(
    ctx: typer.Context,
    symbols: Annotated[
        list[str] | None, typer.Argument(help="Symbols (default: settings).")
    ] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="A symbol; repeatable.")] = None,
    source: Annotated[str, typer.Option(help=f"{SOURCES}.")] = "yahoo",
    interval: Annotated[str | None, typer.Option(help="Between rounds: 30s, 1m.")] = None,
    speed: Annotated[str, typer.Option(help="Of a replay: 60x, or max.")] = "1x",
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many rounds.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One object per quote.")] = False,
    mix: Annotated[
        bool, typer.Option("--mix", help="Replay into symbols that have live quotes.")
    ] = False,
) -> None:
    """Send quotes: live ones, or a file's, as fast as you like."""
    from stockpipe.config import duration_s
    from stockpipe.feeds.replay import ReplayFeed, parse_speed
    from stockpipe.operate.mixing import refuse_mixing
    from stockpipe.producer import Producer

    kind, _, file = source.partition(":")
    if kind not in ("yahoo", "replay") or (kind == "replay") != bool(file):
        raise UsageError(f"--source must be {SOURCES}; got {source!r}.")
    pace = parse_speed(speed)
    if kind == "replay" and interval is not None:
        raise UsageError("--interval is for live quotes; a replay has --speed.")
    try:
        every = None if interval is None else duration_s(interval)
    except ValueError as error:
        raise UsageError(f"--interval {error}.") from None
    session = connect(ctx, interval=every)
    chosen = symbols_of(session.settings, symbols, symbol, default=kind == "yahoo")
    feed: Feed
    if kind == "replay":
        replay = ReplayFeed(file, symbols=frozenset(chosen), speed=pace, by_time=count is not None)
        if not replay.has_changes:
            ui.note("No previous_close in this file: no changes and no anomalies.", "yellow")
        if not mix:
            refuse_mixing(session.aws, replay.symbols)
        feed = replay
    else:
        from stockpipe.feeds.yahoo import YahooFeed

        feed = YahooFeed(chosen, session.settings.interval)
    verbose = options(ctx).verbose

    def on_sent(sent: Sent) -> None:
        if json:
            ui.json_line(
                {
                    "symbol": sent.quote.symbol,
                    "timestamp": sent.quote.timestamp,
                    "price": _price(sent),
                    "source": sent.quote.source,
                    "shard": sent.shard,
                    "sequence_number": sent.seq,
                }
            )
        elif verbose:
            ui.text(
                f"{sent.quote.symbol} {sent.quote.timestamp} {_price(sent)} {sent.shard} {sent.seq}"
            )

    troubles: set[str] = set()

    def on_trouble(trouble: str) -> None:
        if trouble not in troubles:
            troubles.add(trouble)
            ui.note(f"Kinesis slows us down ({trouble}); nothing is dropped.", "yellow")

    producer = Producer(
        session.aws.client("kinesis"), session.aws.names.stream,
        on_sent=on_sent, on_trouble=on_trouble,
    )  # fmt: skip
    _run(session, feed, producer, count, quiet_rounds=json or verbose)


def _price(sent: Sent) -> object:
    from decimal import Decimal

    from stockpipe.domain.exact import price_text

    return Decimal(price_text(sent.quote.price) or "0")


def _run(
    session: Session, feed: Feed, producer: Producer, count: int | None, *, quiet_rounds: bool
) -> None:
    """Rounds until the feed ends, the count is reached, or someone interrupts; then the summary."""
    from stockpipe.domain.clock import SYSTEM_CLOCK

    unchanged = rounds = 0
    interrupted = False
    begun = SYSTEM_CLOCK.monotonic()
    label = f"Sending the {feed.source}" if not feed.live else f"Sending quotes from {feed.source}"
    ui.note(f"{label}{f' of {feed.total:,} quotes' if feed.total else ''}. Ctrl-C stops.", "dim")
    try:
        with ui.counting("sent", feed.total) as advance:
            for taken in _limited(feed, count):
                for line in taken.notices:
                    ui.note(line, "yellow")
                producer.send(taken.quotes)
                rounds += 1
                unchanged += taken.unchanged
                advance(len(taken.quotes))
                if feed.live and not quiet_rounds:
                    _say_round(taken)
    except KeyboardInterrupt:
        interrupted = True
    totals = producer.totals
    seconds = max(SYSTEM_CLOCK.monotonic() - begun, 0.001)
    ui.note(
        f"{'Interrupted. ' if interrupted else ''}Sent {totals.sent:,} quotes in {seconds:.1f} s"
        f" ({totals.sent / seconds:,.0f}/s)"
        f"{f', {unchanged:,} unchanged' if unchanged else ''}"
        f"{f', {totals.resent:,} sent again' if totals.resent else ''}"
        f" to {session.place}.",
        "green",
    )
    if interrupted:
        raise typer.Exit(130)


def _limited(feed: Feed, count: int | None) -> Iterator[Round]:
    """At most ``count`` rounds. The feed is not asked for one more: it would wait for it.

    A look that brought nothing at all, because the source was in trouble, does not count.
    """
    generator = feed.rounds()
    number = 0
    with closing(generator):  # type: ignore[type-var]
        for taken in generator:
            yield taken
            number += bool(taken.quotes or taken.unchanged)
            if number == count:
                return


def _say_round(taken: Round) -> None:
    from stockpipe.domain.exact import price_text

    parts = [
        f"{quote.symbol} {price_text(quote.price)}"
        f"{f' ({quote.change_percent} %)' if quote.change_percent else ''}"
        f"{_state(taken, quote.symbol)}"
        for quote in taken.quotes
    ]
    if taken.unchanged:
        closed = sorted({s for s in taken.states.values() if s != "REGULAR"})
        parts.append(f"{taken.unchanged} unchanged{f' ({chr(44).join(closed)})' if closed else ''}")
    ui.note(", ".join(parts) or "nothing new")


def _state(taken: Round, symbol: str) -> str:
    state = taken.states.get(symbol, "REGULAR")
    return "" if state == "REGULAR" else f" {state}"
