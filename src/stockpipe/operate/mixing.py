"""The guard against replaying history into a symbol that has live quotes.

A replayed price between two live ones makes averages, and so crossings, that never were.
"""

from __future__ import annotations

from collections.abc import Iterable

from stockpipe.aws import Aws
from stockpipe.errors import UsageError
from stockpipe.operate.records import Records

NOT_LIVE = frozenset({None, "replay", "synthetic"})
"""Labels that say nothing of the present; every other one is a live source's, ours or not."""


NAMED = 5


def refuse_mixing(aws: Aws, symbols: Iterable[str]) -> None:
    """Raise :class:`UsageError` where the newest record of a symbol is a live quote.

    Without symbols every one that has records is looked at.
    """
    records = Records(aws.client("dynamodb"), aws.names.table)
    live = [
        symbol
        for symbol in sorted(symbols) or records.symbols()
        for newest in records.newest(symbol, 1)
        if newest.get("source") not in NOT_LIVE
    ]
    if live:
        raise UsageError(
            f"{_listed(live)} {'has' if len(live) == 1 else 'have'} live quotes here; replayed "
            "or made-up ones among them would make averages and alerts that never were.",
            hint="Use another stack (--stack play), or say --mix.",
        )


def _listed(symbols: list[str]) -> str:
    more = f" and {len(symbols) - NAMED:,} more" if len(symbols) > NAMED else ""
    return ", ".join(symbols[:NAMED]) + more
