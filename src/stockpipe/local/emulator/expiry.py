"""Time to live: what it removes is removed on the event loop, and written down in the journal.

ministack has a thread that looks through the tables once a minute and removes what has expired,
whatever a request is just doing. Were it left so, a condition that held when a write was
acknowledged might not hold when it is repeated after a crash, and that write would be lost. Here
the thread does the looking only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

from stockpipe.errors import LocalCloudError
from stockpipe.local.emulator.journal import Journal
from stockpipe.local.emulator.parts import VERSION, replace
from stockpipe.local.emulator.state import Sequence

_SERVICE = "expiry"
_THREAD = "dynamodb-ttl-reaper"
_log = logging.getLogger(__name__)

Table = dict[str, Any]


class Expiry:
    """Removes items whose time to live has passed, one after the other, between requests."""

    def __init__(self, journal: Journal, sequence: Sequence) -> None:
        self._journal, self._sequence = journal, sequence
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: Callable[[], None] = lambda: None

    def install(self) -> None:
        """Once, before anything is restored. Raises LocalCloudError when this is not the ministack
        that we know."""
        from ministack.services import dynamodb

        looking = {one.ident for one in threading.enumerate() if one.name == _THREAD}
        if not looking:
            raise LocalCloudError(
                f"This ministack has no thread {_THREAD}; stockpipe was made for {VERSION}.",
                hint="pip install 'stockpipe[local]'",
            )

        def remove(table: Table, key: str, sort_key: str) -> Any:
            if threading.get_ident() not in looking:
                return self._remove(table, key, sort_key)
            if self._loop is not None:  # else we are not up yet; the next look is in a minute
                self._loop.call_soon_threadsafe(self._expire, table, key, sort_key)
            return None

        self._remove = replace(dynamodb, "_remove_item", remove)
        self._journal.own(_SERVICE, self._repeat, self._sequence)

    def begin(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Remove from now on, on this loop; ``changed`` is called after each removal."""
        self._loop, self._changed = loop, changed

    def _expire(self, table: Table, key: str, sort_key: str) -> None:
        """Remove an item, unless it is gone or was written again since it was looked at."""
        from ministack.core.responses import request_scope
        from ministack.services import dynamodb

        region, account = table["TableArn"].split(":")[3:5]
        name = table["TableName"]
        with request_scope(account, region), self._sequence.one_moment() as moment:
            item = table["items"].get(key, {}).get(sort_key)
            if dynamodb._tables.get(name) is not table or not _has_expired(name, item):
                return
            body = json.dumps({"TableName": name, "Key": [key, sort_key]}).encode()
            try:
                self._journal.keep(_SERVICE, moment, {}, body)
            except OSError as error:  # it stays until the next look
                _log.error("%s: nothing expires: %s", name, error.strerror or error)
                return
            self._remove(table, key, sort_key)
        self._changed()

    async def _repeat(self, method: str, path: str, headers: Any, body: bytes, query: Any) -> Any:
        from ministack.services import dynamodb

        removed = json.loads(body)
        table = dynamodb._tables.get(removed["TableName"])
        if table is not None:
            self._remove(table, *removed["Key"])
        return 200, {}, b""


def _has_expired(table: str, item: dict[str, Any] | None) -> bool:
    """Whether a table of the current account and region does not keep this item any longer."""
    from ministack.services import dynamodb

    setting = dynamodb._ttl_settings.get(table) or {}
    until = (item or {}).get(setting.get("AttributeName", ""))
    if setting.get("TimeToLiveStatus") != "ENABLED" or until is None:
        return False
    try:
        return bool(float(dynamodb._extract_key_val(until)) <= dynamodb.time.time())
    except (ValueError, TypeError):  # no number: kept for ever, as on AWS
        return False
