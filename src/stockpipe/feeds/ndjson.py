"""Quotes out of a recording: one JSON object per line, as ``stream --record`` writes them.

A recording is written while quotes come in, and what writes it can be killed at any byte. So one
thing is forgiven, and only at the end: a last line that is cut off, and a gzip file whose end is
missing. Whatever else is wrong is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from stockpipe.domain.exact import InvalidQuote, moment_text
from stockpipe.domain.quote import Quote, parse_quote
from stockpipe.errors import BadRow
from stockpipe.feeds.csv_bars import LABEL
from stockpipe.feeds.files import Source

SYNTHETIC = "synthetic"
"""The label that stays: a recording of made-up prices must not pass for one of real prices."""


class Recording:
    """The lines of a recording as quotes; iterate once.

    Quotes are labelled anew (see :data:`SYNTHETIC`), and ``read_at`` takes the place of their
    ``ingested_at``. Raises :class:`BadRow`, naming file, line, field and rule.
    """

    def __init__(self, source: Source, read_at: datetime | None) -> None:
        self._source, self._read_at = source, read_at
        self._ingested_at = moment_text(read_at) if read_at else None
        self.cut_off = False
        """Whether the end is missing; known once all quotes were read."""

    def __iter__(self) -> Iterator[Quote]:
        for number, line in enumerate(self._lines(), 1):
            if not line.strip():
                continue
            try:
                quote = parse_quote(line, arrived_at=self._read_at)
            except InvalidQuote as error:
                if _is_cut_off(line):
                    self.cut_off = True
                    return
                field = "(all)" if error.field == "record" else error.field
                raise BadRow(self._source.name, number, field, error.rule) from None
            label = SYNTHETIC if quote.source == SYNTHETIC else LABEL
            yield replace(quote, source=label, ingested_at=self._ingested_at)

    def _lines(self) -> Iterator[bytes]:
        """The lines, up to where a gzip file ends without its trailer."""
        stream: Any = self._source.stream
        try:
            yield from stream
        except EOFError:
            self.cut_off = True


def _is_cut_off(line: bytes) -> bool:
    """Whether a line can be the beginning of one: only the last has no end, and no beginning of
    an object is JSON."""
    if line.endswith(b"\n") or not line.startswith(b"{"):
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return False
