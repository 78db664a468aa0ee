"""Yahoo through yfinance: every private part of that library is used here and nowhere else."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

_BATCH_URL = "https://query1.finance.yahoo.com/v7/finance/quote"
OTHER_FORM = "an answer of another form than a quote's"

Kind = Literal["limited", "unreachable", "unusable", "unknown"]
Entry = dict[str, Any]
"""One symbol in the batch quote's own field names (``regularMarketPrice``, ...)."""


class Trouble(Exception):
    """Why no quote came, in a few words, and of which kind.

    ``limited``: asked too often. ``unreachable``: nothing answered. ``unusable``: what answered is
    no quote. ``unknown``: Yahoo has no such symbol.
    """

    def __init__(self, kind: Kind, why: str) -> None:
        super().__init__(why)
        self.kind = kind


class YFinance:
    """Yahoo through yfinance 1.7, which is loaded and set up at the first question."""

    def batch(self, symbols: Sequence[str]) -> Any:
        query = {"symbols": ",".join(symbols), "formatted": "false"}
        with _translated():
            return self._data.get_raw_json(_BATCH_URL, params=query)

    def today(self, symbol: str) -> Entry:
        import yfinance

        with _translated():
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
        from curl_cffi import CurlOpt, requests
        from yfinance.data import YfData

        logger = logging.getLogger("yfinance")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        warnings.filterwarnings("ignore", module="yfinance")
        yfinance.config.debug.hide_exceptions = False
        # A folder that cannot exist switches the caches on disk off, which fail where HOME is
        # missing, read-only, full or shared.
        yfinance.set_tz_cache_location(str(Path(os.devnull) / "yfinance"))
        # They overrule every timeout of yfinance, which gives cookie, consent and crumb 30 s each.
        limits = {CurlOpt.CONNECTTIMEOUT_MS: 5_000, CurlOpt.TIMEOUT_MS: 10_000}
        return YfData(session=requests.Session(impersonate="chrome", curl_options=limits))


@contextmanager
def _translated() -> Iterator[None]:
    """Everything that yfinance and what is below it raises about an answer, as trouble."""
    from yfinance.exceptions import YFException, YFPricesMissingError, YFRateLimitError

    try:
        yield
    except YFRateLimitError as error:
        raise Trouble("limited", "HTTP 429") from error
    except YFPricesMissingError as error:
        # The reason is Yahoo's own text; without one it knows the symbol, but has no bars.
        if "No data found" in (error.yahoo_reason or ""):
            raise Trouble("unknown", "Yahoo has no quote of it") from error
        raise Trouble("unusable", error.yahoo_reason or "no prices of today") from error
    except OSError as error:
        raise _transport_trouble(error) from error
    except (YFException, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        raise Trouble("unusable", OTHER_FORM) from e


def _transport_trouble(error: OSError) -> Trouble:
    """``error`` is curl's; its response has status 0 where nothing has arrived."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status >= 400:
        return Trouble("limited" if status == 429 else "unusable", f"HTTP {status}")
    if status:
        return Trouble("unusable", "an answer that was cut off")
    words = re.search(r"curl: \(\d+\) (.+?)\.? See https", str(error))
    return Trouble("unreachable", words[1] if words else type(error).__name__)
