"""From Athena's SQL to DuckDB's: names, types, and which partitions a statement can mean.

sqlglot transpiles; this module gives it what it needs for that: which table, which types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sqlglot import ErrorLevel, exp
from sqlglot.errors import OptimizeError, SqlglotError, UnsupportedError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope

from stockpipe.local.athena.answers import correct
from stockpipe.local.athena.judge import Refused

CATALOG = "awsdatacatalog"
_UNRESOLVED = re.compile(r"Column '(?P<name>[^']*)' could not be resolved")
_UNNAMED = re.compile(r"_col_(\d+)")
_TEMPORAL = frozenset({"DATE", "TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP_S", "TIMESTAMP_MS"})


class TableName(NamedTuple):
    database: str
    table: str


@dataclass(frozen=True, slots=True)
class Translation:
    """DuckDB's statement, what Athena calls its columns (None: as DuckDB does), and, per table,
    the conditions of each mention; a row is wanted if any mention's may hold for it."""

    sql: str
    columns: list[str] | None
    conditions: dict[TableName, list[exp.Expr | None]]


Columns = Mapping[str, str]
"""Column names (partition keys at the end) with their Hive types."""


class Statement:
    """A judged statement, run in ``database``; ``tables`` are those that it reads, CTEs are none.

    Raises :class:`Refused`.
    """

    def __init__(self, tree: exp.Query, database: str) -> None:
        self._names = _written_names(tree)
        self._tree = normalize_identifiers(tree, dialect="athena")
        found: dict[TableName, None] = {}
        for table in _base_tables(self._tree):
            if table.catalog not in ("", CATALOG):
                raise Refused(f"NOT_SUPPORTED: the embedded cloud has no catalog {table.catalog!r}")
            table.set("catalog", None)
            if not table.db:
                table.set("db", exp.to_identifier(database.lower(), quoted=True))
            if table.db == "information_schema":
                raise Refused("NOT_SUPPORTED: the embedded cloud has no information_schema")
            found[TableName(table.db, table.name)] = None
        self.tables = list(found)

    def translate(self, schemas: Mapping[TableName, Columns]) -> Translation:
        """To DuckDB, knowing the columns of :attr:`tables`. Raises :class:`Refused`."""
        resolved = _resolve(self._tree, schemas)
        columns = None
        if resolved is None:
            resolved = self._tree.copy()
        else:
            _check_types(resolved)
            columns = _output_names(self._names, resolved)
        conditions = _conditions(resolved)
        try:
            corrected = correct(resolved)
            sql = corrected.sql("duckdb", unsupported_level=ErrorLevel.RAISE, comments=False)
        except UnsupportedError as error:
            raise Refused(f"NOT_SUPPORTED: the embedded cloud's engine: {error}") from None
        return Translation(sql, columns, conditions)


def may_hold(condition: exp.Expr | None, values: Mapping[str, str | None]) -> bool:
    """Whether the condition can be true of rows with these partition values (None: NULL).

    Only what is certain says no: every part that is not a comparison of a partition key with a
    text may be true as well as false.
    """
    return condition is None or _truth(condition, values)[0]


def _base_tables(tree: exp.Query) -> Iterable[exp.Table]:
    for scope in traverse_scope(tree):
        for source in scope.sources.values():
            if isinstance(source, exp.Table):
                yield source


def _resolve(tree: exp.Query, schemas: Mapping[TableName, Columns]) -> exp.Query | None:
    """A copy with every column resolved and typed; None where sqlglot does not see through it.

    DuckDB then resolves the names itself. It also takes an alias of the same SELECT in WHERE and
    GROUP BY, which Athena does not: that is refused here.
    """
    schema: dict[str, object] = {}
    for (database, table), columns in schemas.items():
        types = {
            name.lower(): exp.DataType.build(kind, dialect="hive").sql("athena")
            for name, kind in columns.items()
        }
        schema.setdefault(database, {})[table] = types  # type: ignore[index]
    try:
        resolved = qualify(tree.copy(), schema=schema, dialect="athena", expand_alias_refs=False)
        return annotate_types(resolved, schema=schema, dialect="athena")
    except OptimizeError as error:
        match = _UNRESOLVED.search(str(error))
        aliases = {alias.alias.lower() for alias in tree.find_all(exp.Alias)}
        if match and match["name"].lower() in aliases:
            raise Refused(
                f"COLUMN_NOT_FOUND: Column '{match['name']}' cannot be resolved: WHERE, GROUP BY "
                "and HAVING do not know the names that SELECT gives"
            ) from None
        return None
    except SqlglotError:
        return None


def _check_types(tree: exp.Query) -> None:
    """Athena compares no text with a date or time; DuckDB converts it silently."""
    for node in tree.find_all(exp.Predicate, exp.Between, exp.In):
        if not isinstance(node, (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)) and not (
            isinstance(node, (exp.Between, exp.In))
        ):
            continue
        operands = [node.this, node.args.get("expression"), node.args.get("low")]
        operands += [node.args.get("high"), *node.expressions]
        known = [operand for operand in operands if operand is not None and operand.type]
        texts = [one for one in known if one.is_type("varchar", "char", "text") and _plain(one)]
        times = [one for one in known if one.type.this.name in _TEMPORAL]
        if texts and times:
            kind = "date" if times[0].type.this.name == "DATE" else "timestamp"
            raise Refused(
                f"TYPE_MISMATCH: Cannot apply operator: varchar with {kind} "
                f"({node.sql('athena', comments=False)})"
            )


def _plain(node: exp.Expr) -> bool:
    """Where a text type is certain; of a function's result sqlglot may be mistaken."""
    return isinstance(node, (exp.Column, exp.Literal, exp.Cast))


def _written_names(tree: exp.Query) -> list[str] | None:
    """The columns as Athena names them: aliases as written, ``_col0`` for what has no name.

    None with a ``*``: how many columns that is, only the resolved tree tells.
    """
    if any(select.is_star for select in tree.selects):
        return None
    return [
        select.alias or (select.name if isinstance(select, exp.Column) else f"_col{place}")
        for place, select in enumerate(tree.selects)
    ]


def _output_names(written: list[str] | None, resolved: exp.Query) -> list[str]:
    if written is not None and len(written) == len(resolved.selects):
        return written
    return [_UNNAMED.sub(r"_col\1", select.alias_or_name) for select in resolved.selects]


def _conditions(tree: exp.Query) -> dict[TableName, list[exp.Expr | None]]:
    """Per table and mention: the WHERE of the SELECT that reads it, with columns of others cut off.

    Whatever the join, a row that makes its own WHERE untrue is not in the result.
    """
    found: dict[TableName, list[exp.Expr | None]] = {}
    for scope in traverse_scope(tree):
        for alias, source in scope.sources.items():
            if isinstance(source, exp.Table):
                name = TableName(source.db, source.name)
                found.setdefault(name, []).append(_own_condition(scope, alias))
    return found


def _own_condition(scope: Scope, alias: str) -> exp.Expr | None:
    where = scope.expression.args.get("where")
    if where is None:
        return None
    alone = len(scope.sources) == 1

    def mark(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and not (node.table == alias or (not node.table and alone)):
            return exp.var("another_tables")
        return node

    condition: exp.Expr = where.this.copy().transform(mark)
    return condition


def _truth(node: exp.Expr, values: Mapping[str, str | None]) -> tuple[bool, bool]:
    """(may be true, may be false); a NULL is neither."""
    if isinstance(node, exp.Paren):
        return _truth(node.this, values)
    if isinstance(node, exp.Not):
        true, false = _truth(node.this, values)
        return false, true
    if isinstance(node, (exp.And, exp.Or)):
        left, right = _truth(node.this, values), _truth(node.expression, values)
        if isinstance(node, exp.And):
            return left[0] and right[0], left[1] or right[1]
        return left[0] or right[0], left[1] and right[1]
    if isinstance(node, exp.Between):
        value, ends = _value(node.this, values), [node.args["low"], node.args["high"]]
        if isinstance(value, str) and all(end.is_string for end in ends):
            inside = ends[0].name <= value <= ends[1].name
            return inside, not inside
    elif isinstance(node, exp.In) and not node.args.get("query") and node.expressions:
        value = _value(node.this, values)
        if isinstance(value, str) and all(one.is_string for one in node.expressions):
            found = value in {one.name for one in node.expressions}
            return found, not found
    elif type(node) in _COMPARISONS:
        left_value, right_value = _value(node.this, values), _value(node.expression, values)
        if isinstance(left_value, str) and isinstance(right_value, str):
            holds = _COMPARISONS[type(node)](left_value, right_value)
            return holds, not holds
    return True, True


_COMPARISONS: dict[type[exp.Expr], Callable[[str, str], bool]] = {
    exp.EQ: lambda left, right: left == right,
    exp.NEQ: lambda left, right: left != right,
    exp.LT: lambda left, right: left < right,
    exp.LTE: lambda left, right: left <= right,
    exp.GT: lambda left, right: left > right,
    exp.GTE: lambda left, right: left >= right,
}


def _value(node: exp.Expr, values: Mapping[str, str | None]) -> str | None:
    """The text of a literal or of a partition key; None where it is not known."""
    if node.is_string:
        return node.name
    return values.get(node.name.lower()) if isinstance(node, exp.Column) else None
