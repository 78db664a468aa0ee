"""The monthly estimate: every line can be checked by hand, every assumption against the code."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockpipe.domain.alerts import Alert
from stockpipe.domain.clock import SYSTEM_CLOCK
from stockpipe.domain.exact import to_micro
from stockpipe.domain.messages import short
from stockpipe.domain.names import Names
from stockpipe.domain.quote import parse_quote, quote_json
from stockpipe.domain.rules import CrossoverRule, MoveRule, SpikeRule
from stockpipe.domain.rules.crossover import crossings
from stockpipe.domain.rules.history import reading_of
from stockpipe.domain.signals import GOLDEN, Reading, Signal
from stockpipe.functions import process, trend
from stockpipe.functions.analysis import Change, Outcome
from stockpipe.functions.batch import SEQ_WIDTH, Arrived
from stockpipe.functions.table import item_of
from stockpipe.infra import monitoring
from stockpipe.infra.resources.lambda_ import MEMORY_MB
from stockpipe.operate import workload
from stockpipe.operate.cost import Estimate, cheaper, cheapest_saving, estimate
from stockpipe.operate.prices import PRICES, REFERENCE_REGION, REGIONS
from stockpipe.operate.workload import Usage, Workload, crossing_rate, usage_of
from stockpipe.settings import Settings

NOW = datetime(2022, 3, 14, 13, 30, 3, tzinfo=UTC)
RECORD = json.dumps(
    {
        "symbol": "AAPL", "open": 151.449997, "high": 152.119995, "low": 151.300003,
        "price": 151.830002, "previous_close": 150.5, "volume": 57675600,
        "timestamp": "2022-03-14T13:30:00.000Z", "ingested_at": "2022-03-14T13:30:02.125Z",
        "source": "yahoo", "utc_offset_s": -14400,
    }
).encode()  # fmt: skip
QUOTE = parse_quote(RECORD, arrived_at=NOW)
ALERT = Alert(
    "AAPL",
    "crossover-5-20",
    Signal(reading_of(QUOTE), GOLDEN, 151_750_001, 151_650_001),
)


def settings(**values: Any) -> Settings:
    return Settings(**values)


def month(symbols: int = 1, interval: str = "30", **values: Any) -> Usage:
    return Usage(symbols, Decimal(interval), **values)


def amounts(found: Estimate) -> dict[str, Decimal]:
    """Per price's name, what its line comes to."""
    names = {price: name for name, price in PRICES.items()}
    return {names[line.price]: line.amount for line in found.lines}


def dynamodb_bytes(item: dict[str, dict[str, str]]) -> int:
    """Names and values as DynamoDB counts them: text by byte, a number by half its digits."""
    size = 0
    for name, typed in item.items():
        ((kind, value),) = typed.items()
        digits = value.replace(".", "").lstrip("-").strip("0")
        size += len(name) + (len(value) if kind == "S" else (len(digits) + 1) // 2 + 1)
    return size


# The estimate


def test_an_idle_stream_on_demand_is_730_stream_hours_whatever_flows() -> None:
    for symbols in (1, 500):
        assert amounts(estimate(settings(), month(symbols)))["stream-hours"] == Decimal("29.20")


def test_every_line_is_its_quantity_times_its_price_and_the_total_is_their_sum() -> None:
    found = estimate(settings(emails=["a@example.com"], sms=["+15550100"]), month(25))
    documents = [line.as_document() for line in found.lines]
    for document in documents:
        assert document["amount"] == document["quantity"] * document["unit_price"] > 0
    total = sum(document["amount"] for document in documents)
    assert abs(found.total - total) <= Decimal("0.005")


def test_the_quantities_follow_from_the_rounds() -> None:
    work = Workload(settings(stream_mode="provisioned"), month(2, hours="market"))
    rounds = Decimal("136.5") * 120
    assert work.records == 2 * rounds
    assert work.process_calls == rounds
    assert work.trend_calls == 2 * rounds
    billed = work.quantities()
    assert billed["put-units"] * 1_000_000 == 2 * rounds
    assert billed["table-writes"] * 1_000_000 == 2 * rounds + 2 * work.alerts


@pytest.mark.parametrize(
    ("symbols", "shards", "batch_size", "a_round"),
    [(1, 4, 500, 1), (4, 4, 500, 4), (4, 1, 500, 1), (1000, 1, 500, 2), (1000, 4, 100, 12)],
)
def test_a_round_becomes_a_batch_for_each_shard_that_holds_some_of_it(
    symbols: int, shards: int, batch_size: int, a_round: int
) -> None:
    made = settings(stream_mode="provisioned", shards=shards, batch_size=batch_size)
    work = Workload(made, month(symbols))
    assert work.process_calls == a_round * work.rounds_read


def test_rounds_faster_than_lambda_looks_share_an_invocation() -> None:
    once, twice = (Workload(settings(), month(interval=every)) for every in ("1", "0.5"))
    assert twice.records == 2 * once.records
    assert twice.process_calls == once.process_calls


def test_a_provisioned_stream_is_paid_by_shard_and_payload_unit() -> None:
    found = amounts(estimate(settings(stream_mode="provisioned", shards=3), month()))
    assert found["shard-hours"] == 3 * Decimal("10.95")
    assert "put-units" in found
    assert not {"stream-hours", "stream-in", "stream-out"} & set(found)


@pytest.mark.parametrize(
    ("mode", "hours", "lines"),
    [
        ("on-demand", 24, set()),
        ("on-demand", 48, {"stream-extended"}),
        ("on-demand", 400, {"stream-extended", "stream-long-term"}),
        ("provisioned", 24, set()),
        ("provisioned", 48, {"shard-extended"}),
        ("provisioned", 400, {"shard-extended", "stream-long-term"}),
    ],
)
def test_keeping_records_longer_than_a_day_costs_extra(
    mode: str, hours: int, lines: set[str]
) -> None:
    found = amounts(estimate(settings(stream_mode=mode, stream_retention_hours=hours), month(99)))
    kept = {"stream-extended", "shard-extended", "stream-long-term"}
    assert kept & set(found) == lines


def test_alerts_are_paid_for_each_recipient() -> None:
    none, one, two = (
        amounts(estimate(settings(emails=[f"{n}@example.com" for n in range(count)]), month()))
        for count in range(3)
    )
    assert "emails" not in none
    assert abs(two["emails"] - 2 * one["emails"]) < Decimal("0.0001")
    texted = estimate(settings(sms=["+15550100"]), month())
    parts = next(line.quantity for line in texted.lines if line.price is PRICES["sms-parts"])
    assert abs(parts - texted.workload.alerts) < 1


def test_rules_for_some_symbols_alert_for_those_only() -> None:
    made = (CrossoverRule, MoveRule, SpikeRule)
    for rule in made:
        every, some = (
            Workload(settings(rules=(rule(symbols=symbols),)), month(4)).alerts
            for symbols in (frozenset[str](), frozenset({"AAPL"}))
        )
        assert some == every / 4 > 0


def test_market_hours_leave_what_is_paid_by_the_hour_and_shrink_the_rest() -> None:
    always, market = (
        amounts(estimate(settings(sweep="off"), month(5, hours="always"))),
        amounts(estimate(settings(sweep="off"), month(5, hours="market"))),
    )
    for name in ("stream-hours", "alarms", "dashboards"):
        assert always[name] == market[name]
    for name in ("stream-in", "table-writes", "object-puts", "metrics"):
        assert market[name] < always[name] / 2


def test_the_sweep_has_a_metric_around_the_clock_and_an_alarm() -> None:
    swept, quiet = (
        amounts(estimate(settings(sweep=every), month(hours="market"))) for every in ("5m", "off")
    )
    assert swept["metrics"] - quiet["metrics"] == Decimal("0.30")
    assert swept["alarms"] - quiet["alarms"] == Decimal("0.10")
    assert swept["invocations"] > quiet["invocations"]


def sweep_reads(symbols: int = 1, months: int = 1, **values: Any) -> Decimal:
    """Read units that the sweep adds in a month."""
    usage = month(symbols, months=months)
    swept, quiet = (
        Workload(settings(**{**values, "sweep": every}), usage).quantities()["table-reads"]
        for every in ("5m", "off")
    )
    return (swept - quiet) * 1_000_000


def test_a_sweep_reads_two_halves_of_a_unit_a_symbol_and_one_to_find_no_other() -> None:
    full = 365  # of the 8,760: an environment lives two hours
    for symbols in (1, 7):
        assert sweep_reads(symbols, rules=()) == (full + 8395 * (2 * symbols + 1)) / Decimal(2)


def test_history_is_paid_for_by_the_few_sweeps_that_read_it_unless_all_do() -> None:
    work = Workload(settings(), month(10))
    units = work.alerts * workload.ALERT_BYTES / 4096 / 2
    assert work.alerts > 50_000
    for age, sweeps in ((3600, 365), ("off", 8760)):
        more = sweep_reads(10, 2, notify_max_age=age) - sweep_reads(10, 1, notify_max_age=age)
        assert float(more) == pytest.approx(float(units * sweeps), rel=0.001)


def test_a_later_sweep_reads_the_alerts_of_the_age_that_is_notified_and_of_the_day_before() -> None:
    work = Workload(settings(), month())
    hour = work.alerts / 730 * workload.ALERT_BYTES / 4096 / 2
    for age_hours in (1, 100):
        reads = sweep_reads(notify_max_age=age_hours * 3600)
        later = (reads - 365 * work.alerts * workload.ALERT_BYTES / 4096 / 2) / 8395
        assert abs(later - 1 - (36 + age_hours) * hour) <= Decimal("0.5")  # whole units


def test_a_look_back_reads_its_rows_once_to_find_and_once_to_judge_them() -> None:
    def reads(look_back: str, symbols: tuple[str, ...]) -> Decimal:
        made = settings(sweep_look_back=look_back, symbols=symbols, rules=())
        return Workload(made, month(2)).quantities()["table-reads"] * 1_000_000

    rows = 30  # of 15 minutes, one every 30 s
    units = 2 * ceil(Decimal(rows * workload.ITEM_BYTES) / 4096)
    for symbols in (("AAPL",), ("AAPL", "IBM")):
        more = reads("15m", symbols) - reads("off", symbols)
        assert more == 8760 * len(symbols) * units


def test_the_free_allowances_are_told_beside_the_list_price_not_deducted_from_it() -> None:
    found = estimate(settings(), month())
    assert found.total_after_free < found.total
    free = {line.price.what: line for line in found.lines}
    assert free["alarms"].amount == Decimal("1.10")
    assert free["alarms"].after_free == Decimal("0.10")
    assert free["on-demand stream"].after_free == free["on-demand stream"].amount


def test_a_region_without_known_prices_says_whose_it_was_given() -> None:
    for region in REGIONS:
        assert estimate(settings(region=region)).prices_from == region
    elsewhere = estimate(settings(region="ap-southeast-7"))
    assert (elsewhere.region, elsewhere.prices_from) == ("ap-southeast-7", REFERENCE_REGION)


def test_the_settings_alone_say_how_the_pipeline_is_used() -> None:
    made = settings(symbols=["AAPL", "MSFT", "IBM"], interval="1m")
    assert usage_of(made) == Usage(3, Decimal(60), "always")
    assert usage_of(made, 7, "market") == Usage(7, Decimal(60), "market")


@given(
    st.integers(1, 200),
    st.integers(5, 3600),
    st.sampled_from(["on-demand", "provisioned"]),
    st.integers(1, 12),
)
def test_more_symbols_or_more_data_never_cost_less(
    symbols: int, every: int, mode: str, months: int
) -> None:
    # A query that the cutoff ends early is a cheaper one: none is, with this cutoff.
    made = settings(stream_mode=mode, query_limit_mb=1_000_000)
    total = estimate(made, month(symbols, str(every), months=months)).total
    assert estimate(made, month(symbols + 1, str(every), months=months)).total >= total
    assert estimate(made, month(symbols, str(every), months=months + 1)).total >= total


# The savings


@pytest.mark.parametrize(
    "made",
    [
        settings(),
        settings(stream_mode="provisioned", shards=8, stream_retention_hours=72),
        settings(sms=["+15550100"], point_in_time_recovery=True, log_retention_days=365),
    ],
    ids=["defaults", "shards", "everything on"],
)
def test_a_saving_is_the_difference_that_the_setting_makes(made: Settings) -> None:
    usage = month(40, months=12)
    found = cheaper(made, usage)
    assert found
    for saving in found:
        if saving.setting in Settings.model_fields and saving.setting != "interval":
            changed = Settings.model_validate(
                {**made.model_dump(), saving.setting: saving.value, "rules": made.rules}
            )
            assert saving.saves == estimate(made, usage).total - estimate(changed, usage).total
        assert saving.saves > 0
        assert saving.instead


def test_the_provisioned_stream_is_the_cheaper_setting_of_a_small_watch_list() -> None:
    saving = cheapest_saving(settings())
    assert saving is not None
    assert (saving.setting, saving.value) == ("stream_mode", "provisioned")
    assert Decimal("18") < saving.saves < Decimal("19")


def test_with_many_shards_the_stream_on_demand_is_the_cheaper_one() -> None:
    made = settings(stream_mode="provisioned", shards=4)
    assert ("shards", 1) in {(s.setting, s.value) for s in cheaper(made)}
    assert ("stream_mode", "on-demand") in {(s.setting, s.value) for s in cheaper(made)}


def test_a_longer_interval_and_market_hours_save_but_hours_are_no_setting() -> None:
    found = {saving.setting: saving.value for saving in cheaper(settings(), month(50))}
    assert found["interval"] == "60s"
    assert found["--hours"] == "market"
    best = cheapest_saving(settings(stream_mode="provisioned"), month(2000, "5"))
    assert best is not None
    assert best.setting in Settings.model_fields


def test_what_the_free_allowance_covers_anyway_comes_last() -> None:
    order = [saving.setting for saving in cheaper(settings())]
    assert order.index("stream_mode") < order.index("dashboard")


# The prices and what the quantities rest on


def test_every_price_is_used_and_says_where_and_when_it_was_seen() -> None:
    used: set[str] = set()
    for mode in ("on-demand", "provisioned"):
        used |= set(Workload(settings(stream_mode=mode), month()).quantities())
    assert used == set(PRICES)
    for price in PRICES.values():
        assert price.source.startswith("https://aws.amazon.com/")
        assert price.seen.startswith("202")


def test_the_assumed_sizes_are_those_of_a_real_quote_and_alert() -> None:
    item = item_of(QUOTE, anomaly_micro=5_000_000, after="2022-03-14T13:29:30.000Z")
    alert = {"symbol": "AAPL", "id": ALERT.id, "status": "sent", "sent_at": QUOTE.timestamp}
    alert |= ALERT.facts()
    measured = {
        workload.RECORD_BYTES: len(quote_json(QUOTE)) + len(QUOTE.symbol),
        workload.ARCHIVE_LINE_BYTES: len(quote_json(QUOTE, seq="0" * SEQ_WIDTH)) + 1,
        workload.ITEM_BYTES: dynamodb_bytes(item),
        workload.ALERT_BYTES: dynamodb_bytes({name: {"S": v} for name, v in alert.items()}),
    }
    for assumed, real in measured.items():
        assert 0.9 * assumed <= real <= 1.1 * assumed
    assert len(short(ALERT)) <= 140 * workload.SMS_PARTS


def test_the_assumed_metrics_and_log_lines_are_those_of_the_functions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STACK", "default")
    arrived = Arrived("4" * 56, "shardId-000000000000", RECORD, "", NOW)
    change = Change("1", "AAPL", QUOTE.timestamp, NOW.timestamp(), modified=False)
    lines = {
        workload.PROCESS_METRICS: process.summary(
            process.Outcome(records=1, stored=1), [arrived], SYSTEM_CLOCK
        ),
        workload.TREND_METRICS: trend.summary(Outcome(records=1), [change], SYSTEM_CLOCK),
    }
    for metrics, line in lines.items():
        (declared,) = json.loads(line)["_aws"]["CloudWatchMetrics"]
        assert len(declared["Metrics"]) == metrics
        assert declared["Dimensions"] == [["stack", "function"]]
    # START, END and REPORT take some 360 bytes, and each of the four lines 26 more.
    platform = 360 + 4 * 26
    for assumed, line in zip(
        (workload.PROCESS_LOG_BYTES, workload.TREND_LOG_BYTES), lines.values(), strict=True
    ):
        assert 0.9 * assumed <= len(line) + platform <= 1.1 * assumed


def test_the_functions_have_the_memory_that_is_paid_for() -> None:
    assert workload.MEMORY_GB * 1024 == MEMORY_MB


@pytest.mark.parametrize("sweep", ["5m", "off"])
def test_as_many_alarms_are_paid_for_as_are_made(sweep: str) -> None:
    made = settings(sweep=sweep)
    watches = monitoring.watches(Names("default", "us-east-2", "123456789012"), made)
    wanted = sum(watch.wanted for watch in watches)
    assert Workload(made, month()).quantities()["alarms"] == wanted


def test_crossings_of_real_prices_are_as_frequent_as_expected(
    closes: dict[str, list[tuple[str, str]]],
) -> None:
    for fast, slow in ((5, 20), (10, 50)):
        found = readings = 0
        for series in closes.values():
            days = [Reading(day, to_micro(close)) for day, close in series]
            found += len(list(crossings(days, fast, slow)))
            readings += len(days)
        assert float(crossing_rate(fast, slow)) == pytest.approx(found / readings, rel=0.2)
