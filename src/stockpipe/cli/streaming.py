"""What ``stockpipe stream`` shows while it runs, and where its quotes go."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any

from stockpipe.cli import ui
from stockpipe.domain.clock import SYSTEM_CLOCK
from stockpipe.domain.exact import price_text
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.domain.rules.base import span
from stockpipe.functions.faults import EXPIRED, error_code
from stockpipe.producer.watch import Line, Watch

if TYPE_CHECKING:
    from stockpipe.aws import Aws
    from stockpipe.cli.context import Session
    from stockpipe.feeds.base import Feed, Round
    from stockpipe.producer.buffer import Waiting
    from stockpipe.producer.progress import Progress
    from stockpipe.producer.sender import Sender, Sent, Totals
    from stockpipe.producer.streaming import Streaming

REDRAW_S = 0.25
SAID_S = 0.5
"""The least time between two lines of a log of every tick; else they come with the rounds."""
UNSAID = 20
"""So many rounds wait for a line each."""
NAMED = 8
"""So many symbols have room in a line of a log."""
COLUMNS = ("symbol", "price", "change", "age", "market", "sent", "lag", "averages")
NUMBERS = ("price", "change", "age", "sent", "lag")
SPARE = ("lag", "averages", "sent", "market", "age", "change")
"""What a narrow terminal does without, the first one first."""


class DryRun:
    """Prints the records instead of sending them."""

    room, unsent = 500, 0

    def accept(self, quotes: Iterable[Waiting]) -> None:
        for waiting in quotes:
            ui.text(quote_json(waiting.quote))

    def flush(self) -> float:
        return 0.0


def sender(aws: Aws, view: View, *, patient: bool) -> Sender:
    """A sender that tells the view, and gives up never where it is ``patient``."""
    from stockpipe.producer.sender import PATIENCE_S, Sender

    # After the first, clients of a new session: credentials are read anew.
    sessions = chain([aws], iter(aws.anew, None))
    made = Sender(
        lambda: next(sessions).client("kinesis"),
        aws.names.stream,
        on_sent=view.on_sent,
        on_trouble=view.on_trouble,
        patience_s=None if patient else PATIENCE_S,
    )
    view.totals = made.totals
    return made


@dataclass(slots=True)
class _News:
    """What a line of the log is going to say."""

    quotes: dict[str, Quote] = field(default_factory=dict)
    unchanged: int = 0


class View:
    """A line per symbol on a terminal, a bar for a recording; in a pipe a line per interval."""

    def __init__(
        self,
        feed: Feed,
        interval_s: float,
        symbols: Sequence[str],
        *,
        needed: int,
        verbose: bool,
        as_json: bool,
        progress: Progress | None,
    ) -> None:
        self._feed, self._interval_s, self._needed = feed, interval_s, needed
        self._verbose, self._as_json, self._progress = verbose, as_json, progress
        self._watch = Watch(symbols if feed.live else ())
        self._list = ui.Watchlist(*COLUMNS, right=NUMBERS, spare=SPARE)
        self._troubles: set[str] = set()
        self._lock = threading.Lock()
        self._unsaid: list[_News] = []
        self._begun = self._drawn = self._said = SYSTEM_CLOCK.monotonic()
        self._advance: Any = lambda step: None
        self._shown = 0
        self._streaming: Streaming | None = None
        self.totals: Totals | None = None

    def begin(self, stack: ExitStack, session: Session | None, streaming: Streaming) -> None:
        """Say what is about to run, and begin to draw; ``stack`` ends it."""
        feed = self._feed
        self._streaming = streaming
        total = f"{feed.total:,} " if feed.total else ""
        verb = "Sending" if session else "Printing"
        ui.note(f"{verb} {total}quotes from {feed.source or 'the recording'}. Ctrl-C stops.", "dim")
        if session and not feed.live and feed.source != "synthetic":
            age = session.settings.notify_max_age
            if age != "off":
                ui.note(
                    f"Signals of quotes older than {span(int(age))} (notify_max_age) are recorded"
                    " as muted, and not sent.",
                    "dim",
                )
        if session and not feed.live:
            self._advance = stack.enter_context(ui.counting("sent", feed.total))
        elif session and not self._verbose:  # else the records are what is shown
            stack.enter_context(self._list)
            if self._list.alive and self._needed:
                threading.Thread(target=self._count_readings, args=(session,), daemon=True).start()
        stack.callback(self._end)

    def _count_readings(self, session: Session) -> None:
        """How many readings the averages have already; in the background, for it is decoration."""
        from stockpipe.operate.records import Records

        records = Records(session.aws.client("dynamodb"), session.aws.names.table)
        for line in self._watch.lines():
            try:
                stored = len(records.newest(line.symbol, self._needed))
            except Exception as error:  # noqa: BLE001 - the producer may lack the right to read
                ui.note(f"The stored readings are not known ({error_code(error)}).", "dim")
                return
            self._watch.stored(line.symbol, stored)

    def on_round(self, taken: Round) -> None:
        """In the reader's thread."""
        self._watch.read(taken)
        for line in taken.notices:
            ui.note(line, "yellow")
        with self._lock:
            # While Kinesis does not answer, and where every tick is a round, they share a line.
            if not self._unsaid or (self._interval_s and len(self._unsaid) < UNSAID):
                self._unsaid.append(_News())
            self._unsaid[-1].unchanged += taken.unchanged
            self._unsaid[-1].quotes.update((quote.symbol, quote) for quote in taken.quotes)

    def on_sent(self, sent: Sent) -> None:
        self._watch.sent(sent)
        if self._progress:
            self._progress.sent(sent.position)
        price = price_text(sent.quote.price) or ""
        if self._as_json:
            ui.json_line(
                {
                    "symbol": sent.quote.symbol,
                    "timestamp": sent.quote.timestamp,
                    "price": Decimal(price),
                    "source": sent.quote.source,
                    "shard": sent.shard,
                    "sequence_number": sent.seq,
                }
            )
        elif self._verbose:
            ui.text(f"{sent.quote.symbol} {sent.quote.timestamp} {price} {sent.shard} {sent.seq}")

    def on_trouble(self, trouble: str) -> None:
        """Said once of each kind."""
        if trouble in self._troubles:
            return
        self._troubles.add(trouble)
        if trouble in EXPIRED or "Token" in trouble or "Credential" in trouble:
            words = f"AWS refuses the credentials ({trouble}); waiting for new ones: log in again."
        elif trouble == "ProvisionedThroughputExceededException":
            words = (
                f"Kinesis slows us down ({trouble}): a symbol is in one shard, which takes 1,000 "
                "records or 1 MB a second. Nothing is dropped."
            )
        else:
            words = f"Kinesis slows us down ({trouble}); nothing is dropped."
        ui.note(words, "yellow")

    def on_look(self) -> None:
        """Called after every request and several times a second."""
        now = SYSTEM_CLOCK.monotonic()
        if not self._feed.live:
            sent = self.totals.sent if self.totals else 0
            self._advance(sent - self._shown)
            self._shown = sent
        elif self._list.alive:
            if now - self._drawn >= REDRAW_S:
                self._drawn = now
                self._draw()
        elif self._logs and (self._interval_s or now - self._said >= SAID_S):
            self._say()

    @property
    def _logs(self) -> bool:
        """Whether a line per interval is what there is to see."""
        return self._feed.live and not (self._list.alive or self._as_json or self._verbose)

    def _end(self) -> None:
        """Show what came since the last look."""
        if self._list.alive:
            self._draw()
        elif self._logs:
            self._say()

    def _draw(self) -> None:
        now = SYSTEM_CLOCK.now()
        rows = [self._row(line, now) for line in self._watch.lines()]
        self._list.show(rows, self._footer())

    def _row(self, line: Line, now: Any) -> tuple[list[str], str]:
        quote, state = line.quote, line.state(now, self._interval_s)
        change = quote.change_percent if quote else None
        opens = f" opens {line.next_open:%a %H:%M} UTC" if state and line.next_open else ""
        cells = [
            line.symbol,
            price_text(quote.price) or "" if quote else "",
            f"{float(change):+.2f} %" if change else "",
            _span(line.age_s(now)),
            state + opens,
            f"{line.sent:,}",
            "" if line.lag_s is None else f"{line.lag_s * 1000:,.0f} ms",
            self._averages(line.readings),
        ]
        falls = change is not None and change.startswith("-")
        style = "dim" if state else "red" if falls else "green" if change else ""
        return cells, style

    def _averages(self, readings: int | None) -> str:
        if readings is None or not self._needed:
            return ""
        return "ready" if readings >= self._needed else f"{readings}/{self._needed} readings"

    def _footer(self) -> str:
        totals, seconds = self.totals, SYSTEM_CLOCK.monotonic() - self._begun
        sent = totals.sent if totals else 0
        parts = [f"sent {sent:,}", f"unchanged {self._watch.unchanged:,}"]
        if totals and totals.resent:
            parts.append(f"sent again {totals.resent:,}")
        if self._streaming and (waiting := self._streaming.unsent):
            parts.append(f"waiting {waiting:,}")
        return "   ".join([*parts, f"running {_span(seconds)}"])

    def _say(self) -> None:
        """A line for a log of each round that came since the last one."""
        with self._lock:
            unsaid, self._unsaid = self._unsaid, []
        if unsaid:
            self._said = SYSTEM_CLOCK.monotonic()
        now = SYSTEM_CLOCK.now()
        for news in unsaid:
            parts = [_told(quote) for quote in news.quotes.values()]
            if len(parts) > NAMED:
                parts = [f"{len(parts):,} symbols have new quotes"]
            if news.unchanged:
                parts.append(f"{news.unchanged:,} unchanged{self._why(now)}")
            ui.note(f"{now:%H:%M:%S} {', '.join(parts) or 'nothing new'}")

    def _why(self, now: Any) -> str:
        """Of the symbols whose market is closed, or whose quotes are old: the states, and when."""
        lines = self._watch.lines()
        states = Counter(filter(None, (line.state(now, self._interval_s) for line in lines)))
        if not states:
            return ""
        opens = [line.next_open for line in lines if line.next_open and line.next_open > now]
        when = f", opens {min(opens):%a %H:%M} UTC" if opens else ""
        ages = [age for line in lines if (age := line.age_s(now)) is not None]
        of = f", quotes of {_span(min(ages))} ago" if ages else ""
        return f" ({', '.join(sorted(states))}{of}{when})"

    def summary(self, streaming: Streaming, session: Session | None, *, interrupted: bool) -> None:
        """What became of it all, in one line."""
        seconds = max(SYSTEM_CLOCK.monotonic() - self._begun, 0.001)
        totals = self.totals
        if totals is None or session is None:
            ui.note(f"A dry run: nothing was sent. Rounds read: {self._watch.rounds:,}.", "green")
            return
        counted = (
            (self._watch.unchanged, "unchanged"),
            (totals.resent, "sent again"),
            (self._watch.refused, "refused"),
            (streaming.replaced, "replaced by newer ones"),
        )
        pace = f"in {_span(seconds)} ({totals.sent / seconds:,.0f}/s)"
        ui.note(
            f"{'Interrupted. ' if interrupted else ''}Sent {totals.sent:,} quotes {pace}"
            + "".join(f", {number:,} {what}" for number, what in counted if number)
            + f" to {session.place}.",
            "green",
        )
        if streaming.unsent:
            ui.note(f"{streaming.unsent:,} quotes that were read are not sent.", "bold red")


def _told(quote: Quote) -> str:
    change = quote.change_percent
    return f"{quote.symbol} {price_text(quote.price)}" + (
        f" ({float(change):+.2f} %)" if change else ""
    )


def _span(seconds: float | None) -> str:
    """``4 s``, ``12 min``, ``3 h``, ``2 d``."""
    if seconds is None:
        return ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
