"""The Lambda zip: the same sources make the same bytes, so its hash is the code's identity."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from stockpipe.domain.rules import CrossoverRule, rules_json

PACKAGES = ("domain", "functions")
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


def build(rules: Sequence[CrossoverRule]) -> Bundle:
    """Zip both handlers with what they import, and the rules that they judge by."""
    package = resources.files("stockpipe")
    files = {"stockpipe/__init__.py": package.joinpath("__init__.py").read_bytes()}
    for name in PACKAGES:
        for entry in _sources(package.joinpath(name)):
            files[f"stockpipe/{name}/{entry.name}"] = entry.read_bytes()
    files["stockpipe/rules.json"] = rules_json(rules).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(files):
            info = zipfile.ZipInfo(path, date_time=_EPOCH)
            info.create_system = 3  # Unix, wherever it is built: the byte is part of the zip
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            # Line ends as in the repository, even from a checkout that changed them.
            archive.writestr(info, files[path].replace(b"\r\n", b"\n"), compresslevel=9)
    return Bundle(buffer.getvalue())


def _sources(folder: Traversable) -> list[Traversable]:
    return [entry for entry in folder.iterdir() if entry.name.endswith(".py")]
