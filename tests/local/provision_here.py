"""Provisioning in the test's own process, for what needs no process of its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from provision_child import DONE, FAILED, Job, Outcome, carry_out

from stockpipe.aws import Aws, Endpoint
from stockpipe.errors import StockpipeError


class Here:
    """All stacks and regions behind one endpoint; their clients are made once for each region."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.clients: dict[tuple[str, str], Any] = {}
        self.making = threading.Lock()
        self.calls: list[str] = []

    def aws(self, stack: str = "default", region: str = "us-east-2") -> Aws:
        return _Stack(self, stack, region)

    def __call__(self, *jobs: Job) -> list[Outcome]:
        """Carry out jobs, at the same moment when several are given, which share their calls."""
        self.calls.clear()
        with ThreadPoolExecutor(len(jobs)) as pool:
            return list(pool.map(self._carry_out, jobs))

    def one(self, do: str, **job: Any) -> Outcome:
        (outcome,) = self(Job(do, **job))
        return outcome

    def returned(self, model: Any, **_: Any) -> None:
        self.calls.append(f"{model.service_model.service_name}:{model.name}")

    def _carry_out(self, job: Job) -> Outcome:
        pending: list[str] = []
        code, said = DONE, ""
        try:
            carry_out(job, self.aws(job.stack, job.region), pending.extend)
        except StockpipeError as error:
            code, said = FAILED, str(error)
        return Outcome(code, list(self.calls), pending, said)


class _Stack(Aws):
    def __init__(self, here: Here, stack: str, region: str) -> None:
        super().__init__(region=region, stack=stack, endpoint=here.endpoint)
        self._here = here

    def client(self, service: str) -> Any:
        key, clients = (self.region, service), self._here.clients
        with self._here.making:
            if key not in clients:
                made = super().client(service)
                made.meta.events.register("after-call", self._here.returned)
                clients[key] = made
            return clients[key]
