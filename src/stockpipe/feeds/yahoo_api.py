"""Yahoo's own interface: how it is asked, through yfinance, and what its answers say.

Every private part of yfinance is used here and nowhere else.
"""

from __future__ import annotations

import logging
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote as url_quoted

from stockpipe.domain.exact import InvalidQuote, moment_text
from stockpipe.domain.quote import Quote, quote_from_fields

OTHER_FORM = "an answer of another form than a quote's"

_BATCH_URL = "https://query1.finance.yahoo.com/v7/finance/quote"
_CHART_URL = "https://query1.finance.yahoo.com/v8/finance/chart/"
_FIELDS = (
    "symbol",
    "market",
    "marketState",
    "exchangeTimezoneName",
    "exchangeDataDelayedBy",
    "gmtOffSetMilliseconds",
    "regularMarketTime",
    "regularMarketPrice",
    "regularMarketOpen",
    "regularMarketDayHigh",
    "regularMarketDayLow",
    "regularMarketPreviousClose",
    "regularMarketVolume",
)
"""What we read of an entry: without the list each one comes with some eighty fields."""

Kind = Literal["limited", "unreachable", "unusable", "unknown"]
Entry = dict[str, Any]
"""One symbol in the batch quote's own field names (``regularMarketPrice``, ...)."""


class Trouble(Exception):
    """Why no quote came, in a few words, and of which kind.

    ``limited``: asked too often. ``unreachable``: nothing answered. ``unusable``: what answered is
    no quote. ``unknown``: Yahoo has no such symbol. ``retry_after_s``: how long Yahoo asks us to
    wait, 0 where it does not say.
    """

    def __init__(self, kind: Kind, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.kind = kind
        self.retry_after_s = retry_after_s


class YahooApi(Protocol):
    """What we ask of Yahoo. Every call raises :class:`Trouble` and nothing else."""

    def batch(self, symbols: Sequence[str]) -> Any:
        """The batch quote's JSON as it came."""
        ...

    def today(self, symbol: str) -> Entry:
        """The latest state of one symbol, out of its history of today."""
        ...

    def metadata(self, symbol: str) -> Entry:
        """What the chart of one symbol says of its market, without the chart."""
        ...


class YFinance:
    """Yahoo through yfinance 1.7, which is loaded and set up at the first question.

    ``timeout_s`` bounds each of the requests that a question takes; connecting gets half of it.
    """

    def __init__(self, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s

    def batch(self, symbols: Sequence[str]) -> Any:
        query = {
            "symbols": ",".join(symbols), "fields": ",".join(_FIELDS), "formatted": "false",
        }  # fmt: skip
        with self._translated():
            return self._data.get_raw_json(_BATCH_URL, params=query)

    def today(self, symbol: str) -> Entry:
        import yfinance

        with self._translated():
            # A fresh Ticker: one that is kept would answer from its cache for ever.
            ticker = yfinance.Ticker(symbol, session=self._data._session)
            # Its zone is used for nothing here, but asking for it would double the requests and
            # keep a failed answer for as long as the process lives.
            ticker._tz = "UTC"
            bars = ticker.history(period="1d", interval="1m", auto_adjust=False, actions=False)
            if bars.empty:
                raise Trouble("unusable", "no prices of today")
            # Time, price and day range are one reading's; only the open has to come from a bar.
            state = dict(ticker.get_history_metadata())
            return state | {
                "regularMarketOpen": float(bars["Open"].iloc[0]),
                "regularMarketPreviousClose": state.get("previousClose"),
                "regularMarketTime": state["regularMarketTime"].timestamp(),
                "gmtOffSetMilliseconds": state["gmtoffset"] * 1000,
            }

    def metadata(self, symbol: str) -> Entry:
        with self._translated():
            # Not by yfinance, which throws cookie and crumb away when an answer is a refusal: a
            # chart takes neither, and the next batch quote takes both.
            answer = self._client._session.get(
                _CHART_URL + url_quoted(symbol, safe=""), params={"range": "1d", "interval": "1d"}
            )
            answer.raise_for_status()
            return dict(answer.json()["chart"]["result"][0]["meta"])

    @property
    def _data(self) -> Any:
        """yfinance's one client of Yahoo."""
        # Only its cache on disk tells yfinance that it has a cookie; without, it would ask for one
        # before every request. A crumb is proof enough: Yahoo gives none without a cookie.
        self._client._cookie = self._client._cookie or self._client._crumb
        return self._client

    @cached_property
    def _client(self) -> Any:
        """The client, set up to raise, to keep quiet and to leave no files."""
        import yfinance
        from yfinance.data import YfData

        logger = logging.getLogger("yfinance")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        warnings.filterwarnings("ignore", module="yfinance")
        yfinance.config.debug.hide_exceptions = False
        # A folder that cannot exist switches the caches on disk off, which fail where HOME is
        # missing, read-only, full or shared.
        yfinance.set_tz_cache_location(str(Path(os.devnull) / "yfinance"))
        return YfData(session=_session(self._timeout_s))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Everything that yfinance and what is below it raises about an answer, as trouble."""
        from yfinance.exceptions import YFException, YFPricesMissingError, YFRateLimitError

        try:
            yield
        except YFRateLimitError as error:
            # It tells nothing of the answer, but that was the session's last one.
            raise Trouble("limited", "HTTP 429", self._client._session.retry_after_s) from error
        except YFPricesMissingError as error:
            # The reason is Yahoo's own text; without one it knows the symbol, but has no bars.
            if "No data found" in (error.yahoo_reason or ""):
                raise Trouble("unknown", "Yahoo has no quote of it") from error
            raise Trouble("unusable", error.yahoo_reason or "no prices of today") from error
        except OSError as error:
            raise _transport_trouble(error) from error
        except (
            YFException, ArithmeticError, AttributeError, LookupError, TypeError, ValueError,
        ) as error:  # fmt: skip
            raise Trouble("unusable", OTHER_FORM) from error


def _session(timeout_s: float) -> Any:
    """A session of curl's that looks like a browser and remembers its last answer's Retry-After."""
    from curl_cffi import CurlOpt, requests

    class Session(requests.Session[requests.Response]):
        retry_after_s = 0.0

        def request(self, *args: Any, **kwargs: Any) -> requests.Response:
            answer = super().request(*args, **kwargs)
            self.retry_after_s = _retry_after_s(answer)
            return answer

    # They overrule every timeout of yfinance, which gives cookie, consent and crumb 30 s each.
    limits = {
        CurlOpt.CONNECTTIMEOUT_MS: int(timeout_s * 500), CurlOpt.TIMEOUT_MS: int(timeout_s * 1000),
    }  # fmt: skip
    return Session(impersonate="chrome", curl_options=limits)


def _retry_after_s(answer: Any) -> float:
    """Seconds; the header's other form, a date, is not used where requests are counted."""
    with suppress(TypeError, ValueError):
        return float(min(int(answer.headers.get("Retry-After")), 3600))
    return 0.0


def _transport_trouble(error: OSError) -> Trouble:
    """``error`` is curl's; its response has status 0 where nothing has arrived."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    if status >= 400:
        kind: Kind = "limited" if status == 429 else "unusable"
        return Trouble(kind, f"HTTP {status}", _retry_after_s(response))
    if status:
        return Trouble("unusable", "an answer that was cut off")
    words = re.search(r"curl: \(\d+\) (.+?)\.? See https", str(error))
    return Trouble("unreachable", words[1] if words else type(error).__name__)


def entries_of(payload: Any) -> dict[str, Entry]:
    """The batch quote's entries that have a price, by symbol; raises :class:`Trouble`.

    An entry that is none is left out, unless all of them are.
    """
    try:
        result = payload["quoteResponse"]["result"]
        whole = [entry for entry in result if _is_entry(entry)]
    except (LookupError, TypeError):
        raise Trouble("unusable", OTHER_FORM) from None
    if result and not whole:
        raise Trouble("unusable", OTHER_FORM)
    return {
        entry["symbol"].upper(): entry
        for entry in whole
        if _raw(entry.get("regularMarketPrice")) is not None
    }


def quote_of_entry(symbol: str, entry: Entry, now: datetime, source: str) -> Quote:
    """The record of an entry that arrived ``now``; raises :class:`InvalidQuote`, naming the field
    and the rule."""
    offset_ms = _number(entry.get("gmtOffSetMilliseconds"))
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
            "timestamp": _time(_number(entry.get("regularMarketTime"))),
            "ingested_at": moment_text(now),
            "source": source,
            "utc_offset_s": offset_ms // 1000 if isinstance(offset_ms, int) else None,
        },
        arrived_at=now,
    )


def delay_min_of(entry: Entry) -> int:
    """By how many minutes the exchange delays its quotes, 0 for those in time."""
    minutes = _number(entry.get("exchangeDataDelayedBy"))
    return minutes if isinstance(minutes, int) and minutes > 0 else 0


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("symbol"), str)


def _number(value: Any) -> Any:
    """A float as the decimal that its writer meant; NaN and Infinity, Yahoo's blanks, as None."""
    raw = _raw(value)
    if isinstance(raw, float):
        return Decimal(str(raw)) if math.isfinite(raw) else None
    return raw


def _raw(value: Any) -> Any:
    """What is formatted after all, ``{"raw": 269.7, "fmt": "269.70"}``, as the number."""
    return value.get("raw") if isinstance(value, dict) else value


def _time(value: Any) -> str:
    """Unix seconds as the record's text; a symbol that has never traded has 0 or none."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool) and 0 < value < 2**36:
        return moment_text(datetime.fromtimestamp(float(value), UTC))
    raise InvalidQuote("timestamp", f"must be Unix seconds, got {value!r:.40}")
