"""What a month costs at list prices, and which setting makes it cheaper.

Pure: settings and prices in, amounts out; nothing is asked of AWS. A saving is never a formula of
its own: the same estimate is made again with one setting changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from math import ceil
from typing import Any

from stockpipe.operate.prices import PRICES, REFERENCE_REGION, REGIONS, Price
from stockpipe.operate.workload import SHARD_RECORDS_S, Usage, Workload, usage_of
from stockpipe.settings import Settings

CURRENCY = "USD"
CENT = Decimal("0.01")
WORTH_TELLING = Decimal("0.05")
"""Dollars a month; a smaller saving is noise of the assumptions."""
_EXACT = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Line:
    """``quantity`` times ``price.usd`` is the amount; quantities have six decimals."""

    price: Price
    quantity: Decimal

    @property
    def amount(self) -> Decimal:
        return self.quantity * self.price.usd

    @property
    def after_free(self) -> Decimal:
        """The amount where nothing else in the account uses the free allowance."""
        return max(self.quantity - self.price.free, Decimal(0)) * self.price.usd

    def as_document(self) -> dict[str, Any]:
        return {
            "service": self.price.service,
            "what": self.price.what,
            "quantity": self.quantity.normalize(),
            "unit": self.price.unit,
            "unit_price": self.price.usd,
            "amount": self.amount.normalize(),
            "free_quantity": self.price.free,
            "price_seen": self.price.seen,
            "price_source": self.price.source,
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    """A month in dollars. ``prices_from`` is the region whose prices were used."""

    region: str
    prices_from: str
    workload: Workload
    lines: tuple[Line, ...]

    @property
    def total(self) -> Decimal:
        return sum((line.amount for line in self.lines), Decimal(0)).quantize(CENT)

    @property
    def total_after_free(self) -> Decimal:
        return sum((line.after_free for line in self.lines), Decimal(0)).quantize(CENT)

    @property
    def prices_seen(self) -> tuple[str, str]:
        """The oldest and the newest date (or month, or year) of the prices used."""
        seen = sorted(line.price.seen for line in self.lines)
        return seen[0], seen[-1]

    @property
    def assumptions(self) -> dict[str, Any]:
        """What the quantities rest on."""
        work, usage = self.workload, self.workload.usage
        return {
            "symbols": usage.symbols,
            "interval_s": usage.interval_s,
            "hours": usage.hours,
            "streaming_hours": usage.streaming_hours,
            "records": int(work.records),
            "process_invocations": int(work.process_calls),
            "process_s": work.process_seconds,
            "trend_invocations": int(work.trend_calls + work.sweeps),
            "alerts": int(work.alerts),
            "queries": usage.queries,
            "months_of_data": usage.months,
        }


@dataclass(frozen=True, slots=True)
class Saving:
    """One change of a setting: what it saves a month, and what is given up for it.

    ``setting`` beginning with ``--`` is an option of use, not of ``stockpipe.toml``.
    """

    setting: str
    value: Any
    saves: Decimal
    saves_after_free: Decimal
    instead: str

    def as_document(self) -> dict[str, Any]:
        return {
            "setting": self.setting,
            "value": self.value,
            "saves": self.saves,
            "saves_after_free": self.saves_after_free,
            "instead": self.instead,
        }


def estimate(settings: Settings, usage: Usage | None = None, region: str | None = None) -> Estimate:
    """The estimate; by default for the watch-list, interval and region of the settings.

    A region without prices of its own is estimated at those of ``REFERENCE_REGION``.
    """
    region = region or settings.region
    workload = Workload(settings, usage or usage_of(settings))
    lines = tuple(
        Line(PRICES[name], exact)
        for name, quantity in workload.quantities().items()
        if (exact := quantity.quantize(_EXACT))
    )
    return Estimate(region, region if region in REGIONS else REFERENCE_REGION, workload, lines)


def cheaper(
    settings: Settings, usage: Usage | None = None, region: str | None = None
) -> list[Saving]:
    """Every change that saves something at list prices, the most worthwhile first.

    Worthwhile counts what the free allowances do not cover anyway.
    """
    usage = usage or usage_of(settings)
    now = estimate(settings, usage, region)
    savings = []
    for change in _changes(settings, usage):
        then = estimate(change.settings, change.usage, region)
        saves = now.total - then.total
        if saves >= WORTH_TELLING:
            after_free = now.total_after_free - then.total_after_free
            savings.append(Saving(change.name, change.value, saves, after_free, change.instead))
    return sorted(savings, key=lambda saving: (-saving.saves_after_free, -saving.saves))


def cheapest_saving(
    settings: Settings, usage: Usage | None = None, region: str | None = None
) -> Saving | None:
    """The setting of ``stockpipe.toml`` that saves most; None where none saves enough."""
    found = (one for one in cheaper(settings, usage, region) if not one.setting.startswith("--"))
    return next(found, None)


@dataclass(frozen=True, slots=True)
class _Change:
    name: str
    value: Any
    settings: Settings
    usage: Usage
    instead: str


def _changes(settings: Settings, usage: Usage) -> Iterator[_Change]:
    """The changes worth trying; whether one saves anything is for the estimate to say."""

    def change(instead: str, **values: Any) -> _Change:
        name, value = next(iter(values.items()))
        return _Change(name, value, settings.model_copy(update=values), usage, instead)

    shards = max(1, ceil(usage.symbols / usage.interval_s / SHARD_RECORDS_S))
    if settings.stream_mode == "on-demand":
        more = f", with shards = {shards}" if shards > 1 else ""
        yield change(
            f"a fixed capacity: 1,000 records and 1 MB a second for each shard{more}",
            stream_mode="provisioned",
            shards=shards,
        )
    else:
        if settings.shards > shards:
            yield change("less room for peaks, as of a replay at full speed", shards=shards)
        yield change("nothing: it follows the load by itself", stream_mode="on-demand")
    if settings.stream_retention_hours > 24:
        yield change("a day to mend what stops the processing, not more", stream_retention_hours=24)
    slower = usage.interval_s * 2
    yield _Change(
        "interval",
        f"{slower.normalize():f}s",
        settings,
        replace(usage, interval_s=slower),
        "half of the readings: averages over 5 and 20 of them span twice the time",
    )
    if usage.hours == "always":
        yield _Change(
            "--hours",
            "market",
            settings,
            replace(usage, hours="market"),
            "stream only while the market is open",
        )
    if settings.sms:
        yield change("alerts by e-mail only", sms=())
    if settings.alarms:
        yield change("nobody is told when the pipeline is in trouble", alarms=False)
    if settings.dashboard:
        yield change("no overview in the CloudWatch console", dashboard=False)
    if settings.sweep != "off":
        yield change("an alert that could not be sent waits for the next reading", sweep="off")
    if settings.point_in_time_recovery:
        yield change("a deleted record is gone", point_in_time_recovery=False)
    if settings.ttl_days is None or settings.ttl_days > 30:
        yield change("older records only in the archive, by SQL", ttl_days=30)
    if settings.log_retention_days > 3:
        yield change("logs of three days", log_retention_days=3)
