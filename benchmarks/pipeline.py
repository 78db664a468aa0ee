"""How fast the whole local pipeline is: records per second, and put to stored, put to alert.

Everything runs in an embedded cloud of its own, in a temporary directory.
    python benchmarks/pipeline.py
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

from stockpipe.aws import Aws
from stockpipe.config import Settings
from stockpipe.domain.clock import SYSTEM_CLOCK
from stockpipe.domain.exact import moment_text
from stockpipe.domain.quote import Quote
from stockpipe.domain.signals import Reading, crossings
from stockpipe.feeds.replay import read_csv
from stockpipe.infra.apply import apply
from stockpipe.infra.blueprint import blueprint
from stockpipe.infra.plan import plan_provision
from stockpipe.local import daemon
from stockpipe.operate.alerts import history
from stockpipe.producer import Producer

PUTS = 60


def until(done: Callable[[], bool]) -> float:
    """Seconds until it is done, looked at every 5 ms."""
    begun = time.perf_counter()
    while not done():
        time.sleep(0.005)
    return time.perf_counter() - begun


def throughput(aws: Aws, producer: Producer) -> None:
    quotes = read_csv("sample")
    series: dict[str, list[Reading]] = {}
    for quote in quotes:
        series.setdefault(quote.symbol, []).append(Reading(quote.timestamp, quote.price))
    expected = sum(len(crossings(readings, 5, 20)) for readings in series.values())
    begun = time.perf_counter()
    producer.send(quotes)
    dynamodb, table = aws.client("dynamodb"), aws.names.alerts_table
    until(lambda: len(history(dynamodb, table)) >= expected)
    seconds = time.perf_counter() - begun
    print(
        f"{len(quotes):,} quotes to the last of {expected} alerts: {len(quotes) / seconds:,.0f}/s"
    )


def latency(aws: Aws, producer: Producer) -> None:
    """Single quotes: every one after the first 20 crosses, up and down in turn."""
    dynamodb, names = aws.client("dynamodb"), aws.names
    stored, alerted = [], []
    template = Quote("BENCH", 10**8, 10**8, 10**8, 10**8, None, 1, "")
    start = SYSTEM_CLOCK.now().timestamp() - 3600
    for index in range(20 + PUTS):
        moment = moment_text(SYSTEM_CLOCK.now().fromtimestamp(start + index).astimezone())
        price = (100 + (50 if (index // 5) % 2 else -50)) * 10**6
        quote = dataclasses.replace(template, price=price, timestamp=moment)
        key = {"symbol": {"S": "BENCH"}, "timestamp": {"S": moment}}
        alert = {"symbol": {"S": "BENCH"}, "id": {"S": f"{moment}#crossover-5-20"}}
        producer.send([quote])
        begun = time.perf_counter()
        until(lambda key=key: "Item" in dynamodb.get_item(TableName=names.table, Key=key))  # type: ignore[misc]
        stored.append(time.perf_counter() - begun)
        if index >= 20 and index % 5 == 2:

            def fired(alert: dict[str, dict[str, str]] = alert) -> bool:
                return "Item" in dynamodb.get_item(TableName=names.alerts_table, Key=alert)

            found = begun
            while not fired() and time.perf_counter() - begun < 2:
                time.sleep(0.005)
            found = time.perf_counter()
            if fired():
                alerted.append(found - begun)
    for what, figures in (("stored", stored[20:]), ("alerted", alerted)):
        if len(figures) > 1:
            p95 = quantiles(figures, n=20)[-1]
            print(
                f"put to {what}: p50 {median(figures) * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms"
                f" ({len(figures)} of them)"
            )


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        begun = time.perf_counter()
        endpoint = daemon.ensure_running(home)
        print(f"embedded cloud ready in {time.perf_counter() - begun:.1f} s")
        try:
            aws = Aws(region="us-east-2", endpoint=endpoint)
            settings = Settings(notify_max_age="off")
            begun = time.perf_counter()
            apply(plan_provision(blueprint(aws, settings)), lambda step: None)
            print(f"provisioned in {time.perf_counter() - begun:.1f} s")
            producer = Producer(aws.client("kinesis"), aws.names.stream)
            throughput(aws, producer)
            latency(aws, producer)
        finally:
            daemon.stop(home)


if __name__ == "__main__":
    main()
