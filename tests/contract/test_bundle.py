"""The Lambda zip: small, reproducible, and content with boto3."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import venv
import zipfile
from importlib import resources
from pathlib import Path

import boto3
import pytest

from stockpipe.domain.rules import DEFAULT_RULES, CrossoverRule
from stockpipe.infra.bundle import Bundle, build, without_docstrings

LIMIT = 50 * 1024


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build(DEFAULT_RULES)


def test_it_is_smaller_than_50_kb(bundle: Bundle) -> None:
    assert len(bundle.data) < LIMIT


def test_built_twice_in_different_processes_it_is_the_same_bytes(bundle: Bundle) -> None:
    code = (
        "import sys; from stockpipe.infra.bundle import build; "
        "from stockpipe.domain.rules import DEFAULT_RULES; "
        "sys.stdout.buffer.write(build(DEFAULT_RULES).data)"
    )
    again = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert again.stdout == bundle.data


def test_another_rule_is_another_zip(bundle: Bundle) -> None:
    assert build((CrossoverRule(3, 9),)).code_sha256 != bundle.code_sha256


def test_it_holds_the_handlers_what_they_import_and_the_rules(bundle: Bundle) -> None:
    with zipfile.ZipFile(io.BytesIO(bundle.data)) as archive:
        names = archive.namelist()
        rules = json.loads(archive.read("stockpipe/rules.json"))
    assert {name.split("/")[1] for name in names} == {
        "__init__.py", "domain", "functions", "rules.json",
    }  # fmt: skip
    assert rules == [
        {"kind": "crossover", "fast": 5, "slow": 20},
        {"kind": "move", "percent": "5"},
    ]


def sources(bundle: Bundle) -> dict[str, str]:
    """Every module of the zip by its path."""
    with zipfile.ZipFile(io.BytesIO(bundle.data)) as archive:
        return {
            name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")
        }


def test_it_holds_only_what_the_handlers_import(bundle: Bundle) -> None:
    names = set(sources(bundle))
    for needed in ("functions/process.py", "functions/trend.py", "domain/rules/spike.py"):
        assert f"stockpipe/{needed}" in names
    assert not names & {"stockpipe/config.py", "stockpipe/domain/rules/history.py"}


def test_every_line_of_code_keeps_its_number_and_docstrings_stay_at_home(bundle: Bundle) -> None:
    for name, shipped in sources(bundle).items():
        path = name.removeprefix("stockpipe/")
        original = resources.files("stockpipe").joinpath(path).read_text("utf-8")
        assert statements(shipped) == statements(original), name
        assert len(shipped.splitlines()) == len(original.splitlines()), name
        alone = [
            node.value.value
            for node in ast.walk(ast.parse(shipped))
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ]
        assert set(alone) <= {"", ...}, name


def statements(source: str) -> list[tuple[int, str]]:
    """Line and code of every statement but strings that stand alone."""
    return [
        (node.lineno, ast.dump(node) if not hasattr(node, "body") else type(node).__name__)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]


@pytest.mark.parametrize(
    "source",
    [
        'def f() -> None:\n    """One."""\n',
        'class A:\n    """Two\n\n    lines: ä."""\n\n    x = """kept\n"""\n',
        '"""M."""\nx = 1\n"""About x,\nlong."""\ny = 2\n',
        'def f() -> str:\n    "ä"; return """a\nb"""\n',
        "def f() -> None: ...\n",
    ],
)
def test_a_program_without_docstrings_is_the_same_program(source: str) -> None:
    shipped = without_docstrings(source.encode()).decode()
    assert statements(shipped) == statements(source)
    assert len(shipped.splitlines()) == len(source.splitlines())


def test_both_handlers_import_where_there_is_boto3_and_nothing_else(
    bundle: Bundle, tmp_path: Path
) -> None:
    with zipfile.ZipFile(io.BytesIO(bundle.data)) as archive:
        archive.extractall(tmp_path / "code")
    # A bare interpreter, and of all installed packages only boto3 with what it needs itself.
    venv.create(tmp_path / "bare", with_pip=False)
    installed = Path(boto3.__path__[0]).parent
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    for name in ("boto3", "botocore", "s3transfer", "jmespath", "urllib3", "dateutil", "six.py"):
        (allowed / name).symlink_to(installed / name)
    code = (
        "import stockpipe.functions.process, stockpipe.functions.trend as trend, sys; "
        "print(trend.shipped_rules()); "
        "loaded = {name.split('.')[0] for name in sys.modules}; "
        "print(sorted(loaded & {'pydantic', 'rich', 'typer'}))"
    )
    done = subprocess.run(
        [tmp_path / "bare" / "bin" / "python", "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{tmp_path / 'code'}:{allowed}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "fast=5" in done.stdout
    assert done.stdout.endswith("[]\n")
