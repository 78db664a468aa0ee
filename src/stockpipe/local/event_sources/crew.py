"""The workers of one mapping: one for every shard that may be read now, and no other."""

from __future__ import annotations

import logging

from botocore.exceptions import BotoCoreError, ClientError

from stockpipe.local.event_sources.mappings import EventMapping
from stockpipe.local.event_sources.readers import Shard, SourceGone
from stockpipe.local.event_sources.sources import StreamSource
from stockpipe.local.event_sources.worker import ShardWorker, Surroundings

_log = logging.getLogger(__name__)

SHARDS_LIFE_S = 10.0
REST_AFTER_CRASH_S = 1.0


class Crew:
    """Follows one mapping. Used by the runner's thread alone, but for ``workers`` and ``trouble``.

    ``trouble`` is why the shards are not known, None when they are.
    """

    def __init__(
        self,
        mapping: EventMapping,
        source: StreamSource,
        since: float,
        *,
        first: bool,
        around: Surroundings,
    ) -> None:
        """``since``: epoch seconds when the mapping was met; ``first``: that was just now."""
        self.mapping = mapping
        self.workers: dict[str, ShardWorker] = {}
        self.trouble: str | None = None
        self._source, self._since, self._first, self._around = source, since, first, around
        self._shards: list[Shard] = []
        self._listed_at = float("-inf")

    def follow(self, mapping: EventMapping) -> None:
        """The mapping as it is now described; running workers take it over."""
        self.mapping = mapping
        for worker in self.workers.values():
            worker.follow(mapping)

    def halt(self) -> bool:
        """Ask all workers to end; True once they have."""
        for worker in self.workers.values():
            worker.halt()
        return not any(worker.is_alive() for worker in self.workers.values())

    def staff(self) -> None:
        """See to it that every shard that may be read has a worker.

        A worker that was halted keeps its place until it has ended, so that no shard ever has two.
        """
        if not self._list():
            return
        uuid, position = self.mapping.uuid, self._around.checkpoints.position
        now = self._around.clock.monotonic()
        present = {shard.id for shard in self._shards}
        for shard in self._shards:
            worker = self.workers.get(shard.id)
            if worker and (
                worker.is_alive() or (worker.crashed and now - worker.made_at < REST_AFTER_CRASH_S)
            ):
                continue
            if position(uuid, shard.id).finished:
                continue
            # Parents first, or the order of a partition key would break at a split or a merge:
            # https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-after-resharding.html
            if all(position(uuid, up).finished for up in shard.parents if up in present):
                self._hire(shard.id)
        for shard_id in [name for name in self.workers if name not in present]:
            if not self.workers[shard_id].is_alive():
                del self.workers[shard_id]
        self._first = False

    def _list(self) -> bool:
        """Know the shards, asking every few seconds, or at once when one has disappeared."""
        now = self._around.clock.monotonic()
        gone = any(worker.gone for worker in self.workers.values())
        if not gone and now - self._listed_at < SHARDS_LIFE_S:
            return True
        try:
            self._shards = self._source.shards()
        except (SourceGone, BotoCoreError, ClientError) as error:
            if self.trouble != str(error):
                _log.warning("cannot list the shards of %s: %s", self.mapping.source, error)
            self.trouble = str(error)
            return False
        self.trouble, self._listed_at = None, now
        return True

    def _hire(self, shard: str) -> None:
        mapping, around = self.mapping, self._around
        reader = self._source.open(
            shard,
            around.checkpoints.position(mapping.uuid, shard).sequence,
            self._since,
            first=self._first,
            role=lambda: around.functions.role(self.mapping),
        )
        worker = ShardWorker(mapping, self._source, shard, reader, around)
        self.workers[shard] = worker
        worker.start()
