"""The two tables: readings and alerts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from stockpipe.domain.retry import wait_until
from stockpipe.errors import ProvisionError
from stockpipe.functions.faults import error_code
from stockpipe.infra.resource import (
    Live,
    Resource,
    absent_is_none,
    tag_list,
    tag_map,
    together,
)
from stockpipe.infra.waiting import await_gone, await_state

EXPIRES_AT = "expires_at"
_TAGS_SHOW_S = 30.0
_GONE = ("ResourceNotFoundException", "TableNotFoundException")


@dataclass
class Table(Resource):
    """An on-demand table with two string keys, and its stream of new images where wanted.

    ``pitr``: restorable to any second of the last 35 days. Every table is encrypted at rest; the
    key is not compared, because a customer's own key, set by hand, only protects more.
    """

    kind = "table"
    holds_data = True
    precious = True
    replace_on: ClassVar = {"keys": "a table keeps its keys for life"}

    hash_key: str = "symbol"
    range_key: str = "timestamp"
    stream: bool = False
    ttl: bool = False
    pitr: bool = False
    deletion_protection: bool = False

    def desired(self) -> dict[str, Any]:
        return {
            "keys": [self.hash_key, self.range_key],
            "billing": "PAY_PER_REQUEST",
            "stream": "NEW_IMAGE" if self.stream else None,
            "ttl": EXPIRES_AT if self.ttl else None,
            "pitr": self.pitr,
            "deletion_protection": self.deletion_protection,
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        table = self._describe()
        if table is None or table["TableStatus"] == "DELETING":
            return None  # creating it is retried until it is gone
        dynamodb = self.aws.client("dynamodb")
        tags, answer, backups = together(
            lambda: self._tags(table["TableStatus"]),
            lambda: absent_is_none(
                lambda: dynamodb.describe_time_to_live(TableName=self.name), *_GONE
            ),
            self._pitr_status,
        )
        ttl = answer["TimeToLiveDescription"] if answer else {}
        expires = ttl.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
        keys = {key["KeyType"]: key["AttributeName"] for key in table["KeySchema"]}
        specification = table.get("StreamSpecification") or {}
        streams = specification.get("StreamEnabled")
        settings = {
            "keys": [keys.get("HASH"), keys.get("RANGE")],
            "billing": table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED"),
            "stream": specification.get("StreamViewType") if streams else None,
            "ttl": ttl.get("AttributeName") if expires else None,
            "pitr": backups == "ENABLED",
            "deletion_protection": table.get("DeletionProtectionEnabled", False),
        }
        return self.standing(settings, tags, table["TableArn"], table["TableStatus"])

    def protection(self, live: Live) -> str | None:
        return "its deletion protection is on" if live.settings["deletion_protection"] else None

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
            DeletionProtectionEnabled=self.deletion_protection,
            Tags=tag_list(self.tags),
            **({"StreamSpecification": self._stream_specification()} if self.stream else {}),
        )
        self._await_active()
        if self.ttl:
            self._set_ttl(EXPIRES_AT, enabled=True)
        if self.pitr:
            self._set_pitr()

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        dynamodb = self.aws.client("dynamodb")
        if "tags" in changes:
            dynamodb.tag_resource(ResourceArn=self._arn, Tags=tag_list(self.tags))
        if set(changes) - {"tags"}:
            self._await_active()  # a run that was killed may have left it on its way
        if "deletion_protection" in changes:
            self._change(DeletionProtectionEnabled=self.deletion_protection)
        if "billing" in changes:
            self._change(BillingMode="PAY_PER_REQUEST")
        if "stream" in changes:
            old, _ = changes["stream"]
            if old is not None:  # a view type cannot be changed, only switched off and on
                self._change(StreamSpecification={"StreamEnabled": False})
            if self.stream:
                self._change(StreamSpecification=self._stream_specification())
        if "ttl" in changes:
            old, new = changes["ttl"]
            if old is not None:
                self._set_ttl(old, enabled=False)
            if new is not None:
                self._set_ttl(new, enabled=True)
        if "pitr" in changes:
            self._set_pitr()

    def delete(self) -> None:
        dynamodb = self.aws.client("dynamodb")
        absent_is_none(lambda: dynamodb.delete_table(TableName=self.name), *_GONE)
        await_gone(self.id, self._status)

    def stream_arn(self) -> str | None:
        """The table's stream; its label is known only once it is there and switched on."""
        table = self._describe() or {}
        enabled = (table.get("StreamSpecification") or {}).get("StreamEnabled")
        return table.get("LatestStreamArn") if enabled else None

    @property
    def _arn(self) -> str:
        return self.names.table_arn.rsplit("/", 1)[0] + f"/{self.name}"

    @staticmethod
    def _stream_specification() -> dict[str, Any]:
        return {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}

    def _tags(self, status: str) -> dict[str, str]:
        """The tags, waited for while the table is being made.

        ListTagsOfResource may not know a new table yet, or show none of its tags; taken at its
        word it would make our own table a stranger.
        https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TagResource.html
        """
        dynamodb = self.aws.client("dynamodb")

        def tags() -> dict[str, str] | None:
            pages = dynamodb.get_paginator("list_tags_of_resource").paginate(ResourceArn=self._arn)
            found = absent_is_none(
                lambda: tag_map([tag for page in pages for tag in page["Tags"]]), *_GONE
            )
            return found or (None if status == "CREATING" else {})

        return wait_until(tags, budget_s=_TAGS_SHOW_S) or {}

    def _change(self, **changed: Any) -> None:
        dynamodb = self.aws.client("dynamodb")
        _done_is_done(lambda: dynamodb.update_table(TableName=self.name, **changed))
        self._await_active()

    def _set_ttl(self, attribute: str, *, enabled: bool) -> None:
        dynamodb = self.aws.client("dynamodb")
        try:
            _done_is_done(
                lambda: dynamodb.update_time_to_live(
                    TableName=self.name,
                    TimeToLiveSpecification={"Enabled": enabled, "AttributeName": attribute},
                )
            )
        except ClientError as error:
            if "multiple times" not in str(error):
                raise
            raise ProvisionError(
                f"table {self.name}: its TTL was changed less than an hour ago, and DynamoDB "
                "takes one change an hour.",
                hint="Run the same command again after an hour.",
            ) from error

    def _set_pitr(self) -> None:
        self.aws.client("dynamodb").update_continuous_backups(
            TableName=self.name,
            PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": self.pitr},
        )
        await_state(self.id, self._pitr_status, "ENABLED" if self.pitr else "DISABLED")

    def _pitr_status(self) -> str:
        dynamodb = self.aws.client("dynamodb")
        answer = absent_is_none(
            lambda: dynamodb.describe_continuous_backups(TableName=self.name), *_GONE
        )
        backups = answer["ContinuousBackupsDescription"] if answer else {}
        described = backups.get("PointInTimeRecoveryDescription", {})
        return str(described.get("PointInTimeRecoveryStatus", "DISABLED"))

    def _describe(self) -> dict[str, Any] | None:
        answer = absent_is_none(
            lambda: self.aws.client("dynamodb").describe_table(TableName=self.name), *_GONE
        )
        return dict(answer["Table"]) if answer else None

    def _status(self) -> str | None:
        table = self._describe()
        return str(table["TableStatus"]) if table else None

    def _await_active(self) -> None:
        await_state(self.id, self._status, "ACTIVE")


def _done_is_done(call: Callable[[], Any]) -> None:
    """Make a change, unless DynamoDB says that it is as wanted already: two runs at once."""
    try:
        call()
    except ClientError as error:
        if error_code(error) != "ValidationException" or "already" not in str(error):
            raise
