"""Services in memory, for faults that no emulator can be told to make at an exact call.

They keep what was written, count the calls, and fail where a script says so. The real protocol is
tested in ``tests/local`` against the embedded cloud.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

Fault = Callable[[str, dict[str, Any]], BaseException | None]


def refused(code: str, *, status: int = 400, item: dict[str, Any] | None = None) -> ClientError:
    answer: dict[str, Any] = {
        "Error": {"Code": code, "Message": code},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    if item is not None:
        answer["Item"] = item
    return ClientError(answer, "Operation")  # type: ignore[arg-type]


THROTTLED = "ProvisionedThroughputExceededException"


class Bucket:
    """S3 as far as put_object."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls = 0
        self.fault: Fault = lambda operation, request: None

    def put_object(self, **request: Any) -> dict[str, Any]:
        self.calls += 1
        error = self.fault("put_object", request)
        if error:
            raise error
        assert request["ExpectedBucketOwner"] == "123456789012"
        key = request["Key"]
        assert self.objects.get(key, request["Body"]) == request["Body"], (
            "a key changed its content"
        )
        self.objects[key] = request["Body"]
        return {}

    def under(self, prefix: str) -> dict[str, bytes]:
        return {key: body for key, body in self.objects.items() if key.startswith(prefix)}


class Table:
    """DynamoDB as far as the two functions use it, for tables of two string keys."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self.items: dict[tuple[str, ...], dict[str, Any]] = {}
        self.calls: list[str] = []
        self.writes = 0
        """Writes that changed something: each is a record of the table's stream."""
        self.page_size = 1000
        """How many items a Scan or a Query looks at in one call."""
        self.looked_at = 0
        """Items that they looked at, found or not: what reading is paid by."""
        self.fault: Fault = lambda operation, request: None
        self.unprocessed: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda puts: []
        self.on_write: Callable[[dict[str, Any]], None] = lambda item: None

    def _enter(self, operation: str, request: dict[str, Any]) -> None:
        self.calls.append(operation)
        error = self.fault(operation, request)
        if error:
            raise error

    def key(self, item: dict[str, Any]) -> tuple[str, ...]:
        return tuple(item[name]["S"] for name in self.keys)

    def _put(self, item: dict[str, Any]) -> None:
        key = self.key(item)
        if self.items.get(key) != item:
            self.writes += 1
            self.items[key] = item
            self.on_write(item)

    def batch_write_item(self, **request: Any) -> dict[str, Any]:
        self._enter("batch_write_item", request)
        ((table, puts),) = request["RequestItems"].items()
        assert len(puts) <= 25
        keys = [self.key(put["PutRequest"]["Item"]) for put in puts]
        assert len(set(keys)) == len(keys), "DynamoDB refuses a call that names a key twice"
        left = self.unprocessed(puts)
        for put in puts:
            if put not in left:
                self._put(put["PutRequest"]["Item"])
        return {"UnprocessedItems": {table: left} if left else {}}

    def put_item(self, **request: Any) -> dict[str, Any]:
        self._enter("put_item", request)
        self._put(request["Item"])
        return {}

    def query(self, **request: Any) -> dict[str, Any]:
        self._enter("query", request)
        values = {name: one["S"] for name, one in request["ExpressionAttributeValues"].items()}
        condition = request["KeyConditionExpression"]
        rows = [item for key, item in sorted(self.items.items()) if key[0] == values[":symbol"]]
        ranged = self.keys[1]
        if "id = :id" in condition:
            rows = [item for item in rows if item[ranged]["S"] == values[":id"]]
        elif "id >= :id" in condition:
            rows = [item for item in rows if item[ranged]["S"] >= values[":id"]]
        elif "<=" in condition:
            rows = [item for item in rows if item[ranged]["S"] <= values[":until"]]
        elif ">" in condition:
            rows = [item for item in rows if item[ranged]["S"] > values[":since"]]
        elif between := re.search(r"BETWEEN (:\w+) AND (:\w+)", condition):
            first, last = (values[name] for name in between.groups())
            rows = [item for item in rows if first <= item[ranged]["S"] <= last]
        if not request.get("ScanIndexForward", True):
            rows = rows[::-1]
        start = request.get("ExclusiveStartKey")
        if start:
            rows = rows[[self.key(row) for row in rows].index(self.key(start)) + 1 :]
        return self._page(rows, request)

    def scan(self, **request: Any) -> dict[str, Any]:
        self._enter("scan", request)
        rows = [item for _, item in sorted(self.items.items())]
        start = request.get("ExclusiveStartKey")
        if start:
            rows = [item for item in rows if self.key(item) > self.key(start)]
        return self._page(rows, request)

    def _page(self, rows: list[dict[str, Any]], request: dict[str, Any]) -> dict[str, Any]:
        """What one call returns of the rows: a filter drops some after they were looked at."""
        page = rows[: request.get("Limit", self.page_size)]
        self.looked_at += len(page)
        answer: dict[str, Any] = {"Items": page}
        if "FilterExpression" in request:
            assert request["FilterExpression"] == "#status = :status"
            wanted = request["ExpressionAttributeValues"][":status"]
            answer["Items"] = [item for item in page if item["status"] == wanted]
        if len(rows) > len(page):
            answer["LastEvaluatedKey"] = {name: page[-1][name] for name in self.keys}
        return answer

    def get_paginator(self, operation: str) -> Table:
        assert operation == "query"
        return self

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        start: dict[str, Any] | None = {}
        while start is not None:
            page = self.query(**request, **start)
            yield page
            last = page.get("LastEvaluatedKey")
            start = {"ExclusiveStartKey": last} if last else None

    def get_item(self, **request: Any) -> dict[str, Any]:
        self._enter("get_item", request)
        found = self.items.get(self.key(request["Key"]))
        return {"Item": found} if found else {}

    def update_item(self, **request: Any) -> dict[str, Any]:
        self._enter("update_item", request)
        key = self.key(request["Key"])
        names = request["ExpressionAttributeNames"]
        values = request["ExpressionAttributeValues"]
        texts = request["UpdateExpression"], request["ConditionExpression"]
        used = set(re.findall(r"[#:]\w+", " ".join(texts)))
        assert used == {*names, *values}, "DynamoDB refuses what is missing, and what is not used"
        before = self.items.get(key)
        if not holds(request["ConditionExpression"], before, names, values):
            raise refused("ConditionalCheckFailedException", item=before)
        after = dict(before or request["Key"])
        sets, _, removed = request["UpdateExpression"].removeprefix("SET ").partition(" REMOVE ")
        touched = re.findall(r"(#\w+) = ", sets) + list(filter(None, removed.split(", ")))
        assert len(touched) == len(set(touched)), "DynamoDB refuses a path that is named twice"
        for name, value in re.findall(r"(#\w+) = ([^,(]+(?:\(.*?\))?)", sets):
            if kept := re.fullmatch(r"if_not_exists\((#\w+), (:\w+)\)", value):
                after.setdefault(names[kept[1]], values[kept[2]])
            else:
                after[names[name]] = values[value]
        for name in filter(None, removed.split(", ")):
            after.pop(names[name], None)
        self._put(after)
        return {"Attributes": before or {}}


def holds(
    condition: str,
    item: dict[str, Any] | None,
    names: dict[str, str],
    values: dict[str, Any],
) -> bool:
    """A ConditionExpression of comparisons, IN, attribute_exists and _not_exists, AND and OR."""
    item = item or {}

    def value(operand: str) -> Any:
        found = values[operand] if operand[0] == ":" else item.get(names[operand])
        return None if found is None else float(found["N"]) if "N" in found else found["S"]

    def term(text: str) -> bool:
        if there := re.fullmatch(r"attribute_(not_)?exists\((#?\w+)\)", text):
            return (names.get(there[2], there[2]) in item) is not bool(there[1])
        if one_of := re.fullmatch(r"(#\w+) IN \((.+)\)", text):
            return value(one_of[1]) in [value(each) for each in one_of[2].split(", ")]
        left, operator, right = text.split()
        one, other = value(left), value(right)
        if one is None or other is None:
            return False
        return bool(one < other) if operator == "<" else bool(one == other)

    def of_parts(text: str) -> bool:
        for word, every in ((" OR ", any), (" AND ", all)):
            parts = split(text, word)
            if len(parts) > 1:
                return every(map(of_parts, parts))
        return of_parts(text[1:-1]) if text[0] == "(" else term(text)

    return of_parts(condition)


def split(text: str, word: str) -> list[str]:
    """The parts between a word that stands outside of all parentheses."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0 and text.startswith(word, at):
            parts.append(text[start:at])
            start = at + len(word)
    return [*parts, text[start:]]


class Topic:
    """SNS as far as publish."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.fault: Fault = lambda operation, request: None

    def publish(self, **request: Any) -> dict[str, Any]:
        error = self.fault("publish", request)
        if error:
            raise error
        self.messages.append(request)
        return {}
