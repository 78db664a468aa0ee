"""The pipeline's own raw archive as a source: what went wrong in a function can be done again.

The stream keeps its records for a day, the archive keeps them for good. Its quotes are sent again
as they were, label and reading time included, so a row that was right stays what it is. The
processor archives them once more, under new sequence numbers: queries count one of each.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, IncompleteReadError

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.exact import InvalidQuote, moment_text
from stockpipe.domain.names import RAW_PREFIX
from stockpipe.domain.quote import Quote, parse_quote
from stockpipe.domain.retry import retry
from stockpipe.errors import FeedError, NotProvisioned, UsageError
from stockpipe.feeds.base import Request, Round
from stockpipe.feeds.pacing import paced, rounds_of
from stockpipe.functions.faults import error_code, is_transient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FORMS = "archive:2022-03-14, archive:2022-03-14..2022-03-18 or archive:3d (days, h or m until now)"
PARALLEL_READS = 8
DAYS_AHEAD = 3
"""Days that are in memory besides the one that is being sent."""
READ_BUDGET_S = 60.0
LATEST = "9999"
"""Above every timestamp: an archive is read to its end, quotes of a clock ahead included."""

_DAY = re.compile(r"day=(\d{4}-\d\d-\d\d)/$", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_AGO = re.compile(r"(\d{1,6})(d|h|m)", re.ASCII)
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_SEQ = re.compile(rb',"seq":"(\d+)"\}$')
"""The processor writes it last (see :func:`stockpipe.domain.quote.quote_json`)."""

T = TypeVar("T")
Row = tuple[str, Quote]
"""The zero-padded sequence number, whose text order is the stream's order, and the quote."""


class Period(NamedTuple):
    """Quotes whose normalised time lies within, both ends included."""

    since: str
    until: str

    def __str__(self) -> str:
        return f"from {self.since}" + (f" to {self.until}" if self.until != LATEST else "")

    def covers(self, quote: Quote) -> bool:
        return self.since <= quote.timestamp <= self.until

    def covers_some_of(self, day: str) -> bool:
        return self.since[:10] <= day <= self.until[:10]


def open_feed(request: Request) -> ArchiveFeed:
    """The feed of ``archive:SINCE[..UNTIL]``; raises as :class:`ArchiveFeed` does."""
    period = parse_period(request.argument, request.clock.now())
    if request.archive is None:
        raise UsageError("There is no pipeline here whose archive could be read.")
    return ArchiveFeed(
        request.archive(),
        period,
        symbols=frozenset(request.symbols),
        speed=request.speed,
        clock=request.clock,
    )


class Archive:
    """Reads the objects that :class:`stockpipe.functions.archive.Archive` writes.

    Raises :class:`NotProvisioned` without the bucket, :class:`FeedError` where S3 refuses.
    """

    def __init__(self, s3: S3Client, bucket: str, account: str) -> None:
        self._s3, self._bucket, self._account = s3, bucket, account

    def days(self) -> list[str]:
        """The UTC days that it has folders for, ``YYYY-MM-DD``, in order."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=f"{RAW_PREFIX}day=",
            Delimiter="/",
            ExpectedBucketOwner=self._account,
        )
        folders = self._asked(
            lambda: [found["Prefix"] for page in pages for found in page.get("CommonPrefixes", [])]
        )
        return [match[1] for folder in folders if (match := _DAY.search(folder))]

    def quotes(
        self, day: str, symbols: frozenset[str] = frozenset(), clock: Clock = SYSTEM_CLOCK
    ) -> list[Quote]:
        """The quotes of one day in time order, of each symbol and time the one archived last.

        No symbols: all. Holds the day in memory, and nothing else. A line that is no archived
        quote raises :class:`FeedError`, naming object, line, field and rule.
        """
        latest: dict[tuple[str, str], Row] = {}
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            for rows in pool.map(lambda key: self._rows(key, day, clock), self._keys(day)):
                for row in rows:
                    quote = row[1]
                    if symbols and quote.symbol not in symbols:
                        continue
                    if quote.key not in latest or latest[quote.key][0] < row[0]:
                        latest[quote.key] = row
        quotes = [quote for _, quote in latest.values()]
        return sorted(quotes, key=lambda quote: (quote.timestamp, quote.symbol))

    def _keys(self, day: str) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=f"{RAW_PREFIX}day={day}/",
            ExpectedBucketOwner=self._account,
        )
        return self._asked(
            lambda: [found["Key"] for page in pages for found in page.get("Contents", [])]
        )

    def _rows(self, key: str, day: str, clock: Clock) -> list[Row]:
        rows = []
        for number, line in enumerate(self._body(key, clock).splitlines(), 1):
            try:
                rows.append(_row(line, day))
            except InvalidQuote as error:
                raise FeedError(
                    f"s3://{self._bucket}/{key}, line {number}, {error}",
                    hint="Correct the object or move it away, and read on from "
                    f"archive:{day}; nothing of that day was sent.",
                ) from None
        return rows

    def _body(self, key: str, clock: Clock) -> bytes:
        def get() -> bytes:
            answer = self._s3.get_object(
                Bucket=self._bucket, Key=key, ExpectedBucketOwner=self._account
            )
            return answer["Body"].read()

        # botocore retries the request, but not a body that breaks off.
        return self._asked(
            lambda: retry(get, transient=_passes, budget_s=READ_BUDGET_S, clock=clock)
        )

    def _asked(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (BotoCoreError, ClientError) as error:
            if error_code(error) == "NoSuchBucket":
                raise NotProvisioned(
                    f"The bucket {self._bucket} does not exist.",
                    hint="Make it first: stockpipe provision",
                ) from error
            raise FeedError(f"The archive {self._bucket} cannot be read: {error}") from error


class ArchiveFeed:
    """The archived quotes of a period, in time order across symbols; each keeps its label.

    ``speed`` is a factor on their own pace, None for as fast as it goes. Days are read a few
    at a time, which also is why there is no total and no identity: both would take all of them.
    Raises :class:`FeedError` where the archive holds nothing of what is asked.
    """

    source: str | None = None
    live = False
    total: int | None = None

    def __init__(
        self,
        archive: Archive,
        period: Period,
        *,
        symbols: frozenset[str] = frozenset(),
        speed: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._archive, self._period, self._symbols = archive, period, symbols
        self._speed, self._clock = speed, clock
        held = archive.days()
        self._days = [day for day in held if period.covers_some_of(day)]
        if not self._days:
            raise FeedError(
                f"The archive holds nothing {period}.",
                hint=f"It holds {held[0]} to {held[-1]}." if held else "It is empty.",
            )

    def rounds(self) -> Iterator[Round]:
        """One round per timestamp, each when it is due."""
        return paced(self._read(), self._speed, self._clock)

    def _read(self) -> Iterator[Round]:
        none = True
        for quotes in self._each_day():
            # By itself, so that its last round is out before the next day can fail.
            for taken in rounds_of(quote for quote in quotes if self._period.covers(quote)):
                none = False
                yield taken
        if none:
            of = f" of {', '.join(sorted(self._symbols))}" if self._symbols else ""
            raise FeedError(
                f"The archive holds nothing{of} {self._period}.",
                hint=f"It was looked for in {len(self._days)} days, "
                f"{self._days[0]} to {self._days[-1]}.",
            )

    def _each_day(self) -> Iterator[list[Quote]]:
        """The days' quotes in turn, the next few being read meanwhile."""
        pool = ThreadPoolExecutor(DAYS_AHEAD)
        coming: deque[Future[list[Quote]]] = deque()
        try:
            for day in self._days:
                coming.append(pool.submit(self._archive.quotes, day, self._symbols, self._clock))
                if len(coming) > DAYS_AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def parse_period(text: str, now: datetime) -> Period:
    """``2022-03-14..2022-03-18``, both days included, or a time back from now at either end.

    Without an end, to the end of the archive. Raises :class:`UsageError`.
    """
    since, dots, until = text.partition("..")
    if not since or (dots and not until):
        raise UsageError("From when on is the archive to be read?", hint=f"As in {FORMS}.")
    begin = _moment(since, now, "T00:00:00.000Z")
    period = Period(begin, _moment(until, now, "T23:59:59.999Z") if until else LATEST)
    if period.since > period.until:
        raise UsageError(f"archive:{text} ends before it begins.", hint=f"As in {FORMS}.")
    return period


def _moment(text: str, now: datetime, time_of_day: str) -> str:
    try:
        if ago := _AGO.fullmatch(text):
            return moment_text(now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
        if not _DATE.fullmatch(text):
            raise ValueError(text)
        return date.fromisoformat(text).isoformat() + time_of_day
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is neither a day nor a time back from now.", hint=f"As in {FORMS}."
        ) from None


def _row(line: bytes, day: str) -> Row:
    """Raises :class:`InvalidQuote` for what the processor would not have written there."""
    quote = parse_quote(line)
    seq = _SEQ.search(line)
    if not seq:
        raise InvalidQuote("seq", "must be there, as the last field")
    if quote.day != day:
        raise InvalidQuote("timestamp", f"does not belong into the folder of {day}")
    return seq[1].decode(), quote


def _passes(error: Exception) -> bool:
    return is_transient(error) or isinstance(error, IncompleteReadError)
