"""microburst between a program and the embedded cloud: errors, resets, latency, by rule.

A rule that never matched makes a test of faults worthless: ``Faults.fired`` says what really hit.
Run as a program, this file is the proxy.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from event_source_cloud import free_port, until

from stockpipe.aws import Endpoint

Rule = dict[str, Any]

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


_OTHER_NAMES = {
    "s3:GetBucketLifecycleConfiguration": "s3:GetBucketLifecycle",
    "s3:PutBucketLifecycleConfiguration": "s3:PutBucketLifecycle",
}
"""Two operations of one route each: microburst takes the older one."""


def operations(calls: Iterable[str]) -> set[str]:
    """``service:Operation`` as microburst calls it."""
    return {_OTHER_NAMES.get(call, call) for call in calls}


def error(
    service: str, operation: str, code: str, message: str, *, times: int, status: int = 400
) -> Rule:
    """The first ``times`` calls of an operation end in this error, and never get there."""
    said = {"code": code, "message": message, "status": status}
    return {"service": service, "operation": operation, "times": times, "error": said}


@dataclass(frozen=True)
class Faults:
    endpoint: Endpoint
    """The proxy's address, with the embedded cloud's credentials."""

    def set(self, *rules: Rule) -> None:
        """From now on these rules are in force, and no others."""
        self._call("fired", "DELETE")
        self._call("rules", "POST", list(rules))

    def fired(self) -> Counter[str]:
        """How often each fault hit since the rules were set, by ``service:Operation action``."""
        return Counter(
            f"{one['service']}:{one['operation']} {one['action']}"
            for one in self._call("fired?limit=10000", "GET")
        )

    def hits(self) -> Counter[str]:
        """How often any fault hit, by ``service:Operation``."""
        counted: Counter[str] = Counter()
        for what, times in self.fired().items():
            counted[what.partition(" ")[0]] += times
        return counted

    def _call(self, path: str, method: str, body: Any = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the address is ours
            f"{self.endpoint.url}/_microburst/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        with _DIRECT.open(request) as answer:
            return json.load(answer)


@contextlib.contextmanager
def fault_proxy(cloud: Endpoint, log: Path) -> Iterator[Faults]:
    """A proxy of its own in front of a running embedded cloud; it ends with the block."""
    port = free_port()
    command = [sys.executable, __file__, "--upstream", cloud.url, "--port", str(port)]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output) as process,
    ):
        try:
            faults = Faults(cloud._replace(url=f"http://127.0.0.1:{port}"))

            def ready() -> bool:
                assert process.poll() is None, log.read_text()
                with contextlib.suppress(OSError):
                    return bool(faults._call("health", "GET"))
                return False

            until("the proxy answers", ready)
            yield faults
        finally:
            process.terminate()


def _serve() -> int:
    """microburst, but it sends on the path and the host that the program has signed.

    As it comes it calls by the host of its upstream, and writes ``%3A`` in a path as ``:``. It can
    sign anew instead, but then signs the one spelling of such a path and sends the other.
    """
    from microburst import cli, forward
    from microburst.core import pipeline
    from microburst.detection import host
    from yarl import URL

    class Base(str):
        __slots__ = ()

        def __add__(self, path: str) -> Any:
            return URL(f"{self}{path}", encoded=True)

    class Upstream(forward.Upstream):  # type: ignore[misc]
        def __init__(self, base_url: str, **options: Any) -> None:
            super().__init__(base_url, **options)
            self.base_url: Any = Base(base_url.rstrip("/"))

        def _outbound_headers(self, request: Any) -> Any:
            return super()._outbound_headers(request) | {"host": request.headers["Host"]}

    pipeline.Upstream = Upstream
    # Else it reads the models of all services, to look for their names in that of a host.
    host._endpoint_prefix_map = dict
    return int(cli.main())


if __name__ == "__main__":
    sys.exit(_serve())
