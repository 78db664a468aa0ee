"""Bars out of CSV: a header, then a row per symbol and time."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import IO, Any

from stockpipe.domain.exact import InvalidQuote, moment_text, normalise_timestamp
from stockpipe.domain.quote import LATEST_AHEAD, Quote, parse_symbol, quote_from_fields
from stockpipe.errors import BadRow, FeedError
from stockpipe.feeds.files import Source, in_time_order, opened

LABEL = "replay"
"""The ``source`` of quotes that were recorded once and are sent again."""

_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,4})?", re.ASCII)
_SHIFT = tuple(10 ** (6 - places) for places in range(7))
_PRICES = ("open", "high", "low")
_REQUIRED = ("symbol", "timestamp", "open", "high", "low", "volume")
_OPTIONAL = ("previous_close", "utc_offset_s")
_COLUMNS = (*_REQUIRED, "close", "price", *_OPTIONAL)


def read_csv(file: str, *, read_at: datetime | None = None) -> list[Quote]:
    """All quotes of a CSV file (``sample`` is the bundled one, ``-`` standard input), by time.

    Raises and takes what :func:`bars` does, and :class:`FeedError` for a file that is none.
    """
    with opened(file) as source:
        return in_time_order(source.name, list(bars(source, read_at)))


def bars(source: Source, read_at: datetime | None) -> Iterator[Quote]:
    """The rows as quotes, in the order of the file.

    Columns: symbol, timestamp, open, high, low, close or price, volume; optionally previous_close
    and utc_offset_s. An empty previous_close is unknown. Any other column is refused, so that a
    misspelt one is not silently missing. ``read_at`` is noted as ``ingested_at``, and refuses
    quotes of the future as the processor would. Raises :class:`BadRow`.
    """
    with _text(source.stream) as text:
        reader = csv.reader(text, strict=True)
        try:
            header = [name.strip().lower() for name in next(reader, [])]
            _check_header(source.name, header)
            rows = _Rows(source.name, header, read_at)
            for row in reader:
                if row:
                    yield rows.quote(reader.line_num, row)
        except csv.Error as error:
            raise BadRow(source.name, reader.line_num, "(all)", f"is not CSV: {error}") from None


@contextmanager
def _text(stream: Any) -> Iterator[IO[str]]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        yield text
    finally:
        text.detach()  # the bytes below are closed by whoever opened them


def _check_header(shown: str, header: list[str]) -> None:
    if not header:
        raise FeedError(f"{shown} is empty.", hint=f"Its first line names {', '.join(_REQUIRED)}.")
    for name in header:
        if name not in _COLUMNS:
            raise BadRow(shown, 1, name[:40] or "(empty)", f"is none of {', '.join(_COLUMNS)}")
        if header.count(name) > 1:
            raise BadRow(shown, 1, name, "appears twice")
    for name in _REQUIRED:
        if name not in header:
            raise BadRow(shown, 1, name, "is missing")
    if ("close" in header) == ("price" in header):
        raise BadRow(shown, 1, "close", "exactly one of close and price must be there")


@lru_cache(65_536)  # an open is the close before it, a high one of the two: most have been read
def _micro(text: str) -> int | None:
    """Micro-units of a plain decimal number of up to 11 and 6 digits, above 0."""
    whole, point, fraction = text.partition(".")
    digits = whole + fraction
    if len(whole) > 11 or len(fraction) > 6 or not (digits.isascii() and digits.isdigit()):
        return None
    if not whole or (point and not fraction):
        return None
    return int(digits) * _SHIFT[len(fraction)] or None


class _Rows:
    """What is the same for every row of a file: a million of them are read in seconds."""

    def __init__(self, name: str, header: list[str], read_at: datetime | None) -> None:
        self._name, self._read_at, self._width = name, read_at, len(header)
        self._price = "close" if "close" in header else "price"
        columns = (*_PRICES, self._price, "volume", *_OPTIONAL)
        self._numbers = [(name, header.index(name)) for name in columns if name in header]
        self._symbol, self._timestamp = header.index("symbol"), header.index("timestamp")
        self._ingested_at = moment_text(read_at) if read_at else None
        self._latest = moment_text(read_at + LATEST_AHEAD) if read_at else None
        self._places = [header.index(name) for name in (*_PRICES, self._price)]
        self._volume = header.index("volume")
        self._before = header.index("previous_close") if "previous_close" in header else None
        self._plain = "utc_offset_s" not in header
        self._symbols: dict[str, str] = {}

    def quote(self, line: int, row: list[str]) -> Quote:
        return self._usual(row) or self._any(line, row)

    def _usual(self, row: list[str]) -> Quote | None:
        """The quote of a row without anything odd about it, in a quarter of the time; else None.

        What :meth:`_any` would make of it is the same: it judges whatever this leaves.
        """
        if len(row) != self._width or not self._plain:
            return None
        before = row[self._before] if self._before is not None else ""
        prices = [found for place in self._places if (found := _micro(row[place]))]
        previous_close = _micro(before) if before else None
        symbol = self._symbols.get(row[self._symbol])
        volume = row[self._volume]
        if (
            symbol is None
            or len(prices) < len(self._places)
            or (before and previous_close is None)
            or not (volume.isascii() and volume.isdigit() and len(volume) <= 15)
        ):
            self._learn(row[self._symbol])
            return None
        try:
            timestamp = normalise_timestamp(row[self._timestamp])
        except InvalidQuote:
            return None
        if self._latest is not None and timestamp > self._latest:
            return None
        opened, high, low, price = prices
        return Quote(
            symbol, opened, high, low, price, previous_close, int(volume), timestamp,
            self._ingested_at, LABEL,
        )  # fmt: skip

    def _learn(self, symbol: str) -> None:
        with suppress(InvalidQuote):
            self._symbols[symbol] = parse_symbol(symbol)

    def _any(self, line: int, row: list[str]) -> Quote:
        if len(row) != self._width:
            raise self._bad(line, "(all)", f"has {len(row)} fields, not {self._width}")
        fields: dict[str, Any] = {
            "symbol": row[self._symbol].strip(),
            "timestamp": row[self._timestamp].strip(),
            "source": LABEL,
            "ingested_at": self._ingested_at,
        }
        for column, position in self._numbers:
            text = row[position].strip()
            if text or column not in _OPTIONAL:
                fields["price" if column == "close" else column] = self._number(line, column, text)
        try:
            return quote_from_fields(fields, arrived_at=self._read_at)
        except InvalidQuote as error:
            column = self._price if error.field == "price" else error.field
            raise self._bad(line, column, error.rule) from None

    def _number(self, line: int, column: str, text: str) -> Decimal:
        if not _NUMBER.fullmatch(text):
            rule = f"must be a number, got {text[:40]!r}" if text else "is missing"
            raise self._bad(line, column, rule)
        return Decimal(text)

    def _bad(self, line: int, column: str, rule: str) -> BadRow:
        return BadRow(self._name, line, column, rule)
