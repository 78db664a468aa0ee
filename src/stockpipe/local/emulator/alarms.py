"""Alarms as CloudWatch evaluates them: again and again, each by its own dimensions and periods.

ministack looks at an alarm when it, or any metric, is put: then it takes whatever has the metric's
name for the alarm's own, all periods for one, and what is missing for no reason to change. So an
alarm of one function goes off for another, and none ever ends.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
"""

from __future__ import annotations

import asyncio
import logging
import operator
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.local.emulator.parts import replace

State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]

TICK_S = 10.0
"""How often to look whether an alarm is due: the shortest interval there is."""

_COMPARE: Mapping[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}
_USED = (
    "_alarms",
    "_calc_stats",
    "_dims_from_list",
    "_dims_key",
    "_dispatch_alarm_actions",
    "_evict_old_metrics",
    "_evaluate_parent_alarms",
    "_metrics",
    "_record_history",
    "_stat_value",
)
"""What is called below, besides what is replaced."""

_log = logging.getLogger(__name__)


def install() -> None:
    """Nothing is evaluated in passing any more: :func:`watch` does it.

    Once, before the server starts. Raises LocalCloudError by ``replace``.
    """
    from ministack.services import cloudwatch

    replace(cloudwatch, "_evaluate_alarm", lambda alarm: None)
    replace(cloudwatch, "_evaluate_all_alarms", lambda: None)
    for name in _USED:
        replace(cloudwatch, name, vars(cloudwatch).get(name))  # asserts that it is there
    cloudwatch.logger.addFilter(_Untold())


class _Untold(logging.Filter):
    """Raises what ministack logs and forgets when it cannot notify somebody of an alarm."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and str(record.msg).startswith("alarm actions: SNS fanout"):
            raise error
        return True


async def watch(changed: Callable[[], None], clock: Clock = SYSTEM_CLOCK) -> None:
    """Evaluate alarms when they are due, for ever; ``changed`` is called after a transition.

    On the event loop that serves requests, so that metrics and alarms hold still.
    """
    since = clock.now().timestamp()
    while True:
        await asyncio.sleep(TICK_S - since % TICK_S)
        now = clock.now().timestamp()
        if evaluate(now, since):
            changed()
        since = now


def evaluate(now: float, since: float) -> bool:
    """Evaluate every alarm that became due after ``since``; out: whether one changed its state.

    Once a minute, and before that, metrics that are too old are dropped.

    "For any period of one minute or longer, an alarm is evaluated every minute", others every ten
    seconds; the window slides along, and ends with the last whole interval. Epoch seconds.
    """
    from ministack.core.responses import request_scope
    from ministack.services import cloudwatch

    if now // 60 * 60 > since:
        cloudwatch._evict_old_metrics(now)
    changed = False
    for (account, region, name), alarm in cloudwatch._alarms.all_items():
        interval = 60 if alarm["Period"] >= 60 else 10
        end = now // interval * interval
        if end <= since:
            continue
        with request_scope(account, region):
            try:
                changed = _follow(alarm, end) or changed
            except Exception:  # noqa: BLE001 - logged; the other alarms are still to be evaluated
                _log.exception("alarm %s cannot be evaluated", name)
    return changed


def _follow(alarm: dict[str, Any], end: float) -> bool:
    """Bring one alarm to the state that its metric has; out: whether that is another one.

    One on metric math or on an anomaly band stays as it is: those are not computed here.
    """
    if not alarm.get("MetricName") or alarm.get("ComparisonOperator") not in _COMPARE:
        return False
    values, threshold = _values(alarm, end), alarm["Threshold"]
    breaches, _ = _COMPARE[alarm["ComparisonOperator"]]
    breaching = [None if value is None else breaches(value, threshold) for value in values]
    rule = Rule(
        periods=len(values),
        needed=alarm.get("DatapointsToAlarm") or len(values),
        missing=alarm["TreatMissingData"],
    )
    state = state_of(breaching, rule, alarm["StateValue"])
    if state == alarm["StateValue"]:
        return False
    return _enter(alarm, state, _reason(alarm, state, values))


def _values(alarm: Mapping[str, Any], end: float) -> list[float | None]:
    """The alarm's statistic in each of its periods, oldest first; None where there is no data."""
    from ministack.services import cloudwatch

    dimensions = cloudwatch._dims_from_list(alarm.get("Dimensions") or [])
    key = (alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(dimensions))
    unit, period, count = alarm.get("Unit"), alarm["Period"], alarm["EvaluationPeriods"]
    statistic = alarm.get("ExtendedStatistic") or alarm["Statistic"]
    begin = end - period * count
    slots: list[list[Any]] = [[] for _ in range(count)]
    for point in list(cloudwatch._metrics.get(key, [])):
        if begin <= point["Timestamp"] < end and unit in (None, point["Unit"]):
            slots[int((point["Timestamp"] - begin) // period)].append(point)
    return [
        cloudwatch._stat_value(cloudwatch._calc_stats(slot), statistic, slot) if slot else None
        for slot in slots
    ]


@dataclass(frozen=True, slots=True)
class Rule:
    """EvaluationPeriods, DatapointsToAlarm and TreatMissingData of an alarm."""

    periods: int
    needed: int
    missing: str


def state_of(breaching: Sequence[bool | None], rule: Rule, current: State) -> State:
    """The state of an alarm: ``breaching`` for each period of its evaluation range, oldest first,
    None where data is missing.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
    The range is as long as ``rule.periods`` or longer. AWS does not say how much longer its own is;
    :func:`evaluate` asks for no more.
    """
    found = [one for one in breaching if one is not None]
    filled = rule.periods - len(found)
    if filled <= 0:  # enough real data: what is missing does not matter
        return "ALARM" if sum(found[-rule.periods :]) >= rule.needed else "OK"
    if sum(found) + (filled if rule.missing == "breaching" else 0) >= rule.needed:
        return "ALARM"
    if rule.missing in ("notBreaching", "breaching") or not all(found):
        return "OK"
    if rule.missing == "ignore":
        return current
    if not found:
        return "INSUFFICIENT_DATA"
    # Nothing but breaching data, and too little. "Avoiding premature transitions to alarm state":
    # it counts once the oldest is old enough; until then the next point may show it was an outlier.
    age = len(breaching) - breaching.index(True)
    return "ALARM" if age >= rule.needed else current


def _reason(alarm: Mapping[str, Any], state: State, values: Sequence[float | None]) -> str:
    """Close to the words of CloudWatch, which people search for."""
    count, threshold = len(values), alarm["Threshold"]
    if state == "INSUFFICIENT_DATA":
        return f"Insufficient Data: {_datapoints(count)} unknown."
    breaches, words = _COMPARE[alarm["ComparisonOperator"]]
    found = [
        value
        for value in reversed(values)
        if value is not None and breaches(value, threshold) == (state == "ALARM")
    ]
    if not found:
        treated = "Breaching" if state == "ALARM" else "NonBreaching"
        return f"Threshold Crossed: {_datapoints(count, 'missing ')} treated as [{treated}]."
    return (
        f"Threshold Crossed: of the last {count}, {_datapoints(len(found))} "
        f"{'' if state == 'ALARM' else 'not '}{words} the threshold ({threshold}): {found}."
    )


def _datapoints(count: int, kind: str = "") -> str:
    return f"{count} {kind}datapoint{' was' if count == 1 else 's were'}"


def _enter(alarm: dict[str, Any], state: State, reason: str) -> bool:
    """The transition: the only moment at which actions are taken. Out: whether it was made; one
    that nobody could be told of is left to the next evaluation."""
    from ministack.services import cloudwatch

    before = alarm["StateValue"]
    try:
        cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
    except OSError as error:
        _log.error("alarm %s: nobody is told: %s", alarm["AlarmName"], error.strerror or error)
        return False
    alarm["StateValue"], alarm["StateReason"] = state, reason
    alarm["StateUpdatedTimestamp"] = int(time.time())
    alarm.pop("StateReasonData", None)
    _log.info("alarm %s: %s, %s", alarm["AlarmName"], state, reason)
    cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
    cloudwatch._evaluate_parent_alarms(alarm)
    return True
