"""Query and Scan by the order of keys, after any history: the answers are ministack's own."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from dynamodb_copies import (
    BETWEEN,
    PARTITIONS,
    PLAIN,
    RANGES,
    TABLES,
    Both,
    Key,
    module,
    with_index,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("ministack")


@pytest.fixture(scope="module")
def stock() -> ModuleType:
    return module("dynamodb_as_it_is")


@pytest.fixture(scope="module")
def indexed() -> ModuleType:
    return with_index(module("dynamodb_with_index"))


@st.composite
def keys(draw: st.DrawFn, kind: str) -> Key:
    partition, text = st.sampled_from(PARTITIONS), st.sampled_from(RANGES[kind])
    return {"symbol": {"S": draw(partition)}, "timestamp": {kind: draw(text)}}


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
