"""Query reads the items in its range, and Scan those behind its start, not the whole table.

ministack sorts a whole partition and evaluates the key condition on every item of it at each Query:
half a second at 20,000 items, for a page of one. A Scan lists the table from its beginning.

What answers here is still ministack's code, every check, filter, projection and message of it. It
is only shown less: for the time of one call the other items are out of its sight. Which ones it
needs is found in the order of the sort keys, and how many by the Limit or by its own pagination, so
it stops where it would have stopped, and for the same reason. A request that is not plainly
understood here (an index, ``KeyConditions``, a segment, an expression in an unusual form) is shown
everything.

A table's items are held in ministack's ``defaultdict``, whether the table is new, restored from a
snapshot or a backup, replicated or rolled back. From now on that is :class:`Items`, whose
partitions keep their own order, so that none is ever stale (see ``partitions``). One that is still
a plain dict is shown whole.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from operator import itemgetter
from types import ModuleType
from typing import Any, TypeVar

from stockpipe.local.emulator import key_conditions, partitions
from stockpipe.local.emulator.partitions import Item, Items, Order, Partition
from stockpipe.local.emulator.parts import replace

T = TypeVar("T")
Request = Mapping[str, Any]
Table = dict[str, Any]
Shown = dict[str, dict[str, Item]]
"""Some of a table's items, held as in the table."""

_COUNTED = 1000
"""Up to this Limit items are counted; beyond it, it takes less to see where 1 MB is full."""
_USED = (
    "_extract_pk_from_condition",
    "_get_attr_type",
    "_key_condition_clauses",
    "_normalize_table_name",
    "_paginate_evaluated_items",
    "_sort_key_value",
    "_tokenize",
)


def install() -> None:
    """To be called once, before anything is restored.

    Raises LocalCloudError when this is not the ministack that we know.
    """
    from ministack.services import dynamodb

    for name in _USED:
        replace(dynamodb, name, getattr(dynamodb, name, None))  # by itself, if it is there
    replace(dynamodb, "defaultdict", Items)
    tables, sight = replace(dynamodb, "_tables", None), Sight()
    dynamodb._tables = _seen_through(sight, tables)
    choose = Choice(dynamodb)
    query = replace(dynamodb, "_query", None)
    dynamodb._query = _showing(sight, choose.table, choose.for_query, query)
    scan = replace(dynamodb, "_scan", None)
    dynamodb._scan = _showing(sight, choose.table, choose.for_scan, scan)


class Sight(threading.local):
    """What one thread sees in the place of a table."""

    table: Table | None = None
    view: Table | None = None


def _seen_through(sight: Sight, tables: Any) -> Any:
    """ministack's tables; to ``get`` one is to get what is in sight of it."""

    class Tables(type(tables)):  # type: ignore[misc]
        __slots__ = ()

        def get(self, key: Any, default: Any = None) -> Any:
            found = super().get(key, default)
            return sight.view if found is not None and found is sight.table else found

    seen = Tables()
    seen._data = tables._data
    return seen


def _showing(
    sight: Sight,
    table_of: Callable[[Request], Table | None],
    shown_of: Callable[[Table, Request], Shown | None],
    original: Callable[[Request], Any],
) -> Callable[[Request], Any]:
    """The original call, with nothing in sight but what it needs."""

    def call(request: Request) -> Any:
        table = table_of(request)
        shown = shown_of(table, request) if table else None
        if table is None or shown is None:
            return original(request)
        sight.table, sight.view = table, {**table, "items": shown}
        try:
            return original(request)
        finally:
            sight.table = sight.view = None

    return call


class Choice:
    """What a request has to be shown of a table: None is everything.

    It runs before ministack has checked the request, so nothing is taken to be valid.
    """

    def __init__(self, dynamodb: ModuleType) -> None:
        self._stock = dynamodb

    def table(self, request: Request) -> Table | None:
        name = self._stock._normalize_table_name(request.get("TableName"))
        table: Table | None = self._stock._tables.get(name) if isinstance(name, str) else None
        return table

    def for_query(self, table: Table, request: Request) -> Shown | None:
        """The items that a page of a Query is made of."""
        expression, sort_name = request.get("KeyConditionExpression"), table["sk_name"]
        if request.get("IndexName") or not sort_name or not isinstance(expression, str):
            return None
        names = _mapping(request, "ExpressionAttributeNames")
        values = _mapping(request, "ExpressionAttributeValues")
        conditions = key_conditions.parts(self._stock, expression, names)
        of_key, of_sort = conditions.pop(table["pk_name"], None), conditions.pop(sort_name, None)
        if of_key is None or of_key.operator != "EQ" or conditions:
            return None
        key = self._stock._extract_pk_from_condition(expression, values, names, table["pk_name"])
        partition = table["items"].get(key) if isinstance(key, str) else None
        if not isinstance(partition, Partition):
            return None
        operator, operands = (of_sort.operator, of_sort.operands) if of_sort else ("", ())
        bounds = [self._sort_value(table, values.get(one)) for one in operands]
        start = _mapping(request, "ExclusiveStartKey")
        after = self._sort_value(table, start.get(sort_name))
        if any(bound is None for bound in bounds) or (start and after is None):
            return None
        with partitions.lock:
            order = self._order(table, partition)
            low, high = key_conditions.span(order.values, operator, bounds)
            low, high = self._page(table, request, partition, low, max(low, high), after)
            # One at least: an error in the expression shows only where it meets an item.
            shown = order.names[low:high] or order.names[:1]
            return {key: {name: partition[name] for name in shown}}

    def _page(
        self, table: Table, request: Request, partition: Partition, low: int, high: int, after: Any
    ) -> tuple[int, int]:
        """The part of a range of the order that holds a page behind the start key ``after``.

        Items whose sort key is that of the start key stay in: which of them come before it is
        decided by more than the sort key.
        """
        order = self._order(table, partition)
        forward = bool(request.get("ScanIndexForward", True))
        first, end = (low, low) if forward else (high, high)
        if after is not None:
            first = bisect_left(order.values, after, low, high)
            end = bisect_right(order.values, after, low, high)
        ahead = range(end, high) if forward else range(first - 1, low - 1, -1)
        page = self._paged(table, request, ((at, partition[order.names[at]]) for at in ahead))
        if not page:
            return first, end
        if forward:
            return first, page[-1] + 1
        # Down to the first of equal keys: backwards, too, they come in the order of the dict.
        return bisect_left(order.values, order.values[page[-1]], low), end

    def for_scan(self, table: Table, request: Request) -> Shown | None:
        """The items that a page of a Scan is made of. A Scan goes by the keys as text, which is
        the order of a partition only where they are strings."""
        items, sort_name = table["items"], table["sk_name"]
        indexed = any(request.get(field) is not None for field in ("IndexName", "Segment"))
        if indexed or not sort_name or not isinstance(items, Items):
            return None
        if self._stock._get_attr_type(table, sort_name) != "S":
            return None
        start = _mapping(request, "ExclusiveStartKey")
        key = self._text(table, table["pk_name"], start) if start else ""
        after = self._text(table, sort_name, start) if start else ""
        if key is None or after is None or not (start or request.get("Limit")):
            return None

        def behind() -> Iterator[tuple[tuple[str, str, Item], Item]]:
            for one, partition in sorted(items.items(), key=itemgetter(0)):
                if one >= key:
                    names = self._order(table, partition).names
                    for name in names[bisect_right(names, after) if one == key else 0 :]:
                        yield (one, name, partition[name]), partition[name]

        shown: Shown = {}
        with partitions.lock:
            for one, name, item in self._paged(table, request, behind()):
                shown.setdefault(one, {})[name] = item
        return shown

    def _paged(self, table: Table, request: Request, rows: Iterator[tuple[T, Item]]) -> list[T]:
        """At least those of the rows that ministack's pagination looks at."""
        limit = request.get("Limit")
        if isinstance(limit, int) and 0 < limit <= _COUNTED:
            return [row for row, _ in islice(rows, limit)]
        seen: list[T] = []

        def items() -> Iterator[Item]:
            for row, item in rows:
                seen.append(row)
                yield item

        self._stock._paginate_evaluated_items(items(), None, table)
        return seen

    def _order(self, table: Table, partition: Partition) -> Order:
        name, value = table["sk_name"], self._stock._sort_key_value
        kind = self._stock._get_attr_type(table, name)
        return partition.order((name, kind), lambda item: value(item.get(name), kind))

    def _sort_value(self, table: Table, operand: object) -> Any:
        """What ministack orders a value of the sort key by; None for a value of another type."""
        name = table["sk_name"]
        if self._text(table, name, {name: operand}) is None:
            return None
        return self._stock._sort_key_value(operand, self._stock._get_attr_type(table, name))

    def _text(self, table: Table, name: str, attributes: Mapping[str, Any]) -> str | None:
        """The value of a key attribute as a table holds it; None for one of another type."""
        kind, value = self._stock._get_attr_type(table, name), attributes.get(name)
        text = value.get(kind) if isinstance(value, dict) and len(value) == 1 else None
        return text if isinstance(text, str) else None


def _mapping(request: Request, field: str) -> Mapping[str, Any]:
    value = request.get(field)
    return value if isinstance(value, dict) else {}
