"""Parameters of a named query: checked by their declared type, bound as literal AST nodes.

No value ever becomes SQL by string formatting: a placeholder is replaced by a node of sqlglot's
syntax tree, and the generator writes (and escapes) it. The table, too, is replaced in the tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from stockpipe.domain.exact import InvalidQuote
from stockpipe.domain.names import Names
from stockpipe.domain.quote import parse_symbol
from stockpipe.errors import UsageError
from stockpipe.queries.catalog import NamedQuery, Parameter, did_you_mean
from stockpipe.queries.schema import TABLE

if TYPE_CHECKING:
    from sqlglot import exp

Value = int | Decimal | str | None
Days = tuple[str, str]
"""The first and the last day of the archive, ``YYYY-MM-DD``."""

EMPTY_ARCHIVE: Days = ("1970-01-01", "1970-01-01")
"""The period without an archive: a single day, so that Athena lists one partition, not 20,000."""
_FIRST_WORD = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(\w*)", re.S)
READS = ("SELECT", "WITH", "VALUES", "SHOW", "DESCRIBE", "EXPLAIN")
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class BoundQuery:
    """A statement ready to run, and the values that went into it (None: not restricted)."""

    name: str
    sql: str
    values: dict[str, Value]


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """``["limit=5", "by=gain"]`` as a mapping; raises :class:`UsageError`."""
    values: dict[str, str] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(
                f"A query parameter must be name=value, got {text!r}.", hint="Like -p limit=5."
            )
        if name in values:
            raise UsageError(f"The query parameter {name} is given twice.")
        values[name] = value.strip()
    return values


def bind(
    query: NamedQuery,
    given: Mapping[str, str],
    *,
    names: Names,
    archive: Callable[[], Days | None],
) -> BoundQuery:
    """Check ``given`` (texts, as typed) and make the statement, in Athena's dialect.

    ``archive`` says which days the archive holds; it is only called when ``since`` or ``until``
    was left to its default. Raises :class:`UsageError` naming parameter, rule and value.
    """
    for name in given:
        if query.parameter(name) is None:
            known = [parameter.name for parameter in query.parameters]
            raise UsageError(
                f"The query {query.name} has no parameter {name!r}.",
                hint=did_you_mean(name, known) or f"It has {', '.join(known)}.",
            )
    values: dict[str, Value] = {}
    days: Days | None = None
    for parameter in query.parameters:
        if parameter.name in given:
            values[parameter.name] = parse_value(parameter, given[parameter.name])
        elif parameter.kind == "date":
            days = days or archive() or EMPTY_ARCHIVE
            values[parameter.name] = days[0 if parameter.default == "first" else 1]
        elif parameter.kind == "symbol":
            values[parameter.name] = None
        else:
            values[parameter.name] = parse_value(parameter, parameter.default)
    _check_period(values, given)
    nodes = {name: _literal(value) for name, value in values.items()}
    return BoundQuery(query.name, _generate(query, nodes, names), values)


def console_sql(query: NamedQuery, names: Names, *, days: int = 30) -> str:
    """The query with its defaults over the last ``days`` days, for Athena's saved queries.

    The text depends on nothing but the stack, so that provisioning twice changes nothing.
    """
    from sqlglot import exp

    nodes: dict[str, exp.Expr] = {}
    for parameter in query.parameters:
        if parameter.kind == "date":
            day: exp.Expr = exp.CurrentDate()
            if parameter.default == "first":
                back = exp.Interval(this=exp.Literal.string(str(days)), unit=exp.var("DAY"))
                day = exp.Sub(this=day, expression=back)
            nodes[parameter.name] = exp.cast(day, "varchar")
        elif parameter.kind == "symbol":
            nodes[parameter.name] = exp.null()
        else:
            nodes[parameter.name] = _literal(parse_value(parameter, parameter.default))
    return _generate(query, nodes, names)


def parse_value(parameter: Parameter, text: str) -> Value:
    """One value by the parameter's declared type; raises :class:`UsageError`."""
    match parameter.kind:
        case "int":
            if not re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
                raise _refused(parameter, text)
            low, high = (int(end) for end in parameter.allowed)
            if not low <= int(text) <= high:
                raise _refused(parameter, text)
            return int(text)
        case "decimal":
            try:
                number = Decimal(text)
            except InvalidOperation:
                raise _refused(parameter, text) from None
            lowest, highest = (Decimal(end) for end in parameter.allowed)
            if not number.is_finite() or not lowest <= number <= highest:
                raise _refused(parameter, text)
            if number != round(number, 6):
                raise _refused(parameter, text, " with at most 6 decimals")
            return number
        case "choice":
            if text not in parameter.allowed:
                raise _refused(parameter, text)
            return text
        case "date":
            return _day(parameter, text)
        case "symbol":
            try:
                return parse_symbol(text)
            except InvalidQuote as error:
                raise UsageError(f"The query parameter {parameter.name} {error.rule}.") from None


def statement(sql: str) -> str:
    """A user's own statement without its final semicolon; raises :class:`UsageError`.

    What sqlglot cannot read goes to Athena as it is: Athena is the judge of its own dialect.
    """
    from sqlglot import parse
    from sqlglot.errors import SqlglotError

    text = sql.strip().rstrip(";").rstrip()
    if not text:
        raise UsageError("The SQL statement is empty.")
    word = _FIRST_WORD.match(text)
    if not word or word[1].upper() not in READS:
        raise UsageError(
            f"A query only reads: {', '.join(READS)}.",
            hint="Change tables with provision and teardown, or in Athena itself.",
        )
    try:
        parsed = [one for one in parse(text, read="athena") if one is not None]
    except SqlglotError:
        return text
    if len(parsed) > 1:
        raise UsageError("Athena runs one statement at a time.", hint="Remove all but one.")
    return text


def _day(parameter: Parameter, text: str) -> str:
    try:
        if not _DAY.fullmatch(text):
            raise ValueError
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise _refused(parameter, text) from None


def _refused(parameter: Parameter, text: str, more: str = "") -> UsageError:
    shown = repr(text) if len(text) <= 60 else repr(text[:57] + "...")
    return UsageError(
        f"The query parameter {parameter.name} must be {parameter.rule}{more}, got {shown}.",
        hint=f"It means: {parameter.description}.",
    )


def _check_period(values: Mapping[str, Value], given: Mapping[str, str]) -> None:
    since, until = values.get("since"), values.get("until")
    if isinstance(since, str) and isinstance(until, str) and since > until:
        defaulted = " (the archive's last day)" if "until" not in given else ""
        defaulted = " (the archive's first day)" if "since" not in given else defaulted
        raise UsageError(f"The period is empty: since {since} is after until {until}{defaulted}.")


def _literal(value: Value) -> exp.Expr:
    from sqlglot import exp

    if value is None:
        return exp.null()
    if isinstance(value, str):
        return exp.Literal.string(value)
    # Without an exponent: Trino reads 1E2 as a double, and a limit must be an integer.
    text = f"{abs(value):f}" if isinstance(value, Decimal) else str(abs(value))
    number = exp.Literal.number(text)
    return exp.Neg(this=number) if value < 0 else number


def _generate(query: NamedQuery, nodes: Mapping[str, exp.Expr], names: Names) -> str:
    from sqlglot import exp, parse_one

    def replace(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Placeholder):
            return nodes[node.name].copy()
        if isinstance(node, exp.Table) and node.name == TABLE:
            table = exp.table_(names.glue_table, db=names.database, quoted=True)
            table.set("alias", node.args.get("alias"))
            return table
        return node

    tree = parse_one(query.sql, read="athena").transform(replace)
    return tree.sql("athena", pretty=True, comments=False)
