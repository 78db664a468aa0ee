"""What is watched: which alarms there are.

Eleven alarms; an account has ten for nothing. Lambda's metrics:
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stockpipe.aws import Aws
from stockpipe.domain.names import Names
from stockpipe.functions.telemetry import NAMESPACE
from stockpipe.infra.resources.cloudwatch import Alarm
from stockpipe.infra.resources.mappings import EventSourceMapping
from stockpipe.settings import Settings

MINUTE_S = 60
PERIOD_S = 5 * MINUTE_S

BEHIND_S = 10 * MINUTE_S
"""A healthy pipeline is seconds behind; at ``notify_max_age`` (1 h) alerts are muted, and this
leaves time to do something about it."""

THROTTLED_PERIODS = 3
"""What is throttled is called again by itself; a quarter of an hour of it is a lasting shortage."""

PENDING_S = 15 * MINUTE_S
"""Three sweeps at their default: one that fails is made up for by the next."""

LONGEST_PERIOD_S = 86_400
"""CloudWatch's limit for the period of an alarm."""

PROCESS, TREND = "process", "trend"
"""The two sides of the pipeline, as ``functions.telemetry`` names them."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One alarm as data: what counts, and from when on it is too much.

    Without ``dimensions`` it counts what the mapping in front of ``side`` does. ``tells_end``: its
    end means that something is over, and not just that nothing more was counted.
    """

    what: str
    side: str
    metric: str
    description: str
    dimensions: Mapping[str, str] | None = None
    namespace: str = "AWS/Lambda"
    statistic: str = "Sum"
    threshold: float = 0.0
    period_s: int = PERIOD_S
    periods: int = 1
    tells_end: bool = False
    wanted: bool = True


def watches(names: Names, settings: Settings) -> list[Watch]:
    """Every alarm that a stack can have; those that the settings switch off are not ``wanted``."""
    sides = ((PROCESS, names.process_function), (TREND, names.trend_function))
    found = [watch for side in sides for watch in _of_function(*side)]
    found.append(
        Watch(
            "quarantine",
            PROCESS,
            "quarantined",
            "Records that are no quotes were put into quarantine, each with its reason.",
            namespace=NAMESPACE,
            dimensions=our_dimensions(names, PROCESS),
        )
    )
    found.append(
        Watch(
            "unjudged",
            TREND,
            "unjudged",
            "Rows could not be judged by a rule, for which it takes too many others: the log of "
            f"{names.trend_function} names them under why_unjudged.",
            namespace=NAMESPACE,
            dimensions=our_dimensions(names, TREND),
        )
    )
    found.append(
        Watch(
            "pending",
            TREND,
            "pending_s",
            f"An alert cannot be published: see the log of {names.trend_function}.",
            namespace=NAMESPACE,
            dimensions=our_dimensions(names, TREND),
            statistic="Maximum",
            threshold=float(PENDING_S),
            # Two sweeps: however they fall, each period holds one.
            period_s=PERIOD_S
            if settings.sweep == "off"
            else min(LONGEST_PERIOD_S, 2 * int(settings.sweep)),
            tells_end=True,
            wanted=settings.sweep != "off",
        )
    )
    return found


def _of_function(side: str, function: str) -> list[Watch]:
    dimensions = {"FunctionName": function}
    return [
        Watch(
            f"{side}-errors",
            side,
            "Errors",
            # What is transient is handed back, not raised: an error is a bug or a time-out.
            f"{function} failed: its log says why. The batch is delivered again.",
            dimensions,
        ),
        Watch(
            f"{side}-behind",
            side,
            "IteratorAge",
            # The one metric that tells when all that happens is being handed back.
            f"{function} is more than {BEHIND_S // MINUTE_S} minutes behind its stream.",
            dimensions,
            statistic="Maximum",
            threshold=BEHIND_S * 1000.0,  # milliseconds
            tells_end=True,
        ),
        Watch(
            f"{side}-throttles",
            side,
            "Throttles",
            f"{function} is throttled for {THROTTLED_PERIODS * PERIOD_S // MINUTE_S} minutes now: "
            "see the concurrency of the function and of the account.",
            dimensions,
            periods=THROTTLED_PERIODS,
            tells_end=True,
        ),
        Watch(
            f"{side}-failures",
            side,
            # Records that get lost on the way there (DroppedEventCount) have no alarm of their own:
            # they were retried for hours, and "behind" has been on for as long.
            "OnFailureDestinationDeliveredEventCount",
            f"Records that {function} could not process in time lie under failures.",
        ),
    ]


def alarms(
    aws: Aws,
    settings: Settings,
    *,
    quotes: EventSourceMapping,
    changes: EventSourceMapping,
    tags: Mapping[str, str],
) -> list[Alarm]:
    """The alarms of a stack, to its operations topic.

    ``quotes`` and ``changes`` are the mappings in front of the two functions.
    """
    names = aws.names
    topic, mappings = names.operations_topic, {PROCESS: quotes, TREND: changes}
    return [
        Alarm(
            aws,
            names.alarm(watch.what),
            namespace=watch.namespace,
            metric=watch.metric,
            dimensions=_dimensions(watch, mappings[watch.side]),
            statistic=watch.statistic,
            threshold=watch.threshold,
            period_s=watch.period_s,
            periods=watch.periods,
            description=watch.description,
            alarm_actions=(names.operations_topic_arn,),
            ok_actions=(names.operations_topic_arn,) if watch.tells_end else (),
            wanted=settings.alarms and watch.wanted,
            needs=(
                f"topic/{topic}",
                *((mappings[watch.side].id,) if watch.dimensions is None else ()),
            ),
            tags=tags,
        )
        for watch in watches(names, settings)
    ]


def our_dimensions(names: Names, side: str) -> dict[str, str]:
    """The dimensions of our own metrics, as ``functions.telemetry`` writes them."""
    return {"stack": names.stack, "function": side}


def _dimensions(
    watch: Watch, mapping: EventSourceMapping
) -> Callable[[], Mapping[str, str] | None]:
    def of_mapping() -> Mapping[str, str] | None:
        uuid = mapping.uuid()
        return {"EventSourceMappingUUID": uuid} if uuid else None

    return of_mapping if watch.dimensions is None else lambda: watch.dimensions
