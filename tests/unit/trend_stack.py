"""The trend function over tables in memory, and series of readings for it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from stores import Table, Topic

from stockpipe.domain.alerts import Alert
from stockpipe.domain.clock import SystemClock
from stockpipe.domain.exact import price_text, to_micro
from stockpipe.domain.rules import CrossoverRule, Rule
from stockpipe.domain.rules.history import signals
from stockpipe.domain.signals import Reading
from stockpipe.functions.alerts import AlertBook
from stockpipe.functions.analysis import Change, Outcome, TrendAnalysis
from stockpipe.functions.readings import Readings

NOW = datetime(2022, 3, 14, 20, 0, tzinfo=UTC)
RULE = CrossoverRule(2, 4)


class Now(SystemClock):
    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment


class Stack:
    """The trend function over a table that rows are put into as the processor puts them."""

    def __init__(self, *rules: Rule, max_age_s: float | None = None) -> None:
        self.clock = Now()
        self.table, self.alerts = Table("symbol", "timestamp"), Table("symbol", "id")
        self.topic = Topic()
        self.rules: tuple[Rule, ...] = rules or (RULE,)
        self._seq = 0
        book = AlertBook(
            self.alerts,  # type: ignore[arg-type]
            self.topic,  # type: ignore[arg-type]
            table="alerts",
            topic_arn="arn",
            max_age_s=max_age_s,
            clock=self.clock,
        )
        readings = Readings(self.table, "table")  # type: ignore[arg-type]
        # Two execution environments over the same tables.
        self.analysis, self.other = (
            TrendAnalysis(readings, book, self.rules, self.clock) for _ in range(2)
        )

    def store(self, symbol: str, reading: Reading, after: str | None = None) -> Change:
        self._seq += 1
        item: dict[str, Any] = {
            "symbol": {"S": symbol},
            "timestamp": {"S": reading.timestamp},
            "price": {"N": price_text(reading.price)},
            **({"after": {"S": after}} if after else {}),
            **({"utc_offset_s": {"N": str(reading.utc_offset_s)}} if reading.utc_offset_s else {}),
            **(
                {"previous_close": {"N": price_text(reading.previous_close)}}
                if reading.previous_close
                else {}
            ),
        }
        modified = (symbol, reading.timestamp) in self.table.items
        self.table.items[symbol, reading.timestamp] = item
        written_at = self.clock.now().timestamp()
        return Change(str(self._seq), symbol, reading.timestamp, written_at, modified)

    def judge(self, batch: Sequence[Change]) -> Outcome:
        return self.analysis.run(batch, lambda: 50.0)

    def true(self) -> set[tuple[str, str, str, str]]:
        """(symbol, id, kind, status) of every alert."""
        return {
            (key[0], key[1], item["kind"]["S"], item["status"]["S"])
            for key, item in self.alerts.items.items()
        }

    def expected(self, status: str = "sent") -> set[tuple[str, str, str, str]]:
        """What the final rows make true."""
        series: dict[str, list[Reading]] = {}
        for (symbol, timestamp), item in sorted(self.table.items.items()):
            close = to_micro(item["previous_close"]["N"]) if "previous_close" in item else None
            reading = Reading(timestamp, to_micro(item["price"]["N"]), close)
            series.setdefault(symbol, []).append(reading)
        return {
            (symbol, Alert(symbol, rule.name, one).id, one.kind, status)
            for symbol, readings in series.items()
            for rule in self.rules
            for one in signals(rule, readings)
        }


def at(index: int) -> str:
    return f"{START + timedelta(minutes=index):%Y-%m-%dT%H:%M:%S.000Z}"


START = datetime(2022, 3, 14, 13, 30, tzinfo=UTC)


def series(rng: random.Random, length: int) -> list[Reading]:
    # Few distinct prices: many exact ties, where careless code goes wrong.
    return [Reading(at(index), rng.choice([9, 10, 10, 11, 12]) * 10**6) for index in range(length)]


def wave(length: int) -> list[Reading]:
    return [Reading(at(i), (10 + (i // 6) % 2 * 5) * 10**6) for i in range(length)]


def days(rng: random.Random, length: int) -> list[Reading]:
    """Hours over several days, against a previous close of 10: 9 and 11 have moved, 10 has not."""
    return [
        Reading(at(index * 60), rng.choice([9, 10, 10, 10, 10, 12]) * 10**6, 10**7)
        for index in range(length)
    ]


def jumpy(rng: random.Random, length: int) -> list[Reading]:
    price, rows = 100.0, []
    for index in range(length):
        price *= 1 + rng.gauss(0, 0.01 if rng.random() > 0.04 else 0.2)
        price = min(max(price, 20.0), 500.0)
        rows.append(Reading(at(index * 20), round(price * 10**6), 10**8))
    return rows
