"""Provisioning in processes of its own that can be killed after any call to AWS.

``Warm`` is the test's side. Run as a program, this file is the other side: a process that has
imported what takes long, has built the functions' code, and forks a child for each job. Pytest
itself must not fork: its workers have threads. The parent never makes a call, so that no connection
is shared between children.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

from stockpipe.aws import Aws, Endpoint
from stockpipe.errors import StockpipeError
from stockpipe.infra.apply import apply
from stockpipe.infra.blueprint import blueprint
from stockpipe.infra.plan import Action, Change, Plan, plan_provision, plan_teardown
from stockpipe.settings import Settings

DONE, FAILED, BROKEN = 0, 1, 70
_SERVICES = (
    "athena", "cloudwatch", "dynamodb", "events", "glue", "iam", "kinesis", "lambda", "logs", "s3",
    "sns", "sts",
)  # fmt: skip
_READING = ("BatchGet", "Describe", "Get", "Head", "List")


@dataclass(frozen=True)
class Job:
    """What a child does; it is killed as soon as its call number ``kill_after`` has returned.

    Counted over all threads, from 1; with ``writes_only`` just the calls that change something.
    """

    do: str
    """``provision``, ``teardown``, or ``plan``: of provisioning, changing nothing."""
    stack: str = "default"
    region: str = "us-east-2"
    kill_after: int | None = None
    writes_only: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a child ended."""

    code: int
    """Of the process: 0 done, 1 a failure told in ``said``, minus the signal that killed it."""
    calls: list[str]
    """``service:Operation`` of each call, in the order in which they returned."""
    pending: list[str]
    """What the plan had to do: ``update table stock-market-data ttl``."""
    said: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def writes(self) -> list[str]:
        """The calls that changed something."""
        return [call for call in self.calls if not reads(call)]


def reads(call: str) -> bool:
    """Whether a call (``service:Operation``) changes nothing."""
    return call.partition(":")[2].startswith(_READING)


class Warm:
    """The test's side: carries out jobs, several at the same moment when several are given."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, *jobs: Job) -> list[Outcome]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([asdict(job) for job in jobs]) + "\n")
        self._process.stdin.flush()
        return [Outcome(**one) for one in json.loads(self._process.stdout.readline())]

    def one(self, do: str, **job: Any) -> Outcome:
        (outcome,) = self(Job(do, **job))
        return outcome


@contextlib.contextmanager
def warm(endpoint: Endpoint) -> Iterator[Warm]:
    """A warm process that works on ``endpoint``; it ends with the block, its children too."""
    command = [sys.executable, __file__, json.dumps(endpoint)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Warm(process)
        assert process.stdin
        process.stdin.close()


class _Counting(Aws):
    """Clients whose every call is counted; they are made before the fork and used after it."""

    def __init__(self, endpoint: Endpoint, stack: str, region: str) -> None:
        super().__init__(region=region, stack=stack, endpoint=endpoint)
        self._services: set[str] = set()
        self.on_call: Callable[[str], None] = lambda call: None

    def client(self, service: str) -> Any:
        client = super().client(service)
        if service not in self._services:
            self._services.add(service)
            client.meta.events.register("after-call", self._returned, unique_id="counting")
        return client

    def _returned(self, model: Any, **_: Any) -> None:
        self.on_call(f"{model.service_model.service_name}:{model.name}")


class _Server:
    """The warm process: one client factory for each stack and region, kept for all children."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._factories: dict[tuple[str, str], _Counting] = {}

    def serve(self) -> None:
        nobody = Aws(region="us-east-2", endpoint=self._endpoint)
        nobody.account_id = "000000000000"  # else it would be asked for
        blueprint(nobody, Settings())
        gc.freeze()  # else a child's first collection copies all of it
        for line in sys.stdin:
            jobs = [Job(**one) for one in json.loads(line)]
            children = [self._fork(job) for job in jobs]
            for child in children:
                child.begin()
            outcomes = [child.outcome() for child in children]
            print(json.dumps([asdict(one) for one in outcomes]), flush=True)  # noqa: T201

    def _fork(self, job: Job) -> _Child:
        aws = self._factories.setdefault(
            (job.stack, job.region), _Counting(self._endpoint, job.stack, job.region)
        )
        for service in _SERVICES:
            aws.client(service)
        told, tell = os.pipe()
        released, release = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(told)
            os.close(release)
            os.read(released, 1)
            _work(job, aws, tell)
        os.close(tell)
        os.close(released)
        return _Child(pid, told, release)


@dataclass(frozen=True)
class _Child:
    pid: int
    told: int
    release: int

    def begin(self) -> None:
        os.write(self.release, b"!")
        os.close(self.release)

    def outcome(self) -> Outcome:
        calls: list[str] = []
        pending: list[str] = []
        said = ""
        with os.fdopen(self.told, encoding="utf-8") as lines:
            for line in lines:
                told = json.loads(line)
                calls += told.get("calls", [])
                pending += told.get("pending", [])
                said += told.get("said", "")
        _, status = os.waitpid(self.pid, 0)
        return Outcome(os.waitstatus_to_exitcode(status), calls, pending, said)


def _work(job: Job, aws: _Counting, pipe: int) -> NoReturn:
    """The child: never returns, and tells what it does through ``pipe``, a line at a time."""
    lock, made = threading.Lock(), 0  # the lock: no other call is told between a kill's two lines

    def tell(**what: Any) -> None:
        os.write(pipe, (json.dumps(what) + "\n").encode())

    def on_call(call: str) -> None:
        nonlocal made
        with lock:
            made += not (job.writes_only and reads(call))
            tell(calls=[call])
            if made == job.kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

    code = BROKEN
    try:
        aws.on_call = on_call
        carry_out(job, aws, lambda pending: tell(pending=pending))
        code = DONE
    except StockpipeError as error:
        code = FAILED
        tell(said=str(error))
    except BaseException as error:
        tell(said=f"broken: {error!r}")
        raise
    finally:
        os._exit(code)


def carry_out(job: Job, aws: Aws, on_plan: Callable[[list[str]], object]) -> None:
    """What a job says, in this very process; ``on_plan`` is told what there is to do."""
    settings = Settings(stack=job.stack, region=job.region, **job.settings)
    resources = blueprint(aws, settings)
    plan: Plan = (plan_teardown if job.do == "teardown" else plan_provision)(resources)
    on_plan([_told(change) for change in plan.pending])
    if job.do != "plan":
        apply(plan, lambda step: None)


def _told(change: Change) -> str:
    settings = change.settings if change.action is Action.UPDATE else {}
    return " ".join([change.action, change.resource.kind, change.resource.name, *settings])


if __name__ == "__main__":
    _Server(Endpoint(*json.loads(sys.argv[1]))).serve()
