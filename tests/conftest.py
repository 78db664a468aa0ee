"""What several kinds of tests share: real market data, and where it lies."""

from __future__ import annotations

import csv
import gzip
import signal
from functools import cache
from pathlib import Path

import bokeh_sampledata
import pytest

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "market-data"
"""Recorded bars and expectations; absent in an ordinary clone, where tests that use them skip."""


# A shell without job control starts what is in the background deaf to Ctrl-C, and nohup to the end
# of the terminal. Children inherit that, unless there is a handler: those that the tests interrupt
# would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)


@pytest.fixture
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the recorded market data are not in this clone")
    return SHARED


@cache
def daily_bars() -> tuple[dict[str, str], ...]:
    """Real daily prices, 2000 to 2013, of five symbols: columns as in the package's file."""
    file = Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz"
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        return tuple(csv.DictReader(stream))


@pytest.fixture
def closes() -> dict[str, list[tuple[str, str]]]:
    """Per symbol, (day, close) in time order."""
    series: dict[str, list[tuple[str, str]]] = {}
    for bar in daily_bars():
        series.setdefault(bar["Ticker"], []).append((bar["Date"], bar["Close"]))
    return series
