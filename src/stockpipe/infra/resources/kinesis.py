"""The stream of quotes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from stockpipe.errors import ProvisionError
from stockpipe.functions.faults import error_code
from stockpipe.infra.resource import Live, Resource, absent_is_none, tag_map, together
from stockpipe.infra.waiting import await_gone, await_state

KEY = "alias/aws/kinesis"
RETENTION_HOURS = 24
"""What every new stream has, encryption it has not."""


@dataclass
class Stream(Resource):
    """A Kinesis stream; ``shards`` counts for the provisioned mode only."""

    kind = "stream"
    precious = True

    mode: str = "on-demand"
    shards: int = 1
    retention_hours: int = RETENTION_HOURS

    def desired(self) -> dict[str, Any]:
        provisioned = self.mode == "provisioned"
        return {
            "mode": self.mode,
            "retention_hours": self.retention_hours,
            "encryption_key": KEY,
            "tags": self.stable_tags,
            **({"shards": self.shards} if provisioned else {}),
        }

    def read(self) -> Live | None:
        summary, tags = together(self._summary, self._tags)
        if summary is None or summary["StreamStatus"] == "DELETING":
            return None  # creating it is retried until it is gone
        mode = summary.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
        encrypted = summary.get("EncryptionType") == "KMS"
        settings = {
            "mode": mode.lower().replace("_", "-"),
            "shards": summary["OpenShardCount"],
            "retention_hours": summary["RetentionPeriodHours"],
            "encryption_key": summary.get("KeyId") if encrypted else None,
        }
        return self.standing(settings, tags, summary["StreamARN"], summary["StreamStatus"])

    def create(self) -> None:
        mode = self._mode
        self.aws.client("kinesis").create_stream(
            StreamName=self.name,
            StreamModeDetails={"StreamMode": mode},
            Tags=dict(self.tags),
            **({"ShardCount": self.shards} if mode == "PROVISIONED" else {}),
        )
        self._await_active()
        self._encrypt()
        if self.retention_hours != RETENTION_HOURS:
            self._retain(RETENTION_HOURS, self.retention_hours)

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        kinesis = self.aws.client("kinesis")
        if "tags" in changes:
            kinesis.add_tags_to_stream(StreamName=self.name, Tags=dict(self.tags))
        if set(changes) - {"tags"}:
            self._await_active()  # a run that was killed may have left it on its way
        if "mode" in changes:  # first: only a provisioned stream can be resharded
            self._limited(
                lambda: kinesis.update_stream_mode(
                    StreamARN=self._arn, StreamModeDetails={"StreamMode": self._mode}
                ),
                "Kinesis switches a stream's mode twice in 24 hours, and no more",
            )
            self._await_active()
        if "shards" in changes:
            self._reshard()
        if "retention_hours" in changes:
            self._retain(*changes["retention_hours"])
        if "encryption_key" in changes:
            self._encrypt()

    def warning(self, changes: Mapping[str, tuple[Any, Any]]) -> str:
        old, new = changes.get("retention_hours", (0, 0))
        return f"records older than {new} h are gone at once" if old and old > new else ""

    def delete(self) -> None:
        kinesis = self.aws.client("kinesis")
        absent_is_none(
            lambda: kinesis.delete_stream(StreamName=self.name, EnforceConsumerDeletion=True),
            "ResourceNotFoundException",
        )
        await_gone(self.id, self._status)

    @property
    def _arn(self) -> str:
        return self.names.stream_arn.rsplit("/", 1)[0] + f"/{self.name}"

    @property
    def _mode(self) -> str:
        """In the API's words."""
        return self.mode.upper().replace("-", "_")

    def _encrypt(self) -> None:
        self.aws.client("kinesis").start_stream_encryption(
            StreamName=self.name, EncryptionType="KMS", KeyId=KEY
        )
        self._await_active()

    def _retain(self, old: int, new: int) -> None:
        kinesis = self.aws.client("kinesis")
        change = (
            kinesis.increase_stream_retention_period
            if new > old
            else kinesis.decrease_stream_retention_period
        )
        change(StreamName=self.name, RetentionPeriodHours=new)
        self._await_active()

    def _reshard(self) -> None:
        kinesis = self.aws.client("kinesis")
        summary = self._summary()
        for count in shard_counts(summary["OpenShardCount"] if summary else 0, self.shards):
            self._limited(
                partial(
                    kinesis.update_shard_count,
                    StreamName=self.name,
                    TargetShardCount=count,
                    ScalingType="UNIFORM_SCALING",
                ),
                "Kinesis reshards a stream ten times in 24 hours, within the account's quota",
            )
            self._await_active()

    def _limited(self, call: Callable[[], Any], limit: str) -> None:
        """A call that is refused for a day once it was made too often; throttling is another."""
        try:
            call()
        except ClientError as error:
            refused = error_code(error) == "LimitExceededException"
            if not refused or "Rate exceeded" in str(error):
                raise
            raise ProvisionError(
                f"stream {self.name}: {limit}: {error}",
                hint="Undo the change of the setting, or run the same command again tomorrow.",
            ) from error

    def _summary(self) -> dict[str, Any] | None:
        answer = absent_is_none(
            lambda: self.aws.client("kinesis").describe_stream_summary(StreamName=self.name),
            "ResourceNotFoundException",
        )
        return dict(answer["StreamDescriptionSummary"]) if answer else None

    def _tags(self) -> dict[str, str]:
        kinesis = self.aws.client("kinesis")
        tags: dict[str, str] = {}
        after: dict[str, str] = {}
        while True:
            answer = absent_is_none(
                partial(kinesis.list_tags_for_stream, StreamName=self.name, **after),
                "ResourceNotFoundException",
            )
            tags |= tag_map(answer["Tags"]) if answer else {}
            if not answer or not answer["HasMoreTags"]:
                return tags
            after = {"ExclusiveStartTagKey": answer["Tags"][-1]["Key"]}

    def _status(self) -> str | None:
        summary = self._summary()
        return str(summary["StreamStatus"]) if summary else None

    def _await_active(self) -> None:
        await_state(self.id, self._status, "ACTIVE")


def shard_counts(count: int, wanted: int) -> Iterator[int]:
    """The steps from ``count`` open shards to ``wanted``: one may at most double or halve them.

    https://docs.aws.amazon.com/kinesis/latest/APIReference/API_UpdateShardCount.html
    """
    while 0 < count != wanted:
        count = min(wanted, 2 * count) if wanted > count else max(wanted, (count + 1) // 2)
        yield count
