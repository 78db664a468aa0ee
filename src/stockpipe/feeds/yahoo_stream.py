"""Every price as it happens, from Yahoo's WebSocket, on a connection of our own.

The stream tells prices; open, high, low and previous close mostly come from the batch quote. It is
asked at the start, after every new connection, every few minutes (the stream leaves out trades, so
highs and lows made of its ticks alone would drift), and at once for a tick that cannot be
completed, such as the first one of a market day. That tick waits; nothing is made up.

A connection that breaks, or brings nothing readable for too long, is replaced after a jittered
pause, and everything is subscribed again. That is said once per outage, and once when it is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from stockpipe.domain.exact import InvalidQuote, shown
from stockpipe.domain.quote import parse_symbol
from stockpipe.domain.retry import backoff
from stockpipe.errors import FeedError, UsageError
from stockpipe.feeds.base import Request, Round
from stockpipe.feeds.yahoo_api import Entry, Trouble, YFinance, entries_of
from stockpipe.feeds.yahoo_book import Book
from stockpipe.feeds.yahoo_pricing import Tick, Unreadable, read_frame
from stockpipe.feeds.yahoo_socket import Broken, Connect, Socket, connected

SOURCE = "yahoo-stream"
PATIENCE_S = 60.0
"""A connection that brings nothing readable for so long is replaced. Ten times as long while every
market is closed, and step by step up to that where it did no good: few trades look the same."""
SETTLED_S = 10.0
"""An outage is over once a connection that brings something has lasted so long."""
SUBSCRIBE_S = 15.0
"""Between two subscriptions on one connection; yfinance and Yahoo's own pages repeat theirs."""
REFRESH_S = 300.0
"""Between two batch quotes."""
CLOSED_S = 180.0
"""Between two looks at a closed market, where nothing else is wanted of it."""
LONGEST_PAUSE_S = 300.0
"""The bound of the jitter, between connections and between batch quotes that are of no use."""
_LOOK_S = 0.25
"""How soon an interruption is noticed."""
_AT_ONCE = 99
"""Symbols of one batch quote: Yahoo has answered longer lists with 429."""
_LARGEST_ROUND = 500
"""Quotes of one round where every tick is wanted."""


class BatchApi(Protocol):
    """The part of Yahoo's API that completes ticks."""

    def batch(self, symbols: Sequence[str]) -> Any:
        """The batch quote's JSON as it came; raises :class:`Trouble` and nothing else."""
        ...


def open_feed(request: Request) -> YahooStreamFeed:
    """``--source yahoo-stream``; raises :class:`UsageError` for an argument or no symbols."""
    return YahooStreamFeed(request)


class YahooStreamFeed:
    """The ticks of ``request.symbols``, without end, the newest per symbol and interval.

    Symbols are checked by the first batch quote, and raise :class:`UsageError` where Yahoo has
    none. :class:`FeedError` is raised only when the very first batch quote or connection finds no
    network. From then on trouble is waited out.
    """

    source: str | None = SOURCE
    live = True
    total: int | None = None

    def __init__(
        self,
        request: Request,
        api: BatchApi | None = None,
        connect: Connect = connected,
    ) -> None:
        if request.argument:
            raise UsageError(f"The source yahoo-stream takes no argument: {request.argument!r}.")
        if not request.symbols:
            raise UsageError(
                "The source yahoo-stream needs symbols.",
                hint="For example `stockpipe stream --source yahoo-stream AAPL MSFT`.",
            )
        try:
            symbols = [parse_symbol(symbol) for symbol in request.symbols]
        except InvalidQuote as error:
            raise UsageError(str(error)) from None
        self._book = Book(symbols, SOURCE, every_tick=request.interval_s <= 0)
        self._request, self._clock = request, request.clock
        self._api: BatchApi = api or YFinance()
        self._connect = connect
        self._opened = self._checked = False
        self._first = True
        self._patience = 1
        self._round_at = self._refresh_at = self._ask_at = float("-inf")
        self._asking: Iterator[float] | None = None
        self._said: set[str] = set()
        self._notices: list[str] = []

    def rounds(self) -> Iterator[Round]:
        """The first round has states and no quotes; see the class for what is raised."""
        self._refresh(first=True)
        yield self._round()
        pauses: Iterator[float] | None = None
        while True:
            if self._keeps_quiet():
                yield from self._wait_for_open()
            began = self._clock.monotonic()
            try:
                with self._connect() as socket:
                    self._opened = True
                    yield from self._listen(socket)
            except Broken as broken:
                self._outage(broken)
                yield self._round()
                if self._clock.monotonic() - began >= PATIENCE_S:
                    pauses = None
                pauses = pauses or backoff(1.0, LONGEST_PAUSE_S)
                self._clock.sleep(next(pauses))
                self._refresh_at = self._clock.monotonic()

    def _listen(self, socket: Socket) -> Iterator[Round]:
        """Rounds of one connection, until it breaks or there is nothing to listen for."""
        began = heard = self._clock.monotonic()
        subscribe_at = began
        while True:
            self._clock.sleep(0)  # raises when the user interrupts
            if (now := self._clock.monotonic()) >= subscribe_at:
                socket.subscribe(self._book.symbols)
                subscribe_at = now + SUBSCRIBE_S
            if self._book.waiting or now >= self._refresh_at:
                self._refresh()
            if self._keeps_quiet():
                return
            frame = socket.receive(self._timeout_s())
            now = self._clock.monotonic()
            if frame is not None and self._take_in(frame):
                heard = now
            elif now - heard >= self._patience_s():
                self._lose_patience(now - heard, now - began)
            if heard > began and now - began >= SETTLED_S:
                self._over("stream", "Yahoo's stream is back.")
            if self._is_due(quiet=frame is None):
                yield self._round()

    def _wait_for_open(self) -> Iterator[Round]:
        self._say_once("closed", "The market is closed; the stream waits until it opens.")
        while self._keeps_quiet():
            yield self._round()
            self._clock.sleep(CLOSED_S)
            self._refresh()
        self._over("closed", "The market is open.")

    def _lose_patience(self, silent_s: float, lasted_s: float) -> None:
        """Break a silent connection, unless it turns out that the markets have closed."""
        self._refresh()
        if silent_s < self._patience_s() or self._keeps_quiet():
            return
        calm = lasted_s >= 10 * PATIENCE_S
        self._patience = 1 if calm else min(2 * self._patience, 10)
        raise Broken(f"silent for {silent_s:.0f} s")

    def _patience_s(self) -> float:
        return PATIENCE_S * (10 if self._book.closed else self._patience)

    def _keeps_quiet(self) -> bool:
        return self._request.market_hours and self._book.closed

    def _outage(self, broken: Broken) -> None:
        first, self._first = self._first, False
        if first and not self._opened and broken.unreachable:
            raise FeedError(
                f"Yahoo's stream could not be reached: {broken}.",
                hint="Check the network and the proxy settings. `--source yahoo` asks without a "
                "WebSocket, once per interval.",
            ) from broken
        if self._opened:
            self._say_once("stream", f"Yahoo's stream broke off ({broken}); connecting again.")
        else:
            self._say_once("stream", f"Yahoo's stream cannot be opened ({broken}); trying again.")

    def _take_in(self, frame: str | bytes) -> bool:
        """Whether the frame could be read; its tick is in the book."""
        try:
            tick = read_frame(frame)
        except Unreadable as why:
            self._say_once("frame", f"Yahoo's stream sent what is no price ({why}); left out.")
            return False
        if tick is not None:
            self._enter(tick)
        return True

    def _enter(self, tick: Tick) -> None:
        if tick.symbol not in self._book:
            name = shown(tick.symbol)
            self._say_once("stranger", f"Yahoo's stream sent {name}, unasked; left out.")
            return
        try:
            if self._book.accept(tick, self._clock.now()):
                self._over(tick.symbol, f"{tick.symbol} has quotes again.")
        except InvalidQuote as problem:
            self._say_once(tick.symbol, f"{tick.symbol} is left out for now ({problem}).")

    def _refresh(self, *, first: bool = False) -> None:
        """Ask for the batch quote, unless that was just tried, and complete what waits."""
        if self._clock.monotonic() < self._ask_at:
            return
        try:
            self._book.learn(self._entries())
        except Trouble as trouble:
            if first and trouble.kind == "unreachable":
                raise FeedError(
                    f"Yahoo could not be reached: {trouble}.",
                    hint="Check the network and the proxy settings. Without a network, "
                    "`stockpipe stream --source replay:sample --speed max` works.",
                ) from trouble
            self._say_once(
                "batch", f"Yahoo does not tell opens, highs and lows ({trouble}); asking again."
            )
            self._plan_refresh(again=True, at_least_s=trouble.retry_after_s)
            return
        self._over("batch", "Yahoo tells opens, highs and lows again.")
        for tick in self._book.release():
            self._enter(tick)
        if self._asking and self._book.waiting:
            waiting = ", ".join(sorted(self._book.waiting))
            self._say_once("waiting", f"Yahoo tells no open, high and low for {waiting} yet.")
        elif not self._book.waiting:
            self._over("waiting", "Yahoo tells opens, highs and lows for all symbols.")
        self._plan_refresh(again=bool(self._book.waiting))

    def _plan_refresh(self, *, again: bool, at_least_s: float = 0.0) -> None:
        """``again``: soon, and then less and less often, instead of at the usual pace."""
        if not again:
            self._asking = None
        elif self._asking is None:
            self._asking = backoff(5.0, LONGEST_PAUSE_S)
        pause_s = 1.0 + (next(self._asking) if self._asking else 0.0)
        now = self._clock.monotonic()
        self._ask_at = now + max(pause_s, at_least_s)
        self._refresh_at = self._ask_at if again else now + REFRESH_S

    def _entries(self) -> dict[str, Entry]:
        """The batch quote's entries that have a price, by symbol; raises :class:`Trouble`."""
        symbols = self._book.symbols
        entries: dict[str, Entry] = {}
        for start in range(0, len(symbols), _AT_ONCE):
            entries |= entries_of(self._api.batch(symbols[start : start + _AT_ONCE]))
        missing = [symbol for symbol in symbols if symbol not in entries]
        if missing and not self._checked:
            raise UsageError(
                f"Yahoo has no quote for {', '.join(sorted(missing))}.",
                hint="Look the symbol up at https://finance.yahoo.com/lookup/",
            )
        if len(missing) == len(symbols):
            raise Trouble("unusable", "an answer without quotes")
        self._checked = True
        return entries

    def _timeout_s(self) -> float:
        """How long to wait for a frame: never past an interruption or a round that is due."""
        if not (self._book or self._book.unchanged):
            return _LOOK_S
        if self._request.interval_s <= 0:
            return 0.0  # whatever has arrived by now makes one round
        return min(_LOOK_S, max(0.0, self._round_at - self._clock.monotonic()))

    def _is_due(self, *, quiet: bool) -> bool:
        if self._notices:
            return True
        if not (self._book or self._book.unchanged):
            return False
        if self._request.interval_s <= 0:
            return quiet or len(self._book) >= _LARGEST_ROUND
        return self._clock.monotonic() >= self._round_at

    def _round(self) -> Round:
        quotes, unchanged = self._book.take()
        if quotes or unchanged:
            self._round_at = self._clock.monotonic() + self._request.interval_s
        notices, self._notices = tuple(self._notices), []
        return Round(quotes, unchanged, dict(self._book.states), notices=notices)

    def _say_once(self, key: str, notice: str) -> None:
        """It may be said again once it is over."""
        if key not in self._said:
            self._said.add(key)
            self._notices.append(notice)

    def _over(self, key: str, notice: str) -> None:
        if key in self._said:
            self._said.remove(key)
            self._notices.append(notice)
