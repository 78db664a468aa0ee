"""How fast the producer is: records per second and processor time against a loop of put_record, and
how long a round of a large watch-list takes from the feed until Kinesis has acknowledged it.

Everything runs in an embedded cloud of its own, in a temporary directory, with a stream that nobody
reads. The machine's load is in every figure but the ratios, which compare two things of one run.
    python benchmarks/stream.py
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles

from stockpipe.aws import Aws
from stockpipe.domain.clock import SYSTEM_CLOCK
from stockpipe.domain.exact import moment_text
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.feeds.base import Round
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.local import daemon
from stockpipe.producer.sender import Sender, Sent
from stockpipe.producer.stop import StoppableClock
from stockpipe.producer.streaming import LINGER_S, Streaming

TARGET = 20
REPEATS = 5
SYMBOLS = 200
ROUNDS = 40
INTERVAL_S = 0.2


def put_one_by_one(aws: Aws, quotes: Sequence[Quote]) -> None:
    """What tutorials do."""
    kinesis = aws.client("kinesis")
    for quote in quotes:
        kinesis.put_record(
            StreamName=aws.names.stream, Data=quote_json(quote).encode(), PartitionKey=quote.symbol
        )


def put_many(aws: Aws, quotes: Sequence[Quote]) -> None:
    sender = Sender(lambda: aws.client("kinesis"), aws.names.stream)
    sender.send(quotes)
    assert sender.totals.sent == len(quotes)


def spent(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and processor seconds of this process alone: the cloud is another one."""
    begun, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - cpu


def throughput(aws: Aws) -> None:
    """The same quotes by both ways, in turn, so that a busy moment hits both."""
    quotes = read_csv("sample")
    put_many(aws, quotes[:10])  # the first request opens the connection
    loops, ours = [], []
    for _ in range(REPEATS):
        loops.append(spent(lambda: put_one_by_one(aws, quotes)))
        ours.append(spent(lambda: put_many(aws, quotes)))
    loop_s, loop_cpu_s = (median(figures) for figures in zip(*loops, strict=True))
    our_s, our_cpu_s = (median(figures) for figures in zip(*ours, strict=True))
    number = len(quotes)
    print(
        f"{number:,} quotes, median of {REPEATS}: {number / our_s:,.0f}/s by the producer,"
        f" {number / loop_s:,.0f}/s by a loop of put_record:"
        f" ratio {loop_s / our_s:.0f} (target: >= {TARGET})"
    )
    print(
        f"CPU per record: {our_cpu_s / number * 1e6:.0f} us by the producer,"
        f" {loop_cpu_s / number * 1e6:.0f} us by the loop:"
        f" ratio {loop_cpu_s / our_cpu_s:.0f}"
    )


class WatchList:
    """A live feed: a quote of every symbol per interval."""

    source: str | None = "benchmark"
    live = True
    total: int | None = None

    def __init__(self, clock: StoppableClock) -> None:
        self._clock = clock

    def rounds(self) -> Iterator[Round]:
        begin = SYSTEM_CLOCK.now() - timedelta(hours=1)
        template = Quote("", 10**8, 10**8, 10**8, 10**8, 10**8, 1, "", source=self.source)
        for second in range(ROUNDS):
            moment = moment_text(begin + timedelta(seconds=second))
            yield Round(
                tuple(
                    dataclasses.replace(template, symbol=f"W{number}", timestamp=moment)
                    for number in range(SYMBOLS)
                )
            )
            self._clock.sleep(INTERVAL_S)


def watch_list(aws: Aws) -> None:
    """From when a quote is read until it is acknowledged, beside the bare request's time."""
    sent: list[Sent] = []
    sender = Sender(lambda: aws.client("kinesis"), aws.names.stream, on_sent=sent.append)
    clock = StoppableClock()
    Streaming(WatchList(clock), sender, clock).run()
    assert len(sent) == SYMBOLS * ROUNDS
    waited = [one.waited_s for one in sent]
    last = [one.quote for one in sent[-SYMBOLS:]]
    bare = median(spent(lambda: put_many(aws, last))[0] for _ in range(REPEATS))
    typical, p95 = median(waited), quantiles(waited, n=20)[-1]
    print(
        f"{SYMBOLS} symbols, {ROUNDS} rounds in {sender.totals.requests} requests, read to"
        f" acknowledged: p50 {typical * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms; the bare request"
        f" {bare * 1000:.0f} ms and at most {LINGER_S * 1000:.0f} ms of waiting for company:"
        f" p50 {typical / (bare + LINGER_S):.2f} of their sum"
    )


@contextmanager
def stream() -> Iterator[Aws]:
    """A stream in a cloud of its own."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        endpoint = daemon.ensure_running(home)
        try:
            aws = Aws(region="us-east-2", endpoint=endpoint)
            aws.client("kinesis").create_stream(
                StreamName=aws.names.stream, StreamModeDetails={"StreamMode": "ON_DEMAND"}
            )
            yield aws
        finally:
            daemon.stop(home)


def main() -> None:
    with stream() as aws:
        throughput(aws)
        watch_list(aws)


if __name__ == "__main__":
    main()
