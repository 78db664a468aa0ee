"""What Athena would refuse is refused here, before DuckDB, which accepts far more, sees it.

sqlglot reads a superset of every dialect, so its success proves little. Three filters, each of
which lets pass what is known and nothing else: the tokens (punctuation and the names of
functions), the kinds of syntax nodes, and the clauses of a SELECT. Reasons are worded as Athena's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlglot import exp, parse, tokenize
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from stockpipe.local.athena.trino_functions import FUNCTIONS, WORDS_BEFORE_PARENTHESIS, words


class Refused(Exception):
    """Athena would not run the statement; the text is its reason, or ours, worded alike."""


LOCAL_ONLY = "NOT_SUPPORTED: the embedded cloud runs SELECT, WITH and VALUES, and table DDL; not "

_OTHER_STATEMENTS = words(
    """
    alter analyze call create deallocate delete describe drop execute explain grant insert merge
    msck optimize prepare refresh revoke show table truncate unload update use vacuum
    """
)
_PUNCTUATION = words("( ) [ ] , . - + * / % = <> != < > <= >= || -> ;")
_TEXT = frozenset({TokenType.STRING, TokenType.HEX_STRING, TokenType.UNICODE_STRING})
_OPAQUE = _TEXT | {TokenType.IDENTIFIER, TokenType.NUMBER}
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?: [A-Za-z]+)*")
_INCOMPLETE = re.compile(r"Required keyword: .* missing for <class '.*'>\.")
_PAIRS = frozenset({("<", "<"), (">", ">"), ("/", "/"), ("*", "*"), (",", ","), ("", ",")})
_AFTER_COMMA = frozenset({")", "]", "", "FROM", "WHERE", "GROUP", "ORDER", "LIMIT", ";"})

_NODES: tuple[type[exp.Expr], ...] = (
    exp.Func,  # its name was checked as a token
    *(exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg, exp.DPipe, exp.Paren, exp.Tuple),
    *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.Like, exp.Escape, exp.Not),
    *(exp.Between, exp.In, exp.NullSafeEQ, exp.NullSafeNEQ, exp.All, exp.Any, exp.Exists),
    *(exp.Alias, exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Star),
    *(exp.HexString, exp.UnicodeString, exp.Interval, exp.IntervalSpan, exp.Var),
    *(exp.DataType, exp.DataTypeParam, exp.ColumnDef, exp.Bracket, exp.Dot, exp.Lambda),
    *(exp.Select, exp.Union, exp.Except, exp.Intersect, exp.Subquery, exp.Values, exp.Table),
    *(exp.With, exp.CTE, exp.TableAlias, exp.From, exp.Join, exp.Lateral, exp.Where, exp.Group),
    *(exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.LimitOptions, exp.Offset, exp.Fetch),
    *(exp.Cube, exp.Rollup, exp.GroupingSets, exp.TableSample, exp.Distinct, exp.Filter),
    *(exp.Window, exp.WindowSpec, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls),
    *(exp.AtTimeZone, exp.JSONKeyValue, exp.JSONPath, exp.JSONPathPart, exp.Kwarg),
)
_CLAUSES: dict[type[exp.Expr], frozenset[str]] = {
    exp.Select: words(
        """
        with_ expressions distinct from_ joins where group having windows order limit offset
        """
    ),
    exp.SetOperation: words("with_ this expression distinct order limit offset"),
    exp.Table: words("this db catalog alias joins sample"),
    exp.Star: frozenset(),
    exp.Distinct: frozenset({"expressions"}),
    exp.Group: words("expressions cube rollup grouping_sets"),
    exp.Join: words("this side kind on using method"),
}
_JOINS = frozenset({"", "INNER", "OUTER", "CROSS", "LEFT", "RIGHT", "FULL", "NATURAL"})
_TYPES = words(
    """
    BOOLEAN TINYINT SMALLINT INT BIGINT FLOAT DOUBLE DECIMAL VARCHAR CHAR VARBINARY JSON DATE TIME
    TIMETZ TIMESTAMP TIMESTAMPTZ INTERVAL YEAR ARRAY MAP STRUCT UUID IPADDRESS UNKNOWN
    NULL
    """
)


def judge(sql: str) -> exp.Query:
    """The syntax tree of a statement that Athena would run; raises :class:`Refused`."""
    try:
        tokens = tokenize(sql, read="athena")
    except SqlglotError as error:
        raise _syntax(f"the statement cannot be read: {error}") from None
    tokens = [token for token in tokens if token.token_type is not TokenType.HIVE_TOKEN_STREAM]
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    _check_statement(tokens)
    _check_punctuation(tokens)
    try:
        trees = [tree for tree in parse(sql, read="athena") if tree is not None]
    except SqlglotError as error:
        raise _syntax(_message(error)) from None
    if len(trees) != 1:
        raise _syntax("Only one sql statement is allowed.")
    tree = trees[0]
    if not isinstance(tree, (exp.Query, exp.Values)):
        raise Refused(LOCAL_ONLY + tree.key.upper())
    _check_calls(tokens, tree)
    _check_nodes(tree)
    _check_counts(tokens, tree)
    for table in tree.find_all(exp.Table):
        start = table.this.meta.get("start")
        if start is not None and sql[start] == "'":
            raise _syntax(f"mismatched input '{table.name}': a table is no 'text'")
    return tree if isinstance(tree, exp.Query) else exp.select("*").from_(tree)


def _check_statement(tokens: list[Token]) -> None:
    first = next((token for token in tokens if token.text != "("), None)
    if first is None:
        raise _syntax("the statement is empty")
    word = first.text.split()[0]
    if word.lower() in _OTHER_STATEMENTS:
        raise Refused(LOCAL_ONLY + word.upper())
    if word.lower() not in ("select", "with", "values"):
        raise _unexpected(first)


def _check_punctuation(tokens: list[Token]) -> None:
    for before, token, after in _neighbours(tokens):
        if token.token_type in _OPAQUE:
            if token.token_type in _TEXT and before.upper() in ("FROM", "JOIN", "AS"):
                raise _unexpected(token)  # 'text' as a table or an alias
        elif (
            not (token.text in _PUNCTUATION or _WORD.fullmatch(token.text))
            or token.text == ";"
            or (before, token.text) in _PAIRS
            or (token.text == "," and after.upper() in _AFTER_COMMA)
            or (token.text.upper() == "ALL" and before.upper().endswith("BY"))
        ):
            raise _unexpected(token)
    for limit, offset in zip(tokens, tokens[2:], strict=False):
        if (limit.text.upper(), offset.text.upper()) == ("LIMIT", "OFFSET"):
            raise _unexpected(offset, " OFFSET comes before LIMIT")


def _check_calls(tokens: list[Token], tree: exp.Expr) -> None:
    """Whatever stands before a parenthesis is a keyword, an alias with columns, or Trino's."""
    aliases = {
        alias.name.lower() for alias in tree.find_all(exp.TableAlias) if alias.args.get("columns")
    }
    windows = {window.name.lower() for window in tree.find_all(exp.Window)}
    known = FUNCTIONS | WORDS_BEFORE_PARENTHESIS | aliases | windows
    for before, token, after in _neighbours(tokens):
        name = token.text.lower()
        if after != "(" or token.token_type in _TEXT or not _WORD.fullmatch(name):
            continue
        if name.split()[-1] not in known or before == ".":
            raise Refused(
                f"FUNCTION_NOT_FOUND: {_place(token)}: Function '{token.text}' not registered"
            )


def _check_nodes(tree: exp.Expr) -> None:
    for node in tree.walk():
        if not isinstance(node, _NODES):
            raise Refused(
                f"NOT_SUPPORTED: {node.key.upper()} is not part of Athena's SQL, "
                "or not of what the embedded cloud knows of it"
            )
        for kind, allowed in _CLAUSES.items():
            if isinstance(node, kind):
                extra = {name for name, value in node.args.items() if value} - allowed
                if extra:
                    raise _syntax(f"unexpected {', '.join(sorted(extra)).strip('_')}")
        if isinstance(node, exp.Join):
            words = (str(node.args.get(part) or "").upper() for part in ("side", "kind", "method"))
            if not set(words) <= _JOINS:
                raise _syntax(f"{node.method or node.kind} JOIN is not part of Athena's SQL")
        if isinstance(node, exp.Table) and not isinstance(node.this, exp.Identifier):
            raise _syntax("a function cannot stand where a table is expected")
        if isinstance(node, exp.DataType) and node.this.name not in _TYPES:
            raise Refused(f"TYPE_NOT_FOUND: Unknown type: {node.this.name.lower()}")
        if isinstance(node, exp.Limit) and not _is_count(node.expression):
            raise _syntax("LIMIT takes a number")
        if isinstance(node, exp.LimitOptions) and node.args.get("percent"):
            raise _syntax("LIMIT takes no percentage")


def _check_counts(tokens: list[Token], tree: exp.Expr) -> None:
    """What the tree cannot tell: a SELECT left out (``FROM t``), a JOIN without its condition."""
    if _count(tokens, TokenType.SELECT) != sum(1 for _ in tree.find_all(exp.Select)):
        raise _syntax("a query starts with SELECT")
    joined = sum(
        bool(join.args.get("on") or join.args.get("using"))
        or "CROSS" in (join.kind, join.method)
        or join.method == "NATURAL"
        for join in tree.find_all(exp.Join)
    )
    if _count(tokens, TokenType.JOIN) > joined:
        raise _syntax("a JOIN needs ON or USING")


def _count(tokens: list[Token], kind: TokenType) -> int:
    return sum(token.token_type is kind for token in tokens)


def _is_count(node: exp.Expr | None) -> bool:
    return isinstance(node, exp.Literal) or (node is not None and node.name.upper() == "ALL")


def _neighbours(tokens: list[Token]) -> Iterable[tuple[str, Token, str]]:
    """Each token with the texts around it: "" beyond the ends, "'" for a quoted text."""
    texts = ["'" if token.token_type in _TEXT else token.text for token in tokens]
    for place, token in enumerate(tokens):
        before = texts[place - 1] if place else ""
        yield before, token, texts[place + 1] if place + 1 < len(texts) else ""


def _message(error: SqlglotError) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()
    return _INCOMPLETE.sub("an expression is incomplete.", text[0]) if text else "unreadable"


def _syntax(text: str) -> Refused:
    return Refused(f"SYNTAX_ERROR: {text}")


def _unexpected(token: Token, more: str = "") -> Refused:
    shown = token.text if len(token.text) <= 60 else token.text[:57] + "..."
    return _syntax(f"{_place(token)}: mismatched input '{shown}'.{more}")


def _place(token: Token) -> str:
    """As Athena counts: the column where it starts; sqlglot has the one where it ends."""
    return f"line {token.line}:{token.col - (token.end - token.start)}"
