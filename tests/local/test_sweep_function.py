"""The sweep in the embedded cloud: the shipped function, called as EventBridge and operators do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from embedded import cleaned, client, inbox

from awaited import until
from stockpipe.aws import Endpoint
from stockpipe.domain.exact import moment_text
from stockpipe.domain.rules import DEFAULT_RULES
from stockpipe.domain.sweep_event import EVENT, LookBack, payload
from stockpipe.infra import bundle
from stockpipe.local import daemon

pytest.importorskip("ministack")

TABLES = {"readings": "timestamp", "alerts": "id"}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["dynamodb:Query", "dynamodb:Scan", "dynamodb:UpdateItem", "sns:Publish"],
            "Resource": "*",
        }
    ],
}


@dataclass(frozen=True)
class Trend:
    """The trend function without its mapping. ``told``: takes the next of its topic's messages."""

    endpoint: Endpoint
    told: Callable[[], str]

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        answer = self.client("lambda").invoke(FunctionName="trend", Payload=json.dumps(event))
        found: dict[str, Any] = json.loads(answer["Payload"].read())
        return found

    def client(self, service: str) -> Any:
        return client(service, self.endpoint)

    def put(self, table: str, **item: dict[str, str]) -> None:
        self.client("dynamodb").put_item(TableName=table, Item=item)

    def alerts(self) -> dict[str, str]:
        items = self.client("dynamodb").scan(TableName="alerts")["Items"]
        return {item["symbol"]["S"]: item["status"]["S"] for item in items}

    def logged(self) -> list[dict[str, Any]]:
        events = self.client("logs").filter_log_events(logGroupName="/aws/lambda/trend")["events"]
        return [json.loads(one["message"]) for one in events if one["message"].startswith("{")]


@pytest.fixture
def trend(tmp_path: Path) -> Iterator[Trend]:
    with cleaned(tmp_path / "home") as home:
        yield made(daemon.ensure_running(home))


def made(endpoint: Endpoint) -> Trend:
    dynamodb, iam = client("dynamodb", endpoint), client("iam", endpoint)
    for name, range_key in TABLES.items():
        keys = {"symbol": "HASH", range_key: "RANGE"}
        dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": k, "KeyType": kind} for k, kind in keys.items()],
            AttributeDefinitions=[{"AttributeName": k, "AttributeType": "S"} for k in keys],
            BillingMode="PAY_PER_REQUEST",
        )
    topic = client("sns", endpoint).create_topic(Name="alerts")["TopicArn"]
    role = iam.create_role(RoleName="trend", AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.put_role_policy(RoleName="trend", PolicyName="p", PolicyDocument=json.dumps(POLICY))
    client("logs", endpoint).create_log_group(logGroupName="/aws/lambda/trend")
    client("lambda", endpoint).create_function(
        FunctionName="trend",
        Runtime="python3.13",
        Role=role["Role"]["Arn"],
        Handler="stockpipe.functions.trend.handler",
        Code={"ZipFile": bundle.build(DEFAULT_RULES).data},
        Timeout=60,
        Environment={
            "Variables": {
                "STACK": "dev",
                "TABLE": "readings",
                "ALERTS_TABLE": "alerts",
                "TOPIC_ARN": topic,
                "NOTIFY_MAX_AGE_S": "3600",
            }
        },
    )
    return Trend(endpoint, inbox(endpoint, topic))


def test_what_was_left_pending_is_sent(trend: Trend) -> None:
    now = datetime.now(UTC)
    at = moment_text(now - timedelta(minutes=20))
    for symbol, lease_s in (("AAPL", -1), ("IBM", 80)):
        trend.put(
            "alerts",
            symbol={"S": symbol},
            id={"S": f"{at}#crossover-5-20"},
            rule={"S": "crossover-5-20"},
            kind={"S": "golden"},
            timestamp={"S": at},
            price={"N": "151.830002"},
            sma_fast={"N": "150.5"},
            sma_slow={"N": "150.25"},
            status={"S": "pending"},
            lease_until={"N": str(int(now.timestamp()) + lease_s)},
            pending_since={"N": str(int(now.timestamp()) - 600)},
        )

    assert trend(EVENT) == {"swept": 1}
    assert json.loads(until(trend.told))["text"].startswith("AAPL is in an Uptrend!")
    assert trend.alerts() == {"AAPL": "sent", "IBM": "pending"}
    (line,) = trend.logged()
    assert line["swept"] == 1
    assert 600 <= line["pending_s"] < 600 + time.time() - now.timestamp() + 1
    assert trend(EVENT) == {"swept": 0}


def test_with_symbols_and_a_look_back_it_finds_what_no_event_told_of(trend: Trend) -> None:
    begin = datetime.now(UTC) - timedelta(minutes=25)
    for symbol in ("AAPL", "IBM"):
        for minute in range(25):
            price = 100 - minute if minute < 22 else 200
            trend.put(
                "readings",
                symbol={"S": symbol},
                timestamp={"S": moment_text(begin + timedelta(minutes=minute))},
                price={"N": str(price)},
            )
    event = payload(LookBack(("AAPL",), 600.0))

    assert trend(event) == {"swept": 0, "signals": 1}
    assert json.loads(until(trend.told))["text"].startswith("AAPL is in an Uptrend!")
    assert trend.alerts() == {"AAPL": "sent"}
    assert [line.get("looked_back_at") for line in trend.logged()] == [None, 9]
    assert trend(event) == {"swept": 0, "signals": 0}


def test_an_event_that_asks_for_something_else_is_an_error_that_says_so(trend: Trend) -> None:
    refused = trend({**EVENT, "symbols": ["AAPL"], "look_back": 600})
    assert "a sweep does not know 'look_back'" in refused["errorMessage"]
