"""``stockpipe query``: SQL over the archive, by name or your own."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stockpipe.cli import ui
from stockpipe.cli.context import Session, connect
from stockpipe.errors import UsageError

if TYPE_CHECKING:
    from stockpipe.queries.athena import QueryResult

FORMATS = ("table", "json", "csv", "markdown")
NUMERIC = ("int", "bigint", "integer", "decimal", "double", "real", "float", "smallint", "tinyint")


def register(app: typer.Typer) -> None:
    app.command(
        epilog="stockpipe query top-movers -p by=gain; stockpipe query --sql 'SELECT 1'; "
        "stockpipe query --list"
    )(query)


def query(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A named query, see --list.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="The named queries.")] = False,
    sql: Annotated[str | None, typer.Option(help="Your own statement (Athena SQL).")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="It stands in a file.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="Repeatable.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help=", ".join(FORMATS), show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the result to a file.")
    ] = None,
    reuse: Annotated[
        str | None, typer.Option(help="Take an earlier result that is not older: 15m.")
    ] = None,
) -> None:
    """Ask the history in SQL: result to stdout, bytes scanned and cost to stderr."""
    from stockpipe.queries import athena

    style = "json" if json else format_ or _by_suffix(output)
    if style not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}; got {style!r}.")
    if list_:
        _list(style)
        return
    if sum(given is not None for given in (name, sql, file)) != 1:
        raise UsageError(
            "Say what to ask: the name of a query, or --sql TEXT, or --file FILE.",
            hint="The names: stockpipe query --list",
        )
    if parameter and name is None:
        raise UsageError("-p belongs to a named query.", hint="Write the values into the SQL.")
    seconds = _reuse(reuse)
    own = None if name else _own_statement(sql, file)
    _check_name(name)
    session = connect(ctx)
    statement = own or bound(session, name or "", parameter or [])
    with ui.waiting("Running the query"):
        result = athena.run(session.aws, statement, reuse_s=seconds)
    drawn = render(result, style, terminal=output is None)
    if output is not None:
        output.expanduser().write_text(drawn or "", encoding="utf-8")
        ui.note(f"Wrote {len(result.rows):,} rows to {output}.")
    elif drawn is not None:
        sys.stdout.write(drawn)
    if not result.rows:
        ui.note(f"No rows in {session.place}.", "yellow")
    ui.note(
        f"{len(result.rows):,} rows, {result.bytes_scanned:,} bytes scanned, "
        f"{_cost(session, result)}, {result.duration_s:.1f} s",
        "dim",
    )


def _by_suffix(output: Path | None) -> str:
    """A file's name says what it holds: .csv, .json, .md."""
    suffixes = {".csv": "csv", ".json": "json", ".md": "markdown"}
    return suffixes.get(output.suffix, "table") if output else "table"


def _list(style: str) -> None:
    from stockpipe.queries.catalog import catalog

    if style == "json":
        ui.json_line(
            [
                {
                    "name": one.name,
                    "description": one.description,
                    "parameters": [
                        {"name": p.name, "default": p.default, "rule": p.rule}
                        for p in one.parameters
                    ],
                }
                for one in catalog()
            ]
        )
        return
    for one in catalog():
        ui.out.print(one.name, style="bold cyan")
        ui.text(f"    {one.description}")
        for p in one.parameters:
            ui.text(f"    -p {p.name}={p.default:<8} {p.description} ({p.rule})")


def _check_name(name: str | None) -> None:
    """A wrong name is told before anything is started."""
    if name is not None:
        from stockpipe.queries.catalog import find

        find(name)


def _own_statement(sql: str | None, file: Path | None) -> str:
    from stockpipe.queries.bind import statement

    if file is None:
        return statement(sql or "")
    try:
        return statement(file.expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None


def bound(session: Session, name: str, assignments: Sequence[str]) -> str:
    from stockpipe.queries.athena import archive_days
    from stockpipe.queries.bind import bind, parse_assignments
    from stockpipe.queries.catalog import find

    return bind(
        find(name),
        parse_assignments(assignments),
        names=session.aws.names,
        archive=lambda: archive_days(session.aws),
    ).sql


def _reuse(text: str | None) -> float | None:
    from stockpipe.settings import duration_s

    if text is None:
        return None
    try:
        return duration_s(text)
    except ValueError as error:
        raise UsageError(f"--reuse {error}.") from None


def _cost(session: Session, result: QueryResult) -> str:
    from stockpipe.queries.athena import cost_usd

    if session.settings.target == "local":
        return f"free here (about ${cost_usd(result.bytes_scanned):.5f} on AWS)"
    return f"about ${cost_usd(result.bytes_scanned):.5f}"


def render(result: QueryResult, style: str, *, terminal: bool) -> str | None:
    """The result as text; None where it was drawn as a table on the terminal."""
    columns = [column for column, _ in result.columns]
    rows = [[row[column] for column in columns] for row in result.rows]
    if style == "json":
        lines = [ui.plain(row) for row in result.rows]
        return "[" + ",\n ".join(lines) + "]\n"
    if style == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(["" if value is None else value for value in row] for row in rows)
        return buffer.getvalue()
    if style == "markdown" or not terminal:
        drawn = [columns, ["---"] * len(columns)]
        drawn += [[ui.cell(value).replace("|", "\\|") for value in row] for row in rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in drawn)
    right = [name for name, kind in result.columns if kind.split("(")[0] in NUMERIC]
    ui.table(columns, rows, right=right)
    return None
