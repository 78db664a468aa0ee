"""The first real deployment: a throwaway stack in an AWS account, followed from end to end.

``make aws-smoke`` runs it; nothing else does. It uses the installed program as a user does, checks
a canary at each hop (stream, archive, table, alert, SQL), removes the stack, and asks every
service whether something is left. Times are wall seconds.

Credentials come from the ordinary chain. Where AWS_ENDPOINT_URL names an embedded cloud, it runs
against that: so the script itself is tested.
"""

from __future__ import annotations

import csv
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jmespath

from stockpipe import config
from stockpipe.aws import Aws

SYMBOL = "CANARY"
READINGS = 24
HOP_BUDGET_S = 180.0
AIM_S = 120.0
LISTINGS = (
    ("kinesis", "list_streams", "StreamNames[]"),
    ("dynamodb", "list_tables", "TableNames[]"),
    ("s3", "list_buckets", "Buckets[].Name"),
    ("lambda", "list_functions", "Functions[].FunctionName"),
    ("lambda", "list_event_source_mappings", "EventSourceMappings[].FunctionArn"),
    ("iam", "list_roles", "Roles[].RoleName"),
    ("sns", "list_topics", "Topics[].TopicArn"),
    ("sns", "list_subscriptions", "Subscriptions[].TopicArn"),
    ("logs", "describe_log_groups", "logGroups[].logGroupName"),
    ("glue", "get_databases", "DatabaseList[].Name"),
    ("athena", "list_work_groups", "WorkGroups[].Name"),
    ("cloudwatch", "describe_alarms", "MetricAlarms[].AlarmName"),
    ("cloudwatch", "list_dashboards", "DashboardEntries[].DashboardName"),
    ("events", "list_rules", "Rules[].Name"),
)
"""Everything that a stack has, by each service's own listing: not by tags."""
SERVICES = {service for service, _, _ in LISTINGS}


class Smoke:
    """One run on one throwaway stack."""

    def __init__(self) -> None:
        self.stack = f"t{secrets.token_hex(3)}"
        settings = config.load({"target": "aws", "stack": self.stack}).settings
        self.aws = Aws(
            region=settings.region,
            stack=self.stack,
            profile=settings.profile,
            account=settings.account,
        )
        self.times: dict[str, float] = {}

    def run(self) -> None:
        self.ask()
        try:
            with self.timed("provision"):
                self.stockpipe("provision", "--yes")
            stands = self.listed()
            expect(len({line.split()[0] for line in stands}) == len(SERVICES), stands)
            with self.timed("second plan"):
                again = self.stockpipe("provision", "--plan", "--json")
                kept = json.loads(again)["summary"]
                expect(set(kept) - {"keep"} == {k for k, n in kept.items() if n == 0}, kept)
            self.follow()
        finally:
            with self.timed("teardown"):
                self.stockpipe("teardown", "--confirm", self.stack)
        left = self.listed()
        expect(not left, f"still there: {left}")
        print("\nNothing is left, by every service's own listing.\n")
        for what, seconds in self.times.items():
            print(f"  {what:<28} {seconds:7.1f} s")
        verdict = "reached" if self.times["provision"] < AIM_S else "missed"
        print(f"\nThe aim of provisioning within {AIM_S:.0f} s is {verdict}.")

    def ask(self) -> None:
        """What is about to be made, where, and what it costs."""
        print(
            f"This makes the stack {self.stack} in account {self.aws.account_id}, "
            f"{self.aws.region}, sends {READINGS} records through it and removes it again.\n"
            "It costs about $0.05: an hour of an on-demand stream ($0.04 in most regions), the\n"
            "rest fractions of a cent. Should it be stopped on its way, remove what stands with\n"
            f"  stockpipe teardown --target aws --stack {self.stack} --confirm {self.stack}\n"
        )
        if sys.stdin.isatty():
            print("Go on? [y/N] ", end="", flush=True)
            expect(sys.stdin.readline().strip().lower() in ("y", "yes"), "Not confirmed.")
        else:
            expect("--yes" in sys.argv, "Without a terminal: make aws-smoke CONFIRM=--yes")

    def follow(self) -> None:
        """One series that crosses once, looked for at each hop."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "canary.csv"
            crossing = write_canary(file)
            begun = time.monotonic()
            sent = self.stockpipe(
                "stream", "--source", f"replay:{file}", "--speed", "max", "--mix", "--json"
            )
        expect(len(sent.splitlines()) == READINGS, sent)
        self.times["sent: every record has a place"] = time.monotonic() - begun
        for hop, look in (
            ("stored in the table", self.stored),
            ("archived in S3", self.archived),
            ("alerted through SNS", lambda: self.alerted(crossing)),
            ("found by SQL", self.queried),
        ):
            until(hop, look)
            self.times[hop] = time.monotonic() - begun
            print(f"  {hop}: {self.times[hop]:.1f} s after sending began")

    def stored(self) -> bool:
        rows = self.stockpipe("tail", SYMBOL, "-n", "100", "--no-follow", "--json")
        return len(rows.splitlines()) == READINGS

    def archived(self) -> bool:
        s3, names = self.aws.client("s3"), self.aws.names
        found = s3.list_objects_v2(
            Bucket=names.data_bucket, Prefix="raw-data/", ExpectedBucketOwner=names.account
        )
        lines = 0
        for entry in found.get("Contents", []):
            answer = s3.get_object(
                Bucket=names.data_bucket, Key=entry["Key"], ExpectedBucketOwner=names.account
            )
            lines += len(answer["Body"].read().splitlines())
        return lines >= READINGS

    def alerted(self, crossing: str) -> bool:
        told = self.stockpipe("alerts", "history", "--json").splitlines()
        found = [json.loads(line) for line in told]
        return [(a["timestamp"], a["status"]) for a in found] == [(crossing, "sent")]

    def queried(self) -> bool:
        sql = f'SELECT count(DISTINCT "timestamp") AS n FROM {self.aws.names.glue_table}'  # noqa: S608
        (row,) = json.loads(self.stockpipe("query", "--sql", sql, "--json"))
        return bool(row["n"] == READINGS)

    def listed(self) -> list[str]:
        """What stands with the stack's name in it."""
        found = []
        for service, operation, names in LISTINGS:
            client = self.aws.client(service)
            if client.can_paginate(operation):
                answers = client.get_paginator(operation).paginate()
            else:
                answers = [getattr(client, operation)()]
            for answer in answers:
                listed = jmespath.search(names, answer) or []
                found += [f"{service} {name}" for name in listed if self.stack in name]
        return found

    def stockpipe(self, *arguments: str) -> str:
        """Run the program for this stack; its talk goes to the terminal, its data come back."""
        command = [sys.executable, "-m", "stockpipe", *arguments]
        place = ["--target", "aws", "--stack", self.stack, "--region", self.aws.region]
        done = subprocess.run([*command, *place], stdout=subprocess.PIPE, text=True, check=False)
        expect(done.returncode == 0, f"stockpipe {' '.join(arguments)} ended {done.returncode}")
        return done.stdout

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.times[what] = time.monotonic() - begun


def write_canary(file: Path) -> str:
    """A falling minute series that turns once: one golden cross; returns its timestamp."""
    start = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=READINGS)
    crossing = ""
    prices: list[int] = []
    with file.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["symbol", "timestamp", "open", "high", "low", "price", "volume"])
        for n in range(READINGS):
            price = 200 - n if n < READINGS - 3 else 400
            prices.append(price)
            moment = (start + timedelta(minutes=n)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            rows.writerow([SYMBOL, moment, price, price, price, price, 1])
            if len(prices) >= 20 and not crossing and 4 * sum(prices[-5:]) > sum(prices[-20:]):
                crossing = moment
    return crossing


def until(what: str, look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HOP_BUDGET_S
    while not look():
        expect(time.monotonic() < deadline, f"not {what} within {HOP_BUDGET_S:.0f} s")
        time.sleep(1)


def expect(condition: bool, otherwise: Any) -> None:
    if not condition:
        raise SystemExit(f"aws-smoke: {otherwise}")


if __name__ == "__main__":
    Smoke().run()
