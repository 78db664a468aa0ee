"""``stockpipe backtest`` as it is called: no cloud, one object per signal, words for the rest."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stockpipe.domain.rules import DEFAULT_RULES
from stockpipe.feeds.csv_bars import read_csv
from stockpipe.operate.backtest import backtest


def run(
    home: Path, *arguments: str, code: int = 0, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "stockpipe", "backtest", *arguments],
        input=stdin.decode(),
        capture_output=True,
        text=True,
        cwd=home,
        env={**kept, "HOME": str(home), "STOCKPIPE_HOME": str(home / "kept")},
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def test_json_is_one_object_per_signal_in_time_order(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in run(tmp_path, "sample", "--json").stdout.splitlines()]
    found = backtest(read_csv("sample"), DEFAULT_RULES).found
    assert [(line["symbol"], line["timestamp"], line["rule"]) for line in lines] == [
        (one.symbol, one.signal.timestamp, one.rule) for one in found
    ]
    assert [line["timestamp"] for line in lines] == sorted(line["timestamp"] for line in lines)
    keys = ["symbol", "timestamp", "rule", "kind", "price", "sma_fast", "sma_slow"]
    assert list(lines[0])[:7] == keys
    assert not (tmp_path / "kept").exists()  # no cloud was started


def test_csv_and_counts_per_day(tmp_path: Path) -> None:
    out = run(tmp_path, "sample", "--format", "csv", "--symbol", "aapl").stdout
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["symbol"] for row in rows} == {"AAPL"}
    days = run(tmp_path, "sample", "--by-day", "--json", "--symbol", "AAPL").stdout
    counted = [json.loads(line) for line in days.splitlines()]
    assert sum(line["signals"] for line in counted) == len(rows)
    assert counted == sorted(counted, key=lambda line: (line["day"], line["rule"]))


def test_the_configured_rules_apply_unless_others_are_named(tmp_path: Path) -> None:
    (tmp_path / "stockpipe.toml").write_text('[[rules]]\nkind = "move"\npercent = 10\n')
    said = run(tmp_path, "sample").stderr
    assert "move-10: " in said
    assert "crossover" not in said
    named = run(tmp_path, "sample", "--rule", "crossover-3-9", "--rule", "spike-5").stderr
    assert "crossover-3-9: " in named
    assert "spike-5: " in named
    assert "move" not in named


def test_standard_input_is_read(tmp_path: Path) -> None:
    text = "symbol,timestamp,open,high,low,close,volume,previous_close\n"
    text += "AAPL,2022-03-14T13:30:00Z,106,106,106,106,1,100\n"
    (line,) = run(tmp_path, "-", "--json", stdin=text.encode()).stdout.splitlines()
    assert json.loads(line)["change_percent"] == 6


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.csv"], 1, "There is no file missing.csv"),
        (["sample", "--rule", "crosover-5-20"], 2, "is no rule"),
        (["sample", "--rule", "move-5", "--rule", "move"], 2, "one rule twice"),
        (["sample", "--symbol", "TSLA"], 2, "holds no quotes of TSLA"),
        (["sample", "--symbol", "A B"], 2, "Not a symbol"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    done = run(tmp_path, *arguments, code=code)
    assert words in done.stderr
    assert done.stdout == ""
