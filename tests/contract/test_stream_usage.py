"""What a user of ``stockpipe stream`` does wrong: its own words, exit code 2, and no cloud started.

One process imports the program and forks one that runs it per case, which saves half a second each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

FORKS = """
import gc, importlib, json, os, sys
from stockpipe.cli.main import main
from stockpipe.feeds.registry import OURS

import stockpipe.cli.streaming, stockpipe.config
for place in OURS.values():
    importlib.import_module(place.partition(":")[0])
gc.freeze()

sys.argv[0] = "stockpipe"
for number, arguments in enumerate(json.load(sys.stdin)):
    if (pid := os.fork()) == 0:
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
        sys.argv[1:] = ["stream", *arguments]
        main()
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""

FILES = {
    "empty.txt": b"",
    "comments.txt": b"# AAPL\n\n  # MSFT\n",
    "bad.txt": b"AAPL\nAA$PL\n",
    "latin.txt": b"\xc4APL\n",
    "bars.csv": b"symbol,timestamp,open,high,low,close,volume\n"
    b"AAPL,2022-03-14T13:30:00Z,1,2,1,2,100\nAAPL,2022-03-14T13:31:00Z,1,2,1,-2,100\n",
    "good.csv": b"symbol,timestamp,open,high,low,close,volume\n"
    b"AAPL,2022-03-14T13:30:00Z,1,2,1,2,100\n",
}

REPLAY = ("--source", "replay:good.csv")

SAID: dict[tuple[str, ...], str] = {
    # Options that do not go together.
    ("--speed", "60x"): "--speed is for recordings; yahoo has --interval",
    ("--source", "yahoo-stream", "--speed", "60x"): "yahoo-stream has --interval",
    (*REPLAY, "--interval", "5s"): "--interval is for live quotes; replay has --speed",
    ("--source", "archive:3d", "--interval", "5s"): "archive has --speed",
    ("--interval", "0"): "yahoo is asked, it does not tell",
    (*REPLAY, "--hours", "market"): "--hours market is for live quotes; replay knows no market",
    ("--source", "synthetic", "--hours", "market"): "synthetic knows no market",
    (*REPLAY, "--resume", "--dry-run"): "a --dry-run sends nothing",
    ("--resume",): "--resume is for --source replay",
    ("--source", "yahoo-stream", "--resume"): "--resume is for --source replay",
    ("--source", "archive:3d", "--resume"): "--resume is for --source replay",
    ("--source", "synthetic:1", "--resume"): "--resume is for --source replay",
    # Values.
    ("--interval", "soon"): "--interval must be a time like 30s, 500ms, 1m or 2h, got 'soon'",
    ("--interval", "30"): "--interval must be a time like 30s",
    ("--interval", "-5s"): "--interval must be a time like 30s",
    ("--interval", "100ms"): "0.5",
    ("--duration", "0s"): "--duration must be longer than 0",
    ("--duration", "a day"): "--duration must be a time like 30s",
    ("--count", "0"): "--count",
    ("--count", "many"): "--count",
    ("--hours", "night"): "'always', 'market'",
    (*REPLAY, "--speed", "warp"): "--speed must be a factor like 60x, or max; got 'warp'",
    (*REPLAY, "--speed", "0x"): "--speed must be a factor",
    (*REPLAY, "--speed", "nan"): "--speed must be a factor",
    ("--sourse", "yahoo"): "--source",
    # Sources.
    ("--source", "replya:sample"): "Did you mean replay?",
    ("--source", "yahoo_stream"): "Did you mean yahoo-stream?",
    ("--source", "bloomberg"): "yahoo, yahoo-stream, replay, archive, synthetic",
    ("--source", ""): "There is no source ''",
    ("--source", "replay"): "replay:FILE",
    ("--source", "replay:"): "Which file is to be replayed?",
    ("--source", "archive"): "From when on",
    ("--source", "archive:yesterday"): "neither a day nor a time back",
    ("--source", "archive:2022-03-18..2022-03-14"): "ends before it begins",
    ("--source", "synthetic:many"): "synthetic:seed=7,rounds=1000",
    ("--source", "synthetic:rounds=0"): "makes no quotes",
    ("--source", "yahoo:AAPL"): "takes no argument",
    ("--source", "yahoo-stream:AAPL"): "takes no argument",
    # Symbols.
    ("AA PL",): "1 to 20 of A-Z",
    ("--symbol", "A" * 21): "1 to 20 of A-Z",
    (*REPLAY, "MSFT"): "holds no quotes of MSFT",
    ("--symbols-file", "nowhere.txt"): "nowhere.txt cannot be read: No such file or directory",
    ("--symbols-file", "."): "cannot be read: Is a directory",
    ("--symbols-file", "empty.txt"): "empty.txt names no symbols",
    ("--symbols-file", "comments.txt"): "comments.txt names no symbols",
    ("--symbols-file", "bad.txt"): "got 'AA$PL'",
    ("--symbols-file", "latin.txt"): "latin.txt is not UTF-8 text",
}
FAILED: dict[tuple[str, ...], str] = {
    ("--source", "replay:nowhere.csv"): "There is no file nowhere.csv",
    ("--source", "replay:bars.csv"): "bars.csv, line 3, column close: must be above 0",
}
"""Not the call's fault but the file's: exit code 1, and no cloud either."""
OTHERS = (("--help",), ("--source", "bloomberg", "--json"))


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Calls:
    """Every call, in one directory and with one home, that all are over with."""

    ended: dict[tuple[str, ...], Ended]
    home: Path


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    directory, home = tmp_path_factory.mktemp("calls"), tmp_path_factory.mktemp("home")
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    asked = [*SAID, *FAILED, *OTHERS]
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=directory,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "STOCKPIPE_HOME": str(home),
            "COLUMNS": "80",
        },
    )
    ended = {}
    for number, (arguments, code) in enumerate(zip(asked, done.stdout.split(), strict=True)):
        out, err = ((directory / f"{number}.{name}").read_text("utf-8") for name in ("out", "err"))
        ended[arguments] = Ended(int(code), out, err)
    return Calls(ended, home)


@pytest.mark.parametrize("arguments", SAID, ids=" ".join)
def test_a_wrong_use_is_one_error_in_words(calls: Calls, arguments: tuple[str, ...]) -> None:
    ended = calls.ended[arguments]
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ")
    assert SAID[arguments] in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("arguments", FAILED, ids=" ".join)
def test_a_bad_file_is_named(calls: Calls, arguments: tuple[str, ...]) -> None:
    ended = calls.ended[arguments]
    assert (ended.code, ended.out) == (1, "")
    assert FAILED[arguments] in ended.err


def test_none_of_it_starts_a_cloud_or_leaves_a_file(calls: Calls) -> None:
    assert list(calls.home.iterdir()) == []


def test_each_contradiction_has_words_of_its_own(calls: Calls) -> None:
    said = {calls.ended[arguments].err for arguments in list(SAID)[:8]}
    assert len(said) == 8


def test_errors_are_json_where_json_was_asked_for(calls: Calls) -> None:
    ended = calls.ended["--source", "bloomberg", "--json"]
    (line,) = ended.err.splitlines()
    assert json.loads(line) == {
        "error": "There is no source 'bloomberg'.",
        "hint": "There are yahoo, yahoo-stream, replay, archive, synthetic.",
    }


def test_help_fits_eighty_columns_and_ends_with_examples(calls: Calls) -> None:
    ended = calls.ended["--help",]
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("Usage: stockpipe stream")
    options = [line.split()[0] for line in lines if line.startswith("  --")]
    assert {
        "--source", "--interval", "--speed", "--hours", "--count", "--duration", "--record",
        "--resume", "--dry-run", "--json", "--mix", "--symbol", "--symbols-file",
    } <= set(options)  # fmt: skip
    examples = [line.strip() for line in lines if line.strip().startswith("stockpipe stream ")]
    assert len(examples) >= 3
