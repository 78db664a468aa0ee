"""The rehearsal of the first real deployment, itself rehearsed on the embedded cloud."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded import REGION, cleaned

from stockpipe.local import daemon

pytest.importorskip("ministack")

SMOKE = Path(__file__).parents[1] / "aws" / "smoke.py"


def smoke(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    cloud = daemon.ensure_running(home)
    return subprocess.run(
        [sys.executable, str(SMOKE), *arguments],
        capture_output=True,
        text=True,
        cwd=home,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=180,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AWS_ENDPOINT_URL": cloud.url,
            "AWS_ACCESS_KEY_ID": cloud.access_key_id,
            "AWS_SECRET_ACCESS_KEY": cloud.secret_access_key,
            "AWS_DEFAULT_REGION": REGION,
        },
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cleaned(tmp_path_factory.mktemp("smoke")) as home:
        yield home


def test_every_hop_is_seen_and_nothing_is_left(home: Path) -> None:
    done = smoke(home, "--yes")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for told in ("stored in the table", "archived in S3", "alerted through SNS", "found by SQL"):
        assert told in done.stdout
    assert "Nothing is left" in done.stdout


def test_without_a_terminal_it_wants_to_be_confirmed_and_makes_nothing(home: Path) -> None:
    done = smoke(home)
    assert done.returncode == 1
    assert "It costs about" in done.stdout
    assert "CONFIRM=--yes" in done.stderr
    assert "Plan:" not in done.stderr
