"""Signals through the whole local pipeline: whatever the batching, order and faults, exactly."""

from __future__ import annotations

import os
import random
import re
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from embedded import cleaned
from function_proxy import FunctionProxy
from stockpipe_cli import Cli

from awaited import until
from long import LONG
from stockpipe.domain.alerts import SENT, SUPERSEDED
from stockpipe.domain.quote import Quote
from stockpipe.domain.rules import DEFAULT_RULES
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.infra.apply import apply
from stockpipe.infra.blueprint import blueprint
from stockpipe.infra.plan import plan_provision
from stockpipe.local import daemon, processes
from stockpipe.local.home import Places
from stockpipe.local.outbox import NOTIFICATION, Outbox
from stockpipe.operate.alerts import history
from stockpipe.operate.backtest import backtest
from stockpipe.operate.records import Record
from stockpipe.producer.sender import Sender
from stockpipe.settings import Settings

pytest.importorskip("ministack")

READER = "reader@example.com"
QUOTES = [quote for quote in read_csv("sample")[:400] if quote.symbol in ("AAPL", "GOOG")]
"""100 trading days of two symbols: crossings, and moves above 5 % of the autumn of 2008."""

Key = tuple[str, str, str]
"""Symbol, timestamp, rule."""


def expected(quotes: Sequence[Quote] = QUOTES) -> set[Key]:
    found = backtest(quotes, DEFAULT_RULES).found
    return {(one.symbol, one.signal.timestamp, one.rule) for one in found}


class Stack:
    """One stack of the cloud, with a reader of its alerts."""

    def __init__(self, cli: Cli, batch_size: int) -> None:
        self.cli = cli
        settings = Settings(
            stack=cli.stack, batch_size=batch_size, notify_max_age="off", emails=(READER,),
            alarms=False, dashboard=False, sweep=60,
        )  # fmt: skip
        apply(plan_provision(blueprint(cli.aws, settings)), lambda step: None)

    @contextmanager
    def faults(self, **shares: float) -> Iterator[FunctionProxy]:
        """Both functions meet these in what they call."""
        endpoint = self.cli.aws.endpoint
        assert endpoint
        functions, names = self.cli.aws.client("lambda"), self.cli.aws.names
        with FunctionProxy(endpoint, **shares).running() as proxy:
            before = {}
            for name in (names.process_function, names.trend_function):
                found = functions.get_function_configuration(FunctionName=name)["Environment"]
                before[name] = found["Variables"]
                self._set(name, found["Variables"] | proxy.variables())
            yield proxy
            for name, variables in before.items():
                self._set(name, variables)

    def _set(self, function: str, variables: dict[str, str]) -> None:
        functions = self.cli.aws.client("lambda")
        functions.update_function_configuration(
            FunctionName=function, Environment={"Variables": variables}
        )

        def updated() -> bool:
            found = functions.get_function_configuration(FunctionName=function)
            return bool(found["LastUpdateStatus"] == "Successful")

        until(updated)

    def send(self, quotes: Sequence[Quote]) -> None:
        names = self.cli.aws.names
        Sender(lambda: self.cli.aws.client("kinesis"), names.stream).send(quotes)

    def alerts(self) -> list[Record]:
        aws = self.cli.aws
        return history(aws.client("dynamodb"), aws.names.alerts_table)

    def of(self, status: str) -> Counter[Key]:
        return Counter(
            (row["symbol"], row["timestamp"], row["rule"])
            for row in self.alerts()
            if row["status"] == status
        )

    def mails(self) -> Counter[Key]:
        """What went out, by what it says."""
        found: Counter[Key] = Counter()
        topic = self.cli.aws.names.topic
        for mail in Outbox(Places(self.cli.home).local).read():
            if mail.type == NOTIFICATION and (mail.topic or "").endswith(f":{topic}"):
                time = re.search(r"^Time of the quote: .*?(\S+Z)$", mail.text, re.M)
                assert time
                found[mail.attributes["symbol"], time[1], mail.attributes["rule"]] += 1
        return found

    def settled(self, wanted: set[Key]) -> Counter[Key]:
        """Once every record is through both functions and what is wanted has been sent."""
        self.cli.settle()
        until(lambda: set(self.of(SENT)) >= wanted, within_s=60)
        return self.of(SENT)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with cleaned(tmp_path_factory.mktemp("signals")) as home:
        daemon.ensure_running(home)
        yield Cli(home)


def stack(home: Cli, name: str, batch_size: int) -> Stack:
    return Stack(Cli(home.home, name), batch_size)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_every_signal_is_alerted_once_whatever_the_batches_and_faults(
    home: Cli, batch_size: int
) -> None:
    """Throttled reads, writes that are throttled and partly unprocessed, failed publishes, and
    every record sent twice."""
    one = stack(home, f"b{batch_size}", batch_size)
    quotes = QUOTES if batch_size > 2 else QUOTES[:120]
    wanted = expected(quotes)
    assert {rule for _, _, rule in wanted} == {"crossover-5-20", "move-5"}
    with one.faults(Query=0.2, BatchWriteItem=0.3, UpdateItem=0.1, Publish=0.3) as proxy:
        one.send([quote for quote in quotes for _ in range(2)])
        assert one.settled(wanted) == Counter(wanted)
        assert min(proxy.fired[name] for name in ("Query", "BatchWriteItem", "Publish")) > 0
    assert one.mails() == Counter(wanted)
    assert one.of(SUPERSEDED) == Counter()


@LONG  # waits for a lease of 90 s
def test_killed_functions_neither_lose_nor_double_an_alert(home: Cli) -> None:
    """But for one that is killed between publishing and marking, which nobody can know of."""
    one = stack(home, "killed", 7)
    wanted = expected()
    chance, kills = random.Random(3), 0
    places = Places(home.home)
    for start in range(0, len(QUOTES), 20):
        one.send(QUOTES[start : start + 20])
        due = start + chance.randrange(20)
        until(lambda due=due: len(one.cli.items()) >= due)  # type: ignore[misc]
        for pid in processes.functions(places.tmp):
            os.kill(pid, signal.SIGKILL)
            kills += 1
    assert kills >= 10
    assert one.settled(wanted) == Counter(wanted)
    mails = one.mails()
    assert set(mails) == wanted
    assert sum(mails.values()) - len(wanted) <= kills


def test_of_records_out_of_order_every_signal_of_the_final_data_is_there(home: Cli) -> None:
    """Shuffled within five positions; what was alerted on the way and is not true is superseded."""
    one = stack(home, "shuffled", 7)
    chance = random.Random(5)
    order = sorted(range(len(QUOTES)), key=lambda place: place + chance.uniform(0, 5 * 2))
    one.send([QUOTES[place] for place in order])
    wanted = expected()
    assert one.settled(wanted) == Counter(wanted)
    assert set(one.mails()) >= wanted
    wrong = set(one.mails()) - wanted
    assert set(one.of(SUPERSEDED)) >= wrong
