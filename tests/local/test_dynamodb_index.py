"""Query and Scan by the order of keys: the answers are ministack's own, byte for byte."""

from __future__ import annotations

import sys
import threading
import time
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from dynamodb_copies import (
    BETWEEN,
    PLAIN,
    RANGES,
    TABLES,
    Both,
    call,
    done,
    make,
    module,
    put_one,
    with_index,
)
from embedded import cleaned, client

from stockpipe.errors import LocalCloudError
from stockpipe.local import daemon

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def stock() -> ModuleType:
    return module("dynamodb_as_it_is")


@pytest.fixture(scope="module")
def indexed() -> ModuleType:
    return with_index(module("dynamodb_with_index"))


@pytest.mark.parametrize("kind", TABLES)
def test_every_range_is_read_as_the_original_reads_it(
    stock: ModuleType, indexed: ModuleType, kind: str
) -> None:
    """Each form and bound, both ways, with and without a Limit, from the beginning and behind each
    of some keys, which need not exist."""
    both = Both(stock, indexed, kind)
    texts = RANGES[kind]
    for number, text in enumerate(texts):
        if number % 4:  # so that some bounds and start keys are not there
            key = {"symbol": {"S": "AAPL"}, "timestamp": {kind: text}}
            both("_put_item", {"TableName": both.table, "Item": {**key, "v": {"N": str(number)}}})
    forms = [(form, low, low) for form in PLAIN for low in texts]
    forms += [(BETWEEN, low, high) for low in texts[::2] for high in texts[::2]]
    starts = [None, *({"symbol": {"S": "AAPL"}, "timestamp": {kind: one}} for one in texts[::3])]
    for (form, low, high), start, forward, limit in product(
        [("", "", ""), *forms], starts, (True, False), (None, 2)
    ):
        values = {":s": {"S": "AAPL"}, ":a": {kind: low}, ":b": {kind: high}}
        request = {
            "TableName": both.table,
            "KeyConditionExpression": f"symbol = :s AND {form}" if form else "symbol = :s",
            "ExpressionAttributeNames": {"#t": "timestamp"} if form else {},
            "ExpressionAttributeValues": {name: values[name] for name in values if name in form}
            | {":s": values[":s"]},
            "ScanIndexForward": forward,
            **({"ExclusiveStartKey": start} if start else {}),
            **({"Limit": limit} if limit else {}),
        }
        both("_query", request)


def test_two_spellings_of_the_same_bytes_stay_as_they_came(
    stock: ModuleType, indexed: ModuleType
) -> None:
    both = Both(stock, indexed, "B")
    query = {
        "TableName": both.table,
        "KeyConditionExpression": "symbol = :s",
        "ExpressionAttributeValues": {":s": {"S": "AAPL"}},
    }
    for text in ("QR==", "AAAA", "QQ==", "/w=="):  # each is put into an order that is there
        item = {"symbol": {"S": "AAPL"}, "timestamp": {"B": text}}
        both("_put_item", {"TableName": both.table, "Item": item})
        for limit, forward in product((1, 2, 3, 4), (True, False)):
            both("_query", {**query, "Limit": limit, "ScanIndexForward": forward})


def test_an_error_in_a_condition_shows_where_no_item_is_in_range(
    stock: ModuleType, indexed: ModuleType
) -> None:
    both = Both(stock, indexed, "S")
    query = {
        "TableName": both.table,
        "KeyConditionExpression": "symbol = :s AND timestamp < :a",  # a reserved word
        "ExpressionAttributeValues": {":s": {"S": "AAPL"}, ":a": {"S": "a"}},
    }
    both("_query", query)
    put_one(stock, both.table, "b")
    put_one(indexed, both.table, "b")
    both("_query", query)
    assert call(indexed, "_query", query)[0] == 400


def test_what_is_not_in_the_order_of_the_range_key_is_read_as_before(
    stock: ModuleType, indexed: ModuleType
) -> None:
    """An index has another order, a segment another choice, and a start key of another type is
    compared as ministack compares it."""
    both = Both(stock, indexed, "S")
    for number in range(9):
        item = {"symbol": {"S": "AAPL"}, "timestamp": {"S": str(number)}}
        both("_put_item", {"TableName": both.table, "Item": {**item, "v": {"N": str(-number)}}})
    query = {
        "KeyConditionExpression": "symbol = :s",
        "ExpressionAttributeValues": {":s": {"S": "AAPL"}},
    }
    other_type = {"symbol": {"S": "AAPL"}, "timestamp": {"N": "5"}}
    for operation, request in (("_query", query), ("_scan", {})):
        plain = {"TableName": both.table, "Limit": 2, **request}
        both(operation, {**plain, "IndexName": "by-v"})
        assert [item["timestamp"]["S"] for item in both.items] == ["8", "7"]
        both(operation, {**plain, "ExclusiveStartKey": other_type})
        assert [item["timestamp"]["S"] for item in both.items] == ["6", "7"]
    for segment in (0, 1):
        whole = {"TableName": both.table, "TotalSegments": 2, "Limit": 2}
        both("_scan", {**whole, "Segment": segment})


def test_pages_of_a_megabyte_end_where_they_ended(stock: ModuleType, indexed: ModuleType) -> None:
    both = Both(stock, indexed, "S")
    for number, size in enumerate((300_000, 10, 390_000, 390_000, 8, *[330_000] * 4, 390_000, 1)):
        item = {"symbol": {"S": "AAPL"}, "timestamp": {"S": str(number)}, "w": {"S": "x" * size}}
        both("_put_item", {"TableName": both.table, "Item": item})
    whole = {
        "KeyConditionExpression": "symbol = :s",
        "ExpressionAttributeValues": {":s": {"S": "AAPL"}},
    }
    for operation, limit, forward in product(("_query", "_scan"), (None, 3, 5000), (True, False)):
        request: dict[str, Any] = whole if operation == "_query" else {}
        request = {**request, "TableName": both.table, "ScanIndexForward": forward}
        both(operation, {**request, "Limit": limit} if limit else request)
        pages = 1
        while both.last[1]["ExclusiveStartKey"]:
            both(*both.last)
            pages += 1
        assert pages >= 3


class Watched(dict[str, Any]):
    """An item that tells when it is looked into."""

    seen: ClassVar[set[str]] = set()

    def _note(self) -> None:
        Watched.seen.add(dict.__getitem__(self, "timestamp")["S"])

    def get(self, key: str, default: Any = None) -> Any:
        self._note()
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self._note()
        return super().__getitem__(key)


def visited(dynamodb: ModuleType, operation: str, **request: Any) -> int:
    """How many of 200 items a request looks into; once before, so that an order is there."""
    dynamodb.reset()
    make(dynamodb, "S")
    table = dynamodb._tables.get(TABLES["S"])
    for number in range(200):
        text = f"{number:03d}"
        item = Watched(symbol={"S": "AAPL"}, timestamp={"S": text}, v={"N": "1"})
        dynamodb._set_item(table, "AAPL", text, item)
    done(dynamodb, operation, TableName=TABLES["S"], **request)
    Watched.seen.clear()
    done(dynamodb, operation, TableName=TABLES["S"], **request)
    return len(Watched.seen)


NEWEST = {
    "KeyConditionExpression": "symbol = :s",
    "ExpressionAttributeValues": {":s": {"S": "AAPL"}},
    "ScanIndexForward": False,
    "Limit": 1,
}


FEW = {
    "KeyConditionExpression": "symbol = :s AND #t BETWEEN :a AND :b",
    "ExpressionAttributeNames": {"#t": "timestamp"},
    "ExpressionAttributeValues": {":s": {"S": "AAPL"}, ":a": {"S": "100"}, ":b": {"S": "109"}},
}


NEXT = {"Limit": 1, "ExclusiveStartKey": {"symbol": {"S": "AAPL"}, "timestamp": {"S": "100"}}}


@pytest.mark.parametrize(
    ("operation", "request_", "needed"),
    [("_query", NEWEST, 1), ("_query", FEW, 10), ("_scan", NEXT, 1)],
    ids=["newest", "range", "scan"],
)
def test_only_the_items_of_the_page_are_looked_into(
    stock: ModuleType, indexed: ModuleType, operation: str, request_: dict[str, Any], needed: int
) -> None:
    """When the first of these fails, ministack no longer reads it all: the index can go."""
    assert visited(stock, operation, **request_) == 200
    assert visited(indexed, operation, **request_) == needed


def test_what_expires_is_gone_from_the_order_too(stock: ModuleType, indexed: ModuleType) -> None:
    both = Both(stock, indexed, "S")
    for dynamodb in (stock, indexed):
        ttl = {"Enabled": True, "AttributeName": "v"}
        done(dynamodb, "_update_ttl", TableName=both.table, TimeToLiveSpecification=ttl)
    for number in range(10):
        item = {"symbol": {"S": "AAPL"}, "timestamp": {"S": str(number)}}
        item["v"] = {"N": "1" if number % 3 else "9999999999"}
        both("_put_item", {"TableName": both.table, "Item": item})
    both("_query", {"TableName": both.table, **NEWEST})
    for dynamodb in (stock, indexed):
        reap(dynamodb)
    both("_query", {"TableName": both.table, **NEWEST, "Limit": 3})
    assert [one["timestamp"]["S"] for one in both.items] == ["9", "6", "3"]


def reap(dynamodb: ModuleType) -> None:
    """One round of ministack's thread that deletes expired items, without its minute of rest."""
    rests = iter([None])
    with pytest.MonkeyPatch.context() as patch:
        once = SimpleNamespace(time=time.time, sleep=lambda seconds: next(rests))
        patch.setattr(dynamodb, "time", once)
        with pytest.raises(StopIteration):
            dynamodb._ttl_reaper()


def test_a_table_of_the_same_name_elsewhere_is_another(indexed: ModuleType) -> None:
    from ministack.core.responses import request_scope

    indexed.reset()
    scopes = [("0" * 12, "us-east-2"), ("0" * 12, "eu-west-1"), ("1" * 12, "us-east-2")]
    for number, scope in enumerate(scopes):
        with request_scope(*scope):
            make(indexed, "S")
            for text in ("a", "b")[: number + 1]:
                item = {"symbol": {"S": "AAPL"}, "timestamp": {"S": f"{text}{number}"}}
                done(indexed, "_put_item", TableName=TABLES["S"], Item=item)
    newest = []
    for scope in scopes:
        with request_scope(*scope):
            [item] = done(indexed, "_query", TableName=TABLES["S"], **NEWEST)["Items"]
            newest.append(item["timestamp"]["S"])
    assert newest == ["a0", "b1", "b2"]


def test_a_copy_of_a_table_does_not_share_its_order(indexed: ModuleType) -> None:
    indexed.reset()
    make(indexed, "S")
    put_one(indexed, TABLES["S"], "a")
    done(indexed, "_query", TableName=TABLES["S"], **NEWEST)
    arn = done(indexed, "_create_backup", TableName=TABLES["S"], BackupName="kept")
    put_one(indexed, TABLES["S"], "b")
    done(
        indexed,
        "_restore_table_from_backup",
        TargetTableName="restored",
        BackupArn=arn["BackupDetails"]["BackupArn"],
    )
    put_one(indexed, "restored", "c")
    for table, expected in ((TABLES["S"], ["b", "a"]), ("restored", ["c", "a"])):
        found = done(indexed, "_query", TableName=table, **{**NEWEST, "Limit": 9})["Items"]
        assert [item["timestamp"]["S"] for item in found] == expected


def test_items_may_come_and_go_while_others_are_read(indexed: ModuleType) -> None:
    """As they do when they expire: no page is cut short, and none fails."""
    indexed.reset()
    make(indexed, "S")
    table = indexed._tables.get(TABLES["S"])
    for number in range(0, 2000, 2):
        put_one(indexed, TABLES["S"], f"{number:04d}")
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for number in range(1, 2000, 2):
                text = f"{number:04d}"
                item = {"symbol": {"S": "AAPL"}, "timestamp": {"S": text}}
                indexed._set_item(table, "AAPL", text, item)
                indexed._remove_item(table, "AAPL", text)

    other, usual = threading.Thread(target=come_and_go), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # in the middle of everything
    other.start()
    try:
        for _ in range(20):
            found: list[str] = []
            request: dict[str, Any] = {"TableName": TABLES["S"], **NEWEST, "Limit": 100}
            while True:
                answer = done(indexed, "_query", **request)
                found += [item["timestamp"]["S"] for item in answer["Items"]]
                if "LastEvaluatedKey" not in answer:
                    break
                request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
            assert found == sorted(set(found), reverse=True)
            even = [text for text in found if int(text) % 2 == 0]
            assert even == [f"{number:04d}" for number in range(1998, -1, -2)]
    finally:
        sys.setswitchinterval(usual)
        stop.set()
        other.join()


@pytest.mark.parametrize("name", ["_query", "_paginate_evaluated_items", "defaultdict"])
def test_another_ministack_is_refused_by_name(name: str) -> None:
    other = module("another_dynamodb")
    delattr(other, name)
    with pytest.raises(LocalCloudError, match=name):
        with_index(other)


def test_a_restarted_cloud_goes_on_with_the_next_page(tmp_path: Path) -> None:
    with cleaned(tmp_path / "home") as home:
        dynamodb = client("dynamodb", daemon.ensure_running(home))
        dynamodb.create_table(
            TableName="bars",
            KeySchema=[
                {"AttributeName": "symbol", "KeyType": "HASH"},
                {"AttributeName": "timestamp", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "symbol", "AttributeType": "S"},
                {"AttributeName": "timestamp", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )

        def put(*texts: str) -> None:
            for text in texts:
                item = {"symbol": {"S": "AAPL"}, "timestamp": {"S": text}}
                dynamodb.put_item(TableName="bars", Item=item)

        put("c", "a", "e", "b")
        first = dynamodb.query(TableName="bars", **{**NEWEST, "Limit": 2})
        assert [item["timestamp"]["S"] for item in first["Items"]] == ["e", "c"]

        assert daemon.stop(home)
        dynamodb = client("dynamodb", daemon.ensure_running(home))
        put("bb", "d")
        dynamodb.delete_item(
            TableName="bars", Key={"symbol": {"S": "AAPL"}, "timestamp": {"S": "b"}}
        )
        start = first["LastEvaluatedKey"]
        rest = dynamodb.query(TableName="bars", **{**NEWEST, "Limit": 5}, ExclusiveStartKey=start)
        assert [item["timestamp"]["S"] for item in rest["Items"]] == ["bb", "a"]
        assert "LastEvaluatedKey" not in rest
