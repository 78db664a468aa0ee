"""A stream's life: what is read is kept, sent in order and flushed, and every end is an end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from types import FrameType
from typing import Any

import pytest
from in_thread import BUDGET_S, InThread

from stockpipe.domain.quote import Quote
from stockpipe.errors import BadRow, FeedError, NotProvisioned, StockpipeError
from stockpipe.feeds.base import Round
from stockpipe.producer import streaming as module
from stockpipe.producer.buffer import Waiting
from stockpipe.producer.stop import StoppableClock, Stopped
from stockpipe.producer.streaming import Streaming


def quote(number: int, symbol: str = "A", source: str | None = "test") -> Quote:
    return Quote(symbol, 1, 1, 1, 1, None, number, "2022-03-14T13:30:00.000Z", None, source)


def rounds(number: int, size: int = 1) -> list[Round]:
    return [
        Round(tuple(quote(first + one) for one in range(size)))
        for first in range(0, number * size, size)
    ]


class ScriptedFeed:
    """Yields the rounds of a script, raises its exceptions, and makes its calls."""

    source: str | None = "test"
    total: int | None = None

    def __init__(
        self,
        script: Iterable[Round | BaseException | Callable[[], object]],
        *,
        live: bool = False,
    ) -> None:
        self.script, self.live = script, live
        self.closed = False

    def rounds(self) -> Iterator[Round]:
        try:
            for step in self.script:
                if isinstance(step, Round):
                    yield step
                elif isinstance(step, BaseException):
                    raise step
                else:
                    step()
        finally:
            self.closed = True


class Sink:
    """Takes quotes; a request acknowledges what it holds, unless ``stuck``."""

    def __init__(self, room: int = 500) -> None:
        self._room = room
        self.stuck = False
        self.error: Exception | None = None
        self.sent: list[Waiting] = []
        self.requests: list[int] = []
        self._held: list[Waiting] = []

    @property
    def room(self) -> int:
        return self._room - len(self._held)

    @property
    def unsent(self) -> int:
        return len(self._held)

    @property
    def numbers(self) -> list[int]:
        return [waiting.quote.volume for waiting in self.sent]

    def accept(self, quotes: Iterable[Waiting]) -> None:
        self._held += quotes

    def flush(self) -> float:
        if self.error:
            raise self.error
        if self.stuck:
            return 0.01
        self.sent += self._held
        self.requests.append(len(self._held))
        self._held = []
        return 0.0


class Run:
    """One stream in a thread of its own."""

    def __init__(
        self, feed: Any, sink: Sink | None = None, *, clock: StoppableClock | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        self.clock = clock or StoppableClock()
        self.sink = sink or Sink()
        self.streaming = Streaming(feed, self.sink, self.clock, **options)
        self._thread = InThread(self.streaming.run)

    def runs_on(self) -> bool:
        return self._thread.runs_on()

    def end(self) -> list[int]:
        """The numbers of what was sent, once the stream has ended; raises what it raises."""
        self._thread.result()
        return self.sink.numbers


def for_ever() -> None:
    threading.Event().wait(BUDGET_S * 3)


def test_a_feed_that_ends_is_sent_to_its_last_quote_in_order() -> None:
    feed = ScriptedFeed(rounds(300, 7))
    assert Run(feed, Sink(room=50), capacity=10).end() == list(range(2100))
    assert feed.closed


def test_a_feed_without_quotes_ends_too() -> None:
    assert Run(ScriptedFeed([])).end() == []
    assert Run(ScriptedFeed([Round(), Round(unchanged=3)])).end() == []


def test_the_rounds_of_a_feed_need_not_be_a_generator() -> None:
    feed = ScriptedFeed([])
    feed.rounds = lambda: iter(rounds(3))  # type: ignore[method-assign]
    assert Run(feed).end() == [0, 1, 2]


def test_positions_count_from_what_was_left_out() -> None:
    run = Run(ScriptedFeed(rounds(3)), start=40)
    run.end()
    assert [waiting.position for waiting in run.sink.sent] == [40, 41, 42]


def test_it_ends_after_so_many_rounds_that_brought_something() -> None:
    brought = [Round((quote(0),)), Round(), Round(unchanged=1), Round(refused=2), *rounds(9)]
    feed = ScriptedFeed(brought, live=True)
    assert Run(feed, rounds=3).end() == [0, 0]
    assert feed.closed


def test_it_ends_after_so_long_and_sends_what_was_read() -> None:
    clock = StoppableClock()
    feed = ScriptedFeed(_ticking(clock), live=True)
    begun = time.monotonic()  # before its thread begins
    run = Run(feed, clock=clock, duration_s=0.2)
    assert run.end() == list(range(len(run.sink.sent)))
    assert 0.2 <= time.monotonic() - begun < 2.0
    assert run.sink.sent
    assert run.streaming.unsent == 0
    assert feed.closed


def _ticking(clock: StoppableClock) -> Iterator[Round | Callable[[], object]]:
    for taken in _without_end():
        yield taken
        yield lambda: clock.sleep(0.001)


def _without_end() -> Iterator[Round]:
    return (Round((quote(number),)) for number in count())


def test_every_round_is_kept_and_told_of_before_it_is_sent() -> None:
    told: list[object] = []
    sink = Sink()
    sink.accept = lambda quotes: told.extend(one.quote.volume for one in quotes)  # type: ignore[method-assign]
    brought = [*rounds(2, 2), Round(unchanged=1)]
    Run(
        ScriptedFeed(brought), sink,
        keep=lambda quotes: told.append(("kept", [one.volume for one in quotes])),
        on_round=lambda taken: told.append(("told", taken.unchanged)),
    ).end()  # fmt: skip
    in_reader = [one for one in told if isinstance(one, tuple)]
    assert in_reader == [
        ("kept", [0, 1]), ("told", 0), ("kept", [2, 3]), ("told", 0), ("kept", []), ("told", 1),
    ]  # fmt: skip
    for number in range(4):
        kept = ("kept", [number // 2 * 2, number // 2 * 2 + 1])
        assert told.index(kept) < told.index(number)


@pytest.mark.parametrize(
    "error", [FeedError("Yahoo is gone."), BadRow("f.csv", 3, "low", "is missing")]
)
def test_a_feed_that_gives_up_says_why_once_what_it_had_brought_is_sent(
    error: StockpipeError,
) -> None:
    run = Run(ScriptedFeed([*rounds(50), error]))
    with pytest.raises(type(error)) as raised:
        run.end()
    assert raised.value is error
    assert run.sink.numbers == list(range(50))


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), SystemExit(3)])
def test_a_bug_of_a_feed_ends_the_stream_and_is_named(error: BaseException) -> None:
    run = Run(ScriptedFeed([*rounds(50), error]))
    with pytest.raises(FeedError, match=f"ScriptedFeed .*{type(error).__name__}") as raised:
        run.end()
    assert raised.value.__cause__ is error
    assert run.sink.numbers == list(range(50))


@pytest.mark.parametrize("label", ["yahoo", None])
def test_a_quote_under_a_false_label_is_neither_kept_nor_sent(label: str | None) -> None:
    kept: list[Quote] = []
    feed = ScriptedFeed([Round((quote(0),)), Round((quote(1), quote(2, source=label)))])
    run = Run(feed, keep=kept.extend)
    with pytest.raises(FeedError, match="feed says 'test'"):
        run.end()
    assert run.sink.numbers == [0]
    assert kept == [quote(0)]


def test_a_feed_of_mixed_labels_keeps_them() -> None:
    feed = ScriptedFeed([Round((quote(0, source="replay"), quote(1, source="synthetic")))])
    feed.source = None
    assert Run(feed).end() == [0, 1]


def test_what_fails_at_sending_ends_the_stream_and_the_feed() -> None:
    clock, sink = StoppableClock(), Sink()
    sink.error = NotProvisioned("There is no stream.")
    feed = ScriptedFeed(_ticking(clock))
    with pytest.raises(NotProvisioned):
        Run(feed, sink, clock=clock).end()
    assert feed.closed


def test_a_recording_that_cannot_be_kept_ends_the_stream() -> None:
    def full(quotes: object) -> None:
        raise StockpipeError("The disk is full.")

    with pytest.raises(StockpipeError, match="disk is full"):
        Run(ScriptedFeed(rounds(1)), keep=full).end()


def test_a_stop_sends_what_was_read() -> None:
    sink, clock = Sink(), StoppableClock()
    sink.stuck = True
    feed = ScriptedFeed([*rounds(20), lambda: clock.sleep(3600)])
    run = Run(feed, sink, clock=clock)
    assert run.runs_on()
    run.clock.stop()
    assert run.runs_on()
    sink.stuck = False
    assert run.end() == list(range(20))
    assert run.streaming.unsent == 0


def test_a_stop_sends_the_round_too_that_is_just_being_read() -> None:
    clock, looks = StoppableClock(), threading.Semaphore(0)

    def stopped_meanwhile(taken: Round) -> None:
        clock.stop()
        for _ in range(2):  # the sender has seen the stop, and nothing that waits
            looks.acquire(timeout=1.0)

    kept: list[Quote] = []
    run = Run(
        ScriptedFeed([*rounds(1, 3), for_ever], live=True),
        clock=clock, keep=kept.extend, on_round=stopped_meanwhile, on_look=looks.release,
    )  # fmt: skip
    assert run.end() == [0, 1, 2]
    assert len(kept) == 3


def test_a_stop_ends_a_feed_that_never_waits() -> None:
    """A recording at full speed, which may be faster than Kinesis, or slower."""
    feed = ScriptedFeed(_without_end())
    run = Run(feed)
    assert run.runs_on()
    begun = time.monotonic()
    run.clock.stop()
    assert run.end() == list(range(len(run.sink.sent)))
    assert time.monotonic() - begun < module.READER_END_S
    assert run.streaming.unsent == 0
    assert feed.closed


def test_a_stop_ends_a_feed_that_waits_for_room() -> None:
    sink = Sink(room=10)
    sink.stuck = True
    feed = ScriptedFeed(_without_end())
    run = Run(feed, sink, capacity=5)
    assert run.runs_on()
    run.clock.stop()
    sink.stuck = False
    assert run.end() == list(range(len(run.sink.sent)))
    assert len(run.sink.sent) >= 15
    assert feed.closed


def test_a_stop_ends_a_feed_that_waits_by_the_clock_at_once() -> None:
    clock = StoppableClock()
    feed = ScriptedFeed([*rounds(2), lambda: clock.sleep(3600)], live=True)
    run = Run(feed, clock=clock)
    assert run.runs_on()
    begun = time.monotonic()
    clock.stop()
    assert run.end() == [0, 1]
    assert time.monotonic() - begun < 1.0
    assert feed.closed


def test_a_feed_that_hangs_is_left_behind_at_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READER_END_S", 0.1)
    run = Run(ScriptedFeed([*rounds(2), for_ever], live=True))
    assert run.runs_on()
    run.clock.stop()
    assert run.end() == [0, 1]


def test_after_a_stop_kinesis_has_a_grace_and_what_is_not_sent_by_then_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.3)
    sink = Sink(room=4)
    sink.stuck = True
    run = Run(ScriptedFeed([*rounds(10), for_ever]), sink)
    assert run.runs_on()
    begun = time.monotonic()
    run.clock.stop()
    assert run.end() == []
    assert 0.25 < time.monotonic() - begun < 2.0
    assert run.streaming.unsent == 10


def test_a_live_feed_is_not_held_up_and_its_newest_quotes_are_sent() -> None:
    sink = Sink(room=0)
    ready = threading.Event()
    brought = [Round((quote(number, "AB"[number % 2]),)) for number in range(100)]
    run = Run(ScriptedFeed([*brought, ready.set], live=True), sink, capacity=6)
    assert ready.wait(BUDGET_S)
    sink._room = 500
    assert run.end() == [94, 95, 96, 97, 98, 99]
    assert run.streaming.replaced == 94


def test_a_recording_is_held_up_instead() -> None:
    sink, ready = Sink(room=0), threading.Event()
    run = Run(ScriptedFeed([*rounds(100), ready.set]), sink, capacity=6)
    assert not ready.wait(0.05)
    sink._room = 500
    assert run.end() == list(range(100))
    assert run.streaming.replaced == 0


def test_a_live_quote_waits_for_others_to_share_its_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LINGER_S", BUDGET_S)
    clock, sink = StoppableClock(), Sink()
    ticks: list[Any] = [lambda: clock.sleep(0.01), *rounds(1)] * 5
    assert Run(ScriptedFeed(ticks, live=True), sink, clock=clock).end() == [0] * 5
    assert sink.requests == [5]


def test_a_recorded_quote_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_S", BUDGET_S)
    sink, first = Sink(), threading.Event()

    def look() -> None:
        if sink.sent:
            first.set()

    feed = ScriptedFeed([*rounds(1), lambda: first.wait(BUDGET_S), *rounds(1)])
    assert Run(feed, sink, on_look=look).end() == [0, 0]
    assert sink.requests == [1, 1]


def test_a_stopped_clock_waits_no_more_but_for_a_last_attempt() -> None:
    clock = StoppableClock()
    waiting = InThread(lambda: clock.sleep(BUDGET_S * 2))
    pausing = InThread(lambda: clock.pause(BUDGET_S * 2))
    assert waiting.runs_on()
    assert pausing.runs_on()
    clock.stop()
    pausing.result()
    with pytest.raises(Stopped):
        waiting.result()
    with pytest.raises(Stopped):
        clock.sleep(0)
    begun = time.monotonic()
    clock.pause(0.05)
    assert time.monotonic() - begun >= 0.05


def test_a_clock_that_nobody_stops_waits_as_long_as_it_is_told() -> None:
    clock = StoppableClock()
    begun = time.monotonic()
    clock.sleep(0.02)
    clock.pause(0.02)
    clock.sleep(-1)
    assert time.monotonic() - begun >= 0.04
    assert not clock.stopped


def test_a_signal_may_stop_a_clock_at_any_moment_of_a_wait_in_its_own_thread() -> None:
    """Python runs a handler between two lines of whatever the main thread is in the middle of."""
    interrupted_at = 0
    for line in count(1):
        if not InThread(lambda: _pause_stopped_at(line)).result():  # noqa: B023
            break
        interrupted_at = line
    assert interrupted_at > 2


def _pause_stopped_at(number: int) -> bool:
    """Out: whether the wait had so many lines, after the last of which it was stopped."""
    clock = StoppableClock()
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += 1
        if lines == number:
            sys.settrace(None)
            clock.stop()
            return None
        return trace

    sys.settrace(trace)
    try:
        clock.pause(0.01)
    finally:
        sys.settrace(None)
    return clock.stopped
