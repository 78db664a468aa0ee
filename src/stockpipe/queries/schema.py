"""The archive as a table: the columns of its JSON lines, as the Glue table declares them.

One source for the provisioning code, for hints in errors and for the tests.
"""

from __future__ import annotations

TABLE = "stock_data_table"
"""What the files in ``sql/`` call the table; :mod:`stockpipe.queries.bind` puts the stack's in."""

COLUMNS: tuple[tuple[str, str], ...] = (
    ("symbol", "string"),
    ("open", "decimal(18,6)"),
    ("high", "decimal(18,6)"),
    ("low", "decimal(18,6)"),
    ("price", "decimal(18,6)"),
    ("previous_close", "decimal(18,6)"),
    ("change", "decimal(18,6)"),
    ("change_percent", "decimal(18,6)"),
    ("volume", "bigint"),
    ("timestamp", "string"),
    ("ingested_at", "string"),
    ("source", "string"),
    ("utc_offset_s", "int"),
    ("seq", "string"),
)
"""Name and Glue type, in the order of the record (``domain.quote.quote_json``)."""

PARTITION_KEYS: tuple[tuple[str, str], ...] = (("day", "string"),)
"""The folders ``raw-data/day=YYYY-MM-DD/``: text, projected as a date."""
