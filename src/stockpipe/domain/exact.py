"""Prices and times, exactly: read from text, kept as integers and as UTC, written as text again."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache

MICRO = 1_000_000
PRICE_LIMIT = 10**12
"""Prices are below this many units of currency."""
EARLIEST = "1970-01-01T00:00:00.000Z"
"""The first day of the Glue table's partition projection; what is older no query would find."""

_TIMESTAMP = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)


class InvalidQuote(ValueError):
    """A record that is not a quote: the field (or ``record``) and the rule that it breaks."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field, self.rule = field, rule


def to_micro(value: Decimal | int | float | str, field: str = "price") -> int:
    """A price in units as micro-units, rounded half to even at the sixth decimal.

    Raises :class:`InvalidQuote` unless it is finite, above 0 and below 10^12. A float is read by
    its shortest text (``0.1`` is 0.1), which is what its writer meant.
    """
    try:
        number = Decimal(str(value) if isinstance(value, float) else value)
    except ArithmeticError:
        raise InvalidQuote(field, f"must be a number, got {shown(value)}") from None
    if not number.is_finite():
        raise InvalidQuote(field, f"must be finite, got {shown(value)}")
    if number <= 0:
        raise InvalidQuote(field, f"must be above 0, got {shown(value)}")
    if number >= PRICE_LIMIT:
        raise InvalidQuote(field, f"must be below 10^12, got {shown(value)}")
    micro = int((number * MICRO).to_integral_value(ROUND_HALF_EVEN))
    if not 0 < micro < PRICE_LIMIT * MICRO:
        raise InvalidQuote(field, f"must lie in 0.000001 to 10^12, got {shown(value)}")
    return micro


def price_text(micro: int | None) -> str | None:
    """Micro-units as the shortest decimal text: ``151830002`` is ``151.830002``."""
    return None if micro is None else decimal_text(micro, 6)


def decimal_text(scaled: int, places: int) -> str:
    """``scaled * 10^-places`` as the shortest decimal text, without an exponent."""
    sign = "-" if scaled < 0 else ""
    digits = str(abs(scaled)).rjust(places + 1, "0")
    fraction = digits[-places:].rstrip("0")
    return f"{sign}{digits[:-places]}.{fraction}" if fraction else sign + digits[:-places]


def divide_half_even(numerator: int, denominator: int) -> int:
    """The integer nearest to the quotient, ties to even; the denominator is positive."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient & 1):
        quotient += 1
    return quotient


@lru_cache(maxsize=4096)
def normalise_timestamp(text: str, field: str = "timestamp") -> str:
    """ISO 8601 with a zone, as UTC of fixed width: ``2022-03-14T13:30:00.000Z``.

    Text order is then time order. Finer fractions than milliseconds are cut. Raises
    :class:`InvalidQuote`.
    """
    match = _TIMESTAMP.fullmatch(text)
    if not match:
        raise InvalidQuote(field, f"must be ISO 8601 like 2022-03-14T13:30:00Z, got {shown(text)}")
    if not match[1]:
        raise InvalidQuote(field, f"has no time zone (add Z for UTC): {shown(text)}")
    try:
        moment = datetime.fromisoformat(text)
        if len(text) == 20 and match[1] == "Z":  # the usual form, without the way over a zone
            normalised = f"{text[:10]}T{text[11:19]}.000Z"
        else:
            normalised = moment_text(moment.astimezone(UTC))
    except (ValueError, OverflowError):
        raise InvalidQuote(field, f"is no date and time: {shown(text)}") from None
    if normalised < EARLIEST:
        raise InvalidQuote(field, f"lies before 1970: {shown(text)}")
    return normalised


def moment_text(moment: datetime) -> str:
    """An aware time as the contract's UTC text, cut to milliseconds."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z".rjust(24, "0")


def parse_moment(timestamp: str) -> datetime:
    """The aware UTC time of a normalised timestamp."""
    return datetime.fromisoformat(timestamp)


def shown(value: object) -> str:
    """A value for a message: quoted, escapes visible, never longer than a line."""
    try:
        text = ascii(value) if isinstance(value, str) else str(value)
    except ValueError:  # an int of more digits than Python prints
        return "a huge integer"
    return text if len(text) <= 60 else text[:57] + "..."
