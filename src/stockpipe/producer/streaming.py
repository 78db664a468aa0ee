"""A feed's quotes on their way: one thread reads, this one sends, until the end or a stop.

The reader never waits for the network of the sender, and a slow reader never holds back what is
already there. Whatever ends a stream, what was read is sent before it is over, within a grace.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Protocol

from stockpipe.domain.quote import Quote
from stockpipe.errors import FeedError, StockpipeError
from stockpipe.feeds.base import Feed, Round
from stockpipe.producer.buffer import CAPACITY, Buffer, Waiting
from stockpipe.producer.stop import StoppableClock, Stopped

LINGER_S = 0.05
"""How long a tick waits for others to share its request."""
GRACE_S = 10.0
"""How long after a stop what was read may still take to be sent."""
READER_END_S = 2.0
"""How long after a stop the feed may still take to bring what it is about to."""
_LOOK_S = 0.2


class Sink(Protocol):
    """Where quotes go: :class:`~stockpipe.producer.sender.Sender`, or a dry run's printer."""

    @property
    def room(self) -> int: ...

    @property
    def unsent(self) -> int: ...

    def accept(self, quotes: Iterable[Waiting]) -> None: ...

    def flush(self) -> float: ...


class Streaming:
    """One run of one feed.

    ``keep`` receives every quote that is read, before it is sent (a recording); ``on_round`` every
    round, both in the reader's thread. ``rounds``: end after so many that brought something.
    ``duration_s``: end after so many seconds. ``start``: how many quotes the feed leaves out.
    """

    def __init__(
        self,
        feed: Feed,
        sink: Sink,
        clock: StoppableClock,
        *,
        rounds: int | None = None,
        duration_s: float | None = None,
        start: int = 0,
        keep: Callable[[tuple[Quote, ...]], None] = lambda quotes: None,
        on_round: Callable[[Round], None] = lambda taken: None,
        on_look: Callable[[], None] = lambda: None,
        capacity: int = CAPACITY,
    ) -> None:
        self._feed, self._sink, self._clock = feed, sink, clock
        self._rounds, self._duration_s = rounds, duration_s
        self._keep, self._on_round, self._on_look = keep, on_round, on_look
        self._buffer = Buffer(clock, newest_wins=feed.live, capacity=capacity)
        self._buffer.start_at(start)
        self._failure: BaseException | None = None

    @property
    def replaced(self) -> int:
        """Quotes of a live source that were replaced by newer ones while they waited."""
        return self._buffer.replaced

    @property
    def unsent(self) -> int:
        """Quotes that were read and are not acknowledged."""
        return len(self._buffer) + self._sink.unsent

    def run(self) -> None:
        """Stream until the feed ends, a limit is reached or the clock is stopped.

        Raises what the sink raises, and what ended the feed once all that it brought is sent:
        :class:`FeedError` and its like as they came, anything else as a :class:`FeedError`.
        """
        begun = self._clock.monotonic()
        reader = threading.Thread(target=self._read, name="feed", daemon=True)
        reader.start()
        try:
            self._send(begun)
        finally:
            self._clock.stop()
            # One that hangs in a request of its own is left behind: it is a daemon.
            reader.join(_LOOK_S)
        if isinstance(self._failure, StockpipeError):
            raise self._failure
        if self._failure:
            name = type(self._feed).__name__
            raise FeedError(
                f"The feed {name} ended by an error of its own: "
                f"{type(self._failure).__name__}: {self._failure}",
                hint="What it had brought is sent. --debug shows where it happened.",
            ) from self._failure

    def _send(self, begun: float) -> None:
        stopped_s: float | None = None
        while not (self._buffer.drained and not self._sink.unsent):
            now = self._clock.monotonic()
            if self._duration_s is not None and now - begun >= self._duration_s:
                self._clock.stop()
            if self._clock.stopped:
                stopped_s = now if stopped_s is None else stopped_s
                if now - stopped_s >= READER_END_S:
                    self._buffer.close()
                if now - stopped_s >= GRACE_S:
                    return
            wait_s = 0.0 if self._sink.unsent else _LOOK_S
            linger_s = LINGER_S if self._feed.live and not self._sink.unsent else 0.0
            self._sink.accept(self._buffer.take(self._sink.room, wait_s=wait_s, linger_s=linger_s))
            if self._sink.unsent and (pause_s := self._sink.flush()):
                self._clock.pause(pause_s)
            self._on_look()

    def _read(self) -> None:
        """The reader's thread."""
        number = 0
        try:
            with ExitStack() as stack:
                rounds = self._feed.rounds()
                # A generator is closed here, so that its sockets and files are.
                if close := getattr(rounds, "close", None):
                    stack.callback(close)
                for taken in rounds:
                    self._check(taken)
                    self._keep(taken.quotes)
                    self._on_round(taken)
                    self._buffer.put(taken.quotes)
                    number += bool(taken.quotes or taken.unchanged)
                    # A feed that never waits hears of a stop only here.
                    if number == self._rounds or self._clock.stopped:
                        break
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by run()
            self._failure = error
        finally:
            self._buffer.close()

    def _check(self, taken: Round) -> None:
        """Made-up prices must never pass for real ones, so a label is not left to chance."""
        if self._feed.source is None:
            return
        for quote in taken.quotes:
            if quote.source != self._feed.source:
                raise FeedError(
                    f"A quote of {quote.symbol} is labelled {quote.source!r}, "
                    f"the feed says {self._feed.source!r}.",
                    hint="docs/feeds.md: every quote carries its feed's label.",
                )
