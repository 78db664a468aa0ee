"""Real bars in time order, for tests and benchmarks that need many of them."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import tempfile
from pathlib import Path

from stockpipe.domain.quote import Quote
from stockpipe.feeds.csv_bars import read_csv

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "market-data" / "bars"
"""Recorded intraday and daily bars; absent in an ordinary clone."""


def real_bars(count: int, *, recorded: bool = True) -> list[Quote]:
    """So many bars of distinct keys, the oldest there are; bokeh's only unless ``recorded``.

    Where there are fewer, the same come again under further symbols (``AAPL-2``).
    """
    found: dict[tuple[str, str], Quote] = {}
    with tempfile.TemporaryDirectory() as directory:
        files = sorted(RECORDED.glob("*.csv.gz")) if recorded else []
        files = files or [daily_bars(Path(directory))]
        for quote in (quote for file in files for quote in read_csv(str(file))):
            found.setdefault(quote.key, quote)
    bars = sorted(found.values(), key=in_time)
    quotes = bars[:count]
    for again in range(2, 2 + (count - 1) // len(bars)):
        more = bars[: count - len(quotes)]
        quotes += [dataclasses.replace(one, symbol=f"{one.symbol}-{again}") for one in more]
    return sorted(quotes, key=in_time)


def origin() -> str:
    """Where they are from."""
    return "recorded intraday and daily bars" if RECORDED.is_dir() else "bokeh's daily bars"


def in_time(quote: Quote) -> tuple[str, str]:
    return quote.timestamp, quote.symbol


def daily_bars(directory: Path) -> Path:
    """bokeh_sampledata's prices of 2000 to 2013 as a file to replay."""
    import bokeh_sampledata

    source = Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz"
    file = directory / "daily.csv"
    columns = ("open", "high", "low", "close", "volume")
    with gzip.open(source, "rt", encoding="utf-8") as bars, file.open("w") as out:
        rows = csv.writer(out)
        rows.writerow(("symbol", "timestamp", *columns))
        for bar in csv.DictReader(bars):
            values = (bar[column.capitalize()] for column in columns)
            rows.writerow((bar["Ticker"], f"{bar['Date']}T21:00:00Z", *values))
    return file
