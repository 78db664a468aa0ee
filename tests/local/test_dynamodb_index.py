"""Query and Scan by the order of keys: the answers are ministack's own, byte for byte.

Two copies of ministack's DynamoDB live side by side here, one as it is and one with the index, and
whatever is done to one is done to the other.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
import threading
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from embedded import cleaned, client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stockpipe.errors import LocalCloudError
from stockpipe.local import daemon
from stockpipe.local.emulator import index
from stockpipe.local.emulator.partitions import Partition

pytest.importorskip("ministack")

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


@pytest.fixture(scope="module")
def stock() -> ModuleType:
    return module("dynamodb_as_it_is")


@pytest.fixture(scope="module")
def indexed() -> ModuleType:
    return with_index(module("dynamodb_with_index"))


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


@st.composite
def keys(draw: st.DrawFn, kind: str) -> Key:
    partition, text = st.sampled_from(PARTITIONS), st.sampled_from(RANGES[kind])
    return {"symbol": {"S": draw(partition)}, "timestamp": {kind: draw(text)}}


PLAIN = ("#t = :a", "#t < :a", "#t <= :a", "#t > :a", "#t >= :a", "begins_with(#t, :a)")
BETWEEN = "#t BETWEEN :a AND :b"
UNUSUAL = (
    *("", "", "", ":a <= #t", "#t between :a and :b", "begins_with ( #t , :a )", "#t <> :a"),
    *("NOT #t = :a", "timestamp < :a", "#t.x = :a", "#v = :a", "contains(#t, :a)", "#t = :none"),
    *("(#t BETWEEN :a AND :b)", "(#t = :a OR #t = :b)", "#t < :a AND #t > :b", "#gone = :a"),
)


def most(usual: tuple[str, ...], unusual: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Mostly one of the usual; hypothesis alone would take each as often."""
    return st.integers(0, 9).flatmap(lambda n: st.sampled_from(usual if n < 8 else unusual))


@st.composite
def conditions(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """KeyConditionExpressions: those of the pipeline and of boto3, unusual ones, wrong ones."""
    low, high = (draw(st.sampled_from(RANGES[kind])) for _ in range(2))
    values = {":s": {"S": draw(most(PARTITIONS, ("GOOG",)))}}
    of_sort = draw(most((*PLAIN, BETWEEN), UNUSUAL))
    of_key = draw(most(("#s = :s",), ("symbol = :s", "#s=:s", "(#s = :s)", ":s = #s", "#s < :s")))
    parts = [of_key, of_sort] if of_sort else [of_key]
    expression = " AND ".join(draw(st.permutations(parts)))
    if draw(st.booleans()):
        expression = f"({expression})"
    other = draw(most((kind,), ("S", "N", "B")))
    aliases = {"#s": "symbol", "#t": "timestamp", "#v": "v"}
    for name, text in ((":a", low), (":b", high)):
        if name in of_sort:
            values[name] = {other: text}
    request: dict[str, Any] = {
        "KeyConditionExpression": expression,
        "ExpressionAttributeValues": values,
    }
    if named := {alias: name for alias, name in aliases.items() if alias in expression}:
        request["ExpressionAttributeNames"] = named
    return request


def most_keys(kind: str) -> st.SearchStrategy[Any]:
    """Start keys: mostly right ones, some of another type, with nothing or too little in them."""
    wrong = st.sampled_from(({}, {"symbol": {"S": "AAPL"}}))
    return keys(kind) | keys(kind) | keys("S") | keys("N") | wrong


@st.composite
def reads(draw: st.DrawFn, kind: str) -> tuple[str, dict[str, Any]]:
    """A Query or a Scan, with all that they can be asked for."""
    operation = draw(st.sampled_from(("_query", "_query", "_query", "_scan")))
    request = draw(conditions(kind)) if operation == "_query" else {}
    request["TableName"] = TABLES[kind]
    values = request.setdefault("ExpressionAttributeValues", {})
    may_be: dict[str, tuple[int, st.SearchStrategy[Any]]] = {
        "Limit": (7, st.sampled_from((1, 1, 2, 2, 3, 5, 50, 2000, 0))),
        "ExclusiveStartKey": (4, most_keys(kind)),
        "ScanIndexForward": (6, st.booleans()),
        "ConsistentRead": (2, st.booleans()),
        "FilterExpression": (3, st.just("v >= :v")),
        "IndexName": (1, st.sampled_from(("by-v", "by-v", "by-v", "no-such"))),
        "Segment": (1, st.just(0)),
        "ReturnConsumedCapacity": (1, st.just("INDEXES")),
    }
    for name, (share, strategy) in may_be.items():
        if draw(st.integers(0, 9)) < share:
            request[name] = draw(strategy)
    if "Segment" in request:
        request["TotalSegments"] = 2
    if "FilterExpression" in request:
        values[":v"] = {"N": "5"}
    request.update(
        draw(st.sampled_from(({}, {}, {"Select": "COUNT"}, {"ProjectionExpression": "symbol, v"})))
    )
    if not values:
        del request["ExpressionAttributeValues"]
    return operation, request


@st.composite
def writes(draw: st.DrawFn, kind: str) -> tuple[str, dict[str, Any]]:
    """Each way in which items come and go."""
    table, key = TABLES[kind], draw(keys(kind))
    item = {**key, "v": {"N": str(draw(st.integers(0, 9)))}}
    others = draw(st.lists(keys(kind), max_size=6))
    remove = 'DELETE FROM "here" WHERE symbol = ? AND "timestamp" = ?'.replace("here", table)
    way = draw(st.integers(0, 6))
    if way == 0:
        return "_delete_item", {"TableName": table, "Key": key}
    if way == 1:
        return "_update_item", {
            "TableName": table,
            "Key": key,
            "UpdateExpression": "SET v = :v",
            "ExpressionAttributeValues": {":v": item["v"]},
        }
    if way == 2:
        puts = [{"PutRequest": {"Item": {**item, **other}}} for other in others]
        return "_batch_write_item", {
            "RequestItems": {table: [*puts, {"DeleteRequest": {"Key": key}}]}
        }
    if way == 3:
        deletes = [{"Delete": {"TableName": table, "Key": other}} for other in others]
        put = {"Put": {"TableName": table, "Item": item}}
        return "_transact_write_items", {"TransactItems": [put, *deletes]}
    if way == 4:
        return "_execute_statement", {"Statement": remove, "Parameters": list(key.values())}
    return "_put_item", {"TableName": table, "Item": item}


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


@pytest.mark.parametrize("kind", TABLES)
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_was_written_the_answers_are_those_of_the_original(
    stock: ModuleType, indexed: ModuleType, kind: str, data: st.DataObject
) -> None:
    both = Both(stock, indexed, kind)
    every = [{"symbol": {"S": s}, "timestamp": {kind: t}} for s in PARTITIONS for t in RANGES[kind]]
    for number, key in enumerate(
        data.draw(st.permutations(every))[: data.draw(st.integers(0, 22))]
    ):
        both("_put_item", {"TableName": both.table, "Item": {**key, "v": {"N": str(number)}}})
    for _ in range(data.draw(st.integers(1, 25))):
        step = data.draw(st.integers(0, 19))
        if step < 8:
            both(*data.draw(reads(kind)))
        elif step < 12:
            both(*both.last)  # the next page, with whatever was written since
        elif step == 12:
            both.restart()
        elif step == 13:
            both.make_again()
        elif step == 14:
            both.roll_back(data.draw(keys(kind)))
        else:
            both(*data.draw(writes(kind)))


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


def put_one(dynamodb: ModuleType, table: str, text: str) -> None:
    item = {"symbol": {"S": "AAPL"}, "timestamp": {"S": text}}
    done(dynamodb, "_put_item", TableName=table, Item=item)


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


CHANGES: dict[str, Callable[[Partition], object]] = {
    "set": lambda items: items.__setitem__("bb", {"at": 15}),
    "set again": lambda items: items.__setitem__("b", {"at": 20, "v": 1}),
    "set elsewhere": lambda items: items.__setitem__("b", {"at": 5}),
    "del": lambda items: items.__delitem__("b"),
    "pop": lambda items: items.pop("b"),
    "pop nothing": lambda items: items.pop("x", None),
    "popitem": lambda items: items.popitem(),
    "clear": lambda items: items.clear(),
    "update": lambda items: items.update({"x": {"at": 1}}, b={"at": 5}),
    "setdefault": lambda items: items.setdefault("x", {"at": 12}),
    "|=": lambda items: items.__ior__({"x": {"at": 12}}),
    "init": lambda items: items.__init__({"x": {"at": 12}}),  # type: ignore[misc]
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_partition_stays_in_order_whatever_method_changes_it(
    change: Callable[[Partition], object],
) -> None:
    items = Partition({name: {"at": at} for name, at in (("c", 20), ("a", 10), ("b", 20))})
    assert names(items) == ["a", "c", "b"]
    change(items)
    assert names(items) == sorted(items, key=lambda name: items[name]["at"])


def names(items: Partition) -> list[str]:
    return items.order("at", lambda item: item["at"]).names


def test_no_method_that_changes_a_dict_is_left_out() -> None:
    inherited = set(dir(dict)) - set(vars(Partition))
    reading = {"copy", "fromkeys", "get", "items", "keys", "values"}
    assert {name for name in inherited if not name.startswith("__")} == reading
    assert not inherited & {"__setitem__", "__delitem__", "__ior__", "__init__"}


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
