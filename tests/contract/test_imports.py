"""What is loaded when: help is quick because nothing heavy stands at module scope."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"boto3", "botocore", "yfinance", "pandas", "numpy", "sqlglot", "duckdb", "ministack"}


def loaded_by(code: str) -> set[str]:
    listing = f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "arguments", [["--help"], [], ["provision", "--help"], ["stream", "--help"], ["--version"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom stockpipe.cli.main import main\n"
        f"sys.argv = ['stockpipe', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code, done.code"
    )
    assert not loaded_by(code) & HEAVY


def test_domain_is_the_standard_library_alone() -> None:
    code = (
        "import stockpipe.domain.quote, stockpipe.domain.signals, stockpipe.domain.rules, "
        "stockpipe.domain.alerts, stockpipe.domain.names, stockpipe.domain.retry"
    )
    bare = loaded_by("import json, decimal, datetime, random, typing, dataclasses, re")
    extra = loaded_by(code) - bare - {"stockpipe"} - set(sys.stdlib_module_names)
    assert {name for name in extra if not name.startswith("_")} == set()


def test_only_the_yahoo_feed_loads_yfinance() -> None:
    modules = ("feeds.replay", "feeds.yahoo", "feeds.yahoo_stream", "producer.streaming")
    code = f"import {', '.join(f'stockpipe.{module}' for module in modules)}"
    assert not loaded_by(code) & {"yfinance", "pandas"}
