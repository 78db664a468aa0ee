"""The functions' processes: what they see of the host, and that they end with their server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded import cleaned, function, servers

from awaited import until
from stockpipe.aws import Endpoint
from stockpipe.local import daemon, processes
from stockpipe.local.home import Places

pytest.importorskip("ministack")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with cleaned(tmp_path / "home") as home:
        yield home


def test_functions_see_nothing_of_the_host(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as host:
        for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MY_TOKEN"):
            host.setenv(name, "of-the-host")
        endpoint = daemon.ensure_running(home)
    source = "import os\ndef handle(event, context): return dict(os.environ)\n"
    answer = function(endpoint, "env", source).invoke(FunctionName="env")
    seen: dict[str, str] = json.loads(answer["Payload"].read())
    assert "of-the-host" not in seen.values()
    assert endpoint.access_key_id not in seen.values()
    assert endpoint.secret_access_key not in seen.values()
    assert seen["AWS_REGION"] == "us-east-2"
    assert seen["AWS_ENDPOINT_URL"] == endpoint.url
    assert Path(seen["HOME"]) == Places(home).local
    names = {name for name in seen if not name.startswith(("AWS_", "LAMBDA_", "_LAMBDA_"))}
    assert names <= {
        *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "HOME", "TMPDIR", "PYTHONPATH"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("PYTHONUNBUFFERED", "PYTHONUSERBASE", "PYTHONHOME", "LD_LIBRARY_PATH"),
        *("GATEWAY_PORT", "MINISTACK_REGION", "_MINISTACK_INVOKE_DEPTH", "_X_AMZN_TRACE_ID"),
    }


@pytest.mark.parametrize("has_proc", [processes._HAS_PROC, False])
def test_processes_are_seen_with_and_without_proc(
    has_proc: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "_HAS_PROC", has_proc)
    script = tmp_path / "ministack-lambda-x" / "a b.py"
    script.parent.mkdir()
    script.write_text("input()")
    with subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE) as child:
        assert until(lambda: processes.command_line(child.pid)).endswith("a b.py")
        assert until(lambda: processes.functions(tmp_path)) == [child.pid]
        assert processes.memory_bytes(child.pid) > 1_000_000
        processes.end_functions(tmp_path)
        assert child.wait(20) == -signal.SIGKILL
    assert processes.command_line(child.pid) == ""
    assert processes.memory_bytes(child.pid) == 0
    assert processes.functions(tmp_path) == []


SLOW = """
import pathlib, time
def handle(event, context):
    pathlib.Path(event["started"]).touch()
    time.sleep(60)
"""


def invoke_slowly(endpoint: Endpoint, tmp_path: Path) -> threading.Thread:
    """Have a function run that does not end; returns once it does run."""
    name = f"slow-{tmp_path.name}"
    functions = function(endpoint, name, SLOW)
    started = tmp_path / "started"

    def invoke() -> None:
        with contextlib.suppress(Exception):  # however the server's end shows
            functions.invoke(FunctionName=name, Payload=json.dumps({"started": str(started)}))

    thread = threading.Thread(target=invoke)
    thread.start()
    until(started.exists)
    return thread


def test_functions_of_a_killed_server_end_with_the_next_start(home: Path, tmp_path: Path) -> None:
    thread = invoke_slowly(daemon.ensure_running(home), tmp_path)
    [orphan] = processes.functions(Places(home).tmp)
    [server] = servers(home)
    os.kill(server, signal.SIGKILL)
    thread.join()
    assert processes.command_line(orphan)
    daemon.ensure_running(home)
    assert not processes.command_line(orphan)
    assert list(Places(home).tmp.iterdir()) == []


def test_functions_end_with_the_server(home: Path, tmp_path: Path) -> None:
    thread = invoke_slowly(daemon.ensure_running(home), tmp_path)
    [busy] = processes.functions(Places(home).tmp)
    assert daemon.status(home).memory_bytes
    daemon.stop(home)
    assert not processes.command_line(busy)
    assert list(Places(home).tmp.iterdir()) == []
    thread.join()
