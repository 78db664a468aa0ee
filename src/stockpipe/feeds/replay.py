"""Quotes out of a file: CSV bars, gzipped or not, in time order across symbols."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import IO, Any

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import InvalidQuote, moment_text, parse_moment
from stockpipe.domain.quote import Quote, quote_from_fields
from stockpipe.errors import BadRow, FeedError, UsageError
from stockpipe.feeds.base import Round

SAMPLE = "sample"
SAMPLE_FILE = "sample.csv.gz"
CHUNK = 500
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,4})?", re.ASCII)
_PRICES = ("open", "high", "low")
_REQUIRED = ("symbol", "timestamp", "open", "high", "low", "volume")
_COLUMNS = (*_REQUIRED, "close", "price", "previous_close", "utc_offset_s")


class ReplayFeed:
    """Bars of a CSV file as quotes labelled ``replay``.

    ``speed`` is a factor on the file's own pace, None for as fast as it goes; a round then is a
    bulk of quotes, or with ``by_time`` those of one time. The whole file is
    read and checked before the first quote, so that a bad row sends nothing. Raises
    :class:`BadRow`, naming file, line, column and rule, or :class:`FeedError`.
    """

    source = "replay"
    live = False

    def __init__(
        self,
        file: str,
        *,
        symbols: frozenset[str] = frozenset(),
        speed: float | None = None,
        by_time: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock, self._speed, self._by_time = clock, speed, by_time
        quotes = read_csv(file, read_at=clock.now())
        missing = sorted(symbols - {quote.symbol for quote in quotes})
        if missing:
            raise UsageError(
                f"{file} holds no quotes of {', '.join(missing)}.",
                hint=f"It holds {', '.join(sorted({quote.symbol for quote in quotes}))}.",
            )
        self._quotes = [q for q in quotes if not symbols or q.symbol in symbols]
        self.total: int | None = len(self._quotes)
        self.has_changes = any(quote.previous_close for quote in self._quotes)
        self.symbols = frozenset(quote.symbol for quote in self._quotes)

    def rounds(self) -> Iterator[Round]:
        if self._speed is None and not self._by_time:
            for start in range(0, len(self._quotes), CHUNK):
                yield Round(tuple(self._quotes[start : start + CHUNK]))
            return
        begun = self._clock.monotonic()
        first = parse_moment(self._quotes[0].timestamp) if self._quotes else None
        index = 0
        while first is not None and index < len(self._quotes):
            moment = self._quotes[index].timestamp
            passed = (parse_moment(moment) - first).total_seconds() / (self._speed or math.inf)
            if (wait := begun + passed - self._clock.monotonic()) > 0:
                self._clock.sleep(wait)
            together = index
            while together < len(self._quotes) and self._quotes[together].timestamp == moment:
                together += 1
            yield Round(tuple(self._quotes[index:together]))
            index = together


def parse_speed(text: str) -> float | None:
    """``60x`` as 60.0, ``max`` as None; raises :class:`UsageError`."""
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed <= 1_000_000:
        raise UsageError(f"--speed must be a factor like 60x, or max; got {text!r}.")
    return speed


def read_csv(file: str, *, read_at: datetime | None = None) -> list[Quote]:
    """All quotes of a file (``sample`` is the bundled one, ``-`` standard input), by time.

    Columns: symbol, timestamp, open, high, low, close or price, volume; optionally previous_close
    and utc_offset_s. An empty previous_close is unknown. Any other column is refused, so that a
    misspelt one is not silently missing. ``read_at`` is noted as ``ingested_at``, and refuses
    quotes of the future as the processor would.
    """
    shown = "the bundled sample" if file == SAMPLE else "standard input" if file == "-" else file
    try:
        with _binary(file) as raw, _text(raw) as stream:
            quotes = list(_rows(shown, stream, read_at))
    except FileNotFoundError:
        raise FeedError(
            f"There is no file {shown}.", hint="`--source replay:sample` is bundled."
        ) from None
    except UnicodeDecodeError:
        raise FeedError(f"{shown} is not UTF-8 text.", hint="Save it as UTF-8 CSV.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FeedError(f"{shown} is not a whole gzip file: {error}") from None
    except OSError as error:
        raise FeedError(f"{shown} cannot be read: {error.strerror or error}") from None
    if not quotes:
        raise FeedError(f"{shown} holds no quotes.")
    # Stable: rows of one time keep the order of the file, so the last of one key wins.
    return sorted(quotes, key=lambda quote: quote.timestamp)


@contextmanager
def _binary(file: str) -> Iterator[Any]:
    """The bytes of the file as a BufferedReader; standard input is left open."""
    if file == "-":
        yield sys.stdin.buffer
    elif file == SAMPLE:
        with resources.files("stockpipe").joinpath("data", SAMPLE_FILE).open("rb") as raw:
            yield raw
    else:
        with Path(file).expanduser().open("rb") as raw:
            yield raw


@contextmanager
def _text(raw: Any) -> Iterator[IO[str]]:
    zipped = raw.peek(2)[:2] == b"\x1f\x8b"  # by content: a name can lie
    unpacked: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
    stream = io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="")
    try:
        yield stream
    finally:
        stream.detach()  # the bytes below are closed by whoever opened them


def _rows(shown: str, stream: IO[str], read_at: datetime | None) -> Iterator[Quote]:
    reader = csv.reader(stream, strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_header(shown, header)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise BadRow(
                    shown, reader.line_num, "(all)", f"has {len(row)} fields, not {len(header)}"
                )
            yield _quote(shown, reader.line_num, dict(zip(header, row, strict=True)), read_at)
    except csv.Error as error:
        raise BadRow(shown, reader.line_num, "(all)", f"is not CSV: {error}") from None


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


def _quote(shown: str, line: int, row: dict[str, str], read_at: datetime | None) -> Quote:
    price = "close" if "close" in row else "price"
    fields: dict[str, Any] = {
        "symbol": row["symbol"].strip(),
        "timestamp": row["timestamp"].strip(),
        "source": ReplayFeed.source,
        "ingested_at": moment_text(read_at) if read_at else None,
    }
    for field, column in (*((name, name) for name in _PRICES), ("price", price)):
        fields[field] = _number(shown, line, column, row[column])
    fields["volume"] = _number(shown, line, "volume", row["volume"])
    for optional in ("previous_close", "utc_offset_s"):
        if row.get(optional, "").strip():
            fields[optional] = _number(shown, line, optional, row[optional])
    try:
        return quote_from_fields(fields, arrived_at=read_at)
    except InvalidQuote as error:
        column = price if error.field == "price" else error.field
        raise BadRow(shown, line, column, error.rule) from None


def _number(shown: str, line: int, column: str, text: str) -> Decimal:
    if not _NUMBER.fullmatch(text.strip()):
        rule = "is missing" if not text.strip() else f"must be a number, got {text[:40]!r}"
        raise BadRow(shown, line, column, rule)
    return Decimal(text.strip())
