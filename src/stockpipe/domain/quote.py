"""The quote: one reading of one symbol, the record that travels through the whole pipeline.

Prices are integers of micro-units (10^-6 of the currency) from the moment of parsing, so that
every later sum and comparison is exact. :func:`parse_quote` is the only way in and
:func:`quote_json` the only way out; between them they define the wire format of the Kinesis
record (docs/architecture.md, "Records").
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, NoReturn

from stockpipe.domain.exact import (
    MICRO,
    InvalidQuote,
    decimal_text,
    divide_half_even,
    moment_text,
    normalise_timestamp,
    price_text,
    shown,
    to_micro,
)

VOLUME_LIMIT = 10**15
MAX_UTC_OFFSET_S = 14 * 3600
LATEST_AHEAD = timedelta(days=1)
"""How far a quote's time may lie after its arrival: the projection ends a day from now."""

SYMBOL_RULE = "1 to 20 of A-Z 0-9 . ^ = -"
_SYMBOL = re.compile(r"[A-Za-z0-9.^=-]{1,20}", re.ASCII)
_SOURCE_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Quote:
    """One reading. Prices in micro-units; ``timestamp`` is UTC ``YYYY-MM-DDTHH:MM:SS.mmmZ``."""

    symbol: str
    open: int
    high: int
    low: int
    price: int
    previous_close: int | None
    volume: int
    timestamp: str
    ingested_at: str | None = None
    source: str | None = None
    utc_offset_s: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What two readings share when the later one replaces the earlier: symbol and time."""
        return self.symbol, self.timestamp

    @property
    def day(self) -> str:
        """The UTC day of the quote, ``YYYY-MM-DD``: its partition in the archive."""
        return self.timestamp[:10]

    @property
    def change(self) -> str | None:
        """``price - previous_close``, as decimal text of at most 4 places."""
        if self.previous_close is None:
            return None
        return decimal_text(divide_half_even(self.price - self.previous_close, 100), 4)

    @property
    def change_percent(self) -> str | None:
        """``change / previous_close * 100``, in percent, as decimal text of at most 4 places."""
        if self.previous_close is None:
            return None
        difference = self.price - self.previous_close
        return decimal_text(divide_half_even(difference * 1_000_000, self.previous_close), 4)

    @property
    def moving_average(self) -> str:
        """``(open + high + low + price) / 4``, as decimal text of at most 4 places."""
        return decimal_text(divide_half_even(self.open + self.high + self.low + self.price, 400), 4)

    def is_anomaly(self, threshold_percent_micro: int) -> bool:
        """Whether the exact ``|change_percent|`` exceeds the threshold (in 10^-6 percent)."""
        if self.previous_close is None:
            return False
        difference = abs(self.price - self.previous_close)
        return difference * 100 * MICRO > threshold_percent_micro * self.previous_close


def parse_quote(data: bytes | str, *, arrived_at: datetime | None = None) -> Quote:
    """Read one Kinesis record.

    ``arrived_at`` bounds the quote's time from above (see :data:`LATEST_AHEAD`). Fields that are
    not ours are ignored. Raises :class:`InvalidQuote`, naming the field and the rule.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        fields = json.loads(
            text,
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique_fields,
        )
    except InvalidQuote:
        raise
    except UnicodeDecodeError:
        raise InvalidQuote("record", "is not UTF-8") from None
    except RecursionError:
        raise InvalidQuote("record", "is nested too deeply") from None
    except ArithmeticError:
        raise InvalidQuote("record", "contains a number without measure") from None
    except ValueError as error:
        raise InvalidQuote("record", f"is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise InvalidQuote("record", "is not a JSON object")
    return quote_from_fields(fields, arrived_at=arrived_at)


def quote_from_fields(fields: dict[str, Any], *, arrived_at: datetime | None = None) -> Quote:
    """Check the fields of a record (numbers as int or Decimal) and make the quote of them.

    Raises :class:`InvalidQuote`.
    """
    for field in ("change", "change_percent"):  # recomputed, never trusted; still a number or null
        if fields.get(field) is not None:
            _number(fields, field)
    timestamp = normalise_timestamp(_text(fields, "timestamp"))
    if arrived_at is not None and timestamp > _latest(arrived_at):
        raise InvalidQuote("timestamp", f"lies more than a day after its arrival: {timestamp}")
    ingested_at = fields.get("ingested_at")
    return Quote(
        symbol=parse_symbol(_text(fields, "symbol")),
        open=_price(fields, "open"),
        high=_price(fields, "high"),
        low=_price(fields, "low"),
        price=_price(fields, "price"),
        previous_close=(
            None if fields.get("previous_close") is None else _price(fields, "previous_close")
        ),
        volume=_integer(fields, "volume", 0, VOLUME_LIMIT - 1),
        timestamp=timestamp,
        ingested_at=(
            None
            if ingested_at is None
            else normalise_timestamp(_text(fields, "ingested_at"), field="ingested_at")
        ),
        source=_source(fields),
        utc_offset_s=(
            None
            if fields.get("utc_offset_s") is None
            else _integer(fields, "utc_offset_s", -MAX_UTC_OFFSET_S, MAX_UTC_OFFSET_S)
        ),
    )


def quote_json(quote: Quote, *, seq: str | None = None) -> str:
    """The quote as one line of JSON, fields in the contract's order.

    ``seq``, the zero-padded sequence number, is appended in the archive. Numbers are written from
    micro-units as text: a float could not hold 18 digits.
    """
    nullable = {
        "previous_close": price_text(quote.previous_close),
        "change": quote.change,
        "change_percent": quote.change_percent,
    }
    optional = {
        "ingested_at": f'"{quote.ingested_at}"' if quote.ingested_at else None,
        "source": json.dumps(quote.source) if quote.source else None,
        "utc_offset_s": quote.utc_offset_s,
        "seq": f'"{seq}"' if seq else None,
    }
    return (
        f'{{"symbol":"{quote.symbol}","open":{price_text(quote.open)}'
        f',"high":{price_text(quote.high)},"low":{price_text(quote.low)}'
        f',"price":{price_text(quote.price)}'
        + "".join(f',"{name}":{value or "null"}' for name, value in nullable.items())
        + f',"volume":{quote.volume},"timestamp":"{quote.timestamp}"'
        + "".join(f',"{name}":{value}' for name, value in optional.items() if value is not None)
        + "}"
    )


def parse_symbol(text: object) -> str:
    """Upper-cased symbol; raises :class:`InvalidQuote` with the rule.

    JSON and TOML bring numbers too: 7203 without quotes is not the symbol 7203.
    """
    if not isinstance(text, str) or not _SYMBOL.fullmatch(text):
        raise InvalidQuote("symbol", f"must be {SYMBOL_RULE}, got {shown(text)}")
    return text.upper()


@lru_cache(maxsize=512)
def _latest(arrived_at: datetime) -> str:
    return moment_text(arrived_at + LATEST_AHEAD)


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidQuote(str(twice)[:40], "appears twice")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidQuote("record", f"contains {name}, which is not JSON")


def _number(fields: dict[str, Any], field: str) -> Decimal | int:
    value = fields.get(field)
    if value is None:
        raise InvalidQuote(field, "is missing" if field not in fields else "must not be null")
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise InvalidQuote(field, f"must be a number, got {shown(value)}")
    return value


def _price(fields: dict[str, Any], field: str) -> int:
    return to_micro(_number(fields, field), field)


def _integer(fields: dict[str, Any], field: str, low: int, high: int) -> int:
    value = _number(fields, field)
    if isinstance(value, Decimal) and not value.is_finite():
        raise InvalidQuote(field, f"must be finite, got {shown(value)}")
    if not low <= value <= high:
        raise InvalidQuote(field, f"must lie in {low} to {high}, got {shown(value)}")
    if value != int(value):
        raise InvalidQuote(field, f"must be an integer, got {shown(value)}")
    return int(value)


def _text(fields: dict[str, Any], field: str) -> str:
    value = fields.get(field)
    if value is None:
        raise InvalidQuote(field, "is missing" if field not in fields else "must not be null")
    if not isinstance(value, str):
        raise InvalidQuote(field, f"must be a string, got {shown(value)}")
    return value


def _source(fields: dict[str, Any]) -> str | None:
    if fields.get("source") is None:
        return None
    source = _text(fields, "source")
    if not (0 < len(source) <= _SOURCE_LENGTH and source.isascii() and source.isprintable()):
        raise InvalidQuote("source", f"must be 1 to {_SOURCE_LENGTH} printable ASCII characters")
    return source
