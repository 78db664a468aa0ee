"""The guard against replaying history into a symbol that has live quotes.

A replayed price between two live ones makes averages, and so crossings, that never were.
"""

from __future__ import annotations

from collections.abc import Iterable

from stockpipe.aws import Aws
from stockpipe.errors import UsageError
from stockpipe.operate.records import Records

LIVE_SOURCES = frozenset({"yahoo", "yahoo-stream"})


def refuse_mixing(aws: Aws, symbols: Iterable[str]) -> None:
    """Raise :class:`UsageError` where the newest record of a symbol is a live quote."""
    records = Records(aws.client("dynamodb"), aws.names.table)
    live = [
        symbol
        for symbol in sorted(symbols)
        for newest in records.newest(symbol, 1)
        if newest.get("source") in LIVE_SOURCES
    ]
    if live:
        raise UsageError(
            f"{', '.join(live)} {'has' if len(live) == 1 else 'have'} live quotes here; replayed "
            "ones among them would make averages and alerts that never were.",
            hint="Use another stack (--stack play), or say --mix.",
        )
