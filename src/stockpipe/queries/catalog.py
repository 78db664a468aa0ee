"""The catalog: one named query per ``sql/*.sql``, described by the comments that head the file.

The header is the description (any number of lines), then one line per parameter::

    -- @param limit int(1..1000) = 5: how many stocks

that is name, type, allowed values, default and description. Types are ``int`` and ``decimal``
(an inclusive range), ``choice`` (its values), ``date`` (default ``first`` or ``last`` day of the
archive) and ``symbol`` (default ``any``).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast

from stockpipe.errors import StockpipeError, UsageError

Kind = Literal["int", "decimal", "date", "symbol", "choice"]

_PARAMETER = re.compile(
    r"@param (?P<name>[a-z_]+) (?P<kind>int|decimal|date|symbol|choice)(?:\((?P<allowed>[^)]*)\))?"
    r" = (?P<default>\S+): (?P<description>.+)"
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One ``-p name=value``. ``allowed`` holds the choices, or the two ends of the range."""

    name: str
    kind: Kind
    allowed: tuple[str, ...]
    default: str
    description: str

    @property
    def rule(self) -> str:
        """The allowed values in words, for messages and for ``query --list``."""
        match self.kind:
            case "int":
                return f"an integer from {self.allowed[0]} to {self.allowed[1]}"
            case "decimal":
                return f"a number from {self.allowed[0]} to {self.allowed[1]}"
            case "choice":
                return "one of " + ", ".join(self.allowed)
            case "date":
                return "a day like 2022-03-14"
            case "symbol":
                return "a symbol like AAPL, BRK-B or ^GSPC"


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One file of ``sql/``: its SQL in Athena's dialect, with ``:name`` placeholders."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    sql: str

    def parameter(self, name: str) -> Parameter | None:
        return next((one for one in self.parameters if one.name == name), None)


def catalog() -> list[NamedQuery]:
    """Every named query, in the order of their names.

    Raises :class:`StockpipeError` when the files are missing or a header is malformed: the
    installation is broken, not the call.
    """
    return list(_read_all())


def find(name: str) -> NamedQuery:
    """The query of that name; raises :class:`UsageError` with the closest names."""
    queries = {query.name: query for query in catalog()}
    if name in queries:
        return queries[name]
    raise UsageError(
        f"There is no query {name!r}.",
        hint=did_you_mean(name, list(queries)) or "See `stockpipe query --list`.",
    )


def did_you_mean(word: str, known: list[str]) -> str | None:
    """``Did you mean X?`` for the closest known word, or None where nothing is close."""
    close = difflib.get_close_matches(word.lower().replace("_", "-"), known, n=1, cutoff=0.5)
    close = close or difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else None


def parse(name: str, text: str) -> NamedQuery:
    """Read one file; raises :class:`StockpipeError` with the line of the header that is wrong."""
    description: list[str] = []
    parameters: list[Parameter] = []
    body = text.splitlines()
    while body and body[0].startswith("--"):
        line = body.pop(0)[2:].strip()
        if not line.startswith("@"):
            description.append(line)
            continue
        match = _PARAMETER.fullmatch(line)
        if not match:
            raise StockpipeError(f"sql/{name}.sql: not a parameter: {line}")
        separator = "|" if match["kind"] == "choice" else ".."
        parameters.append(
            Parameter(
                name=match["name"],
                kind=cast(Kind, match["kind"]),
                allowed=tuple(match["allowed"].split(separator)) if match["allowed"] else (),
                default=match["default"],
                description=match["description"],
            )
        )
    return NamedQuery(name, " ".join(description), tuple(parameters), "\n".join(body).strip())


@cache
def _read_all() -> tuple[NamedQuery, ...]:
    files = sorted(_folder().glob("*.sql"))
    return tuple(parse(file.stem, file.read_text(encoding="utf-8")) for file in files)


def _folder() -> Path:
    """``stockpipe/sql`` of an installed wheel, or ``sql/`` of the checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "sql", here.parents[3] / "sql"):
        if folder.is_dir():
            return folder
    raise StockpipeError(
        f"The named queries are missing from the installation at {here.parents[1]}.",
        hint="Install stockpipe again.",
    )
