"""The documentation says what the code does."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stockpipe.cli.main import app
from stockpipe.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def rows(document: Path) -> dict[str, tuple[str, str]]:
    """The table of settings: name to default and meaning."""
    found = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", document.read_text("utf-8"), re.M)
    return {name: (default.strip("`"), meaning) for name, default, meaning in found}


def test_every_setting_is_documented_with_its_meaning_and_default() -> None:
    documented = rows(ROOT / "docs" / "configuration.md")
    assert list(documented) == list(Settings.model_fields)
    defaults = Settings()
    for name, field in Settings.model_fields.items():
        shown, meaning = documented[name]
        value = getattr(defaults, name)
        if name == "rules":
            continue
        assert field.description is not None
        assert field.description.split(":")[0] in meaning.replace("\\|", "|"), name
        if value is None:
            assert shown == "unset"
        elif isinstance(value, float):
            assert shown == f"{value:g}s"
        elif isinstance(value, tuple):
            assert shown == json.dumps(value)
        else:
            assert shown == str(value)


@cache
def help_of(command: str) -> str:
    done = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="stockpipe")
    assert done.exit_code == 0, done.output
    return done.stdout


def commands() -> list[str]:
    """Every `stockpipe ...` line of a code block."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"^```\w*\n(.*?)^```", document.read_text("utf-8"), re.M | re.S):
            # Words one space apart: the title of the captured demo is no command.
            found += re.findall(r"^(stockpipe [a-z]\S*(?: [^\s#]\S*)*)(?: +#.*)?$", block, re.M)
    return sorted(set(found))


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_documents_exists_with_its_options(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    if name in ("alerts", "local", "config") and arguments and not arguments[0].startswith("-"):
        name = f"{name} {arguments[0]}"
    known = help_of(name) + help_of("")
    for argument in arguments:
        if argument.startswith("-"):
            assert argument.split("=")[0] in known, f"{argument} of {line}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


def test_every_test_that_the_tables_name_exists() -> None:
    tests = ROOT / "tests" / "local"
    cells = re.findall(r"^\|.*\| ((?:`\w+`(?:, )?)+) \|$", local_cloud(), re.M)
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert len(cells) > 20
    assert [name for name in named if not (tests / f"test_{name}.py").exists()] == []


def test_every_difference_from_aws_has_its_reason() -> None:
    _, _, table = local_cloud().partition("| here | on AWS | reason |\n")
    lines = [line.strip("|").split("|") for line in table.splitlines()[1:] if line.startswith("|")]
    assert len(lines) > 20
    assert [line[0] for line in lines if len(line) != 3 or not all(map(str.strip, line))] == []


def local_cloud() -> str:
    return (ROOT / "docs" / "local-cloud.md").read_text("utf-8")
