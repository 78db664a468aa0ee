"""What a month of the pipeline asks of AWS, in the units that AWS bills.

Derived from what the producer and the functions do (one PutRecords a round, one object a batch,
one Query a symbol and batch, two writes an alert); what cannot be derived is assumed, here, by
name. docs/cost.md explains each. A month has 730 hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from math import acos, ceil, pi
from typing import Literal

from stockpipe.domain.rules import CrossoverRule, MoveRule, Rule, SpikeRule
from stockpipe.domain.rules.bars import LONGEST_BREAK_S
from stockpipe.settings import Settings

HOURS = Decimal(730)
MARKET_HOURS = Decimal("136.5")
"""6.5 hours on 21 days."""
MARKET_CLOCK_HOURS = Decimal(147)
"""9:30 to 16:00 touches seven hours of the clock, and CloudWatch bills a metric by such hours."""
DAYS = HOURS / 24
KB, GB, TB = 1024, Decimal(1024**3), Decimal(1024**4)

RECORD_BYTES = 300
"""A quote in Kinesis, with its partition key. Data in and out counts whole KB."""
ARCHIVE_LINE_BYTES = 365
ITEM_BYTES = 240
ALERT_BYTES = 240
ITEM_OVERHEAD_BYTES = 100
"""What DynamoDB adds to an item's own size when it bills storage."""
PROCESS_LOG_BYTES = 950
TREND_LOG_BYTES = 880
"""The metrics line, Lambda's START, END and REPORT, and 26 bytes that CloudWatch adds to each."""
SMS_PARTS = 1
"""The short form has at most 140 plain characters."""
TRADING_DAYS = Decimal(21)
MOVE_RATE, PRICE_RATE = Decimal("0.03"), Decimal("0.05")
"""Assumed: alerts a trading day and symbol. Real prices of single stocks moved more than 5 % on 2
to 5 % of the days (docs/signals.md)."""
SPIKE_RATE = Decimal("0.0025")
"""A reading, as in real minutes (docs/signals.md)."""

PROCESS_METRICS, TREND_METRICS, SWEEP_METRICS = 5, 3, 1
ALARMS, SWEEP_ALARMS = 10, 1
"""The sweep measures how long alerts have been pending, and one alarm watches that."""
ON_DEMAND_SHARDS = 4
"""What a new on-demand stream has."""
TABLE_SHARDS = 4
"""Shards of the table's stream: one a partition, and a new on-demand table has four."""
SHARD_RECORDS_S = 1000

MEMORY_GB = Decimal("0.25")
PROCESS_S, PROCESS_CHUNK_S = Decimal("0.12"), Decimal("0.015")
"""Assumed: one PutObject, and a BatchWriteItem for each 25 records."""
TREND_S, TREND_SYMBOL_S, TREND_ALERT_S = Decimal("0.03"), Decimal("0.02"), Decimal("0.06")
"""Assumed: a Query a symbol, and for an alert two writes and a publish."""
ENVIRONMENT_HOURS = Decimal(2)
"""Assumed: Lambda keeps an execution environment for so long. Its first sweep reads all alerts."""
READ_UNIT_BYTES, PAGE_BYTES = 4096, 1024**2
"""Of DynamoDB: a read that is not consistent takes half a unit, and a page is a call."""
FLOORED_HOURS = Decimal(36)
"""A sweep reads from the start of the day before: 24 to 48 hours more than it is asked for."""
KMS_CALLS_AN_HOUR = 12
"""Kinesis asks KMS about every five minutes for each user of the stream; SNS, while it publishes,
asks twice in that time."""
CATALOG_CALLS, RESULT_PUTS = 4, 2
SCAN_MINIMUM = Decimal(10 * 1024**2)

Hours = Literal["always", "market"]


@dataclass(frozen=True, slots=True)
class Usage:
    """How the pipeline is used. ``months``: how much data has come together and is still kept."""

    symbols: int
    interval_s: Decimal
    hours: Hours = "always"
    queries: int = 30
    months: int = 1

    @property
    def streaming_hours(self) -> Decimal:
        return HOURS if self.hours == "always" else MARKET_HOURS


def usage_of(settings: Settings, symbols: int | None = None, hours: Hours = "always") -> Usage:
    """The interval of the settings, and their watch-list unless ``symbols`` tells how many."""
    return Usage(symbols or len(settings.symbols), Decimal(f"{settings.interval:g}"), hours)


def crossing_rate(fast: int, slow: int) -> Decimal:
    """Expected crossings of two averages a reading, for prices that walk at random.

    The difference of the averages is a moving sum of the price's steps; two neighbours of it that
    correlate by rho differ in sign with probability acos(rho) / pi. Real minutes come within 5 %.
    """
    weights = [max(0.0, 1 - lag / slow) - max(0.0, 1 - lag / fast) for lag in range(1, slow + 1)]
    rho = sum(a * b for a, b in pairwise(weights))
    return Decimal(f"{acos(rho / sum(a * a for a in weights)) / pi:.6f}")


@dataclass(frozen=True, slots=True)
class Workload:
    """A month's counts, from which every quantity follows."""

    settings: Settings
    usage: Usage

    @property
    def on_demand(self) -> bool:
        return self.settings.stream_mode == "on-demand"

    @property
    def shards(self) -> int:
        return ON_DEMAND_SHARDS if self.on_demand else self.settings.shards

    @property
    def seconds(self) -> Decimal:
        return self.usage.streaming_hours * 3600

    @property
    def records(self) -> Decimal:
        """One a symbol and round: every look at the source finds a new quote."""
        return self.usage.symbols * self.seconds / self.usage.interval_s

    @property
    def rounds_read(self) -> Decimal:
        """Lambda looks into a shard once a second: faster rounds share an invocation."""
        return self.seconds / max(self.usage.interval_s, Decimal(1))

    @property
    def batch_records(self) -> int:
        """Records of one batch; symbols spread evenly over the shards."""
        each = self.records / self.rounds_read / min(self.usage.symbols, self.shards)
        return min(ceil(each), self.settings.batch_size)

    @property
    def process_calls(self) -> Decimal:
        shards = min(self.usage.symbols, self.shards)
        each = self.records / self.rounds_read / shards
        return self.rounds_read * shards * ceil(each / self.settings.batch_size)

    @property
    def trend_calls(self) -> Decimal:
        """A batch's rows come out of each of the table's shards that they fell into."""
        return self.process_calls * min(self.batch_records, TABLE_SHARDS)

    @property
    def sweeps(self) -> Decimal:
        every = self.settings.sweep
        return Decimal(0) if every == "off" else HOURS * 3600 / Decimal(str(every))

    @property
    def full_sweeps(self) -> Decimal:
        """Those that read all alerts; they come first in their environment, unless all do."""
        if self.settings.notify_max_age == "off":
            return self.sweeps
        return min(self.sweeps, HOURS / ENVIRONMENT_HOURS)

    @property
    def later_sweeps(self) -> Decimal:
        return self.sweeps - self.full_sweeps

    @property
    def alerts(self) -> Decimal:
        """Expected alerts of all rules."""
        rate = Decimal(0)
        for rule in self.settings.rules:
            covered = len(rule.symbols) or self.usage.symbols
            share = Decimal(min(covered, self.usage.symbols)) / self.usage.symbols
            rate += self._signal_rate(rule) * share
        return self.records * rate

    def _signal_rate(self, rule: Rule) -> Decimal:
        """Expected alerts of a rule a record of a symbol that it covers."""
        records = self.records / self.usage.symbols
        judged = records
        if rule.bar_s:
            judged = min(records, self.seconds / rule.bar_s)
        if isinstance(rule, CrossoverRule):
            found = judged * crossing_rate(rule.fast, rule.slow)
        elif isinstance(rule, SpikeRule):
            found = judged * SPIKE_RATE
        else:
            found = TRADING_DAYS * (MOVE_RATE if isinstance(rule, MoveRule) else PRICE_RATE)
        if rule.cooldown_s:
            found = min(found, self.seconds / rule.cooldown_s)
        return found / records

    def _rows_before(self, rule: Rule) -> int:
        """How many rows before the newest the rule needs, and as many again to be safe."""
        rows = Decimal(rule.lead)
        if rule.bar_s:
            rows *= max(Decimal(1), rule.bar_s / self.usage.interval_s)
        return ceil(2 * rows)

    def quantities(self) -> dict[str, Decimal]:
        """Billed units by the price's name (``prices.PRICES``)."""
        parts = (self._stream, self._functions, self._tables, self._archive, self._alerting)
        found: dict[str, Decimal] = {}
        for part in (*parts, self._observation):
            found.update(part())
        return found

    def _stream(self) -> Iterator[tuple[str, Decimal]]:
        gb = self.records * ceil(RECORD_BYTES / KB) * KB / GB
        kept = min(Decimal(self.settings.stream_retention_hours), HOURS * self.usage.months)
        extended, long_term = min(kept, Decimal(168)) - 24, max(kept - 168, Decimal(0))
        if self.on_demand:
            yield "stream-hours", HOURS
            yield "stream-in", gb
            yield "stream-out", gb
            yield "stream-extended", gb * extended / HOURS
        else:
            yield "shard-hours", HOURS * self.shards
            yield "put-units", self.records / 1_000_000
            yield "shard-extended", HOURS * self.shards if extended else Decimal(0)
        yield "stream-long-term", gb * long_term / HOURS
        # Two users: the producer while it sends, Lambda's poller all the time.
        streaming = self.usage.streaming_hours
        published = 2 * min(self.alerts, KMS_CALLS_AN_HOUR * streaming)
        yield "kms-requests", (KMS_CALLS_AN_HOUR * (HOURS + streaming) + published) / 10_000

    @property
    def process_seconds(self) -> Decimal:
        return PROCESS_S + PROCESS_CHUNK_S * ceil(self.batch_records / 25)

    def _functions(self) -> Iterator[tuple[str, Decimal]]:
        yield "invocations", (self.process_calls + self.trend_calls + self.sweeps) / 1_000_000
        judged = self.usage.symbols * self.rounds_read
        if self.settings.sweep_look_back != "off":
            judged += self.sweeps * len(self.settings.symbols)
        trend_s = (
            (self.trend_calls + self.sweeps) * TREND_S
            + (judged + self._sweep_calls()) * TREND_SYMBOL_S
            + self.alerts * TREND_ALERT_S
        )
        yield "gb-seconds", (self.process_calls * self.process_seconds + trend_s) * MEMORY_GB

    @property
    def _all_alerts_bytes(self) -> Decimal:
        return self.alerts * self.usage.months * ALERT_BYTES

    def _sweep_calls(self) -> Decimal:
        """A page at a time, or two calls a symbol and one that finds no further symbol."""
        pages = max(1, ceil(self._all_alerts_bytes / PAGE_BYTES))
        return self.full_sweeps * pages + self.later_sweeps * (2 * self.usage.symbols + 1)

    def _sweep_units(self) -> Decimal:
        """What the same calls read: everything, or one item a symbol and what is young of it."""
        every = max(1, ceil(self._all_alerts_bytes / READ_UNIT_BYTES))
        age = self.settings.notify_max_age
        reach = HOURS if age == "off" else Decimal(str(age)) / 3600 + FLOORED_HOURS
        if any(rule.bar_s for rule in self.settings.rules):
            reach += Decimal(LONGEST_BREAK_S) / 3600
        share = min(reach / HOURS / self.usage.months, Decimal(1)) / self.usage.symbols
        young = max(1, ceil(self._all_alerts_bytes * share / READ_UNIT_BYTES))
        later = self.later_sweeps * (self.usage.symbols * (1 + young) + 1)
        return (self.full_sweeps * every + later) / 2

    def _look_back_units(self) -> Decimal:
        """Consistent reads of a look back: whose rows they are, those rows with what was before
        them, and by rule what is known already."""
        look_back, usage = self.settings.sweep_look_back, self.usage
        if look_back == "off":
            return Decimal(0)
        rows = Decimal(str(look_back)) / usage.interval_s * usage.streaming_hours / HOURS
        sizes = (rows, rows + self._rows_before_any)
        units = sum(ceil(size * ITEM_BYTES / READ_UNIT_BYTES) for size in sizes)
        return self.sweeps * len(self.settings.symbols) * (units + len(self.settings.rules))

    @property
    def _rows_before_any(self) -> int:
        return max((self._rows_before(rule) for rule in self.settings.rules), default=0)

    def _tables(self) -> Iterator[tuple[str, Decimal]]:
        # An item is below 1 KB: one unit. An alert is claimed, then marked: two.
        yield "table-writes", (self.records + 2 * self.alerts) / 1_000_000
        rows = ceil(self.records / self.rounds_read / self.usage.symbols) + self._rows_before_any
        units = ceil(rows * ITEM_BYTES / READ_UNIT_BYTES)
        judged = self.usage.symbols * self.rounds_read * units
        yield "table-reads", (judged + self._sweep_units() + self._look_back_units()) / 1_000_000
        ttl = self.settings.ttl_days
        months = Decimal(self.usage.months)
        kept = months if ttl is None else min(months, Decimal(ttl) / DAYS)
        stored = self.records * kept * (ITEM_BYTES + ITEM_OVERHEAD_BYTES) / GB
        alerts = self.alerts * months * (ALERT_BYTES + ITEM_OVERHEAD_BYTES) / GB
        yield "table-storage", stored + alerts
        yield "table-recovery", stored if self.settings.point_in_time_recovery else Decimal(0)

    def _archive(self) -> Iterator[tuple[str, Decimal]]:
        """The archive, and the queries over all of it."""
        archive = self.records * self.usage.months * ARCHIVE_LINE_BYTES
        objects = self.process_calls * self.usage.months
        limit = Decimal(self.settings.query_limit_mb) * 1024**2
        read = min(archive, limit)
        queries = Decimal(self.usage.queries)
        listed = objects / 1000 * queries
        puts = self.process_calls + RESULT_PUTS * queries
        yield "object-puts", (puts + listed) / 1000
        yield "object-gets", queries * objects * read / archive / 1000
        yield "object-storage", archive / GB
        yield "catalog-requests", queries * CATALOG_CALLS / 1_000_000
        yield "query-scans", queries * max(read, SCAN_MINIMUM) / TB

    def _alerting(self) -> Iterator[tuple[str, Decimal]]:
        yield "publishes", self.alerts / 1_000_000
        yield "emails", self.alerts * len(self.settings.emails) / 100_000
        yield "sms-parts", self.alerts * len(self.settings.sms) * SMS_PARTS

    def _observation(self) -> Iterator[tuple[str, Decimal]]:
        trend_calls = self.trend_calls + self.sweeps
        logged = (self.process_calls * PROCESS_LOG_BYTES + trend_calls * TREND_LOG_BYTES) / GB
        yield "log-bytes", logged
        kept = min(self.settings.log_retention_days / DAYS, Decimal(self.usage.months))
        yield "log-storage", logged * kept
        active = HOURS if self.usage.hours == "always" else MARKET_CLOCK_HOURS
        swept = 1 if self.sweeps else 0
        metrics = (PROCESS_METRICS + TREND_METRICS) * active + SWEEP_METRICS * swept * HOURS
        yield "metrics", metrics / HOURS
        alarms = ALARMS + SWEEP_ALARMS * swept
        yield "alarms", Decimal(alarms if self.settings.alarms else 0)
        yield "dashboards", Decimal(1 if self.settings.dashboard else 0)
