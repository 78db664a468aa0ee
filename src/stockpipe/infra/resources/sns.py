"""The topic that alerts go out on."""

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

KEY = "alias/aws/sns"


@dataclass
class Topic(Resource):
    """A standard topic, encrypted at rest."""

    kind = "topic"

    display_name: str = "Stock Alerts"

    def desired(self) -> dict[str, Any]:
        return {"key": KEY, "display_name": self.display_name, "tags": self.stable_tags}

    def read(self) -> Live | None:
        sns = self.aws.client("sns")
        answer = absent_is_none(
            lambda: sns.get_topic_attributes(TopicArn=self._arn), "NotFound", "NotFoundException"
        )
        if answer is None:
            return None
        attributes = answer["Attributes"]
        tags = tag_map(sns.list_tags_for_resource(ResourceArn=self._arn)["Tags"])
        settings = {
            "key": attributes.get("KmsMasterKeyId") or None,
            "display_name": attributes.get("DisplayName", ""),
        }
        return self.standing(settings, tags, self._arn)

    def create(self) -> None:
        self.aws.client("sns").create_topic(
            Name=self.name,
            Attributes={"KmsMasterKeyId": KEY, "DisplayName": self.display_name},
            Tags=tag_list(self.tags),
        )

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        sns = self.aws.client("sns")
        if "tags" in changes:
            sns.tag_resource(ResourceArn=self._arn, Tags=tag_list(self.tags))
        for setting, attribute in (("key", "KmsMasterKeyId"), ("display_name", "DisplayName")):
            if setting in changes:
                sns.set_topic_attributes(
                    TopicArn=self._arn,
                    AttributeName=attribute,
                    AttributeValue=changes[setting][1],
                )

    def delete(self) -> None:
        self.aws.client("sns").delete_topic(TopicArn=self._arn)

    @property
    def _arn(self) -> str:
        return self.names.topic_arn.rsplit(":", 1)[0] + f":{self.name}"
