"""StockTrendAnalysis: events of the table's stream in, or of the sweep's rule."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.domain.rules import Rule, parse_rules
from stockpipe.domain.rules.bars import LONGEST_BREAK_S
from stockpipe.domain.sweep_event import EVENT, LookBack, look_back_of
from stockpipe.functions import sweep
from stockpipe.functions.alerts import AlertBook
from stockpipe.functions.analysis import Change, Outcome, TrendAnalysis
from stockpipe.functions.batch import CLIENT_CONFIG, batch_response, time_left
from stockpipe.functions.readings import Readings
from stockpipe.functions.telemetry import emit, metrics_line

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def changes(event: dict[str, Any]) -> list[Change]:
    """Inserts and modifications, in stream order; removals (TTL) change no window that matters.

    Raises ValueError for an event that is not of DynamoDB Streams.
    """
    try:
        return [
            Change(
                seq=record["dynamodb"]["SequenceNumber"],
                symbol=record["dynamodb"]["Keys"]["symbol"]["S"],
                timestamp=record["dynamodb"]["Keys"]["timestamp"]["S"],
                written_at=float(record["dynamodb"]["ApproximateCreationDateTime"]),
                modified=record["eventName"] == "MODIFY",
            )
            for record in event["Records"]
            if record["eventName"] in ("INSERT", "MODIFY")
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no DynamoDB Streams event: {error!r} is missing") from None


def summary(outcome: Outcome, batch: Sequence[Change], clock: Clock) -> str:
    """The log line of one batch."""
    now = clock.now().timestamp()
    oldest = min((change.written_at for change in batch), default=now)
    return metrics_line(
        os.environ["STACK"],
        "trend",
        {
            "records": outcome.records,
            "signals": len(outcome.alerts),
            **_unjudged(outcome),
            "lag_ms": max(0.0, (now - oldest) * 1000),
        },
        {**_decided(outcome), "handed_back_from": outcome.failed},
        clock=clock,
    )


def look_back_summary(outcome: Outcome, clock: Clock) -> str:
    """The log line of a look back: what it read has been counted, and is late by intention."""
    return metrics_line(
        os.environ["STACK"],
        "trend",
        {"signals": len(outcome.alerts), **_unjudged(outcome)},
        {**_decided(outcome), "unread": outcome.unread, "looked_back_at": outcome.records},
        clock=clock,
    )


def _unjudged(outcome: Outcome) -> dict[str, float]:
    """Only where there are some: a metric costs by the hour in which it gets data."""
    return {"unjudged": len(outcome.unjudged)} if outcome.unjudged else {}


def _decided(outcome: Outcome) -> dict[str, Any]:
    return {
        "settled": outcome.settled,
        "alerts": outcome.alerts,
        "superseded": outcome.superseded,
        "why": outcome.handed_back,
        "why_unjudged": outcome.unjudged,
    }


def shipped_rules() -> tuple[Rule, ...]:
    """The rules that this zip was built with."""
    text = resources.files("stockpipe").joinpath("rules.json").read_text("utf-8")
    return parse_rules(json.loads(text))


@lru_cache(maxsize=1)
def _dynamodb() -> DynamoDBClient:
    return boto3.Session().client("dynamodb", config=CLIENT_CONFIG)


def _max_age_s() -> float | None:
    """The oldest quote that people are told of; None for any."""
    max_age = os.environ["NOTIFY_MAX_AGE_S"]
    return None if max_age == "off" else float(max_age)


@lru_cache(maxsize=1)
def _book() -> AlertBook:
    """The alerts, out of this execution environment's variables."""
    return AlertBook(
        _dynamodb(),
        # Never twice by itself: a publish that timed out may have gone out.
        boto3.Session().client(
            "sns",
            config=Config(connect_timeout=1, read_timeout=8, retries={"total_max_attempts": 1}),
        ),
        table=os.environ["ALERTS_TABLE"],
        topic_arn=os.environ["TOPIC_ARN"],
        max_age_s=_max_age_s(),
    )


@lru_cache(maxsize=1)
def _analysis() -> TrendAnalysis:
    """The analysis of this execution environment, out of its variables and its zip."""
    return TrendAnalysis(Readings(_dynamodb(), os.environ["TABLE"]), _book(), shipped_rules())


@lru_cache(maxsize=1)
def _sweeper() -> sweep.Sweeper:
    return sweep.Sweeper(
        _dynamodb(),
        _book(),
        table=os.environ["ALERTS_TABLE"],
        max_age_s=_max_age_s(),
        known_after_s=LONGEST_BREAK_S if any(rule.bar_s for rule in shipped_rules()) else 0.0,
    )


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda entry point: a DynamoDB Streams event in, the partial batch response out.

    For a sweep's event: how many alerts it brought to their end, and with a look back how many
    signals that found which no event had told of.
    """
    left = time_left(context)
    if event.get("stockpipe") == EVENT["stockpipe"]:
        return _sweep(look_back_of(event), left)
    batch = changes(event)
    outcome = _analysis().run(batch, left)
    emit(summary(outcome, batch, SYSTEM_CLOCK))
    return batch_response(outcome.failed)


def _sweep(look_back: LookBack | None, left: Callable[[], float]) -> dict[str, Any]:
    swept = _sweeper().run(left)
    emit(sweep.summary(swept, SYSTEM_CLOCK))
    if look_back is None:
        return {"swept": swept.swept}
    outcome = _analysis().look_back(look_back.symbols, look_back.seconds, left)
    emit(look_back_summary(outcome, SYSTEM_CLOCK))
    return {"swept": swept.swept, "signals": len(outcome.alerts)}
