"""The rehearsal of the first real deployment, itself rehearsed on the embedded cloud."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from embedded import REGION, cleaned
from stockpipe_cli import CALL_BUDGET_S
from warm_program import warm_program

from stockpipe.local import daemon

pytest.importorskip("ministack")

SMOKE = Path(__file__).parents[1] / "aws" / "smoke.py"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cleaned(tmp_path_factory.mktemp("smoke")) as home:
        yield home


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    """All that a rehearsal sees: a home, and the embedded cloud as if it were AWS."""
    cloud = daemon.ensure_running(home)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_ACCESS_KEY_ID": cloud.access_key_id,
        "AWS_SECRET_ACCESS_KEY": cloud.secret_access_key,
        "AWS_DEFAULT_REGION": REGION,
    }


@pytest.fixture
def script(home: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, whose calls of the program need not wait for its start."""
    for name in os.environ:
        if name.startswith(("AWS_", "STOCKPIPE_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home)
    spec = importlib.util.spec_from_file_location("smoke", SMOKE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert list(command[:3]) == [sys.executable, "-m", "stockpipe"]
        done = warm_program().run(command[3:], environment, home, budget_s=CALL_BUDGET_S)
        sys.stderr.write(done.stderr)
        return done

    monkeypatch.setattr(module, "subprocess", SimpleNamespace(run=run, PIPE=subprocess.PIPE))
    return module


def test_every_hop_is_seen_and_nothing_is_left(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SMOKE), "--yes"])
    script.Smoke().run()
    said = capsys.readouterr().out
    for told in ("stored in the table", "archived in S3", "alerted through SNS", "found by SQL"):
        assert told in said
    assert "Nothing is left" in said


def test_without_a_terminal_it_wants_to_be_confirmed_and_makes_nothing(
    home: Path, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, str(SMOKE)],
        capture_output=True,
        text=True,
        cwd=home,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=180,
        env=environment,
    )
    assert done.returncode == 1
    assert "It costs about" in done.stdout
    assert "CONFIRM=--yes" in done.stderr
    assert "Plan:" not in done.stderr
