"""When a market opens again, by one trading day that its exchange has told us of.

Openings are rolled on in the exchange's own zone, so that summer time and weekends come out right.
Holidays are not known: an opening that falls on one is a day or more too early, and is replaced
once it has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

OPEN = "REGULAR"
"""The one market state in which regular prices are made, and so the one that counts as open: what
is traded before and after the session never shows in the prices that we record."""
CLOSED = "CLOSED"
QUIET_S = 300.0
"""While every market is closed: the longest pause between two looks, and how long after the
expected opening we look as often as ever."""
ASK_AGAIN = timedelta(hours=1)

_WEEKEND = frozenset({5, 6})
_FRIDAY_SATURDAY = frozenset({4, 5})
_WEEKENDS = dict.fromkeys(
    ("Africa/Cairo", "Asia/Kuwait", "Asia/Qatar", "Asia/Riyadh"), _FRIDAY_SATURDAY
)
_AROUND_THE_CLOCK = timedelta(hours=23)


@dataclass(frozen=True, slots=True)
class TradingDay:
    """One regular session, past or to come, and its exchange's zone."""

    opens: datetime
    closes: datetime
    zone: ZoneInfo

    def state(self, now: datetime) -> str:
        """``REGULAR`` during this session, else ``CLOSED``."""
        return OPEN if self.opens <= now < self.closes else CLOSED

    def next_opening(self, now: datetime) -> datetime | None:
        """The first expected opening after ``now``, in UTC; None for a market without a night."""
        if self.closes - self.opens >= _AROUND_THE_CLOCK:
            return None
        if self.opens > now:
            return self.opens
        local = self.opens.astimezone(self.zone)
        weekend = _WEEKENDS.get(self.zone.key, _WEEKEND)
        day = now.astimezone(self.zone).date()
        while True:
            opening = datetime.combine(day, local.time(), self.zone).astimezone(UTC)
            if opening > now and day.weekday() not in weekend:
                return opening
            day += timedelta(days=1)


def trading_day(metadata: Mapping[str, Any]) -> TradingDay | None:
    """The regular session in a Yahoo chart's metadata, raw (Unix seconds) or as yfinance formats it
    (times); None where there is none."""
    try:
        regular = metadata["currentTradingPeriod"]["regular"]
        opens, closes = _utc(regular["start"]), _utc(regular["end"])
        return TradingDay(opens, closes, ZoneInfo(metadata["exchangeTimezoneName"]))
    except (LookupError, OSError, OverflowError, TypeError, ValueError):
        return None


def _utc(moment: Any) -> datetime:
    seconds = moment.timestamp() if isinstance(moment, datetime) else moment
    return datetime.fromtimestamp(seconds, UTC)


class Openings:
    """The trading days of some markets. Each is asked for once; after a failure, hourly.

    A market is whatever shares its hours; ``ask`` is given one of its symbols.
    """

    def __init__(self, ask: Callable[[str], TradingDay | None]) -> None:
        self._ask = ask
        self._days: dict[Hashable, TradingDay] = {}
        self._not_before: dict[Hashable, datetime] = {}

    def learn(self, market: Hashable, day: TradingDay) -> None:
        self._days[market] = day

    def next_open(self, markets: Mapping[str, Hashable], now: datetime) -> dict[str, datetime]:
        """Per symbol when its market is expected to open, as far as known.

        At most one question is asked, so that many markets do not ask for all of them at once.
        """
        for symbol, market in markets.items():
            if market not in self._days and now >= self._not_before.get(market, now):
                self._not_before[market] = now + ASK_AGAIN
                if day := self._ask(symbol):
                    self._days[market] = day
                break
        known = ((symbol, self._days.get(market)) for symbol, market in markets.items())
        openings = ((symbol, day.next_opening(now)) for symbol, day in known if day)
        return {symbol: opening for symbol, opening in openings if opening}

    def quiet_s(self, interval_s: float, now: datetime) -> float:
        """The pause, in seconds, while every market is closed: not beyond an expected opening, and
        the plain interval while that is due, for a source may be late to call it open."""
        due = now - timedelta(seconds=QUIET_S)
        openings = filter(None, (day.next_opening(due) for day in self._days.values()))
        seconds = ((opening - now).total_seconds() for opening in openings)
        return max(interval_s, min([QUIET_S, *seconds]))
