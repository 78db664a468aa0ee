"""What workers tell: ``status.json`` about a shard, and whoever listens about a mapping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from stockpipe.local.event_sources.batching import Record, Segment
from stockpipe.local.event_sources.mappings import EventMapping

Listener = Callable[[EventMapping, dict[str, float]], None]
"""(mapping, figures by the name that Lambda gives them in CloudWatch); called by many threads."""

_listeners: list[Listener] = []


def on_figures(listener: Listener) -> Callable[[], None]:
    """Call ``listener`` with the figures of all mappings, until the returned function is called."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def tell(mapping: EventMapping, **figures: float) -> None:
    """Pass on what happened: counts of events, and IteratorAge in milliseconds.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    """
    for listener in list(_listeners):
        listener(mapping, figures)


def tell_polled(mapping: EventMapping, records: Sequence[Record]) -> None:
    """Records were read. On AWS an empty poll is told too; here it would be the only work done."""
    tell(mapping, PolledEventCount=len(records))
    if mapping.accepts is not None:
        tell(mapping, FilteredOutEventCount=sum(record.body is None for record in records))


def tell_sent(mapping: EventMapping, segment: Segment, now: float) -> None:
    """A batch goes to its function: how long ago did the stream receive its last record?"""
    tell(mapping, IteratorAge=max(0.0, (now - segment.records[-1].arrived) * 1000))


def tell_discarded(mapping: EventMapping, segment: Segment, condition: str) -> None:
    """Records were given up. What reached a destination, or what the stream itself has forgotten,
    is not counted as dropped."""
    if mapping.destination:
        tell(mapping, OnFailureDestinationDeliveredEventCount=len(segment.records))
    elif condition == "RetryAttemptsExhausted" or mapping.policy.max_age_s is not None:
        tell(mapping, DroppedEventCount=len(segment.records))


@dataclass(slots=True)
class ShardReport:
    """What ``status`` shows of one shard; written by its worker alone.

    ``oldest_pending``: arrival (epoch seconds) of the first record that waits for its function.
    """

    state: str = "starting"
    sequence: str | None = None
    batches: int = 0
    records: int = 0
    failures: int = 0
    discarded: int = 0
    last_batch_at: str | None = None
    last_error: str | None = None
    last_error_at: str | None = None
    behind_ms: int = 0
    oldest_pending: float | None = None

    def to_dict(self, now: float) -> dict[str, object]:
        """Plain JSON. ``iterator_age_ms`` grows while a batch is blocked, and is 0 at the tip."""
        fields = asdict(self)
        pending, behind = fields.pop("oldest_pending"), fields.pop("behind_ms")
        waited = 0 if pending is None else max(0, int((now - pending) * 1000))
        return fields | {"iterator_age_ms": max(waited, behind)}
