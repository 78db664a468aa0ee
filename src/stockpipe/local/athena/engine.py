"""One statement on a DuckDB of its own: load what it reads, lock the door, run it, write texts.

The files are read into tables first; then access to files, network, extensions and settings is
switched off for good, and only then does the user's SQL run. So whatever the judge overlooked,
DuckDB can reach nothing of the host.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from stockpipe.local.athena.answers import MACROS
from stockpipe.local.athena.data import DataFile, JsonTable, Store
from stockpipe.local.athena.judge import Refused
from stockpipe.local.athena.translate import Translation

MEMORY_LIMIT = "1GB"
THREADS = 2
RESULT_LIMIT = 32 * 2**20
"""Characters in a result; the server holds it in memory to be fetched page by page."""

_ROWS_AT_ONCE = 1000
_UNKNOWN_COLUMN = re.compile(r'column "?(?P<name>[^"\s]+)"? not found', re.IGNORECASE)
_UNKNOWN_FUNCTION = re.compile(r"Function with name (?P<name>\S+) does not exist", re.IGNORECASE)
_TYPES = {
    "BOOLEAN": "boolean",
    "TINYINT": "tinyint",
    "SMALLINT": "smallint",
    "INTEGER": "integer",
    "BIGINT": "bigint",
    "UBIGINT": "bigint",
    "HUGEINT": "bigint",  # what DuckDB's sum() of integers is
    "FLOAT": "float",
    "DOUBLE": "double",
    "VARCHAR": "varchar",
    "BLOB": "varbinary",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "INTERVAL": "interval day to second",
    "JSON": "json",
    "UUID": "uuid",
    '"NULL"': "unknown",
}


class Cancelled(Exception):
    """The execution was stopped while it ran."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Column names, Athena's types, rows of texts as GetQueryResults writes them, and how many
    characters those are."""

    columns: list[str]
    types: list[str]
    rows: list[list[str | None]]
    size: int


class Run:
    """One execution, which another thread may stop."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._connection: Any = None
        self._closing = threading.Lock()  # an interrupt of a closed connection raises

    def interrupt(self) -> None:
        """Stop it, or see that it does not start. Safe from any thread, at any time."""
        self._stopped.set()
        with self._closing:
            if self._connection is not None:
                self._connection.interrupt()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def execute(
        self,
        translation: Translation,
        inputs: Mapping[JsonTable, list[DataFile]],
        store: Store,
    ) -> tuple[Answer, int]:
        """The answer and the bytes read. Raises :class:`Refused` or :class:`Cancelled`."""
        workdir = Path(tempfile.mkdtemp(prefix="stockpipe-athena-"))
        try:
            self._connection = duckdb.connect(
                ":memory:",
                config={
                    "memory_limit": MEMORY_LIMIT,
                    "threads": THREADS,
                    "temp_directory": str(workdir / "spill"),
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "python_enable_replacements": False,
                },
            )
            scanned = self._load(inputs, store, workdir)
            self._lock()
            return self._answer(translation), scanned
        except duckdb.InterruptException:
            raise Cancelled from None
        except duckdb.Error as error:
            raise Refused(reason(error)) from None
        finally:
            with self._closing:
                if self._connection is not None:
                    self._connection.close()
                self._connection = None
            shutil.rmtree(workdir)

    def _load(self, inputs: Mapping[JsonTable, list[DataFile]], store: Store, workdir: Path) -> int:
        scanned = 0
        for database in {table.name.database for table in inputs}:
            self._do(f'CREATE SCHEMA IF NOT EXISTS "{database.replace(chr(34), chr(34) * 2)}"')
        for table, files in inputs.items():
            self._do(table.create_sql())
            if not files:
                continue
            path = workdir / "lines.json"
            staged = table.stage(store, files, path, lambda: self.stopped)
            scanned += staged.bytes_read
            try:
                self._do(table.insert_sql(path, staged))
            except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
                where = table.first_bad_line(store, files) or _line(error).replace(
                    f'file "{path}"', f"s3 data of {table.name.table}"
                )
                raise Refused(f"HIVE_BAD_DATA: {where}") from None
            path.unlink()
        return scanned

    def _lock(self) -> None:
        for macro in MACROS:
            self._do(macro)
        self._do("SET TimeZone = 'UTC'")
        self._do("SET enable_external_access = false")
        self._do("SET lock_configuration = true")

    def _do(self, sql: str) -> Any:
        if self.stopped:
            raise Cancelled
        return self._connection.execute(sql)

    def _answer(self, translation: Translation) -> Answer:
        cursor = self._do(translation.sql)
        columns = [str(column[0]) for column in cursor.description]
        types = [athena_type(str(column[1])) for column in cursor.description]
        if translation.columns is not None and len(translation.columns) == len(columns):
            columns = translation.columns
        rows: list[list[str | None]] = []
        size = 0
        while batch := cursor.fetchmany(_ROWS_AT_ONCE):
            if self.stopped:
                raise Cancelled
            for row in batch:
                texts = [text(value) for value in row]
                size += sum(len(one) for one in texts if one is not None)
                rows.append(texts)
            if size > RESULT_LIMIT:
                raise Refused(
                    f"the result exceeds the {RESULT_LIMIT // 2**20} MiB that the embedded cloud "
                    "holds; ask for fewer rows or columns"
                )
        return Answer(columns, types, rows, size)


def athena_type(duckdb_type: str) -> str:
    """``DECIMAL(18,6)`` is ``decimal(18,6)``, ``INTEGER[]`` an ``array``."""
    if duckdb_type.endswith("]"):
        return "array"
    if duckdb_type.startswith("DECIMAL"):
        return duckdb_type.lower()
    if duckdb_type.startswith("TIMESTAMP") and "ZONE" not in duckdb_type:
        return "timestamp"
    base = duckdb_type.partition("(")[0]
    return _TYPES.get(base, {"STRUCT": "row", "MAP": "map"}.get(base, "varchar"))


def text(value: Any) -> str | None:
    """A value as GetQueryResults writes it; None is NULL."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            return f"{value:f}" if isinstance(value, Decimal) else str(value)
        case float():
            return _java_double(value)
        case datetime():
            shown = f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03d}"
            return f"{shown} {value.tzname()}" if value.tzinfo else shown
        case date() | time():
            return value.isoformat()
        case timedelta():
            return _interval(value)
        case bytes():
            return value.hex(" ")
        case dict():
            return _braced("{}", (f"{_inner(key)}={_inner(one)}" for key, one in value.items()))
        case list() | tuple():
            return _braced("[]", (_inner(one) for one in value))
        case _:
            return str(value)


def _interval(value: timedelta) -> str:
    seconds, milliseconds = divmod(value // timedelta(milliseconds=1), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours // 24} {hours % 24:02d}:{minutes:02d}:{seconds:02d}.{milliseconds:03d}"


def reason(error: Exception) -> str:
    """A DuckDB error in Athena's words where there are such, else its first line."""
    message = _line(error)
    if column := _UNKNOWN_COLUMN.search(message):
        return f"COLUMN_NOT_FOUND: Column '{column['name']}' cannot be resolved"
    if function := _UNKNOWN_FUNCTION.search(message):
        return (
            f"NOT_SUPPORTED: {function['name']} works on Athena, but the embedded cloud's engine "
            "does not have it"
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return f"EXCEEDED_LOCAL_MEMORY_LIMIT: the embedded cloud gives a query {MEMORY_LIMIT}"
    kind = "SYNTAX_ERROR" if isinstance(error, duckdb.ProgrammingError) else "GENERIC_USER_ERROR"
    return f"{kind}: {message}"


def _line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _inner(value: Any) -> str:
    shown = text(value)
    return "null" if shown is None else shown


def _braced(braces: str, parts: Iterable[str]) -> str:
    return braces[0] + ", ".join(parts) + braces[1]


def _java_double(value: float) -> str:
    """As Java's Double.toString: 1.0E7 from ten million on, 1.0E-4 below a thousandth."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    figures = "".join(map(str, digits)).rstrip("0") or "0"
    power = int(exponent) + len(digits) - 1
    return f"{'-' if sign else ''}{figures[0]}.{figures[1:] or '0'}E{power}"
