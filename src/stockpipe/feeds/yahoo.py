"""Live quotes from Yahoo Finance: one request per round for the whole watch-list.

Where Yahoo refuses the batch quote, each symbol's own history of today takes its place. What keeps
quotes from coming is a :class:`Trouble`; the feed waits it out and says so once. It never makes up
a price.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import datetime

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import InvalidQuote
from stockpipe.domain.quote import Quote, parse_symbol
from stockpipe.domain.retry import backoff
from stockpipe.errors import UsageError
from stockpipe.feeds.base import Request, Round
from stockpipe.feeds.market_hours import OPEN, QUIET_S, Openings, TradingDay, trading_day
from stockpipe.feeds.yahoo_answers import OUTAGES, Notices, Watch
from stockpipe.feeds.yahoo_api import (
    Entry,
    Trouble,
    YahooApi,
    YFinance,
    delay_min_of,
    quote_of_entry,
)

SOURCE = "yahoo"
LONGEST_PAUSE_S = 300.0
"""In trouble, the bound of the jitter on top of the interval."""
OFTEN_S = 2.0
"""A shorter interval is worth a warning: some 2,000 requests an hour are what Yahoo is known to
take of one address."""


def open_feed(request: Request) -> YahooFeed:
    """``--source yahoo``; raises :class:`UsageError` for an argument, and where it has no symbols
    or no interval."""
    if request.argument:
        raise UsageError(f"--source yahoo takes no argument; got {request.argument!r}.")
    if not request.symbols:
        raise UsageError("--source yahoo needs symbols.", hint="stockpipe stream AAPL MSFT")
    if request.interval_s <= 0:
        raise UsageError(
            "--source yahoo asks for quotes, so it needs an --interval above 0.",
            hint="--source yahoo-stream has every tick.",
        )
    return YahooFeed(
        request.symbols, request.interval_s, request.clock, market_hours=request.market_hours
    )


class YahooFeed:
    """The latest quotes of ``symbols``, every ``interval_s`` seconds, without end.

    Symbols are checked against the record's rule and by Yahoo's first answer, and raise
    :class:`UsageError` where they fail. :class:`FeedError` is raised only when the very first
    request finds no network. From then on trouble lengthens the pauses, and ends by itself.

    With ``market_hours`` a symbol's quotes begin when its market is seen open; what the session
    still brings after its close is sent as well. While every market is closed we look rarely.
    """

    source: str | None = SOURCE
    live = True
    total: int | None = None

    def __init__(
        self,
        symbols: Sequence[str],
        interval_s: float,
        clock: Clock = SYSTEM_CLOCK,
        api: YahooApi | None = None,
        *,
        market_hours: bool = False,
    ) -> None:
        try:
            checked = tuple(dict.fromkeys(parse_symbol(symbol) for symbol in symbols))
        except InvalidQuote as error:
            raise UsageError(str(error)) from None
        self._interval_s = interval_s
        self._clock = clock
        self._api: YahooApi = api or YFinance()
        self._market_hours = market_hours
        self._notices = Notices(clock)
        self._watch = Watch(checked, self._api, clock, self._notices)
        self._openings = Openings(self._trading_day)
        self._latest: dict[str, str] = {}
        self._seen_open: set[str] = set()
        self._delayed: set[str] = set()
        self._all_closed = False

    def rounds(self) -> Iterator[Round]:
        """One round per look at Yahoo, the first at once; see the class for what is raised.

        The interval is a cadence: what a look and its consumer took is no part of the pause, and
        a tick that has passed is left out. A round without quotes and without unchanged ones is a
        look that failed: whoever counts rounds should not count it.
        """
        if self._interval_s < OFTEN_S:
            self._notices.say(
                f"Asking Yahoo every {self._interval_s:g} s: it limits whoever asks that often. "
                "--source yahoo-stream has every tick without asking."
            )
        pauses: Iterator[float] | None = None
        due = self._clock.monotonic()
        while True:
            round_, trouble = self._look()
            yield round_
            now = self._clock.monotonic()
            if trouble:
                base_s = max(1.0, self._interval_s)
                pauses = pauses or backoff(base_s, max(base_s, LONGEST_PAUSE_S))
                due = now + max(self._interval_s + next(pauses), trouble.retry_after_s)
            elif self._market_hours and self._all_closed:
                pauses = None
                due = now + self._openings.quiet_s(self._interval_s, self._clock.now())
            else:
                pauses = None
                due = next_tick(due, self._interval_s, now)
            self._clock.sleep(due - now)

    def _look(self) -> tuple[Round, Trouble | None]:
        """A round, and what forbids to look again after the plain interval."""
        try:
            look = self._watch.look()
        except Trouble as trouble:
            self._notices.begin(trouble.kind, OUTAGES[trouble.kind].format(trouble))
            return Round(notices=self._notices.taken()), trouble
        now = self._clock.now()
        entries = {key: said for key, said in look.answers.items() if not isinstance(said, Trouble)}
        states = self._states(entries, now)
        opened = {symbol for symbol in entries if states.get(symbol, OPEN) == OPEN}
        self._seen_open |= opened
        self._say_when_all_close(bool(entries) and not opened)
        self._say_delays(entries)
        quotes: list[Quote] = []
        unchanged = refused = 0
        for symbol, answer in look.answers.items():
            try:
                if isinstance(answer, Trouble):
                    raise answer
                quote = quote_of_entry(symbol, answer, now, SOURCE)
            except (Trouble, InvalidQuote) as problem:
                refused += isinstance(problem, InvalidQuote)
                self._notices.begin(symbol, f"{symbol} is left out for now ({problem}).")
                continue
            self._notices.end(symbol, line=f"{symbol} has quotes again.")
            if self._is_news(quote):
                quotes.append(quote)
            else:
                unchanged += 1
        closed = {key: _market(key, entry) for key, entry in entries.items() if key not in opened}
        next_open = self._openings.next_open(closed, now)
        delays = {
            key: delay * 60 for key, entry in entries.items() if (delay := delay_min_of(entry))
        }
        round_ = Round(
            tuple(quotes), unchanged, states, next_open, self._notices.taken(), refused, delays
        )
        return round_, look.held

    def _states(self, entries: Mapping[str, Entry], now: datetime) -> dict[str, str]:
        """What Yahoo says of each market; a history says it only by its trading day."""
        states: dict[str, str] = {}
        for symbol, entry in entries.items():
            state = entry.get("marketState")
            if isinstance(state, str):
                states[symbol] = state
            elif day := trading_day(entry):
                self._openings.learn(_market(symbol, entry), day)
                states[symbol] = day.state(now)
        return states

    def _is_news(self, quote: Quote) -> bool:
        """Whether it is to be sent. Older than the latest is no news either: one of Yahoo's many
        servers may lag behind what another has said."""
        if quote.timestamp <= self._latest.get(quote.symbol, ""):
            return False
        self._latest[quote.symbol] = quote.timestamp
        return not self._market_hours or quote.symbol in self._seen_open

    def _say_when_all_close(self, closed: bool) -> None:
        self._all_closed = closed
        if not closed:
            self._notices.end("closed")
        elif self._market_hours:
            self._notices.begin(
                "closed",
                f"Every market is closed: looking every {QUIET_S / 60:g} minutes, and when one is "
                "expected to open.",
            )

    def _say_delays(self, entries: Mapping[str, Entry]) -> None:
        minutes = {
            symbol: delay
            for symbol, entry in entries.items()
            if symbol not in self._delayed and (delay := delay_min_of(entry))
        }
        if minutes:
            self._delayed |= minutes.keys()
            self._notices.say(f"Their exchanges delay {_listed(minutes)}.")

    def _trading_day(self, symbol: str) -> TradingDay | None:
        """Asked of Yahoo; None where it does not say, for nobody depends on it."""
        try:
            return trading_day(self._api.metadata(symbol))
        except Trouble:
            return None


def next_tick(due: float, interval_s: float, now: float) -> float:
    """The first tick after ``due`` that is not past; all three in seconds of one clock."""
    return due + interval_s * max(1, math.ceil((now - due) / interval_s))


def _market(symbol: str, entry: Entry) -> Hashable:
    """What has the same hours as this symbol; a history stands for itself alone."""
    zone = entry.get("exchangeTimezoneName")
    if not isinstance(zone, str) or "currentTradingPeriod" in entry:
        return symbol
    return str(entry.get("market")), zone


def _listed(minutes: Mapping[str, int]) -> str:
    """``7203.T (20 min), VOD.L (15 min) and 3 more``."""
    shown = [f"{symbol} ({delay} min)" for symbol, delay in list(minutes.items())[:5]]
    more = f" and {len(minutes) - 5} more" if len(minutes) > 5 else ""
    return ", ".join(shown) + more
