"""``stockpipe stream``: quotes into the pipeline."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from functools import cache
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
LIVE = ("yahoo", "yahoo-stream")
EXAMPLES = """\b
Examples:
  stockpipe stream AAPL MSFT
  stockpipe stream --symbols-file watch.txt --hours market --duration 8h
  stockpipe stream --source yahoo-stream --interval 0 --record today.ndjson.gz
  stockpipe stream --source replay:today.ndjson.gz --speed 60x
  stockpipe stream --source archive:3d --dry-run"""
RESUMABLE = "--resume is for --source replay, which brings the same each time."


def register(app: typer.Typer) -> None:
    app.command(epilog=EXAMPLES)(stream)


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
    _refuse_contradictions(name, speed, hours, resume=resume, dry_run=dry_run)
    settings = configuration(ctx, interval=every_s or None).settings
    if every_s is None:
        every_s = settings.interval
    given = [*(symbol or []), *_listed(symbols_file)]
    chosen = symbols_of(settings, symbols, given, default=name not in NAMING)
    clock = StoppableClock()

    @cache
    def session() -> Session:
        """Reached last, so that what is wrong in the request starts no cloud."""
        return connect(ctx, interval=every_s or None)

    feed = open_feed(
        source,
        Request(
            symbols=tuple(chosen),
            interval_s=every_s,
            speed=_speed(name, speed),
            market_hours=hours == "market",
            clock=clock,
            archive=lambda: _archive(session().aws),
        ),
    )
    target = None if dry_run else session()
    if target and not feed.live and name != "archive" and not mix:
        from stockpipe.operate.mixing import refuse_mixing

        refuse_mixing(target.aws, getattr(feed, "symbols", chosen))
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder(record)) if record else None
        progress = _progress(target, feed, resume=resume) if target else None
        view = View(
            feed,
            every_s,
            chosen,
            needed=max((rule.lead for rule in settings.rules if rule.bar_s is None), default=0),
            verbose=options(ctx).verbose,
            as_json=json,
            progress=progress,
        )
        sink: Sink = sender(target.aws, view, patient=feed.live) if target else DryRun()
        streaming = Streaming(
            feed, sink, clock,
            rounds=count, duration_s=duration_s,
            start=progress.position if progress else 0,
            keep=recorder.write if recorder else lambda quotes: None,
            on_round=view.on_round, on_look=view.on_look,
        )  # fmt: skip
        view.begin(stack, target, streaming)
        try:
            interrupted = _run(streaming, clock)
        finally:
            if progress and progress.position == feed.total:
                progress.finish()
            elif progress:
                progress.save()
    view.summary(streaming, target, interrupted=interrupted)
    if recorder:
        ui.note(f"Recorded {recorder.quotes:,} quotes in {record}.", "dim")
    if interrupted:
        raise typer.Exit(130)
    if streaming.unsent:
        raise typer.Exit(1)


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
    # What was ignored from the start stays so: nohup, or a job in the background of a script.
    heeded = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        streaming.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return bool(heard)


def _refuse_contradictions(
    name: str, speed: str | None, hours: str, *, resume: bool, dry_run: bool
) -> None:
    """Options that do not go together, and those that the source could only ignore."""
    if speed is not None and name in LIVE:
        raise UsageError(f"--speed is for recordings; {name} has --interval.")
    if hours == "market" and name in NAMING:
        raise UsageError(f"--hours market is for live quotes; {name} knows no market.")
    if resume and dry_run:
        raise UsageError("--resume goes on with what was sent; a --dry-run sends nothing.")
    if resume and name in (*LIVE, "archive", "synthetic"):
        raise UsageError(RESUMABLE)


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
    from stockpipe.settings import duration_s

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


def _archive(aws: Aws) -> Archive:
    from stockpipe.feeds.archive import Archive

    return Archive(aws.client("s3"), aws.names.data_bucket, aws.account_id)


def _progress(session: Session, feed: Feed, *, resume: bool) -> Progress | None:
    """Where an earlier run of the same replay stopped, if the feed can go on there."""
    from stockpipe.feeds.base import Resumable
    from stockpipe.local.home import home
    from stockpipe.producer.progress import Progress, load, place

    if not isinstance(feed, Resumable):
        if resume:
            raise UsageError(RESUMABLE)
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
