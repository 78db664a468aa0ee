"""A rule over a whole history: what it would have told, and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from stockpipe.domain.exact import moment_text, parse_moment
from stockpipe.domain.quote import Quote
from stockpipe.domain.rules.base import Rule
from stockpipe.domain.signals import Reading, Signal


def reading_of(quote: Quote) -> Reading:
    """What rules see of a quote."""
    return Reading(
        quote.timestamp, quote.price, quote.previous_close, quote.open, quote.utc_offset_s or 0
    )


def signals(rule: Rule, readings: Iterable[Reading]) -> Iterator[Signal]:
    """The signals of one symbol's readings in time order: each occasion once, cooldown applied."""
    scan, seen, quiet_until = rule.scan(), set[str](), ""
    for reading in readings:
        signal = scan.push(reading)
        if signal is None or signal.occasion in seen:
            continue
        seen.add(signal.occasion)
        if signal.timestamp < quiet_until:
            continue  # muted, and with it the rest of its day
        if rule.cooldown_s:
            quiet_until = cooled(signal.timestamp, rule.cooldown_s)
        yield signal


def cooled(timestamp: str, cooldown_s: int) -> str:
    """The first time at which an alert may follow one of ``timestamp``."""
    return moment_text(parse_moment(timestamp) + timedelta(seconds=cooldown_s))
