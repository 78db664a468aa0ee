"""The two tables: readings and alerts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from stockpipe.infra.resource import (
    Live,
    Resource,
    absent_is_none,
    tag_list,
    tag_map,
)
from stockpipe.infra.waiting import await_gone, await_state

EXPIRES_AT = "expires_at"


@dataclass
class Table(Resource):
    """An on-demand table with two string keys, and its stream of new images where wanted."""

    kind = "table"
    holds_data = True
    replace_on: ClassVar = {"keys": "a table keeps its keys for life"}

    hash_key: str = "symbol"
    range_key: str = "timestamp"
    stream: bool = False
    ttl: bool = False

    def desired(self) -> dict[str, Any]:
        return {
            "keys": [self.hash_key, self.range_key],
            "billing": "PAY_PER_REQUEST",
            "stream": "NEW_IMAGE" if self.stream else None,
            "ttl": EXPIRES_AT if self.ttl else None,
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        dynamodb = self.aws.client("dynamodb")
        answer = absent_is_none(
            lambda: dynamodb.describe_table(TableName=self.name), "ResourceNotFoundException"
        )
        if answer is None:
            return None
        table = answer["Table"]
        if table["TableStatus"] == "DELETING":
            return None  # creating it is retried until it is gone
        tags = tag_map(dynamodb.list_tags_of_resource(ResourceArn=table["TableArn"])["Tags"])
        ttl = dynamodb.describe_time_to_live(TableName=self.name)["TimeToLiveDescription"]
        enabled = ttl.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
        keys = {key["KeyType"]: key["AttributeName"] for key in table["KeySchema"]}
        specification = table.get("StreamSpecification") or {}
        settings = {
            "keys": [keys.get("HASH"), keys.get("RANGE")],
            "billing": table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED"),
            "stream": specification.get("StreamViewType")
            if specification.get("StreamEnabled")
            else None,
            "ttl": ttl.get("AttributeName") if enabled else None,
        }
        return self.standing(settings, tags, table["TableArn"], table["TableStatus"])

    def create(self) -> None:
        keys = {"HASH": self.hash_key, "RANGE": self.range_key}
        self.aws.client("dynamodb").create_table(
            TableName=self.name,
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in keys.values()
            ],
            KeySchema=[
                {"AttributeName": name, "KeyType": key_type} for key_type, name in keys.items()
            ],
            BillingMode="PAY_PER_REQUEST",
            Tags=tag_list(self.tags),
            **({"StreamSpecification": self._stream_specification()} if self.stream else {}),
        )
        self._await_active()
        if self.ttl:
            self._set_ttl(enabled=True)

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        dynamodb = self.aws.client("dynamodb")
        if "tags" in changes:
            dynamodb.tag_resource(ResourceArn=self._arn, Tags=tag_list(self.tags))
        if "billing" in changes:
            dynamodb.update_table(TableName=self.name, BillingMode="PAY_PER_REQUEST")
            self._await_active()
        if "stream" in changes:
            old, _ = changes["stream"]
            if old is not None:  # a view type cannot be changed, only switched off and on
                dynamodb.update_table(
                    TableName=self.name, StreamSpecification={"StreamEnabled": False}
                )
                self._await_active()
            if self.stream:
                dynamodb.update_table(
                    TableName=self.name, StreamSpecification=self._stream_specification()
                )
                self._await_active()
        if "ttl" in changes:
            self._set_ttl(enabled=self.ttl)

    def delete(self) -> None:
        dynamodb = self.aws.client("dynamodb")
        absent_is_none(
            lambda: dynamodb.delete_table(TableName=self.name), "ResourceNotFoundException"
        )
        await_gone(self.id, self._status)

    def stream_arn(self) -> str | None:
        """The table's newest stream; its label is known only once the table is there."""
        answer = absent_is_none(
            lambda: self.aws.client("dynamodb").describe_table(TableName=self.name),
            "ResourceNotFoundException",
        )
        arn: str | None = answer and answer["Table"].get("LatestStreamArn")
        return arn

    @property
    def _arn(self) -> str:
        return self.names.table_arn.rsplit("/", 1)[0] + f"/{self.name}"

    @staticmethod
    def _stream_specification() -> dict[str, Any]:
        return {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}

    def _set_ttl(self, *, enabled: bool) -> None:
        self.aws.client("dynamodb").update_time_to_live(
            TableName=self.name,
            TimeToLiveSpecification={"Enabled": enabled, "AttributeName": EXPIRES_AT},
        )

    def _status(self) -> str | None:
        answer = absent_is_none(
            lambda: self.aws.client("dynamodb").describe_table(TableName=self.name),
            "ResourceNotFoundException",
        )
        return answer and str(answer["Table"]["TableStatus"])

    def _await_active(self) -> None:
        await_state(self.id, self._status, "ACTIVE")
