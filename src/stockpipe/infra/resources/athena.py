"""The workgroup: where results go, and how much one query may scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stockpipe.infra.resource import (
    Live,
    Resource,
    absent_is_none,
    tag_list,
    tag_map,
)


@dataclass
class Workgroup(Resource):
    """A workgroup whose settings no client can override."""

    kind = "workgroup"

    output: str = ""
    cutoff_bytes: int = 1 << 30

    def desired(self) -> dict[str, Any]:
        return {
            "output": self.output,
            "cutoff_bytes": self.cutoff_bytes,
            "enforced": True,
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        athena = self.aws.client("athena")
        answer = absent_is_none(
            lambda: athena.get_work_group(WorkGroup=self.name), "InvalidRequestException"
        )
        if answer is None:
            return None
        configuration = answer["WorkGroup"].get("Configuration", {})
        arn = self.names.workgroup_arn
        tags = tag_map(athena.list_tags_for_resource(ResourceARN=arn)["Tags"])
        settings = {
            "output": configuration.get("ResultConfiguration", {}).get("OutputLocation"),
            "cutoff_bytes": configuration.get("BytesScannedCutoffPerQuery"),
            "enforced": configuration.get("EnforceWorkGroupConfiguration"),
        }
        return self.standing(settings, tags, arn)

    def create(self) -> None:
        self.aws.client("athena").create_work_group(
            Name=self.name,
            Description="Made by stockpipe",
            Configuration={
                "ResultConfiguration": self._results(),
                "EnforceWorkGroupConfiguration": True,
                "PublishCloudWatchMetricsEnabled": True,
                "BytesScannedCutoffPerQuery": self.cutoff_bytes,
            },
            Tags=tag_list(self.tags),
        )

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        athena = self.aws.client("athena")
        if "tags" in changes:
            athena.tag_resource(ResourceARN=self.names.workgroup_arn, Tags=tag_list(self.tags))
        if set(changes) - {"tags"}:
            athena.update_work_group(
                WorkGroup=self.name,
                ConfigurationUpdates={
                    "EnforceWorkGroupConfiguration": True,
                    "BytesScannedCutoffPerQuery": self.cutoff_bytes,
                    "ResultConfigurationUpdates": self._results(),
                },
            )

    def delete(self) -> None:
        athena = self.aws.client("athena")
        absent_is_none(
            lambda: athena.delete_work_group(WorkGroup=self.name, RecursiveDeleteOption=True),
            "InvalidRequestException",
        )

    def _results(self) -> dict[str, Any]:
        return {
            "OutputLocation": self.output,
            "EncryptionConfiguration": {"EncryptionOption": "SSE_S3"},
            "ExpectedBucketOwner": self.names.account,
        }
