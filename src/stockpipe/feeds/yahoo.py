"""Live quotes from Yahoo Finance: one request per round for the whole watch-list.

Where Yahoo refuses the batch quote, each symbol's own history of today takes its place. What keeps
quotes from coming is a :class:`Trouble`; the feed waits it out and says so once. It never makes up
a price.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import InvalidQuote, moment_text
from stockpipe.domain.quote import Quote, parse_symbol, quote_from_fields
from stockpipe.domain.retry import backoff
from stockpipe.errors import FeedError, UsageError
from stockpipe.feeds.base import Round
from stockpipe.feeds.yahoo_api import OTHER_FORM, Entry, Trouble, YFinance

LONGEST_PAUSE_S = 300.0
"""In trouble, the bound of the jitter on top of the interval."""

_OUTAGES = {
    "limited": "Yahoo limits our requests ({}); asking less often until it answers again.",
    "unreachable": "Yahoo cannot be reached ({}); trying again, less and less often.",
    "unusable": "Yahoo's answers are of no use ({}); trying again, less and less often.",
    "batch": "Yahoo refuses to quote all symbols at once ({}); asking for one after the other.",
}


class YahooApi(Protocol):
    """What the feed asks of Yahoo. Both calls raise :class:`Trouble` and nothing else."""

    def batch(self, symbols: Sequence[str]) -> Any:
        """The batch quote's JSON as it came."""
        ...

    def today(self, symbol: str) -> Entry:
        """The latest state of one symbol, out of its history of today."""
        ...


class YahooFeed:
    """The latest quotes of ``symbols``, every ``interval_s`` seconds, without end.

    Symbols are checked against the record's rule and by Yahoo's first answer, and raise
    :class:`UsageError` where they fail. :class:`FeedError` is raised only when the very first
    request finds no network. From then on trouble lengthens the pauses, and ends by itself.
    """

    source = "yahoo"
    live = True
    total: int | None = None

    def __init__(
        self,
        symbols: Sequence[str],
        interval_s: float,
        clock: Clock = SYSTEM_CLOCK,
        api: YahooApi | None = None,
    ) -> None:
        try:
            self._symbols = tuple(dict.fromkeys(parse_symbol(symbol) for symbol in symbols))
        except InvalidQuote as error:
            raise UsageError(str(error)) from None
        self._interval_s = interval_s
        self._clock = clock
        self._api: YahooApi = api or YFinance()
        self._first = True
        self._turn = 0
        self._known: set[str] = set()
        self._latest: dict[str, str] = {}
        self._said: set[str] = set()
        self._notices: list[str] = []

    def rounds(self) -> Iterator[Round]:
        """One round per look at Yahoo, the first at once; see the class for what is raised.

        A round without quotes and without unchanged ones is a look that failed: whoever counts
        rounds should not count it.
        """
        pauses: Iterator[float] | None = None
        while True:
            round_, calm = self._look()
            yield round_
            if calm:
                pauses = None
                self._clock.sleep(self._interval_s)
            else:
                base_s = max(1.0, self._interval_s)
                pauses = pauses or backoff(base_s, max(base_s, LONGEST_PAUSE_S))
                self._clock.sleep(self._interval_s + next(pauses))

    def _look(self) -> tuple[Round, bool]:
        """A round, and whether the next look may come after the plain interval."""
        quotes: list[Quote] = []
        states: dict[str, str] = {}
        unchanged = 0
        try:
            answers, calm = self._answers()
        except Trouble as trouble:
            self._say_once(trouble.kind, _OUTAGES[trouble.kind].format(trouble))
            answers, calm = {}, False
        now = self._clock.now()
        for symbol, answer in answers.items():
            try:
                if isinstance(answer, Trouble):
                    raise answer
                if isinstance(state := answer.get("marketState"), str):
                    states[symbol] = state
                quote = _quote(symbol, answer, now)
            except (Trouble, InvalidQuote) as problem:
                self._say_once(symbol, f"{symbol} is left out for now ({problem}).")
                continue
            if symbol in self._said:
                self._said.remove(symbol)
                self._notices.append(f"{symbol} has quotes again.")
            # Older as well: one of Yahoo's many servers may lag behind what another has said.
            if quote.timestamp <= self._latest.get(symbol, ""):
                unchanged += 1
            else:
                self._latest[symbol] = quote.timestamp
                quotes.append(quote)
        notices, self._notices = tuple(self._notices), []
        return Round(tuple(quotes), unchanged, states, notices), calm

    def _answers(self) -> tuple[dict[str, Entry | Trouble], bool]:
        """What Yahoo says of each symbol, and whether it let us ask for all of them."""
        try:
            answers = self._batch()
        except Trouble as trouble:
            if trouble.kind != "unusable":
                raise
            self._say_once("batch", _OUTAGES["batch"].format(trouble))
            answers = self._one_by_one()
        else:
            if not self._said.isdisjoint(_OUTAGES):
                self._said -= _OUTAGES.keys()
                self._notices.append("Yahoo answers as usual again.")
        troubles = {key: value for key, value in answers.items() if isinstance(value, Trouble)}
        unknown = {key for key, trouble in troubles.items() if trouble.kind == "unknown"}
        if strangers := sorted(unknown - self._known):
            raise UsageError(
                f"Yahoo has no quote for {', '.join(strangers)}.",
                hint="Look the symbol up at https://finance.yahoo.com/lookup/",
            )
        self._known |= answers.keys() - troubles.keys()
        if len(troubles) == len(answers):
            raise Trouble("unusable", str(next(iter(troubles.values()))))
        return answers, len(answers) == len(self._symbols)

    def _batch(self) -> dict[str, Entry | Trouble]:
        """All symbols in one request."""
        first, self._first = self._first, False
        try:
            payload = self._api.batch(self._symbols)
        except Trouble as trouble:
            if first and trouble.kind == "unreachable":
                raise FeedError(
                    f"Yahoo could not be reached: {trouble}.",
                    hint="Check the network and the proxy settings. Without a network, "
                    "`stockpipe stream --source replay:sample --speed max` works.",
                ) from trouble
            raise
        entries = _entries(payload)
        if self._known and entries.keys().isdisjoint(self._symbols):
            raise Trouble("unusable", "an answer without quotes")
        missing = Trouble("unknown", "Yahoo has no quote of it")
        return {symbol: entries.get(symbol, missing) for symbol in self._symbols}

    def _one_by_one(self) -> dict[str, Entry | Trouble]:
        """Each symbol by itself, up to where Yahoo stops answering; the next round begins there."""
        answers: dict[str, Entry | Trouble] = {}
        for symbol in self._symbols[self._turn :] + self._symbols[: self._turn]:
            try:
                answers[symbol] = self._api.today(symbol)
            except Trouble as trouble:
                if trouble.kind in ("limited", "unreachable"):
                    if not answers:
                        raise
                    self._say_once(trouble.kind, _OUTAGES[trouble.kind].format(trouble))
                    self._turn = self._symbols.index(symbol)
                    break
                answers[symbol] = trouble
        return answers

    def _say_once(self, key: str, notice: str) -> None:
        """``key`` is a symbol or a kind of outage; it may be said again once it is over."""
        if key not in self._said:
            self._said.add(key)
            self._notices.append(notice)


def _entries(payload: Any) -> dict[str, Entry]:
    """The batch quote's entries that have a price, by symbol; raises :class:`Trouble`."""
    try:
        return {
            entry["symbol"].upper(): entry
            for entry in payload["quoteResponse"]["result"]
            if entry.get("regularMarketPrice") is not None
        }
    except (AttributeError, LookupError, TypeError):
        raise Trouble("unusable", OTHER_FORM) from None


def _quote(symbol: str, entry: Entry, now: datetime) -> Quote:
    """The record of an entry; raises :class:`InvalidQuote`, naming the field and the rule."""
    offset_ms = entry.get("gmtOffSetMilliseconds")
    return quote_from_fields(
        {
            "symbol": symbol,
            "open": _number(entry.get("regularMarketOpen")),
            "high": _number(entry.get("regularMarketDayHigh")),
            "low": _number(entry.get("regularMarketDayLow")),
            "price": _number(entry.get("regularMarketPrice")),
            # Zero or absent on a first day of trading: the record's null.
            "previous_close": _number(entry.get("regularMarketPreviousClose")) or None,
            "volume": _number(entry.get("regularMarketVolume")),
            "timestamp": _time(entry.get("regularMarketTime")),
            "ingested_at": moment_text(now),
            "source": YahooFeed.source,
            "utc_offset_s": offset_ms // 1000 if isinstance(offset_ms, int) else None,
        },
        arrived_at=now,
    )


def _number(value: Any) -> Any:
    """A float as the decimal that its writer meant; NaN and Infinity, Yahoo's blanks, as None."""
    if isinstance(value, float):
        return Decimal(str(value)) if math.isfinite(value) else None
    return value


def _time(value: Any) -> str:
    """Unix seconds as the record's text; a symbol that has never traded has 0 or none."""
    if isinstance(value, int | float) and 0 < value < 2**36:
        return moment_text(datetime.fromtimestamp(value, UTC))
    raise InvalidQuote("timestamp", f"must be Unix seconds, got {value!r:.40}")
