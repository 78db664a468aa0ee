"""Event source mappings for the embedded cloud: Lambda's side of Kinesis and DynamoDB Streams.

The emulator's own poller drops what ReportBatchItemFailures names, ignores retries, bisecting and
on-failure destinations, and remembers list indexes. This runner replaces it, as threads in the
server's process that use nothing but public APIs: one worker per (mapping, shard), and one thread
that follows the mappings and shards there are. What a mapping sets that we do not honour is
refused: an error is logged, ``status.json`` says so, and nothing of that mapping runs.

    install()                                    # once, before the server starts
    runner = EventSourceRunner(connector(endpoint), directory)
    runner.start()                               # any time
    runner.stop(timeout_s)                       # while the server still serves; not on its loop
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from stockpipe.domain.clock import SYSTEM_CLOCK, Clock
from stockpipe.local.event_sources.checkpoints import Checkpoints
from stockpipe.local.event_sources.crew import Crew
from stockpipe.local.event_sources.hooks import install, mapping_regions, on_change, wake_event
from stockpipe.local.event_sources.invocations import Functions
from stockpipe.local.event_sources.mappings import Refused, read_mapping, stream_kind
from stockpipe.local.event_sources.readers import error_code
from stockpipe.local.event_sources.sources import ClientFor, connector, open_source
from stockpipe.local.event_sources.wakes import Bell, on_set
from stockpipe.local.event_sources.worker import Surroundings

__all__ = ["EventSourceRunner", "connector", "install", "mapping_regions"]

_log = logging.getLogger(__name__)

IDLE_POLL_S = 1.0
RESCAN_S = 2.0
STATUS_EVERY_S = 1.0
ORPHAN_AGE_S = 60.0
"""How long a mapping of an earlier run must be missing before its checkpoints are removed."""


class EventSourceRunner:
    """Runs all Kinesis and DynamoDB Streams mappings of the given regions."""

    def __init__(
        self,
        connect: ClientFor,
        checkpoints: Path,
        wake: threading.Event | None = None,
        *,
        regions: Callable[[], Collection[str]] = mapping_regions,
        clock: Clock = SYSTEM_CLOCK,
        idle_poll_s: float = IDLE_POLL_S,
        rescan_s: float = RESCAN_S,
    ) -> None:
        """Nothing happens before :meth:`start`.

        ``connect``: (service, region) -> boto3 client; :func:`connector` makes a suitable one.
        ``checkpoints``: a directory of its own. ``wake``: set by every write to a stream, the
        emulator's own by default; others may clear it. ``regions``: those that have mappings, asked
        before every look; by default the emulator's, at no call. Waits are in seconds.
        """
        self._connect, self._regions, self._clock = connect, regions, clock
        self._wake, self._rescan_s = wake or wake_event(), rescan_s
        self._bell, self._attention = Bell(), Bell()
        self.checkpoints = Checkpoints(checkpoints)
        self._around = Surroundings(
            connect,
            Functions(connect, clock),
            self.checkpoints,
            self._bell,
            clock,
            idle_poll_s,
            self._attention.ring,
        )
        self._crews: dict[str, Crew] = {}
        self._refused: dict[str, tuple[str, str]] = {}  # by UUID: region, reason
        self._orphans: dict[str, float] = {}
        self._unlisted: dict[str, str] = {}
        self._status: dict[str, Any] = {}
        self._seen = -1
        self._stopping = threading.Event()
        self._unhook: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="esm-runner", daemon=True)

    def start(self) -> None:
        """Begin to follow mappings; the server may come up later."""
        self._unhook = [on_set(self._wake, self._bell.ring), on_change(self.rescan)]
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End all workers, waiting up to ``timeout_s`` seconds for what they are invoking.

        What has not finished by then is abandoned: no checkpoint moves after this returns, so
        that work is repeated after a restart. Call it before the server's state is saved.
        """
        deadline = self._clock.monotonic() + timeout_s
        self._stopping.set()
        self._attention.ring()
        for crew in list(self._crews.values()):
            crew.halt()
        self._thread.join(max(0.0, deadline - self._clock.monotonic()))
        workers = [worker for crew in self._crews.values() for worker in crew.workers.values()]
        for worker in workers:
            worker.halt()
            worker.join(max(0.0, deadline - self._clock.monotonic()))
        self._write_status()
        self.checkpoints.close()
        while self._unhook:
            self._unhook.pop()()
        if left := [worker.name for worker in workers if worker.is_alive()]:
            _log.warning("abandoned while invoking: %s", ", ".join(left))

    def rescan(self) -> None:
        """Look at the mappings now instead of within ``rescan_s`` seconds."""
        self._attention.ring()

    def status(self) -> dict[str, Any]:
        """Counters by mapping and shard, as in ``status.json``. Plain JSON."""
        now = self._now()
        mappings: dict[str, Any] = {
            uuid: {"state": "Refused", "reason": reason, "shards": {}}
            for uuid, (_, reason) in list(self._refused.items())
        }
        for uuid, crew in list(self._crews.items()):
            if uuid in mappings:
                continue
            mapping = crew.mapping
            mappings[uuid] = {
                "state": "Enabled" if mapping.enabled else "Disabled",
                "reason": crew.trouble,
                "function": mapping.function_name,
                "source": mapping.source,
                "region": mapping.region,
                "shards": {
                    shard: worker.report.to_dict(now)
                    for shard, worker in list(crew.workers.items())
                },
            }
        return {"mappings": mappings, "regions": dict(self._unlisted)}

    # Following ------------------------------------------------------------------------------

    def _run(self) -> None:
        passed = written = float("-inf")
        while not self._stopping.is_set():
            rings, now = self._attention.rings, self._clock.monotonic()
            if rings != self._seen or now - passed >= self._rescan_s:
                self._seen, passed = rings, now
                try:
                    self._pass()
                except Exception:  # noqa: BLE001 - logged; without this thread nothing would run
                    _log.exception("event sources: unexpected; trying again")
            if now - written >= STATUS_EVERY_S:
                written = now
                self._write_status()
            self._attention.wait(rings, min(STATUS_EVERY_S, self._rescan_s))

    def _pass(self) -> None:
        known = self.checkpoints.known()
        regions = set(self._regions())
        regions |= {met.region for met in known.values()}
        regions |= {crew.mapping.region for crew in self._crews.values()}
        for region in sorted(regions):
            try:
                listed = self._list(region)
            except (BotoCoreError, ClientError) as error:
                # Unreachable says nothing about the mappings: all stays as it is.
                if self._unlisted.get(region) != str(error):
                    _log.warning("cannot list the mappings of %s: %s", region, error)
                self._unlisted[region] = str(error)
                continue
            self._unlisted.pop(region, None)
            for raw in listed:
                self._meet(raw, region)
            present = {str(raw["UUID"]) for raw in listed}
            self._part(region, {uuid for uuid in known if known[uuid].region == region}, present)
            for uuid, (home, _) in list(self._refused.items()):
                if home == region and uuid not in present:
                    del self._refused[uuid]
            for uuid, crew in self._crews.items():
                if uuid in self._refused or not crew.mapping.enabled:
                    crew.halt()
                elif uuid in present and not self._stopping.is_set():
                    crew.staff()

    def _list(self, region: str) -> list[dict[str, Any]]:
        client = self._connect("lambda", region)
        found: list[dict[str, Any]] = []
        page: dict[str, Any] = {}
        while True:
            answer = client.list_event_source_mappings(**page)
            found += [
                raw for raw in answer["EventSourceMappings"] if stream_kind(raw["EventSourceArn"])
            ]
            if not answer.get("NextMarker"):
                return found
            page = {"Marker": answer["NextMarker"]}

    def _meet(self, raw: dict[str, Any], region: str) -> None:
        uuid = str(raw["UUID"])
        try:
            mapping = read_mapping(raw, region)
        except Refused as refusal:
            if self._refused.get(uuid) != (region, refusal.message):
                _log.error(
                    "event source mapping %s of %s does not run: %s",
                    *(uuid, raw["FunctionArn"], refusal.message),
                )
            self._refused[uuid] = region, refusal.message
            return
        self._refused.pop(uuid, None)
        if crew := self._crews.get(uuid):
            crew.follow(mapping)
        else:
            known, first = self.checkpoints.meet(uuid, region, self._now())
            source = open_source(self._connect, mapping, self._clock)
            self._crews[uuid] = Crew(mapping, source, known.since, first=first, around=self._around)

    def _part(self, region: str, known: set[str], present: set[str]) -> None:
        """Of a region's mappings, end those that are not listed and forget how far they came.

        One that was never seen running may belong to a state that is still being loaded.
        """
        now = self._clock.monotonic()
        for uuid in known & present:
            self._orphans.pop(uuid, None)
        for uuid in known - present:
            crew = self._crews.get(uuid)
            if crew is None and now - self._orphans.setdefault(uuid, now) < ORPHAN_AGE_S:
                continue
            if (crew is None or crew.halt()) and self._is_deleted(uuid, region):
                self._crews.pop(uuid, None)
                self._orphans.pop(uuid, None)
                self.checkpoints.forget(uuid)

    def _is_deleted(self, uuid: str, region: str) -> bool:
        try:
            self._connect("lambda", region).get_event_source_mapping(UUID=uuid)
        except ClientError as error:
            return error_code(error) == "ResourceNotFoundException"
        return False

    def _write_status(self) -> None:
        status = self.status()
        if status != self._status:
            try:
                self.checkpoints.write_status(status)
            except OSError:
                _log.exception("cannot write status.json")
            self._status = status

    def _now(self) -> float:
        return self._clock.now().timestamp()
