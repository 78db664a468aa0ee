"""Where DuckDB's namesake of a function answers otherwise than Athena's, and sqlglot lets it.

Each correction is one line of :data:`_CORRECTIONS`, held by a test that compares the answer with
Trino's documentation. :data:`MACROS` are functions of Athena that DuckDB only lacks by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from sqlglot import exp

from stockpipe.local.athena.judge import Refused

Tree = TypeVar("Tree", bound=exp.Expr)

MACROS = (
    "CREATE MACRO at_timezone(moment, zone) AS timezone(zone, moment)",
    "CREATE MACRO with_timezone(moment, zone) AS timezone(zone, moment)",
    "CREATE MACRO codepoint(letter) AS unicode(letter)",
    "CREATE MACRO e() AS exp(1)",
    "CREATE MACRO every(condition) AS bool_and(condition)",
    "CREATE MACRO infinity() AS CAST('Infinity' AS DOUBLE)",
    "CREATE MACRO nan() AS CAST('NaN' AS DOUBLE)",
    "CREATE MACRO yow(moment) AS isoyear(moment)",
)

_WHOLE_DAYS = frozenset({"DAY", "WEEK", "MONTH", "QUARTER", "YEAR"})
_LONGEST_SEQUENCE = 10_000
_INTEGERS = ("tinyint", "smallint", "int", "bigint")


def correct(tree: Tree) -> Tree:
    """The tree, typed by sqlglot's annotator and changed in place, with its answers corrected.

    Raises :class:`Refused` where no correction is possible.
    """
    for node in reversed(list(tree.walk())):  # inner nodes first: an outer one copies them
        correction = _CORRECTIONS.get(type(node))
        corrected = correction(node) if correction else None
        if corrected is not None and node is not tree:
            corrected.type = node.type
            node.replace(corrected)
    return tree


def _call(name: str, *arguments: object) -> exp.Anonymous:
    expressions = [exp.convert(argument, copy=True) for argument in arguments]
    return exp.Anonymous(this=name, expressions=expressions)


def _size(node: exp.Expr) -> tuple[int, int] | None:
    """Precision and scale of a decimal or an integer; None of anything else."""
    if node.type is not None and node.is_type(*_INTEGERS):
        return 19, 0
    if node.type is None or not node.is_type("decimal") or len(node.type.expressions) != 2:
        return None
    precision, scale = (int(part.name) for part in node.type.expressions)
    return precision, scale


def _quotient(node: exp.Expr) -> exp.Expr | None:
    """Decimal by decimal is a decimal, rounded at the larger scale; DuckDB makes it a double."""
    left, right = _size(node.this), _size(node.expression)
    if left is None or right is None or left[1] == right[1] == 0:
        return None
    return exp.cast(node.copy(), f"decimal(38,{max(left[1], right[1])})")


def _average(node: exp.Expr) -> exp.Expr | None:
    """Of decimals: a decimal of the same size; DuckDB makes it a double.

    ``node`` is the call, or the FILTER or OVER around it: the outermost is what gets the type.
    """
    if isinstance(node.parent, (exp.Filter, exp.Window)) and node.arg_key == "this":
        return None
    call = node
    while isinstance(call, (exp.Filter, exp.Window)):
        call = call.this
    size = _size(call.this) if isinstance(call, exp.Avg) else None
    if size is None or call.this.is_type(*_INTEGERS):
        return None
    return exp.cast(node.copy(), f"decimal({size[0]},{size[1]})")


def _difference(node: exp.Expr) -> exp.Expr:
    """Whole units that have passed; DuckDB's date_diff counts the boundaries crossed."""
    unit = node.args["unit"].name.lower()
    return _call("date_sub", unit, node.expression, node.this)


def _stay_date(node: exp.Expr) -> exp.Expr | None:
    """A date moved or cut by whole days stays a date; DuckDB makes it a timestamp."""
    unit = node.args.get("unit")
    if unit is None or unit.name.upper() not in _WHOLE_DAYS or not node.this.is_type("date"):
        return None
    return exp.cast(node.copy(), "date")


def _cast(node: exp.Expr) -> exp.Expr | None:
    """A double is rounded half away from zero, DuckDB rounds half to even; and a decimal without
    a size has no fraction, but as a literal (``DECIMAL '1.50'``) its own; DuckDB's has three."""
    to = cast(exp.DataType, node.args["to"])
    if to.is_type(*_INTEGERS) and node.this.is_type("double", "float"):
        return exp.cast(_call("round", node.this), to.copy())
    if to.is_type("decimal") and not to.expressions:
        fraction = node.this.name.partition(".")[2] if node.this.is_string else ""
        sized = node.copy()
        sized.set("to", exp.DataType.build(f"decimal(38,{len(fraction)})"))
        return sized
    return None


def _null_without_match(node: exp.Expr) -> exp.Expr:
    """No match is NULL; DuckDB returns an empty text."""
    found = _call("regexp_matches", node.this, node.expression)
    return exp.case().when(found, node.copy())


def _null_beyond_end(node: exp.Expr) -> exp.Expr:
    """A part that is not there is NULL; DuckDB returns an empty text."""
    parts = _call("string_split", node.this, node.args["delimiter"])
    return _call("list_extract", parts, node.args["part_index"])


def _printf(node: exp.Expr) -> exp.Expr:
    """Java's format strings are near to printf's; DuckDB's format() has another language."""
    return _call("printf", node.this, *node.expressions)


def _without_finish(node: exp.Expr) -> exp.Expr | None:
    """reduce()'s last function is mostly ``s -> s``; DuckDB's has none, others are refused."""
    finish = node.args.get("finish")
    if not isinstance(finish, exp.Lambda) or finish.this.name != finish.expressions[0].name:
        return None
    reduced = node.copy()
    reduced.set("finish", None)
    return reduced


def _sequence(node: exp.Expr) -> exp.Expr | None:
    """At most 10,000 entries, and of dates as of dates; DuckDB's takes the memory it needs."""
    start, end, step = (node.args.get(part) for part in ("start", "end", "step"))
    if start is None or end is None:
        return None
    if step is None and start.is_int and end.is_int:
        if abs(int(end.name) - int(start.name)) >= _LONGEST_SEQUENCE:
            raise Refused(
                "INVALID_FUNCTION_ARGUMENT: result of sequence function must not have more than "
                f"{_LONGEST_SEQUENCE} entries"
            )
        return None
    if start.type is None or not start.is_type("date"):
        return None
    series = node.copy()
    if step is None:
        series.set("step", exp.Interval(this=exp.Literal.string("1"), unit=exp.var("DAY")))
    return exp.cast(series, "array<date>", dialect="hive")


def _refuse_repeat(node: exp.Expr) -> None:
    """Athena's makes an array, DuckDB's a text, of any length."""
    raise Refused(f"NOT_SUPPORTED: {node.key} works on Athena, but not in the embedded cloud")


def _zero_without_match(node: exp.Expr) -> exp.Expr:
    return _call("coalesce", node.copy(), 0)


def _by_length(node: exp.Expr) -> exp.Expr:
    """slice(array, start, length); DuckDB's third argument is the end."""
    start, length = node.args["start"], node.args["end"]
    last = exp.Sub(
        this=exp.Add(this=start.copy(), expression=length.copy()), expression=_ONE.copy()
    )
    return _call("list_slice", node.this, start, last)


_ONE = exp.Literal.number(1)
_CORRECTIONS: dict[type[exp.Expr], Callable[[exp.Expr], exp.Expr | None]] = {
    exp.ArrayPosition: _zero_without_match,
    exp.ArraySlice: _by_length,
    exp.Avg: _average,
    exp.Cast: _cast,
    exp.DateAdd: _stay_date,
    exp.DateDiff: _difference,
    exp.DateTrunc: _stay_date,
    exp.Div: _quotient,
    exp.Filter: _average,
    exp.Format: _printf,
    exp.GenerateSeries: _sequence,
    exp.Reduce: _without_finish,
    exp.RegexpExtract: _null_without_match,
    exp.Repeat: _refuse_repeat,
    exp.SplitPart: _null_beyond_end,
    exp.TimestampTrunc: _stay_date,
    exp.Window: _average,
}
