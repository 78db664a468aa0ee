"""``stockpipe stream``: quotes into the pipeline."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import Session, configuration, connect, options, symbols_of
from stockpipe.errors import UsageError

if TYPE_CHECKING:
    from stockpipe.aws import Aws
    from stockpipe.feeds.archive import Archive
    from stockpipe.feeds.base import Feed
    from stockpipe.producer.progress import Progress
    from stockpipe.producer.stop import StoppableClock
    from stockpipe.producer.streaming import Streaming

SOURCES = (
    "yahoo, yahoo-stream, replay:FILE, replay:sample, replay:-, archive:SINCE[..UNTIL], "
    "synthetic[:SEED], or what a package adds"
)
RECORDED = ("replay", "archive")
"""Sources that have a pace of their own."""
NAMING = (*RECORDED, "synthetic")
"""Sources that have symbols of their own: those of the settings are for the real ones."""


def register(app: typer.Typer) -> None:
    app.command(
        epilog="stockpipe stream AAPL MSFT; stockpipe stream --source replay:sample --speed max; "
        "stockpipe stream --source yahoo-stream --interval 0 --record today.ndjson.gz"
    )(stream)


def stream(
    ctx: typer.Context,
    symbols: Annotated[
        list[str] | None, typer.Argument(help="Symbols (default: settings).")
    ] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="A symbol; repeatable.")] = None,
    symbols_file: Annotated[
        Path | None, typer.Option(help="A file of symbols; # begins a comment.")
    ] = None,
    source: Annotated[str, typer.Option(help=f"{SOURCES}.")] = "yahoo",
    interval: Annotated[
        str | None, typer.Option(help="Between rounds: 30s, 500ms; yahoo-stream: 0 is every tick.")
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="Of a recording: 1x (default), 60x, or max.")
    ] = None,
    hours: Annotated[
        Literal["always", "market"], typer.Option(help="market: nothing while it is closed.")
    ] = "always",
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many rounds.")] = None,
    duration: Annotated[str | None, typer.Option(help="Stop after so long: 8h, 30m.")] = None,
    record: Annotated[
        Path | None, typer.Option(help="Keep every quote in a file for replay: (.gz packs).")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where this replay was cut off.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the records; send nothing.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One object per acknowledged quote.")
    ] = False,
    mix: Annotated[
        bool, typer.Option("--mix", help="Replay into symbols that have live quotes.")
    ] = False,
) -> None:
    """Send quotes: live ones, or recorded ones, as fast as you like. Ctrl-C sends what was read."""
    from stockpipe.cli.streaming import DryRun, View, sender
    from stockpipe.feeds.base import Request
    from stockpipe.feeds.recording import Recorder
    from stockpipe.feeds.registry import open_feed
    from stockpipe.producer.stop import StoppableClock
    from stockpipe.producer.streaming import Sink, Streaming

    name = source.partition(":")[0]
    every_s = _interval_s(name, interval)
    duration_s = None if duration is None else _seconds("--duration", duration)
    if resume and dry_run:
        raise UsageError("--resume goes on with what was sent; a --dry-run sends nothing.")
    if speed is not None and name in ("yahoo", "yahoo-stream"):
        raise UsageError(f"--speed is for recordings; {name} has --interval.")
    session: Session | None = None
    if dry_run and name != "archive":
        settings = configuration(ctx, interval=every_s or None).settings
    else:
        session = connect(ctx, interval=every_s or None)
        settings = session.settings
    given = [*(symbol or []), *_listed(symbols_file)]
    chosen = symbols_of(settings, symbols, given, default=name not in NAMING)
    clock = StoppableClock()
    feed = open_feed(
        source,
        Request(
            symbols=tuple(chosen),
            interval_s=settings.interval if every_s is None else every_s,
            speed=_speed(name, speed),
            market_hours=hours == "market",
            clock=clock,
            archive=None if session is None else _archive(session.aws),
        ),
    )
    if session and not feed.live and name != "archive" and not mix and not dry_run:
        from stockpipe.operate.mixing import refuse_mixing

        refuse_mixing(session.aws, getattr(feed, "symbols", chosen))
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder(record)) if record else None
        progress = _progress(session, feed, resume=resume) if session and not dry_run else None
        view = View(
            feed,
            settings.interval if every_s is None else every_s,
            chosen,
            needed=max((rule.lead for rule in settings.rules if rule.bar_s is None), default=0),
            verbose=options(ctx).verbose,
            as_json=json,
            progress=progress,
        )
        sink: Sink = (
            DryRun() if session is None or dry_run else sender(session.aws, view, patient=feed.live)
        )
        streaming = Streaming(
            feed, sink, clock,
            rounds=count, duration_s=duration_s,
            start=progress.position if progress else 0,
            keep=recorder.write if recorder else lambda quotes: None,
            on_round=view.on_round, on_look=view.on_look,
        )  # fmt: skip
        view.begin(stack, session, streaming)
        interrupted = _run(streaming, clock)
        if progress and not streaming.unsent and feed.total == progress.position:
            progress.finish()
        elif progress:
            progress.save()
    view.summary(streaming, session, interrupted=interrupted)
    if recorder:
        ui.note(f"Recorded {recorder.quotes:,} quotes in {record}.", "dim")
    if interrupted:
        raise typer.Exit(130)


def _run(streaming: Streaming, clock: StoppableClock) -> bool:
    """Run to the end; out: whether somebody interrupted it. Interrupted twice, it is left at once.

    A handler that only notes it, instead of an exception, so that no answer of Kinesis is lost.
    """
    heard: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)
        clock.stop()

    signals = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):  # the terminal was closed
        signals.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        streaming.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return bool(heard)


def _interval_s(name: str, text: str | None) -> float | None:
    """Seconds, 0 for every tick; None where nothing was said."""
    if text is None:
        return None
    if name in RECORDED:
        raise UsageError(f"--interval is for live quotes; {name} has --speed.")
    if text in ("0", "0s"):
        if name == "yahoo":
            raise UsageError(
                "--interval 0 is every tick, and yahoo is asked, it does not tell.",
                hint="Use --source yahoo-stream, or an interval like 30s.",
            )
        return 0.0
    return _seconds("--interval", text)


def _seconds(option: str, text: str) -> float:
    from stockpipe.config import duration_s

    try:
        return duration_s(text)
    except ValueError as error:
        raise UsageError(f"{option} {error}.") from None


def _speed(name: str, text: str | None) -> float | None:
    from stockpipe.feeds.replay import parse_speed

    # Days of an archive at their own pace would take days.
    return parse_speed(text or ("max" if name == "archive" else "1x"))


def _listed(file: Path | None) -> list[str]:
    """The symbols in a file, separated by white space or commas."""
    if file is None:
        return []
    try:
        lines = file.expanduser().read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8 text.") from None
    found = [word for line in lines for word in line.partition("#")[0].replace(",", " ").split()]
    if not found:
        raise UsageError(f"{file} names no symbols.", hint="One a line; # begins a comment.")
    return found


def _archive(aws: Aws) -> Callable[[], Archive]:
    def opened() -> Archive:
        from stockpipe.feeds.archive import Archive

        return Archive(aws.client("s3"), aws.names.data_bucket, aws.account_id)

    return opened


def _progress(session: Session, feed: Feed, *, resume: bool) -> Progress | None:
    """Where an earlier run of the same replay stopped, if the feed can go on there."""
    from stockpipe.feeds.base import Resumable
    from stockpipe.local.home import home
    from stockpipe.producer.progress import Progress, load, place

    if not isinstance(feed, Resumable):
        if resume:
            raise UsageError("--resume is for --source replay, which brings the same each time.")
        return None
    aws = session.aws
    file = place(home(), feed.identity, (aws.names.stream, aws.account_id, aws.region, aws.target))
    position = min(load(file), feed.total or 0)
    if resume and position:
        feed.skip(position)
        ui.note(f"Going on after the first {position:,} of {feed.total or 0:,} quotes.")
    elif resume:
        ui.note("No earlier run of this replay was cut off here: it begins at its beginning.")
    elif position:
        ui.note(f"An earlier run stopped after {position:,} quotes; --resume goes on there.", "dim")
    return Progress(file, position if resume else 0)
