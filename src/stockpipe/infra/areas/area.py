"""What an area is: resources that belong together, and who does what with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stockpipe.infra.permissions import Grant


@dataclass(frozen=True, slots=True)
class Area:
    """Resources that belong together, and the operations on them, as words.

    ``read`` looks at them, ``write`` creates, changes, and replaces what holds no data, ``delete``
    removes; ``ask`` reads what is in them, ``through`` names what AWS does for that; ``produce``
    sends quotes; ``notify`` says who gets alerts. ``only`` and ``condition`` as in :class:`Grant`.
    """

    sid: str
    service: str
    resources: tuple[str, ...]
    read: str = ""
    write: str = ""
    delete: str = ""
    ask: str = ""
    through: tuple[str, ...] = ()
    produce: str = ""
    notify: str = ""
    only: tuple[str, ...] = ()
    condition: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def grant(self, columns: Iterable[str]) -> Grant | None:
        """What these columns of it need; None where it is nothing."""
        words = [word for column in columns for word in getattr(self, column).split()]
        operations = [f"{self.service}.{word}" for word in words]
        operations += self.through if "ask" in columns else ()
        if not operations:
            return None
        return Grant(self.sid, tuple(operations), self.resources, self.only, self.condition)


def beside(arn: str, resource: str, *, service: str | None = None) -> str:
    """Another ARN of the same partition, region and account."""
    parts = arn.split(":")
    return ":".join([*parts[:2], service or parts[2], *parts[3:5], resource])
