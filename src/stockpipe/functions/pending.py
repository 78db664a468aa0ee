"""Reading which alerts are pending, a page at a time: all of a table's, or its young ones.

Not consistently, for half the price: the claim decides, this only finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from stockpipe.domain.alerts import PENDING
from stockpipe.functions.alert_items import Item, Key, key_of
from stockpipe.functions.alert_table import day_before

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_ONLY_PENDING: dict[str, Any] = {
    "FilterExpression": "#status = :status",
    "ExpressionAttributeNames": {"#status": "status"},
}
_LAST_ID = "~"
"""Above every id: they begin with the time of a quote."""


class Page(NamedTuple):
    """Pending alerts, and the key behind which the next page starts: None after the last one."""

    items: list[Item]
    after: Key | None


class PendingAlerts:
    """Reads one table of alerts."""

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb, self._table = dynamodb, table

    def all(self, after: Key | None) -> Page:
        """Those among the next 1 MB of the table."""
        answer = self._dynamodb.scan(
            TableName=self._table,
            ExpressionAttributeValues={":status": {"S": PENDING}},
            **_ONLY_PENDING,
            **_behind(after),
        )
        return Page(list(answer["Items"]), _last_of(answer))

    def young(self, after: Key | None, since: str) -> Page:
        """Those of the next symbol whose quotes are not older than ``since``, a normalised time;
        and of some 36 hours before, since an id may begin with the day alone, at the exchange.

        A Scan of one item tells the symbol, and the next one starts behind all its ids; no item
        need have that key.
        https://aws.amazon.com/blogs/database/generate-a-distinct-set-of-partition-keys-for-an-amazon-dynamodb-table-efficiently/
        """
        found = self._dynamodb.scan(TableName=self._table, Limit=1, **_behind(after))
        if not found["Items"]:
            return Page([], _last_of(found))
        symbol, first = key_of(found["Items"][0])
        # Where the last page ended within the symbol, its first id is the one behind that.
        answer = self._query("id >= :id", (symbol, max(first, day_before(since))))
        return Page(list(answer["Items"]), _last_of(answer) or (symbol, _LAST_ID))

    def one(self, key: Key) -> Item | None:
        """That of this key, if it is pending."""
        items = self._query("id = :id", key)["Items"]
        return items[0] if items else None

    def _query(self, ids: str, key: Key) -> Mapping[str, Any]:
        symbol, alert_id = key
        return self._dynamodb.query(
            TableName=self._table,
            KeyConditionExpression=f"symbol = :symbol AND {ids}",
            ExpressionAttributeValues={
                ":symbol": {"S": symbol},
                ":id": {"S": alert_id},
                ":status": {"S": PENDING},
            },
            **_ONLY_PENDING,
        )


def _behind(key: Key | None) -> dict[str, Any]:
    """The part of a request that lets it start behind a key."""
    return {"ExclusiveStartKey": {"symbol": {"S": key[0]}, "id": {"S": key[1]}}} if key else {}


def _last_of(answer: Mapping[str, Any]) -> Key | None:
    last = answer.get("LastEvaluatedKey")
    return key_of(last) if last else None
