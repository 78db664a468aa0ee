"""The stream of quotes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stockpipe.infra.resource import Live, Resource, absent_is_none
from stockpipe.infra.waiting import await_gone, await_state

KEY = "alias/aws/kinesis"


@dataclass
class Stream(Resource):
    """A Kinesis stream; ``shards`` counts for the provisioned mode only."""

    kind = "stream"

    mode: str = "on-demand"
    shards: int = 1
    retention_hours: int = 24

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
        kinesis = self.aws.client("kinesis")
        answer = absent_is_none(
            lambda: kinesis.describe_stream_summary(StreamName=self.name),
            "ResourceNotFoundException",
        )
        if answer is None:
            return None
        summary = answer["StreamDescriptionSummary"]
        if summary["StreamStatus"] == "DELETING":
            return None  # creating it is retried until it is gone
        tags = {
            tag["Key"]: tag["Value"]
            for tag in kinesis.list_tags_for_stream(StreamName=self.name)["Tags"]
        }
        mode = summary.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
        settings = {
            "mode": mode.lower().replace("_", "-"),
            "shards": summary["OpenShardCount"],
            "retention_hours": summary["RetentionPeriodHours"],
            "encryption_key": summary.get("KeyId"),
        }
        return self.standing(settings, tags, summary["StreamARN"], summary["StreamStatus"])

    def create(self) -> None:
        mode = self.mode.upper().replace("-", "_")
        self.aws.client("kinesis").create_stream(
            StreamName=self.name,
            StreamModeDetails={"StreamMode": mode},
            Tags=dict(self.tags),
            **({"ShardCount": self.shards} if mode == "PROVISIONED" else {}),
        )
        self._await_active()
        live = self.read()
        if live:
            self.update(
                {
                    name: (live.settings.get(name), wanted)
                    for name, wanted in self.desired().items()
                    if live.settings.get(name) != wanted
                }
            )

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        kinesis = self.aws.client("kinesis")
        if "tags" in changes:
            kinesis.add_tags_to_stream(StreamName=self.name, Tags=dict(self.tags))
        if "mode" in changes:  # first: only a provisioned stream can be resharded
            kinesis.update_stream_mode(
                StreamARN=self.names.stream_arn,
                StreamModeDetails={"StreamMode": self.mode.upper().replace("-", "_")},
            )
            self._await_active()
        if "shards" in changes:
            self._reshard()
        if "retention_hours" in changes:
            old, new = changes["retention_hours"]
            change = (
                kinesis.increase_stream_retention_period
                if new > old
                else kinesis.decrease_stream_retention_period
            )
            change(StreamName=self.name, RetentionPeriodHours=new)
            self._await_active()
        if "encryption_key" in changes:
            kinesis.start_stream_encryption(StreamName=self.name, EncryptionType="KMS", KeyId=KEY)
            self._await_active()

    def delete(self) -> None:
        kinesis = self.aws.client("kinesis")
        absent_is_none(
            lambda: kinesis.delete_stream(StreamName=self.name, EnforceConsumerDeletion=True),
            "ResourceNotFoundException",
        )
        await_gone(self.id, self._status)

    def _reshard(self) -> None:
        """One call may at most double or halve the open shards, so go there in steps.

        https://docs.aws.amazon.com/kinesis/latest/APIReference/API_UpdateShardCount.html
        """
        kinesis = self.aws.client("kinesis")
        while (count := self._open_shards()) != self.shards:
            more = self.shards > count
            step = min(self.shards, 2 * count) if more else max(self.shards, (count + 1) // 2)
            kinesis.update_shard_count(
                StreamName=self.name, TargetShardCount=step, ScalingType="UNIFORM_SCALING"
            )
            self._await_active()

    def _open_shards(self) -> int:
        answer = self.aws.client("kinesis").describe_stream_summary(StreamName=self.name)
        return int(answer["StreamDescriptionSummary"]["OpenShardCount"])

    def _status(self) -> str | None:
        answer = absent_is_none(
            lambda: self.aws.client("kinesis").describe_stream_summary(StreamName=self.name),
            "ResourceNotFoundException",
        )
        return answer and str(answer["StreamDescriptionSummary"]["StreamStatus"])

    def _await_active(self) -> None:
        await_state(self.id, self._status, "ACTIVE")
