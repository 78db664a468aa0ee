"""The Lambda zip: the same sources make the same bytes, so its hash is the code's identity.

It holds the handlers, what they import of ours, and the rules. Docstrings stay at home; every line
keeps its number, so that a traceback of a function points into the repository.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from stockpipe.domain.rules import Rule, rules_json

HANDLERS = ("functions/process.py", "functions/trend.py")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a zip can name: real ones would change the hash at each checkout."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The zip's bytes and Lambda's own hash of them."""

    data: bytes

    @property
    def code_sha256(self) -> str:
        """As Lambda reports it: base64 of the SHA-256."""
        return base64.b64encode(hashlib.sha256(self.data).digest()).decode()


def build(rules: Sequence[Rule]) -> Bundle:
    """Zip both handlers with what they import, and the rules that they judge by."""
    files = {f"stockpipe/{path}": source for path, source in _sources().items()}
    files["stockpipe/rules.json"] = rules_json(rules).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(files):
            info = zipfile.ZipInfo(path, date_time=_EPOCH)
            info.create_system = 3  # Unix, wherever it is built: the byte is part of the zip
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, files[path], compresslevel=9)
    return Bundle(buffer.getvalue())


@cache
def _sources() -> dict[str, bytes]:
    """The handlers and every module of ours that they import, by path below the package."""
    package = resources.files("stockpipe")
    found: dict[str, bytes] = {}
    waiting = list(HANDLERS)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        # Line ends as in the repository, even from a checkout that changed them.
        source = package.joinpath(path).read_bytes().replace(b"\r\n", b"\n")
        found[path] = without_docstrings(source)
        waiting += [f"{folder}__init__.py" for folder in _folders(path)]
        for name in _imported(source):
            module = name.replace(".", "/")
            for candidate in (f"{module}.py", f"{module}/__init__.py"):
                if package.joinpath(candidate).is_file():
                    waiting.append(candidate)
    return found


def _folders(path: str) -> list[str]:
    """The packages that a module is in: ``a/b/c.py`` is in ``""``, ``a/`` and ``a/b/``."""
    parts = path.split("/")[:-1]
    return ["".join(f"{part}/" for part in parts[:depth]) for depth in range(len(parts) + 1)]


def _imported(source: bytes) -> Iterator[str]:
    """What a module imports of ours; of ``from a import b``, b may be a module too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stockpipe."):
            name = (node.module or "").removeprefix("stockpipe.")
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def without_docstrings(source: bytes) -> bytes:
    """The same program, each string that stands alone emptied, each line where it was."""
    lines = source.splitlines(keepends=True)
    alone = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    for text in alone:
        first, last = text.lineno - 1, (text.end_lineno or text.lineno) - 1
        # Offsets of ast count bytes of UTF-8.
        before, after = lines[first][: text.col_offset], lines[last][text.end_col_offset :]
        if first == last:
            lines[first] = before + b'""' + after
        else:
            lines[first : last + 1] = [before + b'""\n', *[b"\n"] * (last - first - 1), after]
    return b"".join(lines)
