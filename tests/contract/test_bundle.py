"""The Lambda zip: small, reproducible, and content with boto3."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import boto3
import pytest

from stockpipe.domain.rules import DEFAULT_RULES, CrossoverRule
from stockpipe.infra.bundle import Bundle, build

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
