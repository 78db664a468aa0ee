"""Lets time pass for the alarms of an embedded cloud, and for nothing else in it.

Copied as ``sitecustomize.py`` to where the server finds it. Signatures, streams and metrics keep
the real time; alarms are evaluated as if it were as many seconds later as stand in ``FILE``.
"""

from __future__ import annotations

import sys
from pathlib import Path

FILE = Path(__file__).with_name("seconds")


def ahead() -> float:
    return float(FILE.read_text()) if FILE.exists() else 0.0


def install() -> None:
    from stockpipe.local.emulator import alarms

    on_time = alarms.evaluate

    def evaluate(now: float, since: float) -> bool:
        """More often than once a minute, which changes nothing but the patience it takes."""
        return on_time(now + ahead(), since)

    alarms.evaluate = evaluate
    alarms.TICK_S = 0.05


if "stockpipe.local.server" in sys.orig_argv:
    install()
