"""The world of the resources' tests: the embedded cloud, watched, and cut off where they like."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from request_models import Request, RequestModels

from stockpipe.aws import Aws, Endpoint
from stockpipe.domain.names import VERSION_TAG
from stockpipe.infra.plan import difference
from stockpipe.infra.resource import Live, Resource

REGION = "us-east-2"


@contextmanager
def refused(
    client: Any, operation: str, code: str, message: str = "", *, times: int | None = None
) -> Iterator[None]:
    """The service refuses an operation, in a way that the embedded cloud cannot be brought to.

    With ``times`` it does so that often, and the test fails where that did not come about.
    """
    said = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {}}
    answers = count(1)
    given = 0

    def answer(**_: Any) -> tuple[AWSResponse, dict[str, Any]] | None:
        nonlocal given
        if times is not None and next(answers) > times:
            return None
        given += 1
        return AWSResponse("", 400, HTTPHeaders(), None), said

    event = f"before-call.*.{operation}"
    client.meta.events.register(event, answer)
    try:
        yield
    finally:
        client.meta.events.unregister(event, answer)
    assert given == times or times is None


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours handles it."""


@dataclass
class Cloud:
    """The embedded cloud, with clients that are watched and can be cut off."""

    endpoint: Endpoint
    models: RequestModels = field(default_factory=RequestModels)
    calls_left: int | None = None
    """Answers that still arrive before the caller is killed; None: no end."""
    reads_count: bool = True
    """Whether those to calls that change nothing are counted too."""
    clients: dict[str, Any] = field(default_factory=dict)
    making: threading.Lock = field(default_factory=threading.Lock)
    stacks: count[int] = field(default_factory=count)

    def world(self) -> World:
        """A stack that nobody has used yet."""
        return World(self)

    def answered(self, model: Any, **_: Any) -> None:
        counts = self.reads_count or Request("", model.name, {}).writes
        if self.calls_left is not None and counts:
            self.calls_left -= 1
            if self.calls_left <= 0:
                raise Killed


class World(Aws):
    """One stack of the embedded cloud."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(
            region=REGION, stack=f"t{next(cloud.stacks)}", endpoint=cloud.endpoint, account=None
        )
        self.cloud = cloud

    def client(self, service: str) -> Any:
        with self.cloud.making:
            if service not in self.cloud.clients:
                client = self.cloud.models.watch(super().client(service))
                client.meta.events.register("after-call", self.cloud.answered)
                self.cloud.clients[service] = client
            return self.cloud.clients[service]

    @property
    def tags(self) -> dict[str, str]:
        return {"team": "data", **self.names.tags, VERSION_TAG: "1.0"}

    def sent(self) -> list[Request]:
        """What was sent since this was asked before."""
        sent, self.cloud.models.sent = self.cloud.models.sent, []
        return sent


def converge(resource: Resource) -> Live | None:
    """What provisioning does with one resource; out: what of it stood before."""
    live = resource.read()
    if live is None:
        resource.create()
    elif changes := difference(resource, live):
        resource.update(changes)
    return live


def standing(resource: Resource) -> Live:
    live = resource.read()
    assert live is not None
    return live
