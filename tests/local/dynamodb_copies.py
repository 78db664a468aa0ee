"""Two copies of ministack's DynamoDB side by side, one as it is and one with our index: whatever is
done to one is done to the other.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stockpipe.local.emulator import index

Key = dict[str, Any]
Answer = tuple[int, Any]

TABLES = {"S": "by-text", "N": "by-number", "B": "by-bytes"}
"""Tables by the type of their range key, which is a reserved word, as in the pipeline."""
PARTITIONS = ("AAPL", "AAP")
_BYTES = (b"\x00", b"\x00\x00", b"a", b"a\xff", b"ab", b"\xff", b"\xff\x00")
RANGES = {
    "S": (
        "a",
        "aa",
        "ab",
        "a\x00",
        "b",
        "A",
        "é",
        "\uffff",
        "\U0001f600",
        "2022-03-14T",
        "2022-03",
    ),
    "N": ("-10", "-1.5", "0", "1", "1.0", "1e2", "99.9", "100", "2", "10", "0.001"),
    # The last two are the same bytes in two spellings, which ministack takes for two keys.
    "B": (*(base64.b64encode(one).decode() for one in _BYTES), "QQ==", "QR=="),
}
PLAIN = ("#t = :a", "#t < :a", "#t <= :a", "#t > :a", "#t >= :a", "begins_with(#t, :a)")
BETWEEN = "#t BETWEEN :a AND :b"


def module(name: str) -> ModuleType:
    """A copy of ministack's DynamoDB with a state of its own."""
    import ministack

    file = Path(ministack.__file__).parent / "services" / "dynamodb.py"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


def with_index(copy: ModuleType) -> ModuleType:
    """The copy, after what the server does to the original."""
    from ministack import services

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ministack.services.dynamodb", copy)
        patch.setattr(services, "dynamodb", copy, raising=False)
        index.install()
    return copy


def call(dynamodb: ModuleType, operation: str, request: Any) -> Answer:
    """Status and body; a request of its own, as ministack corrects numbers in place."""
    status, _headers, body = getattr(dynamodb, operation)(json.loads(json.dumps(request)))
    return status, body


def done(dynamodb: ModuleType, operation: str, **request: Any) -> dict[str, Any]:
    status, body = call(dynamodb, operation, request)
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer


def make(dynamodb: ModuleType, kind: str) -> None:
    done(
        dynamodb,
        "_create_table",
        TableName=TABLES[kind],
        KeySchema=[
            {"AttributeName": "symbol", "KeyType": "HASH"},
            {"AttributeName": "timestamp", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "symbol", "AttributeType": "S"},
            {"AttributeName": "timestamp", "AttributeType": kind},
            {"AttributeName": "v", "AttributeType": "N"},
        ],
        BillingMode="PAY_PER_REQUEST",
        LocalSecondaryIndexes=[
            {
                "IndexName": "by-v",
                "KeySchema": [
                    {"AttributeName": "symbol", "KeyType": "HASH"},
                    {"AttributeName": "v", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )


def put_one(dynamodb: ModuleType, table: str, text: str) -> None:
    item = {"symbol": {"S": "AAPL"}, "timestamp": {"S": text}}
    done(dynamodb, "_put_item", TableName=table, Item=item)


class Both:
    """The two side by side. What one answers, the other must."""

    def __init__(self, stock: ModuleType, indexed: ModuleType, kind: str) -> None:
        self._pair, self.kind, self.table = (stock, indexed), kind, TABLES[kind]
        self.last: tuple[str, dict[str, Any]] = ("_scan", {"TableName": self.table})
        self.items: list[dict[str, Any]] = []
        for dynamodb in self._pair:
            dynamodb.reset()
            make(dynamodb, kind)

    def __call__(self, operation: str, request: dict[str, Any]) -> None:
        expected, found = (call(dynamodb, operation, request) for dynamodb in self._pair)
        assert found == expected
        if operation in ("_query", "_scan"):
            answer = json.loads(expected[1])
            self.items = answer.get("Items", [])
            following = answer.get("LastEvaluatedKey", {})
            self.last = operation, {**request, "ExclusiveStartKey": following}

    def make_again(self) -> None:
        for dynamodb in self._pair:
            done(dynamodb, "_delete_table", TableName=self.table)
            make(dynamodb, self.kind)

    def restart(self) -> None:
        """As the server's snapshot does it."""
        from ministack.core import persistence

        for dynamodb in self._pair:
            saved = json.dumps(dynamodb.get_state(), default=persistence._json_default)
            dynamodb.reset()
            dynamodb.load_persisted_state(
                json.loads(saved, object_hook=persistence._json_object_hook)
            )

    def roll_back(self, key: Key) -> None:
        """A transaction that writes an item and then fails, so that all items are put back."""
        insert = f"INSERT INTO \"{self.table}\" VALUE {{'symbol': ?, 'timestamp': ?}}"
        statement = {"Statement": insert, "Parameters": [key["symbol"], key["timestamp"]]}
        self("_execute_transaction", {"TransactStatements": [statement, statement]})
