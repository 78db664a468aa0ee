"""What ``status`` is told about a shard."""

from __future__ import annotations

from dataclasses import asdict, dataclass


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
