"""Log groups, made before the functions so that no function needs the right to make one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stockpipe.infra.resource import Live, Resource, absent_is_none


@dataclass
class LogGroup(Resource):
    """A log group that forgets after ``retention_days``."""

    kind = "log-group"
    precious = True

    retention_days: int = 14

    def desired(self) -> dict[str, Any]:
        return {"retention_days": self.retention_days, "tags": self.stable_tags}

    def read(self) -> Live | None:
        group = self._find()
        if group is None:
            return None
        logs = self.aws.client("logs")
        answer = absent_is_none(
            lambda: logs.list_tags_for_resource(resourceArn=self._arn), "ResourceNotFoundException"
        )
        if answer is None:  # deleted between the two calls
            return None
        settings = {"retention_days": group.get("retentionInDays")}
        return self.standing(settings, answer["tags"], self._arn)

    def create(self) -> None:
        self.aws.client("logs").create_log_group(logGroupName=self.name, tags=dict(self.tags))
        self._put_retention()

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        if "tags" in changes:
            self.aws.client("logs").tag_resource(resourceArn=self._arn, tags=dict(self.tags))
        if "retention_days" in changes:
            self._put_retention()

    def delete(self) -> None:
        logs = self.aws.client("logs")
        absent_is_none(
            lambda: logs.delete_log_group(logGroupName=self.name), "ResourceNotFoundException"
        )

    @property
    def _arn(self) -> str:
        return self.names.log_group_arn(self.name)

    def _find(self) -> dict[str, Any] | None:
        """The group itself: the prefix also finds those whose names begin with its name."""
        pages = (
            self.aws.client("logs")
            .get_paginator("describe_log_groups")
            .paginate(logGroupNamePrefix=self.name)
        )
        for page in pages:
            for group in page["logGroups"]:
                if group["logGroupName"] == self.name:
                    return dict(group)
        return None

    def _put_retention(self) -> None:
        self.aws.client("logs").put_retention_policy(
            logGroupName=self.name, retentionInDays=self.retention_days
        )
