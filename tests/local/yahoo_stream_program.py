"""The live feed alone, in a process of its own on a clock that may run fast, and what it wrote."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warm_program import warm_program

from yahoo_proxy import Answer, batch, entry
from yahoo_socket import Line

NOON = 1761753600_000
"""Wednesday 2025-10-29, 12:00 in New York: the day that ``entry`` is of. In milliseconds."""
OPEN = Answer(batch(entry("AAPL", marketState="REGULAR"), entry("MSFT", marketState="REGULAR")))

PROGRAM = """
import json, signal, sys, threading, time
from datetime import UTC, datetime
from stockpipe.errors import StockpipeError
from stockpipe.feeds.base import Request
from stockpipe.feeds.yahoo_stream import open_feed

quotes, speed, market_hours, *symbols = json.loads(sys.argv[1])

interrupted = threading.Event()
signal.signal(signal.SIGINT, lambda *_: interrupted.set())

class Fast:
    def now(self): return datetime.now(UTC)
    def monotonic(self): return time.monotonic() * speed
    def sleep(self, seconds):
        if interrupted.wait(seconds / speed): raise KeyboardInterrupt

request = Request(tuple(symbols), interval_s=0, market_hours=market_hours, clock=Fast())
try:
    rounds = open_feed(request).rounds()
    while quotes > 0:
        round_ = next(rounds)
        quotes -= len(round_.quotes)
        print(json.dumps({
            "quotes": [
                [quote.symbol, quote.timestamp[11:19], quote.price / 1e6] for quote in round_.quotes
            ],
            "unchanged": round_.unchanged, "states": round_.states, "notices": round_.notices,
        }), flush=True)
    rounds.close()
except KeyboardInterrupt:
    print(json.dumps({"interrupted": True}))
except StockpipeError as error:
    print(json.dumps({"error": error.message, "hint": error.hint, "code": error.exit_code}))
"""


@dataclass
class Ran:
    """What the program wrote: a line per round, or the error that it ended with."""

    lines: list[dict[str, Any]]
    stderr: str

    @property
    def quotes(self) -> list[list[Any]]:
        """Symbol, time of day and price of all quotes, in order."""
        return [quote for line in self.lines for quote in line.get("quotes", [])]

    @property
    def notices(self) -> list[str]:
        return [notice for line in self.lines for notice in line.get("notices", [])]


def environment_of(home: Path, environment: dict[str, str]) -> dict[str, str]:
    """Ours with ``environment`` added, which lends neither proxy nor caches."""
    lent = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("XDG_", "PYTHON"))
    }
    return {**lent, "HOME": str(home), **environment}


def run(
    home: Path,
    quotes: int,
    *symbols: str,
    environment: dict[str, str],
    speed: float = 1,
    market_hours: bool = False,
) -> Ran:
    """The feed until it has brought so many quotes, on a clock that is ``speed`` times as fast."""
    arguments = [json.dumps([quotes, speed, market_hours, *(symbols or ("AAPL",))])]
    done = warm_program().run(
        arguments, environment_of(home, environment), home, budget_s=60, source=PROGRAM
    )
    return Ran([json.loads(line) for line in done.stdout.splitlines()], done.stderr)


def tick(price: float, second: int = 0, symbol: str = "AAPL", **fields: Any) -> dict[str, Any]:
    return {
        "id": symbol,
        "price": price,
        "time": NOON + 1000 * second,
        "exchange": "NMS",
        "quote_type": 8,
        "market_hours": 1,
        **fields,
    }


def subscribed(line: Line) -> list[str]:
    line.accept()
    return line.subscription()
