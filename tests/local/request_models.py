"""Every request that a client sends, held against botocore's own model of the service.

botocore itself checks names, types, what is required, and lower bounds. The models say more, and
AWS refuses by it: upper bounds, enumerations and patterns. The embedded cloud takes almost
anything, so a request that AWS would refuse is found here or on the first real deployment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

_JAVA = {
    # Beyond the first 65,536 characters, in UTF-16.
    r"\uD800\uDC00-\uDBFF\uDFFF": r"\U00010000-\U0010ffff",
    # Letters, spaces and digits of any script; the underscore that \w adds is allowed beside them.
    r"\p{L}\p{Z}\p{N}": r"\w\s",
}
"""What Java's regular expressions spell differently from Python's."""


@dataclass(frozen=True)
class Request:
    service: str
    operation: str
    params: Mapping[str, Any]

    @property
    def writes(self) -> bool:
        return not self.operation.startswith(("Get", "List", "Describe", "Head", "BatchGet"))


@dataclass
class RequestModels:
    """What the watched clients have sent, and what of it AWS would refuse."""

    sent: list[Request] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def watch(self, client: Any) -> Any:
        client.meta.events.register("provide-client-params", self._check)
        return client

    def _check(self, params: Mapping[str, Any], model: OperationModel, **_: Any) -> None:
        service = model.service_model.service_name
        self.sent.append(Request(service, model.name, dict(params)))
        if model.input_shape is not None:
            found = violations(model.input_shape, params)
            self.refused += [f"{service}:{model.name} {why}" for why in found]


def violations(shape: Shape, value: Any, path: str = "") -> Iterator[str]:
    """What of ``value`` breaks the constraints of ``shape``, each with the path to it."""
    metadata: Mapping[str, Any] = shape.metadata
    size = _size(shape, value)
    if size is not None:
        if size > metadata.get("max", size):
            yield f"{path}: {size} is more than {metadata['max']}"
        if size < metadata.get("min", size):
            yield f"{path}: {size} is less than {metadata['min']}"
    if shape.type_name == "string":
        if metadata.get("enum") and value not in metadata["enum"]:
            yield f"{path}: {value!r} is none of {metadata['enum']}"
        pattern = metadata.get("pattern")
        if pattern and not compiled(pattern).fullmatch(value):
            yield f"{path}: {value!r} does not match {pattern}"
    elif isinstance(shape, StructureShape):
        for name, part in value.items():
            yield from violations(shape.members[name], part, f"{path}.{name}")
    elif isinstance(shape, ListShape):
        for position, part in enumerate(value):
            yield from violations(shape.member, part, f"{path}[{position}]")
    elif isinstance(shape, MapShape):
        for name, part in value.items():
            yield from violations(shape.key, name, f"{path}.{name} (the key)")
            yield from violations(shape.value, part, f"{path}.{name}")


def _size(shape: Shape, value: Any) -> float | None:
    """What ``min`` and ``max`` count: a number itself, or how long the value is."""
    if shape.type_name in ("integer", "long", "float", "double"):
        return float(value)
    if shape.type_name in ("string", "list", "map") or isinstance(value, bytes):
        return len(value)
    return None


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern for Python. One that it cannot compile fails the test that needs it."""
    for java, python in _JAVA.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern)
