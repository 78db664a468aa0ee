"""The bundled sample is what its provenance says."""

from __future__ import annotations

import csv
import gzip
from datetime import UTC, datetime
from importlib import resources
from zoneinfo import ZoneInfo

from conftest import daily_bars

SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
NEW_YORK = ZoneInfo("America/New_York")


def cut() -> list[list[str]]:
    """The rows of the sample, out of the package that they come from."""
    rows: list[tuple[datetime, list[str]]] = []
    before: dict[str, str] = {}
    for bar in daily_bars():
        symbol, day = bar["Ticker"], bar["Date"]
        previous = before.get(symbol, "")
        before[symbol] = bar["Close"]
        if symbol in SYMBOLS and "2008-07-01" <= day <= "2009-06-30":
            close = datetime.fromisoformat(f"{day}T16:00:00").replace(tzinfo=NEW_YORK)
            offset = close.utcoffset()
            assert offset is not None
            row = [
                symbol, f"{close.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", bar["Open"], bar["High"],
                bar["Low"], bar["Close"], bar["Volume"], previous, f"{offset.total_seconds():.0f}",
            ]  # fmt: skip
            rows.append((close, row))
    return [row for _, row in sorted(rows, key=lambda pair: (pair[0], pair[1][0]))]


def test_the_sample_is_cut_from_real_prices() -> None:
    file = resources.files("stockpipe").joinpath("data", "sample.csv.gz")
    with file.open("rb") as raw, gzip.open(raw, "rt") as stream:
        header, *rows = csv.reader(stream)
    assert header[0] == "symbol"
    assert len(rows) == 1008
    assert rows == cut()
