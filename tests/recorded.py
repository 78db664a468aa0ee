"""The recorded market data beside the project, and what rules must find in it."""

from __future__ import annotations

import csv
from pathlib import Path

from stockpipe.domain.exact import normalise_timestamp

BARS = {
    "daily_2018-2019": 2264,
    "daily_CALM_2022-2024": 662,
    "daily_SPY_2008-2017": 2519,
    "daily_wiki": 6540,
    "intraday_15m_EA_2026": 319,
    "intraday_1m_2019-02": 15584,
    "intraday_1m_2022-03": 7790,
    "intraday_1m_GSPC_2019-11": 1563,
    "intraday_1m_exthours_AAPL": 4797,
}
"""The files, and how many bars each holds."""
SPLITS = {("AAPL", "2000-06-21"), ("AAPL", "2005-02-28"), ("MSFT", "2003-02-18")}
"""In daily_wiki: days that open at half of an unadjusted close. PROVENANCE.md names them traps, and
docs/decisions/0005 tells why no rule takes them for a move."""
_OF_A_DAY = ("day_vs_previous_close", "first_in_session_vs_previous_close")


def bars_file(data: Path, name: str) -> Path:
    return data / "bars" / f"{name}.csv.gz"


def crossings(data: Path, name: str) -> dict[tuple[str, str, str], dict[str, str]]:
    """Every expected crossing's row, by symbol, timestamp and kind."""
    return {
        (row["symbol"], normalise_timestamp(row["timestamp"]), row["kind"]): row
        for row in _rows(data / "expected" / f"{name}.crosses.csv")
    }


def moves(data: Path, name: str) -> set[tuple[str, str]]:
    """Symbol and day of every move above 5 % against the previous close, but for splits."""
    found = {
        (row["symbol"], row["timestamp"][:10])
        for row in _rows(data / "expected" / f"{name}.anomalies5pct.csv")
        if row["rule"] in _OF_A_DAY
    }
    assert name != "daily_wiki" or found >= SPLITS
    return found - SPLITS


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
