"""The objects behind a Glue table: which of them a statement needs, and as one file for DuckDB.

DuckDB opens every file of a list and keeps a buffer for each, so thousands of small objects would
exhaust memory; here they are appended to one temporary file, whatever their number. A line gets
its partition's values with it::

    {"p":["2022-03-14"],"r":{"symbol":"AAPL",...}}
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from sqlglot import exp
from sqlglot.errors import SqlglotError

from stockpipe.local.athena.judge import Refused
from stockpipe.local.athena.translate import TableName, may_hold

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
# A number of 16 digits or more. DuckDB reads a JSON number as a double, which holds 15 of them;
# a text it converts to a decimal exactly, as Hive does with both.
_LONG_NUMBER = r"-?\d[\d.eE+-]{15,}"
_ANY_LONG_NUMBER = re.compile(rb"[:\s]" + _LONG_NUMBER.encode())
_SMALLEST_LINE_BUFFER = 1 << 20


class Store(Protocol):
    """The part of S3 that is read."""

    def objects(self, bucket: str) -> list[tuple[str, int]]:
        """Keys with sizes in bytes; raises :class:`Refused` without the bucket."""

    def read(self, bucket: str, key: str) -> bytes:
        """An object's bytes; raises :class:`Refused` when it is gone."""


class ObjectStore:
    """ministack's S3, read where it keeps the objects; within a request's account.

    ``s3`` is its module, ``account`` tells the account of the request.
    """

    def __init__(self, s3: ModuleType, account: Callable[[], str]) -> None:
        self._s3, self._account = s3, account

    def objects(self, bucket: str) -> list[tuple[str, int]]:
        found = self._s3._buckets.get(bucket)
        if found is None:
            raise Refused(f"PERMISSION_DENIED: The bucket {bucket} does not exist")
        # Copied at once: requests go on writing while this thread reads.
        return [
            (key, int(record.get("size") or 0)) for key, record in list(found["objects"].items())
        ]

    def read(self, bucket: str, key: str) -> bytes:
        found = self._s3._buckets.get(bucket)
        record = found["objects"].get(key) if found is not None else None
        if record is None:
            raise Refused(f"HIVE_CANNOT_OPEN_SPLIT: s3://{bucket}/{key} is gone")
        body: bytes | None = record.get("body")
        if body is not None:  # S3_PERSIST=0
            return body
        try:
            if self._s3._plain_path_key(key):
                # Its usual place. Asking for it costs more than reading it, 10,000 times over.
                with contextlib.suppress(FileNotFoundError):
                    return Path(self._s3.DATA_DIR, self._account(), bucket, key).read_bytes()
            return Path(self._s3._object_disk_path(bucket, key)).read_bytes()
        except OSError as error:
            raise Refused(
                f"HIVE_CANNOT_OPEN_SPLIT: s3://{bucket}/{key}: {error.strerror}"
            ) from error


class DataFile(NamedTuple):
    """One object and its partition's values, in the order of the table's partition keys."""

    key: str
    size: int
    values: tuple[str | None, ...]


class Staged(NamedTuple):
    """What was appended: bytes of the objects as they lie in S3, and the longest of them."""

    bytes_read: int
    longest: int


class JsonTable:
    """A Glue table of JSON lines. Raises :class:`Refused` when it is something else."""

    def __init__(self, name: TableName, definition: Mapping[str, Any]) -> None:
        self.name = name
        storage = definition.get("StorageDescriptor") or {}
        serde = str((storage.get("SerdeInfo") or {}).get("SerializationLibrary") or "")
        if "json" not in serde.lower():
            raise Refused(
                f"NOT_SUPPORTED: {name.database}.{name.table}: the embedded cloud reads tables "
                "with a JSON SerDe only"
            )
        self.columns = _columns(storage.get("Columns") or [])
        self.partitions = _columns(definition.get("PartitionKeys") or [])
        location = urlsplit(str(storage.get("Location") or ""))
        self._bucket = location.netloc
        prefix = location.path.lstrip("/")
        self._prefix = prefix if prefix.endswith("/") or not prefix else prefix + "/"
        parameters = definition.get("Parameters") or {}
        self._projected = str(parameters.get("projection.enabled", "")).lower() == "true"
        self._folders = self._projection(parameters) if self._projected else None
        self._dates = {
            key for key in self.partitions if parameters.get(f"projection.{key}.type") == "date"
        }

    @property
    def schema(self) -> dict[str, str]:
        """Columns, partition keys last, with their Hive types, as ``SELECT *`` has them."""
        return self.columns | self.partitions

    def choose(self, store: Store, conditions: Iterable[exp.Expr | None]) -> list[DataFile]:
        """The objects of which some row may satisfy one of the conditions."""
        if not self._bucket:
            return []
        wanted = list(conditions)
        verdicts: dict[tuple[str | None, ...], bool] = {}
        chosen: list[DataFile] = []
        for key, size in store.objects(self._bucket):
            values = self._values(key)
            if values is None:
                continue
            if values not in verdicts:
                named = dict(zip(self.partitions, values, strict=True))
                verdicts[values] = any(may_hold(condition, named) for condition in wanted)
            if verdicts[values]:
                chosen.append(DataFile(key, size, values))
        return sorted(chosen)

    def stage(
        self, store: Store, files: Iterable[DataFile], path: Path, stopped: Callable[[], bool]
    ) -> Staged:
        """Append the files' lines to ``path``; stops early once ``stopped()``."""
        total = longest = 0
        exact = self._exact_numbers()
        with path.open("wb") as out:
            for file in files:
                if stopped():
                    break
                raw = store.read(self._bucket, file.key)
                total += len(raw)
                body = gzip.decompress(raw) if file.key.endswith(".gz") else raw
                if exact and _ANY_LONG_NUMBER.search(body):
                    body = exact.sub(rb'\1"\2"', body)
                longest = max(longest, len(body))
                head = f'{{"p":{json.dumps(list(file.values))},"r":'.encode()
                out.writelines(
                    head + line + b"}\n"
                    for line in body.split(b"\n")
                    if line and not line.isspace()
                )
        return Staged(total, longest)

    def first_bad_line(self, store: Store, files: Iterable[DataFile]) -> str | None:
        """Where the first line is that is not a JSON object; None where all are."""
        for file in files:
            body = store.read(self._bucket, file.key)
            body = gzip.decompress(body) if file.key.endswith(".gz") else body
            for number, line in enumerate(body.split(b"\n"), start=1):
                if not line or line.isspace():
                    continue
                where = f"s3://{self._bucket}/{file.key}, line {number}"
                try:
                    if not isinstance(json.loads(line), dict):
                        return f"{where}: is not a JSON object"
                except ValueError as error:
                    return f"{where}: is not JSON: {error}"
        return None

    def create_sql(self) -> str:
        """DuckDB's statement for the empty table."""
        columns = (f"{_quoted(name)} {_duckdb(kind)}" for name, kind in self.schema.items())
        return f"CREATE TABLE {self._name_sql()} ({', '.join(columns)})"

    def insert_sql(self, path: Path, staged: Staged) -> str:
        """DuckDB's statement that reads the staged file into the table."""
        fields = (f"{_quoted(name)} {_json(kind)}" for name, kind in self.columns.items())
        values = [_value(f"r.{_quoted(name)}", kind) for name, kind in self.columns.items()]
        values += [
            f"CAST(p[{place}] AS {_duckdb(kind)})"
            for place, kind in enumerate(self.partitions.values(), start=1)
        ]
        record = _literal(f"STRUCT({', '.join(fields)})")
        shape = f"{{'p': 'VARCHAR[]', 'r': {record}}}"
        buffer = max(_SMALLEST_LINE_BUFFER, staged.longest + 4096)
        source = (
            f"read_json({_literal(str(path))}, format = 'newline_delimited', columns = {shape}, "
            f"maximum_object_size = {buffer})"
        )
        return f"INSERT INTO {self._name_sql()} SELECT {', '.join(values)} FROM {source}"  # noqa: S608

    def _name_sql(self) -> str:
        return f"{_quoted(self.name.database)}.{_quoted(self.name.table)}"

    def _exact_numbers(self) -> re.Pattern[bytes] | None:
        """Finds long numbers of decimal columns; an unescaped ``"name":`` is never in a text."""
        decimals = [name for name, kind in self.columns.items() if _is_decimal(kind)]
        if not decimals:
            return None
        names = "|".join(re.escape(name) for name in decimals)
        return re.compile(rf'("(?:{names})"\s*:\s*)({_LONG_NUMBER})'.encode())

    def _projection(self, parameters: Mapping[str, Any]) -> re.Pattern[str]:
        """Where projected partitions lie: the template, or ``key=value/`` below the location."""
        template = str(parameters.get("storage.location.template") or "")
        if template:
            folders = urlsplit(template).path.lstrip("/").rstrip("/") + "/"
        else:
            folders = self._prefix + "".join(f"{key}=${{{key}}}/" for key in self.partitions)
        literal = _PLACEHOLDER.split(folders)
        parts = [
            f"(?P<{part}>[^/]+)" if place % 2 else re.escape(part)
            for place, part in enumerate(literal)
        ]
        return re.compile("".join(parts))

    def _values(self, key: str) -> tuple[str | None, ...] | None:
        """The partition's values in the key; None when the object is not part of the table."""
        if key.endswith("/") or not key.startswith(self._prefix):
            return None
        inner = key[len(self._prefix) :].split("/")
        if any(part.startswith(("_", ".")) for part in inner):
            return None  # hidden, as Trino's Hive reader has it
        if self._folders is not None:
            match = self._folders.match(key)
            if not match:
                return None
            found = {name: unquote(value) for name, value in match.groupdict().items()}
            if any(not _DATE.fullmatch(found.get(name, "")) for name in self._dates):
                return None
        else:
            pairs = (part.partition("=") for part in inner[:-1])
            found = {name: unquote(value) for name, equals, value in pairs if equals}
        return tuple(found.get(name) for name in self.partitions)


def _columns(described: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {
        str(column["Name"]).lower(): str(column.get("Type") or "string").lower()
        for column in described
    }


def _is_decimal(hive_type: str) -> bool:
    return hive_type.startswith("decimal")


def _json(hive_type: str) -> str:
    """As what a field is read: decimals as text, see :func:`_value`."""
    return "VARCHAR" if _is_decimal(hive_type) else _duckdb(hive_type)


def _value(field: str, hive_type: str) -> str:
    """A decimal that does not fit its column is NULL, as in Hive, and not the end of the query."""
    return f"TRY_CAST({field} AS {_duckdb(hive_type)})" if _is_decimal(hive_type) else field


def _duckdb(hive_type: str) -> str:
    try:
        return exp.DataType.build(hive_type, dialect="hive").sql("duckdb")
    except SqlglotError:
        raise Refused(f"HIVE_INVALID_METADATA: unknown type {hive_type!r}") from None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
