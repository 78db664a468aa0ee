"""A partition of a table: a dict that keeps its keys in order, whatever changes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stockpipe.local.emulator.partitions import Partition

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
