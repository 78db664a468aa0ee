"""The items of a DynamoDB table as ministack holds them, in dicts of dicts, that know their order.

The order belongs to the dict that holds a partition's items, so there is no write that could bypass
it, whoever writes, and nothing that could take the order of a deleted table for that of a new one
of the same name, account and region: it lives and ends with the items.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Item = dict[str, Any]

lock = threading.Lock()
"""Requests come one at a time, but items expire, and are imported, in threads of their own."""


class Order:
    """The sort keys of some items, ascending; equal ones in the order of the dict, where a stable
    sort leaves them. ``names`` are the keys in the dict."""

    def __init__(self, value: Callable[[Item], Any], items: Mapping[str, Item]) -> None:
        self._value = value
        pairs = sorted(((value(item), name) for name, item in items.items()), key=lambda p: p[0])
        self.values = [value for value, _ in pairs]
        self.names = [name for _, name in pairs]

    def add(self, name: str, item: Item) -> None:
        value = self._value(item)
        at = bisect_right(self.values, value)
        self.values.insert(at, value)
        self.names.insert(at, name)

    def remove(self, name: str, item: Item) -> None:
        at = self.names.index(name, bisect_left(self.values, self._value(item)))
        del self.values[at], self.names[at]

    def same(self, old: Item, new: Item) -> bool:
        return bool(self._value(old) == self._value(new))


class Partition(dict[str, Item]):
    """The items of one partition key by their sort key as text, and their order once asked for.

    Every method that changes a dict either keeps the order or drops it, to be made again. It is
    dropped, too, when a change fails halfway.
    """

    __slots__ = ("_by", "_order")

    def __init__(self, items: Mapping[str, Item] | None = None) -> None:
        super().__init__(items or {})
        self._by: object = None
        self._order: Order | None = None

    def order(self, by: object, value: Callable[[Item], Any]) -> Order:
        """The order by ``value``, for which ``by`` stands; to be asked for and used under the lock.

        An item's value must be a function of its own, as keys are: it is not looked at again.
        """
        if self._order is None or self._by != by:
            self._order, self._by = Order(value, self), by
        return self._order

    @contextmanager
    def _changing(self) -> Iterator[Order | None]:
        """The order, taken away: the change puts it back once it is right again."""
        with lock:
            order, self._order = self._order, None
            yield order

    def __setitem__(self, name: str, item: Item) -> None:
        with self._changing() as order:
            old = self.get(name)
            super().__setitem__(name, item)
            if order is None:
                return
            if old is None:
                order.add(name, item)
            if old is None or order.same(old, item):
                self._order = order

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def pop(self, name: str, *default: Any) -> Any:
        with self._changing() as order:
            if order is not None and name in self:
                order.remove(name, self[name])
            item = super().pop(name, *default)
            self._order = order
            return item

    def popitem(self) -> tuple[str, Item]:
        with self._changing():
            return super().popitem()

    def clear(self) -> None:
        with self._changing():
            super().clear()

    def update(self, *args: Any, **named: Any) -> None:
        with self._changing():
            super().update(*args, **named)

    def setdefault(self, name: str, default: Any = None) -> Any:
        with self._changing():
            return super().setdefault(name, default)

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self.update(other)
        return self

    def __reduce__(self) -> Any:
        return Partition, (), None, None, iter(self.items())  # a copy makes an order of its own


class Items(defaultdict[str, Partition]):
    """A table's partitions by key as text; what is put in becomes a :class:`Partition`.

    Made like the ``defaultdict(dict, items)`` whose place it takes.
    """

    def __init__(self, _factory: object = None, items: Mapping[str, Any] | None = None) -> None:
        super().__init__(Partition)
        self.update(items or {})

    def __setitem__(self, key: str, items: Mapping[str, Item]) -> None:
        super().__setitem__(key, items if isinstance(items, Partition) else Partition(items))

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **named: Any) -> None:
        for key, items in dict(*args, **named).items():
            self[key] = items

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self.update(other)
        return self
