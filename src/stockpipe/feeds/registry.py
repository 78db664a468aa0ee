"""Which feeds there are: ours, and those that installed packages add by entry point.

A package adds one with an entry point of the group ``stockpipe.feeds`` whose name is what
``--source`` takes and whose object is called with a :class:`~stockpipe.feeds.base.Request`.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from stockpipe.errors import FeedError, UsageError
from stockpipe.feeds.base import Feed, Open, Request

GROUP = "stockpipe.feeds"
OURS = {
    "yahoo": "stockpipe.feeds.yahoo:open_feed",
    "yahoo-stream": "stockpipe.feeds.yahoo_stream:open_feed",
    "replay": "stockpipe.feeds.replay:open_feed",
    "archive": "stockpipe.feeds.archive:open_feed",
    "synthetic": "stockpipe.feeds.synthetic:open_feed",
}
"""Looked up first: no package can take the place of one of these."""


def feed_names() -> list[str]:
    """What ``--source`` takes, ours first; an argument may follow after a colon."""
    return [*OURS, *sorted({point.name for point in entry_points(group=GROUP)} - OURS.keys())]


def open_feed(source: str, request: Request) -> Feed:
    """The feed that ``source`` (``name`` or ``name:argument``) names.

    ``request.argument`` is replaced by what follows the colon. Raises :class:`UsageError` for an
    unknown name or what the feed refuses, :class:`FeedError` for one that cannot be loaded.
    """
    from dataclasses import replace

    name, _, argument = source.partition(":")
    return _opener(name)(replace(request, argument=argument))


def _opener(name: str) -> Open:
    if name in OURS:
        module, _, attribute = OURS[name].partition(":")
        return cast(Open, getattr(import_module(module), attribute))
    found = sorted(entry_points(group=GROUP, name=name), key=_package)
    if not found:
        known = feed_names()
        close = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"There is no source {name!r}.",
            hint=f"Did you mean {close[0]}?" if close else f"There are {', '.join(known)}.",
        )
    if len(found) > 1:
        packages = " and ".join(_package(point) for point in found)
        raise FeedError(f"The source {name} comes with {packages}.", hint="Remove one of them.")
    try:
        opener = found[0].load()
    except Exception as error:
        raise FeedError(
            f"The source {name} of {_package(found[0])} cannot be loaded: "
            f"{type(error).__name__}: {error}",
            hint=f"Its entry point is {found[0].value}.",
        ) from error
    if not callable(opener):
        raise FeedError(
            f"The source {name} of {_package(found[0])} is nothing that can be called.",
            hint="docs/feeds.md says what an entry point has to be.",
        )
    return cast(Open, opener)


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
