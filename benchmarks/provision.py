"""How long provisioning takes when every call to AWS takes 50 ms more, against the best possible.

The best possible is the critical path: asking for the account, the resource that takes longest to
read, and the longest chain of resources that wait for each other, each with the time of its own
step. Everything runs
in an embedded cloud of its own, in a temporary directory; the commands run in processes of their
own behind a relay.
    python benchmarks/provision.py
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stockpipe.aws import Aws, Endpoint
from stockpipe.local import daemon

if TYPE_CHECKING:
    from stockpipe.infra.apply import Step
    from stockpipe.infra.plan import Plan
    from stockpipe.infra.resource import Resource

DELAY_S = 0.05
TARGET = 1.5
SERVICES = (
    *("athena", "cloudwatch", "dynamodb", "events", "glue", "iam"),
    *("kinesis", "lambda", "logs", "s3", "sns", "sts"),
)
"""What provisioning calls. Making their clients is start-up, like importing boto3."""


class Relay:
    """Passes bytes on, and holds each request back for DELAY_S; ``calls`` counts them.

    It does not read HTTP: over one connection requests and answers take turns, so the first bytes
    after an answer are the next request.
    """

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname, address.port)
        self.calls = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(*self._upstream)
        answered = True

        async def up() -> None:
            nonlocal answered
            while data := await reader.read(1 << 16):
                if answered:
                    answered = False
                    self.calls += 1
                    await asyncio.sleep(DELAY_S)
                requests.write(data)
                await requests.drain()
            requests.close()

        async def down() -> None:
            nonlocal answered
            while data := await answers.read(1 << 16):
                answered = True
                writer.write(data)
                await writer.drain()
            writer.close()

        await asyncio.gather(up(), down(), return_exceptions=True)


@contextmanager
def relaying(endpoint: Endpoint) -> Iterator[tuple[Relay, Endpoint]]:
    """A relay on a free port, in a thread of its own; out: it, and the endpoint behind it."""
    relay, loop = Relay(endpoint.url), asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(relay.serve, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield relay, endpoint._replace(url=f"http://127.0.0.1:{port}")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def child(do: str, endpoint: Endpoint) -> None:
    """What one command does, in seconds, as a document on stdout."""
    begun = time.perf_counter()
    from stockpipe.infra.apply import apply
    from stockpipe.infra.blueprint import blueprint
    from stockpipe.infra.plan import plan_provision, plan_teardown
    from stockpipe.settings import Settings

    aws = Aws(region="us-east-2", endpoint=endpoint)
    for service in SERVICES:
        aws.client(service)
    ready = time.perf_counter()
    assert aws.account_id  # asks who we are: every name depends on it
    asked = time.perf_counter()
    resources = blueprint(aws, Settings())
    plan = (plan_teardown if do == "teardown" else plan_provision)(resources)
    read = time.perf_counter()
    if do == "look":
        slowest = max((read_alone(one), one.id) for one in resources)
        print(json.dumps([(asked - ready, "account"), slowest]))
        return
    steps = Steps()
    apply(plan, steps)
    done = time.perf_counter()
    path = [(steps.seconds(one), one) for one in steps.longest_chain(plan)]
    if do == "teardown":
        path.reverse()
    figures = {"start": ready - begun, "read": read - ready, "converge": done - read}
    print(json.dumps({**figures, "path": path, "changes": len(plan.pending)}))


def read_alone(resource: Resource) -> float:
    """Seconds for one resource while nothing else is read."""
    begun = time.perf_counter()
    resource.read()
    return time.perf_counter() - begun


class Steps:
    """When each step began (at first, where it was tried again) and ended."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._done: dict[str, float] = {}

    def __call__(self, step: Step) -> None:
        now, one = time.perf_counter(), step.change.resource.id
        if step.phase == "start":
            self._begun.setdefault(one, now)
        elif step.phase == "done":
            self._done[one] = now

    def seconds(self, one: str) -> float:
        return self._done[one] - self._begun[one]

    def longest_chain(self, plan: Plan) -> list[str]:
        """The resources whose steps, one after the other, take longest."""
        changes = {change.resource.id: change.resource for change in plan.pending}
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for one, resource in changes.items():
            sorter.add(one, *(need for need in resource.needs if need in changes))
        best: dict[str, tuple[float, list[str]]] = {}
        for one in sorter.static_order():
            before = [best[need] for need in changes[one].needs if need in best]
            seconds, chain = max(before, default=(0.0, []), key=lambda found: found[0])
            best[one] = (seconds + self.seconds(one), [*chain, one])
        chains = sorted(best.values(), key=lambda found: found[0])
        return chains[-1][1] if chains else []


def run(do: str, endpoint: Endpoint) -> Any:
    command = [sys.executable, __file__, do, *endpoint]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def measure(do: str, relay: Relay, endpoint: Endpoint) -> None:
    reading = run("look", endpoint)
    calls = relay.calls
    found = run(do, endpoint)
    calls = relay.calls - calls
    wall = found["read"] + found["converge"]
    path = [*reading, *found["path"]]
    critical = sum(seconds for seconds, _ in path)
    print(
        f"{do}: {wall:.2f} s (reading {found['read']:.2f}, converging {found['converge']:.2f}),"
        f" {found['changes']} changes, {calls} calls;"
        f" before that, imports and clients {found['start']:.2f} s"
    )
    told = " > ".join(f"{one} {seconds:.2f}" for seconds, one in path)
    print(f"  critical path {critical:.2f} s, ratio {wall / critical:.2f}: {told}")


def main() -> None:
    print(f"{DELAY_S * 1000:.0f} ms added to every call; target for provision: ratio <= {TARGET}")
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        try:
            with relaying(daemon.ensure_running(home)) as (relay, endpoint):
                for do in ("provision", "provision", "teardown"):
                    measure(do, relay, endpoint)
        finally:
            daemon.stop(home)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1], Endpoint(*sys.argv[2:]))
    else:
        main()
