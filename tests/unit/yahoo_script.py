"""A Yahoo that is scripted, and a clock that only counts its waits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from stockpipe.feeds.base import Round
from stockpipe.feeds.yahoo import YahooFeed
from stockpipe.feeds.yahoo_api import Entry, Trouble

NOW = datetime(2025, 10, 29, 20, 15, tzinfo=UTC)
CLOSE = 1761768001

LIMITED = Trouble("limited", "HTTP 429")
OFFLINE = Trouble("unreachable", "Could not resolve host: query1.finance.yahoo.com")
REFUSED = Trouble("unusable", "HTTP 401")
UNKNOWN = Trouble("unknown", "Yahoo has no quote of it")


class CountingClock:
    """Moves by its waits, which it remembers, and where somebody passes time."""

    def __init__(self, now: datetime = NOW) -> None:
        self.slept: list[float] = []
        self._begun = now
        self._passed = 0.0

    def now(self) -> datetime:
        return self._begun + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        return self._passed

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._passed += seconds

    def passes(self, seconds: float) -> None:
        self._passed += seconds


class ScriptedYahoo:
    """Gives the batch answers in turn (the last one repeats), where callable by what is asked, and
    today's answers and the hours by symbol."""

    def __init__(
        self,
        *answers: Any,
        today: dict[str, Entry | Trouble] | None = None,
        hours: dict[str, Entry] | None = None,
    ) -> None:
        self.asked: list[str] = []
        self.asked_hours: list[str] = []
        self._answers = list(answers)
        self.histories = today or {}
        self.hours = hours or {}

    def batch(self, symbols: Sequence[str]) -> Any:
        self.asked.append(",".join(symbols))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Trouble):
            raise answer
        return answer(symbols) if callable(answer) else answer

    def today(self, symbol: str) -> Entry:
        self.asked.append(f"today {symbol}")
        answer = self.histories[symbol]
        if isinstance(answer, Trouble):
            raise answer
        return answer

    def metadata(self, symbol: str) -> Entry:
        self.asked_hours.append(symbol)
        if symbol not in self.hours:
            raise Trouble("unusable", "HTTP 404")
        return self.hours[symbol]


def entry(symbol: str, **fields: Any) -> Entry:
    return {
        "symbol": symbol,
        "marketState": "REGULAR",
        "regularMarketTime": CLOSE,
        "regularMarketPrice": 269.7,
        "regularMarketOpen": 269.28,
        "regularMarketDayHigh": 271.41,
        "regularMarketDayLow": 267.11,
        "regularMarketPreviousClose": 269.0,
        "regularMarketVolume": 43332154,
        "gmtOffSetMilliseconds": -14400000,
        **fields,
    }


def batch(*entries: Any) -> dict[str, Any]:
    return {"quoteResponse": {"result": list(entries), "error": None}}


def feed(
    yahoo: ScriptedYahoo,
    *symbols: str,
    clock: CountingClock | None = None,
    interval_s: float = 30,
    market_hours: bool = False,
) -> YahooFeed:
    chosen = symbols or ("AAPL",)
    return YahooFeed(chosen, interval_s, clock or CountingClock(), yahoo, market_hours=market_hours)


def looks(source: YahooFeed, number: int) -> list[Round]:
    return list(islice(source.rounds(), number))


def symbols_of(round_: Round) -> list[str]:
    return [quote.symbol for quote in round_.quotes]


def echo(symbols: Sequence[str]) -> Any:
    return batch(*map(entry, symbols))
