"""How fast the whole local pipeline is: records per second, put to stored, put to alert, in bulk;
what the embedded cloud takes to start, to be idle, and in memory.

Everything runs in an embedded cloud of its own, in a temporary directory. The machine's load is in
every figure but the ratios, which compare two things of one run.
    PYTHONPATH=tests python benchmarks/pipeline.py
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from real_bars import origin, real_bars
from stockpipe.aws import Aws
from stockpipe.domain.clock import SYSTEM_CLOCK
from stockpipe.domain.exact import moment_text
from stockpipe.domain.quote import Quote
from stockpipe.domain.rules import CrossoverRule
from stockpipe.domain.rules.crossover import crossings
from stockpipe.domain.signals import Reading
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.infra.apply import apply
from stockpipe.infra.blueprint import blueprint
from stockpipe.infra.plan import plan_provision
from stockpipe.local import daemon, processes
from stockpipe.local.home import Places
from stockpipe.operate.alerts import history
from stockpipe.producer.sender import Sender
from stockpipe.settings import Settings

PUTS = 60
BULK = 50_000
BULK_TARGET_S = 180
IDLE_S = 10.0
PARTITION = 20_000
QUERIES = 7


def until(done: Callable[[], bool], every_s: float = 0.005) -> float:
    """Seconds until it is done."""
    begun = time.perf_counter()
    while not done():
        time.sleep(every_s)
    return time.perf_counter() - begun


def crosses(quotes: Iterable[Quote]) -> int:
    """How many alerts the quotes, each symbol's in time order, must cause."""
    series: dict[str, list[Reading]] = defaultdict(list)
    for quote in quotes:
        series[quote.symbol].append(Reading(quote.timestamp, quote.price))
    return sum(len(crossings(readings, 5, 20)) for readings in series.values())


def throughput(aws: Aws, producer: Sender) -> None:
    quotes = read_csv("sample")
    expected = crosses(quotes)
    begun = time.perf_counter()
    producer.send(quotes)
    dynamodb, table = aws.client("dynamodb"), aws.names.alerts_table
    until(lambda: len(history(dynamodb, table)) >= expected)
    seconds = time.perf_counter() - begun
    print(
        f"{len(quotes):,} quotes to the last of {expected} alerts: {len(quotes) / seconds:,.0f}/s"
    )


def latency(aws: Aws, producer: Sender) -> None:
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
        begun = time.perf_counter()
        producer.send([quote])
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


def idle(home: Path) -> None:
    """Processor time and memory of the server while nothing is asked of it."""
    pid = daemon.status(home).pid
    assert pid is not None
    if not Path("/proc").is_dir():
        print("idle CPU: is read from /proc, which is not here")
        return
    pids = [pid, *processes.functions(Places(home).tmp)]
    before = [cpu_s(one) for one in pids]
    time.sleep(IDLE_S)
    spent = [cpu_s(one) - start for one, start in zip(pids, before, strict=True)]
    print(
        f"idle with two mappings: {spent[0] / IDLE_S:.1%} of a core,"
        f" its {len(pids) - 1} function processes {sum(spent[1:]) / IDLE_S:.1%}"
    )


def cpu_s(pid: int) -> float:
    """User and system time of a process so far (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(home: Path, when: str) -> None:
    taken = daemon.status(home).memory_bytes
    print(f"memory {when}: {(taken or 0) / 2**20:.0f} MiB")


def restart(home: Path) -> None:
    rows = daemon.status(home).disk_bytes / 2**20
    daemon.stop(home)
    begun = time.perf_counter()
    daemon.ensure_running(home)
    print(f"started again with {rows:.0f} MiB of data in {time.perf_counter() - begun:.1f} s")


def bulk(aws: Aws, producer: Sender, batch: int) -> None:
    """Real bars through both functions, until the last is stored and its alerts are sent."""
    quotes = real_bars(BULK)
    expected = crosses(quotes)
    dynamodb, names = aws.client("dynamodb"), aws.names

    def held(table: str) -> int:
        return int(dynamodb.describe_table(TableName=table)["Table"]["ItemCount"])

    def settled() -> bool:
        if held(names.alerts_table) < expected:
            return False
        return all(alert["sent_at"] for alert in history(dynamodb, names.alerts_table))

    begun = time.perf_counter()
    producer.send(quotes)
    sent = time.perf_counter() - begun
    until(lambda: held(names.table) >= len(quotes), every_s=0.25)
    stored = time.perf_counter() - begun
    until(settled, every_s=0.25)
    seconds = time.perf_counter() - begun
    alerts = held(names.alerts_table)
    assert (held(names.table), alerts) == (len(quotes), expected)
    symbols = len({quote.symbol for quote in quotes})
    print(
        f"{len(quotes):,} real bars of {symbols} symbols ({origin()}), batches of {batch}:"
        f" sent after {sent:.0f} s, stored after {stored:.0f} s, the last of {alerts:,} alerts"
        f" sent after {seconds:.0f} s: {len(quotes) / seconds:,.0f}/s"
        f" (target: under {BULK_TARGET_S} s on 2 cores, {seconds / BULK_TARGET_S:.2f} of it)"
    )


def queries() -> None:
    """The trend function's Query on one symbol's rows, without and with our index."""
    from ministack.services import dynamodb

    from stockpipe.local.emulator import index

    before = query_s(dynamodb)
    index.install()
    after = query_s(dynamodb)
    print(
        f"Query of 60 rows among {PARTITION:,}, p50: {before * 1000:.0f} ms as it is,"
        f" {after * 1000:.1f} ms with the index: ratio {before / after:.0f}"
    )


def query_s(dynamodb: Any) -> float:
    """Seconds per Query within the emulator: the median, after a first one."""

    def call(operation: str, **request: Any) -> None:
        status, _headers, body = getattr(dynamodb, operation)(json.loads(json.dumps(request)))
        assert status == 200, body

    dynamodb.reset()
    keys = {"symbol": "HASH", "timestamp": "RANGE"}
    call(
        "_create_table",
        TableName="bars",
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(PARTITION):
        item = {"symbol": {"S": "AAPL"}, "timestamp": {"S": f"{number:06d}"}, "price": {"N": "1.5"}}
        call("_put_item", TableName="bars", Item=item)
    spent = []
    for _ in range(QUERIES + 1):
        begun = time.perf_counter()
        call(
            "_query",
            TableName="bars",
            KeyConditionExpression="symbol = :symbol AND #ts <= :edge",
            ExpressionAttributeNames={"#ts": "timestamp"},
            ExpressionAttributeValues={":symbol": {"S": "AAPL"}, ":edge": {"S": "015000"}},
            ProjectionExpression="#ts, price",
            ScanIndexForward=False,
            Limit=60,
        )
        spent.append(time.perf_counter() - begun)
    return median(spent[1:])


@contextmanager
def pipeline(settings: Settings) -> Iterator[tuple[Path, Aws, Sender]]:
    """A pipeline in a cloud of its own: where that lives, and how to reach it."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        begun = time.perf_counter()
        endpoint = daemon.ensure_running(home)
        print(f"embedded cloud ready in {time.perf_counter() - begun:.1f} s")
        try:
            aws = Aws(region="us-east-2", endpoint=endpoint)
            begun = time.perf_counter()
            apply(plan_provision(blueprint(aws, settings)), lambda step: None)
            print(f"provisioned in {time.perf_counter() - begun:.1f} s")
            yield home, aws, Sender(lambda: aws.client("kinesis"), aws.names.stream)
        finally:
            daemon.stop(home)


def main() -> None:
    settings = Settings(notify_max_age="off", rules=(CrossoverRule(),))
    with pipeline(settings) as (home, aws, producer):
        memory(home, "after provisioning")
        throughput(aws, producer)
        latency(aws, producer)
        idle(home)
    with pipeline(settings) as (home, aws, producer):
        bulk(aws, producer, settings.batch_size)
        memory(home, f"with {BULK:,} records")
        restart(home)
    queries()


if __name__ == "__main__":
    main()
