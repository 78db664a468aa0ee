"""What Yahoo says of a whole watch-list: one request for all of it, or as few as Yahoo takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote as url_quoted

from stockpipe.domain.clock import Clock
from stockpipe.errors import FeedError, UsageError
from stockpipe.feeds.yahoo_api import Entry, Trouble, YahooApi, entries_of

AT_ONCE = 500
"""Symbols in one request. It has also to fit a URL, see :data:`URL_ROOM`."""
AT_ONCE_REFUSED = 99
"""In one request where Yahoo refuses more, as it did with HTTP 429 in spring 2025."""
URL_ROOM = 7_000
"""Characters of a URL for symbols; servers commonly take 8,192. 200 symbols of 20 need 4,600."""
WHOLE_AGAIN_S = 3600.0
"""How long we ask for few symbols at once before we try all of them again."""
QUIET_S = 600.0
"""A notice that comes back within this time is not said again."""

OUTAGES = {
    "limited": "Yahoo limits our requests ({}); asking less often until it answers again.",
    "unreachable": "Yahoo cannot be reached ({}); trying again, less and less often.",
    "unusable": "Yahoo's answers are of no use ({}); trying again, less and less often.",
    "batch": "Yahoo refuses to quote all symbols at once ({}); asking for one after the other.",
}

Piece = tuple[str, ...]
"""The symbols of one request."""
Answers = dict[str, Entry | Trouble]


class Notices:
    """What people are told of troubles: the begin and the end of each, and not every time.

    A trouble that comes back within :data:`QUIET_S` is only said once it has lasted beyond that.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: list[str] = []
        self._open: dict[str, bool] = {}
        self._said_at: dict[str, float] = {}

    def say(self, line: str) -> None:
        self._lines.append(line)

    def begin(self, key: str, line: str) -> None:
        """``key``, a symbol or a kind of outage, is in trouble; called as often as one likes."""
        if self._open.get(key):
            return
        now = self._clock.monotonic()
        told = key not in self._said_at or now - self._said_at[key] >= QUIET_S
        self._open[key] = told
        if told:
            self._said_at[key] = now
            self._lines.append(line)

    def end(self, *keys: str, line: str | None = None) -> None:
        """The troubles are over; ``line`` is said where a begin was."""
        told = [self._open.pop(key, False) for key in keys]
        if line and any(told):
            self._lines.append(line)

    def taken(self) -> tuple[str, ...]:
        """The lines since the last time."""
        lines, self._lines = tuple(self._lines), []
        return lines


class Portions:
    """How many symbols go into one request: all, as long as Yahoo takes them."""

    def __init__(self, symbols: Sequence[str], clock: Clock, notices: Notices) -> None:
        self._whole = in_pieces(symbols, AT_ONCE)
        self._few = in_pieces(symbols, AT_ONCE_REFUSED)
        self._clock, self._notices = clock, notices
        self._refusals = 0
        self._few_worked = False
        self._whole_at = 0.0

    def pieces(self) -> list[Piece]:
        """Few symbols at once after two refusals in a row, or where it has to be."""
        waiting = self._clock.monotonic() < self._whole_at
        return self._few if waiting or self._refusals >= 2 else self._whole

    def took(self, pieces: list[Piece]) -> None:
        """Yahoo answered them. Where few worked, all are tried once more: it might have been no
        matter of their number."""
        self._refusals = 0
        if pieces is self._few:
            self._few_worked = True
        else:
            self._few_worked = False
            self._notices.end("few")

    def refused(self, pieces: list[Piece]) -> None:
        """Yahoo answered something else."""
        if pieces is self._few or len(self._few) == len(self._whole):
            return
        self._refusals += 1
        if self._few_worked:
            self._whole_at = self._clock.monotonic() + WHOLE_AGAIN_S
            largest = max(map(len, pieces))
            self._notices.begin(
                "few",
                f"Yahoo refuses {largest} symbols at once; asking for {AT_ONCE_REFUSED} at a time.",
            )


@dataclass(frozen=True, slots=True)
class Look:
    """What came of each symbol, and what kept us from asking for the others."""

    answers: Answers
    held: Trouble | None = None


class Watch:
    """Asks Yahoo for the same symbols again and again, one look at a time."""

    def __init__(
        self, symbols: Sequence[str], api: YahooApi, clock: Clock, notices: Notices
    ) -> None:
        self._symbols = tuple(symbols)
        self._api, self._notices = api, notices
        self._portions = Portions(symbols, clock, notices)
        self._known: set[str] = set()
        self._turn = self._symbols[0]
        self._first = True

    def look(self) -> Look:
        """Ask for every symbol. Raises :class:`Trouble` where nothing of use came,
        :class:`UsageError` for symbols that Yahoo has never known, and :class:`FeedError` where
        the very first request finds no network."""
        try:
            look = self._batch()
        except Trouble as trouble:
            if trouble.kind != "unusable":
                raise
            self._notices.begin("batch", OUTAGES["batch"].format(trouble))
            look = self._gather([(symbol,) for symbol in self._symbols], self._histories)
        else:
            if look.held is None:
                self._notices.end(*OUTAGES, line="Yahoo answers as usual again.")
        troubles = {key: why for key, why in look.answers.items() if isinstance(why, Trouble)}
        unknown = {key for key, trouble in troubles.items() if trouble.kind == "unknown"}
        if strangers := sorted(unknown - self._known):
            raise UsageError(
                f"Yahoo has no quote for {', '.join(strangers)}.",
                hint="Look the symbol up at https://finance.yahoo.com/lookup/",
            )
        self._known |= look.answers.keys() - unknown
        if len(troubles) == len(look.answers):
            raise Trouble("unusable", str(next(iter(troubles.values()))))
        return look

    def _batch(self) -> Look:
        first, self._first = self._first, False
        pieces = self._portions.pieces()
        try:
            look = self._gather(pieces, self._quotes)
        except Trouble as trouble:
            if trouble.kind != "unreachable":
                self._portions.refused(pieces)
            elif first:
                raise FeedError(
                    f"Yahoo could not be reached: {trouble}.",
                    hint="Check the network and the proxy settings. Without a network, "
                    "`stockpipe stream --source replay:sample --speed max` works.",
                ) from trouble
            raise
        if look.held is None:
            self._portions.took(pieces)
        return look

    def _gather(self, pieces: list[Piece], ask: Callable[[Piece], Answers]) -> Look:
        """Piece by piece, up to where Yahoo stops answering; the next look begins there."""
        answers: Answers = {}
        begin = next(at for at, piece in enumerate(pieces) if self._turn in piece)
        for piece in pieces[begin:] + pieces[:begin]:
            try:
                answers |= ask(piece)
            except Trouble as trouble:
                if not answers or trouble.kind not in ("limited", "unreachable"):
                    raise
                self._notices.begin(trouble.kind, OUTAGES[trouble.kind].format(trouble))
                self._turn = piece[0]
                return Look(answers, trouble)
        return Look(answers)

    def _quotes(self, piece: Piece) -> Answers:
        """Its symbols in one request."""
        entries = entries_of(self._api.batch(piece))
        if entries.keys().isdisjoint(piece) and not self._known.isdisjoint(piece):
            raise Trouble("unusable", "an answer without quotes")
        strangers = tuple(s for s in piece if s not in entries and s not in self._known)
        # Of many symbols Yahoo at times forgets one: only a second time is an answer.
        if strangers and strangers != piece:
            entries |= entries_of(self._api.batch(strangers))
        missing = Trouble("unknown", "Yahoo has no quote of it")
        return {symbol: entries.get(symbol, missing) for symbol in piece}

    def _histories(self, piece: Piece) -> Answers:
        """The history of today of each; here a piece is a single symbol."""
        answers: Answers = {}
        for symbol in piece:
            try:
                answers[symbol] = self._api.today(symbol)
            except Trouble as trouble:
                if trouble.kind in ("limited", "unreachable"):
                    raise
                answers[symbol] = trouble
        return answers


def in_pieces(symbols: Sequence[str], at_once: int) -> list[Piece]:
    """The fewest requests of at most ``at_once`` symbols and :data:`URL_ROOM` characters each."""
    pieces: list[list[str]] = [[]]
    room = URL_ROOM
    for symbol in symbols:
        # A comma is three characters in a URL.
        needed = len(url_quoted(symbol, safe="")) + 3
        if needed > room or len(pieces[-1]) == at_once:
            pieces.append([])
            room = URL_ROOM
        pieces[-1].append(symbol)
        room -= needed
    return [tuple(piece) for piece in pieces]
