"""The Yahoo feed over the real yfinance, in a process of its own, and answers that it may get."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from warm_program import warm_program

from yahoo_proxy import (
    Answer,
)

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "market-data" / "yahoo"
TOO_MANY = Answer("Too Many Requests\r\n", status=429, content_type="text/html")
INVALID_CRUMB = Answer(
    {
        "finance": {
            "result": None,
            "error": {"code": "Unauthorized", "description": "Invalid Crumb"},
        }
    },
    status=401,
)

PROGRAM = """
import json, os, sys
from datetime import UTC, datetime
from stockpipe.errors import StockpipeError
from stockpipe.feeds.yahoo import YahooFeed
from stockpipe.feeds.yahoo_api import YFinance

class Impatient:
    def now(self): return datetime.now(UTC)
    def monotonic(self): return 0.0
    def sleep(self, seconds): slept.append(seconds)

slept = []
number, *symbols = sys.argv[1:]
yahoo = YFinance(float(os.environ.get("TIMEOUT_S", "10")))
feed = YahooFeed(symbols, 30, Impatient(), yahoo)
try:
    for _, round_ in zip(range(int(number)), feed.rounds()):
        print(json.dumps({
            "quotes": [[quote.symbol, quote.timestamp, quote.price] for quote in round_.quotes],
            "unchanged": round_.unchanged, "states": round_.states, "notices": round_.notices,
            "next_open": sorted(round_.next_open), "slept": slept,
        }))
except StockpipeError as error:
    print(json.dumps({
        "error": error.message, "hint": error.hint, "code": error.exit_code,
    }))
"""


@dataclass
class Ran:
    """What the program wrote: a line per round, or the error that it ended with."""

    lines: list[dict[str, Any]]
    stderr: str

    @property
    def quotes(self) -> list[list[str]]:
        """The symbols of each round."""
        return [[quote[0] for quote in line["quotes"]] for line in self.lines]

    @property
    def notices(self) -> list[list[str]]:
        return [line["notices"] for line in self.lines]


def run(home: Path, rounds: int, *symbols: str, **environment: str) -> Ran:
    """Run the feed with ``environment`` added to ours, which lends neither proxy nor caches."""
    lent = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("XDG_", "PYTHON"))
    }
    done = warm_program().run(
        [str(rounds), *symbols],
        {**lent, "HOME": str(home), **environment},
        Path.cwd(),
        budget_s=60,
        source=PROGRAM,
    )
    return Ran([json.loads(line) for line in done.stdout.splitlines()], done.stderr)


def recorded(name: str) -> dict[str, Any]:
    """A recorded answer: status, content_type, body; skips where the recordings are not at hand."""
    if not (RECORDED / name).is_file():
        pytest.skip("no recorded answers beside this checkout")
    recording: dict[str, Any] = json.loads((RECORDED / name).read_text(encoding="utf-8"))
    return recording


def refused(name: str) -> Answer:
    recording = recorded(name)
    return Answer(recording["body"], recording["status"], recording["content_type"])
