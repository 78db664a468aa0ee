"""What Yahoo's stream says: a frame becomes a tick, and a tick with its session a quote. Pure.

A frame is JSON, ``{"type": "pricing", "message": <base64>}``, in an older form the bare base64, of
one protobuf ``PricingData``. That is proto3: a number that is 0 is left out, so 0 and "not told"
are the same. An absent price, open, high, low or previous close is therefore none at all; an
absent volume leaves the known one standing, for indices and ticks after hours never tell it, and
what was traded in a session does not become untraded.

A tick often tells no more than price, time and volume. Open, high, low and previous close are then
those of its symbol's :class:`Session`: of the tick's own day while the regular market is open, and
of the latest regular session before and after hours. A tick of extended hours is a quote like any
other, with its own price and time, but it does not move the session's open, high, low or volume.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from stockpipe.domain.exact import PRICE_LIMIT, moment_text, shown

REGULAR = "REGULAR"
STATES = {0: "PRE", 1: REGULAR, 2: "POST", 3: "EXTENDED", 4: "OVERNIGHT"}
"""``market_hours`` of a tick, in the words of the batch quote's ``marketState``."""

_HEARTBEAT = 7
"""The ``quote_type`` of a frame that only says that the stream is alive."""
_LATEST_MS = 2**46
"""Some 2,200 years: a time beyond it is no time."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S = 86_400


class Unreadable(ValueError):
    """A frame that is no tick, and why in a few words."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One price of one symbol; None for what the frame did not tell. ``time_ms`` is Unix time."""

    symbol: str
    time_ms: int
    price: Decimal
    state: str = REGULAR
    open: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    previous_close: Decimal | None = None
    volume: int | None = None

    def day(self, utc_offset_s: int | None) -> int:
        """The exchange's day of the tick, in days since 1970."""
        return (self.time_ms // 1000 + (utc_offset_s or 0)) // _DAY_S


@dataclass(frozen=True, slots=True)
class Session:
    """The latest regular session of a symbol, as far as it is known; ``close`` is its last price.

    ``day`` is the exchange's, in days since 1970.
    """

    day: int
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    previous_close: Decimal | None
    volume: int | None
    utc_offset_s: int | None

    def after(self, tick: Tick) -> Session:
        """The session once ``tick`` has happened: wider, or a new day's; extended hours pass by."""
        if tick.state != REGULAR:
            return self
        day = tick.day(self.utc_offset_s)
        known = self if day == self.day else _opened(day, self.close, self.utc_offset_s)
        high, low = tick.high or known.high, tick.low or known.low
        return replace(
            known,
            open=tick.open or known.open,
            high=high and max(high, tick.price),
            low=low and min(low, tick.price),
            close=tick.price,
            previous_close=tick.previous_close or known.previous_close,
            volume=known.volume if tick.volume is None else tick.volume,
        )


def read_frame(frame: str | bytes) -> Tick | None:
    """The tick of a frame; None where it tells no price, as a heartbeat does.

    Raises :class:`Unreadable`.
    """
    from google.protobuf.message import DecodeError
    from yfinance.pricing_pb2 import PricingData

    text, data = _message(frame), PricingData()
    try:
        data.ParseFromString(base64.b64decode(text, validate=True))
    except (DecodeError, ValueError) as error:
        raise Unreadable("no PricingData in base64") from error
    if data.quote_type == _HEARTBEAT:
        return None
    if not data.id:
        raise Unreadable("no symbol")
    price = _price(data.price)
    if price is None or not 0 < data.time < _LATEST_MS:
        return None
    return Tick(
        symbol=data.id.upper(),
        time_ms=data.time,
        price=price,
        state=STATES.get(data.market_hours, "EXTENDED"),
        open=_price(data.open_price),
        high=_price(data.day_high),
        low=_price(data.day_low),
        previous_close=_price(data.previous_close),
        volume=data.day_volume if data.day_volume > 0 else None,
    )


def session_of(entry: dict[str, Any]) -> Session | None:
    """The session that a batch quote's entry tells of; None without a time of its price."""
    time_s = _number(entry.get("regularMarketTime"))
    if not time_s or not 0 < time_s * 1000 < _LATEST_MS:
        return None
    offset_ms = _number(entry.get("gmtOffSetMilliseconds"))
    volume = _number(entry.get("regularMarketVolume"))
    offset_s = None if offset_ms is None else int(offset_ms // 1000)
    return Session(
        day=int(time_s + (offset_s or 0)) // _DAY_S,
        open=_number(entry.get("regularMarketOpen")) or None,
        high=_number(entry.get("regularMarketDayHigh")) or None,
        low=_number(entry.get("regularMarketDayLow")) or None,
        close=_number(entry.get("regularMarketPrice")) or None,
        previous_close=_number(entry.get("regularMarketPreviousClose")) or None,
        volume=None if volume is None else int(volume),
        utc_offset_s=offset_s,
    )


def session_after(session: Session | None, tick: Tick) -> Session:
    """:meth:`Session.after`, also where no session is known yet."""
    return (session or _opened(tick.day(None), None, None)).after(tick)


def quote_fields(tick: Tick, session: Session) -> dict[str, Any] | None:
    """The record's fields of ``tick``, given the session *after* it.

    None where open, high, low or volume are not known: they are never made up. The previous close
    is that of the day before the tick's own, or null where nobody told it.
    """
    known = (session.open, session.high, session.low, session.volume)
    if None in known:
        return None
    same_day = session.day == tick.day(session.utc_offset_s)
    return {
        "symbol": tick.symbol,
        "open": session.open,
        "high": session.high,
        "low": session.low,
        "price": tick.price,
        "previous_close": session.previous_close if same_day else session.close,
        "volume": session.volume,
        "timestamp": moment_text(_EPOCH + timedelta(milliseconds=tick.time_ms)),
        "utc_offset_s": session.utc_offset_s,
    }


def _opened(day: int, previous_close: Decimal | None, utc_offset_s: int | None) -> Session:
    """A session of which only the close before it is known."""
    return Session(day, None, None, None, None, previous_close, None, utc_offset_s)


def _message(frame: str | bytes) -> str:
    """The base64 text in a frame of either form."""
    if isinstance(frame, bytes):
        raise Unreadable("a binary frame")
    if not frame.startswith("{"):
        return frame.strip()
    try:
        envelope = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise Unreadable("no JSON") from error
    message = envelope.get("message")
    if envelope.get("type", "pricing") != "pricing" or not isinstance(message, str):
        raise Unreadable(f"a message of another kind: {shown(frame)}")
    return message


def _price(value: float) -> Decimal | None:
    """A single-precision float as the shortest decimal that means it; None for 0 and no price.

    ``246.9`` travels as 246.89999389648438.
    """
    if not 0 < abs(value) < PRICE_LIMIT:  # NaN and Infinity are neither
        return None
    for digits in (6, 7, 8):
        text = f"{value:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == value:
            return Decimal(text)
    return Decimal(f"{value:.9g}")


def _number(value: Any) -> Decimal | None:
    """A number of the batch quote, plain or formatted; None where it tells none."""
    if isinstance(value, dict):  # {"raw": 269.7, "fmt": "269.70"}
        value = value.get("raw")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return Decimal(str(value))
