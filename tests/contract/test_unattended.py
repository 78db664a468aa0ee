"""docs/unattended: every unit is well formed, and its command line does what the unit expects."""

from __future__ import annotations

import configparser
import os
import plistlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from awaited import until
from stockpipe import config
from stockpipe.errors import StockpipeError, UsageError
from stockpipe.producer.streaming import GRACE_S
from stockpipe.settings import duration_s
from yahoo_proxy import BATCH, Answer, YahooProxy, batch, entry

DOCS = Path(__file__).resolve().parents[2] / "docs"
UNITS = DOCS / "unattended"
DOCUMENT = (DOCS / "unattended.md").read_text("utf-8")
BUDGET_S = 60
TASK = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


def unit(name: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=True)
    found.read(UNITS / name)
    return found


STREAM = unit("stockpipe.service")["Service"]
CLOUD = unit("stockpipe-cloud.service")["Service"]
AGENT = plistlib.loads((UNITS / "local.stockpipe.plist").read_bytes())
WINDOWS = ElementTree.parse(UNITS / "stockpipe-task.xml").getroot()  # noqa: S314 - our own file
CRON = [
    line for line in (UNITS / "crontab").read_text("utf-8").splitlines() if not line.startswith("#")
]


def windows(name: str) -> str:
    found = WINDOWS.find(f".//{TASK}{name}")
    assert found is not None, name
    return found.text or ""


COMMANDS = {
    "systemd": shlex.split(STREAM["ExecStart"]),
    "launchd": AGENT["ProgramArguments"],
    "windows": windows("Arguments").partition(" --exec ")[2].split(),
}


@dataclass(frozen=True)
class User:
    """A home in which the program is where the units expect it, and what a service sees of it."""

    home: Path

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "STOCKPIPE_HOME": str(self.home / "data"),
        }

    def line(self, words: Sequence[str]) -> list[str]:
        """A unit's command line with this home for the one that it names."""
        return [re.sub("^(%h|/Users/you|/home/you)/", f"{self.home}/", word) for word in words]

    def run(self, words: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.line(words),
            capture_output=True,
            text=True,
            timeout=BUDGET_S,
            check=False,
            cwd=self.home,
            env=self.environment() | more,
            stdin=subprocess.DEVNULL,
        )

    @contextmanager
    def started(self, words: Sequence[str], **more: str) -> Iterator[subprocess.Popen[str]]:
        """As a supervisor starts it: no terminal, a session of its own; never left behind."""
        log = self.home / "log"
        with (
            log.open("w") as said,
            subprocess.Popen(
                self.line(words),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                text=True,
                cwd=self.home,
                env=self.environment() | more,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    def said(self) -> str:
        return (self.home / "log").read_text("utf-8")


@pytest.fixture
def user(tmp_path: Path) -> User:
    """With the settings of the document."""
    program = tmp_path / ".local" / "bin" / "stockpipe"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stockpipe "$@"\n', "utf-8")
    program.chmod(0o755)
    settings = tmp_path / ".config" / "stockpipe" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(settings_shown(), "utf-8")
    return User(tmp_path)


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[YahooProxy]:
    """A Yahoo whose market is open."""
    with YahooProxy(tmp_path) as proxy:
        quotes = (entry(symbol, marketState="REGULAR") for symbol in ("AAPL", "MSFT"))
        proxy.answer(BATCH, Answer(batch(*quotes)))
        yield proxy


def settings_shown() -> str:
    return str(re.findall(r"^```toml\n(.*?)^```", DOCUMENT, re.M | re.S)[0])


def until_seen(seen: Callable[[], bool], process: subprocess.Popen[str], user: User) -> None:
    """As soon as it is seen; fails with what the process said, when it ends before that."""

    def look() -> bool:
        found = seen()
        assert found or process.poll() is None, user.said()
        return found

    until(look, within_s=BUDGET_S, what="stockpipe said nothing of it:")


def test_every_file_is_linked_from_the_document() -> None:
    linked = set(re.findall(r"\]\(unattended/([^)]+)\)", DOCUMENT))
    assert linked == {path.name for path in UNITS.iterdir()}
    copied = re.findall(r"docs/unattended/([\w.*-]+)", DOCUMENT)
    assert all(list(UNITS.glob(name)) for name in copied)


def test_the_settings_of_the_document_are_settings(tmp_path: Path) -> None:
    shown = re.sub(r"^# ", "", settings_shown(), flags=re.M)  # with target aws as well
    (tmp_path / "stockpipe.toml").write_text(shown, "utf-8")
    found = config.load({}, {"HOME": str(tmp_path)}, tmp_path).settings
    assert {name: getattr(found, name) for name in ("target", "profile", "account")} == {
        name: tomllib.loads(shown)[name] for name in ("target", "profile", "account")
    }
    assert found.symbols == ("AAPL", "MSFT")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_finds_nothing_wrong_with_the_units(user: User) -> None:
    runtime = user.home / "runtime"
    runtime.mkdir(mode=0o700)
    verify = ["systemd-analyze", "--user", "--man=no", "verify", *map(str, UNITS.glob("*.service"))]
    done = user.run(verify, XDG_RUNTIME_DIR=str(runtime))
    assert (done.returncode, done.stderr) == (0, "")  # an unknown key is only a warning


def test_every_supervisor_waits_longer_for_the_end_than_it_may_take() -> None:
    for waited_s in (float(STREAM["TimeoutStopSec"]), AGENT["ExitTimeOut"]):
        assert waited_s >= 2 * GRACE_S
    assert float(CLOUD["TimeoutStartSec"]) > 60  # daemon.START_BUDGET_S
    assert float(CLOUD["TimeoutStopSec"]) > 30  # daemon.STOP_BUDGET_S


def test_a_failure_is_tried_again_and_a_usage_error_is_not() -> None:
    assert STREAM["Restart"] == "on-failure"
    assert int(STREAM["RestartPreventExitStatus"]) == UsageError.exit_code
    assert int(STREAM["SuccessExitStatus"]) not in (
        StockpipeError.exit_code,
        UsageError.exit_code,
    )
    assert unit("stockpipe.service")["Unit"]["StartLimitIntervalSec"] == "0"
    assert AGENT["KeepAlive"] == {"SuccessfulExit": False}


def test_the_agent_has_no_path_that_launchd_would_not_find() -> None:
    paths = [AGENT["ProgramArguments"][0], AGENT["WorkingDirectory"], AGENT["StandardErrorPath"]]
    assert all(path.startswith("/Users/you") for path in [*paths, AGENT["StandardOutPath"]])
    assert AGENT["Umask"] == 0o077
    assert f"{AGENT['Label']}.plist" == "local.stockpipe.plist"


def test_the_task_is_never_ended_by_its_own_settings() -> None:
    assert windows("ExecutionTimeLimit") == "PT0S"  # the default is three days
    assert windows("StopIfGoingOnBatteries") == "false"
    assert 1 <= int(windows("Count")) <= 255  # an unsigned byte in the schema
    assert windows("Command") == "wsl.exe"


def test_crons_line_starts_before_the_session_and_ends_after_it_all_year() -> None:
    (line,) = CRON
    minute, hour, *_, weekdays, command = line.split(None, 5)
    assert "%" not in command  # cron would make a line break of it
    assert weekdays == "1-5"
    words = shlex.split(command.partition(">>")[0])
    begin = timedelta(hours=int(hour), minutes=int(minute))
    end = begin + timedelta(seconds=duration_s(words[words.index("--duration") + 1]))
    # New York, 9:30 to 16:00, is 13:30 to 20:00 UTC in summer and an hour later in winter.
    assert begin <= timedelta(hours=13, minutes=30)
    assert timedelta(hours=21) <= end < timedelta(hours=24)


@pytest.mark.parametrize(
    ("supervisor", "number"),
    [
        ("launchd", signal.SIGTERM),
        ("windows", signal.SIGHUP),
    ],
)
def test_a_command_line_streams_and_ends_as_its_unit_expects(
    user: User, yahoo: YahooProxy, supervisor: str, number: signal.Signals
) -> None:
    command = [*COMMANDS[supervisor], "--dry-run"]
    with user.started(command, **yahoo.environment()) as process:
        until_seen(lambda: '"symbol":"MSFT"' in user.said(), process, user)
        process.send_signal(number)
        code = process.wait(float(STREAM["TimeoutStopSec"]))
    assert code == int(STREAM["SuccessExitStatus"]), user.said()
    assert "Traceback" not in user.said()


def test_nohup_outlives_the_terminal(user: User, yahoo: YahooProxy) -> None:
    command = ["nohup", *COMMANDS["systemd"], "--dry-run", "--interval", "500ms"]
    with user.started(command, **yahoo.environment()) as process:
        until_seen(lambda: '"symbol":"MSFT"' in user.said(), process, user)
        process.send_signal(signal.SIGHUP)
        rounds = len(yahoo.asked(BATCH))
        until_seen(lambda: len(yahoo.asked(BATCH)) > rounds + 2, process, user)
        process.send_signal(getattr(signal, STREAM["KillSignal"]))
        code = process.wait(float(STREAM["TimeoutStopSec"]))
    assert code == int(STREAM["SuccessExitStatus"]), user.said()
    assert "Traceback" not in user.said()


def test_no_network_at_the_start_is_a_failure_that_is_tried_again(user: User) -> None:
    with socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
        done = user.run([*COMMANDS["systemd"], "--dry-run"], HTTPS_PROXY=nowhere)
    assert done.returncode == StockpipeError.exit_code, done.stderr
    assert "Yahoo could not be reached" in done.stderr


def test_a_symbol_that_yahoo_does_not_have_is_not_tried_again(
    user: User, yahoo: YahooProxy
) -> None:
    yahoo.answer(BATCH, Answer(batch(entry("AAPL", marketState="REGULAR"))))
    done = user.run([*COMMANDS["systemd"], "--dry-run"], **yahoo.environment())
    assert done.returncode == int(STREAM["RestartPreventExitStatus"]), done.stderr
    assert "Yahoo has no quote for MSFT." in done.stderr


def test_a_wrong_setting_is_not_tried_again(user: User) -> None:
    done = user.run([*COMMANDS["systemd"], "--dry-run"], STOCKPIPE_INTERVAL="0s")
    assert done.returncode == int(STREAM["RestartPreventExitStatus"]), done.stderr


@pytest.mark.skipif(not shutil.which("flock"), reason="cron's line is for Linux")
def test_crons_line_refuses_to_run_twice_and_frees_its_lock(user: User, yahoo: YahooProxy) -> None:
    (line,) = CRON
    command = line.split(None, 5)[5].replace(" >>", " --dry-run >>")
    log, lock = user.home / "stockpipe.log", str(user.home / ".stockpipe.lock")
    with user.started(["sh", "-c", command], **yahoo.environment()) as process:
        until_seen(lambda: log.exists() and '"symbol":"MSFT"' in log.read_text(), process, user)
        assert user.run(["sh", "-c", command], **yahoo.environment()).returncode == 1
        os.killpg(process.pid, signal.SIGTERM)
        assert user.run(["flock", "-w", "20", lock, "true"]).returncode == 0
    assert "nothing was sent" in log.read_text().lower()  # it ended in order, with its summary
    assert log.read_text().count("Printing quotes from yahoo") == 1


def test_the_service_stores_quotes_and_leaves_its_cloud_to_the_other_unit(
    user: User, yahoo: YahooProxy
) -> None:
    pytest.importorskip("ministack")
    from stockpipe.aws import Aws
    from stockpipe.infra.apply import apply
    from stockpipe.infra.blueprint import blueprint
    from stockpipe.infra.plan import plan_provision
    from stockpipe.local import daemon

    home = user.home / "data"
    small = {"alarms": False, "dashboard": False, "sweep": "off"}
    try:
        assert user.run(shlex.split(CLOUD["ExecStart"])).returncode == 0
        settings = config.load(small, {"HOME": str(user.home)}, user.home).settings
        cloud = Aws(region=settings.region, endpoint=daemon.endpoint(home))
        apply(plan_provision(blueprint(cloud, settings)), lambda step: None)
        with user.started(COMMANDS["systemd"], **yahoo.environment()) as process:
            until_seen(lambda: "MSFT 269.7" in user.said(), process, user)
            endpoint = daemon.endpoint(home)
            assert endpoint is not None
            aws = Aws(region="us-east-2", endpoint=endpoint)

            def stored() -> list[dict[str, Any]]:
                found = aws.client("dynamodb").scan(TableName=aws.names.table)["Items"]
                return list(found)

            until_seen(lambda: bool(stored()), process, user)
            process.send_signal(getattr(signal, STREAM["KillSignal"]))
            code = process.wait(float(STREAM["TimeoutStopSec"]))
        assert code == int(STREAM["SuccessExitStatus"]), user.said()
        assert "Sent 2 quotes" in user.said()
        assert {item["source"]["S"] for item in stored()} == {"yahoo"}
        assert daemon.endpoint(home) == endpoint  # it is the other unit's
    finally:
        stopped = user.run(shlex.split(CLOUD["ExecStop"]))
    assert stopped.returncode == 0, stopped.stderr
    assert daemon.endpoint(home) is None
