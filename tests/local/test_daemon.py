"""The embedded cloud's process: one per home, found, restarted, stopped, and cleaned up after."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded import bucket, cleaned, client, kill, servers

from awaited import until
from stockpipe.errors import LocalCloudError
from stockpipe.local import daemon, processes
from stockpipe.local.home import DATA_FORMAT, Lock, Places, ServerRecord, home, is_locked

pytest.importorskip("ministack")


ENSURE = (
    "import sys; from pathlib import Path; from stockpipe.local import daemon;"
    "print(daemon.ensure_running(Path(sys.argv[1])).url)"
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with cleaned(tmp_path / "home") as place:
        yield place


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cleaned(tmp_path_factory.mktemp("running")) as place:
        yield place


@pytest.fixture
def running(shared: Path) -> Path:
    """A home whose cloud runs; it may have been through much before."""
    daemon.ensure_running(shared)
    return shared


def record_of(place: Path) -> ServerRecord:
    found = ServerRecord.load(Places(place).server)
    assert found is not None
    return found


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/_ministack/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_home_is_the_variable_or_the_platforms_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STOCKPIPE_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.setenv("STOCKPIPE_HOME", " ")
    assert home().name == "stockpipe"
    assert home().is_absolute()


def test_nothing_runs_and_nothing_is_made_by_looking(place: Path) -> None:
    assert daemon.endpoint(place) is None
    status = daemon.status(place)
    assert (status.running, status.pid, status.url, status.died) == (False, None, None, None)
    assert status.disk_bytes == 0
    assert daemon.stop(place) is False
    daemon.reset(place)
    assert daemon.tail_log(place, 5) == []
    assert not place.exists()


def test_a_running_cloud_says_what_it_is(running: Path) -> None:
    status = daemon.status(running)
    assert status.running
    assert [status.pid] == servers(running)
    assert status.url == f"http://127.0.0.1:{status.port}"
    assert status.version == "1.5.33"
    assert status.data_format == DATA_FORMAT
    assert status.home == running
    assert status.died is None
    assert status.uptime_s is not None
    assert 0 <= status.uptime_s < 600
    assert status.memory_bytes is not None
    assert status.memory_bytes > 20_000_000
    assert status.disk_bytes > 100
    assert daemon.log_path(running).exists()
    line = [line for line in daemon.tail_log(running, 50) if "ready on" in line][-1]
    assert f"http://127.0.0.1:{status.port}" in line
    assert str(running) in line


def test_asking_again_starts_nothing(running: Path) -> None:
    before = servers(running)
    assert daemon.ensure_running(running) == daemon.endpoint(running)
    assert servers(running) == before


def test_requests_leave_no_line_in_the_log(running: Path) -> None:
    endpoint = daemon.ensure_running(running)
    client("sts", endpoint).get_caller_identity()
    before = daemon.tail_log(running, 1000)
    for _ in range(10):
        client("sts", endpoint).get_caller_identity()
    assert daemon.tail_log(running, 1000) == before


def test_everything_on_disk_is_the_owners_alone(running: Path) -> None:
    endpoint = daemon.ensure_running(running)
    bucket(endpoint, "owned-1").put_object(Bucket="owned-1", Key="a/b", Body=b"x")
    local = Places(running).local
    for path in (local, *local.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


@pytest.mark.skipif(sys.platform != "linux", reason="other loopback addresses need an alias")
def test_only_one_address_listens(running: Path) -> None:
    port = record_of(running).port
    assert port
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))  # taken as well, were it on every address
    assert answers(port)


def test_the_end_of_a_terminal_is_not_its_end(running: Path) -> None:
    [server] = servers(running)
    os.kill(server, signal.SIGHUP)
    assert os.getsid(server) == server
    assert daemon.endpoint(running) is not None
    assert servers(running) == [server]


def test_several_commands_at_once_start_one_server(place: Path) -> None:
    commands = [
        subprocess.Popen(
            [sys.executable, "-c", ENSURE, str(place)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    urls = {command.communicate(timeout=60)[0].strip() for command in commands}
    assert all(command.returncode == 0 for command in commands)
    assert len(urls) == 1
    assert urls.pop().startswith("http://127.0.0.1:")
    until(lambda: len(servers(place)) == 1)


def test_two_servers_cannot_share_a_data_directory(running: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "stockpipe.local.server", str(running)], timeout=60, check=False
    )
    assert second.returncode == 75
    assert daemon.endpoint(running) is not None


def test_a_stop_is_clean_and_keeps_port_and_keys(running: Path) -> None:
    first = daemon.ensure_running(running)
    [server] = servers(running)
    connection = http.client.HTTPConnection("127.0.0.1", record_of(running).port, timeout=20)
    connection.request("GET", "/_ministack/ready")  # and stay connected
    connection.getresponse().read()
    assert daemon.stop(running) is True
    connection.close()
    assert not processes.command_line(server)
    status = daemon.status(running)
    assert (status.running, status.died) == (False, None)
    assert daemon.endpoint(running) is None
    assert daemon.stop(running) is False
    assert list(Places(running).tmp.iterdir()) == []
    assert daemon.ensure_running(running) == first


def test_a_plain_sigterm_is_as_good(running: Path) -> None:
    [server] = servers(running)
    os.kill(server, signal.SIGTERM)
    until(lambda: not is_locked(Places(running).lock))
    assert daemon.status(running).died is None
    assert record_of(running).state == "stopped"


def test_a_killed_server_is_noticed_and_started_again(running: Path) -> None:
    first = daemon.ensure_running(running)
    kill(running)
    status = daemon.status(running)
    assert not status.running
    assert status.died
    assert "ready on" in status.died
    assert daemon.endpoint(running) is None
    assert daemon.ensure_running(running) == first
    assert daemon.status(running).died is None
    assert any("died" in line for line in daemon.tail_log(running, 3))


def test_a_strangers_process_id_does_no_harm(running: Path) -> None:
    """The record of a dead server names a process that is now somebody else's."""
    kill(running)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        record = record_of(running)
        content = json.loads(Places(running).server.read_text())
        Places(running).server.write_text(json.dumps({**content, "pid": stranger.pid}))
        assert record.state == "ready"
        assert daemon.status(running).pid is None
        assert daemon.stop(running) is False
        daemon.ensure_running(running)
        assert daemon.status(running).pid != stranger.pid
        assert stranger.poll() is None
        stranger.kill()


def test_a_foreign_server_on_the_port_is_not_taken_for_ours(running: Path) -> None:
    port = record_of(running).port
    daemon.stop(running)
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind(("127.0.0.1", port))
        foreign.listen()
        moved = daemon.ensure_running(running)
    assert not moved.url.endswith(f":{port}")
    assert any(f"port {port} is taken" in line for line in daemon.tail_log(running, 20))
    daemon.stop(running)
    assert daemon.ensure_running(running).url == moved.url


def test_reset_removes_everything(running: Path) -> None:
    first = daemon.ensure_running(running)
    bucket(first, "gone-1")
    daemon.reset(running)
    assert servers(running) == []
    assert [path.name for path in Places(running).local.iterdir()] == ["lock"]
    second = daemon.ensure_running(running)
    assert second.access_key_id != first.access_key_id
    assert client("s3", second).list_buckets()["Buckets"] == []


def test_a_newer_format_is_refused_with_the_way_out(place: Path) -> None:
    places = Places(place)
    for content in ('{"format": 2, "emulator": "9"}', "not json", "{}"):
        places.make()
        places.format.write_text(content)
        with pytest.raises(LocalCloudError, match="format") as caught:
            daemon.ensure_running(place)
        assert "stockpipe local reset" in str(caught.value.hint)
        assert places.format.read_text() == content
    daemon.reset(place)
    daemon.ensure_running(place)


def test_a_missing_extra_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LocalCloudError, match="not installed") as caught:
        daemon.ensure_running(place)
    assert "stockpipe[local]" in str(caught.value.hint)
    assert not place.exists()


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalCloudError, match=r"cannot write to .*Not a directory") as caught:
        daemon.ensure_running(tmp_path / "file" / "home")
    assert "STOCKPIPE_HOME" in str(caught.value.hint)


def test_a_server_that_dies_at_start_leaves_its_last_words(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken" / "hypercorn"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('broken on purpose')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent), prepend=os.pathsep)
    with pytest.raises(LocalCloudError, match="broken on purpose") as caught:
        daemon.ensure_running(place)
    assert str(daemon.log_path(place)) in str(caught.value.hint)
    assert "broken on purpose" in (daemon.status(place).died or "")


def test_a_lock_that_is_not_a_servers_is_not_waited_for_for_ever(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(place)
    places.make()
    lock = Lock(places.lock)
    assert lock.acquire()
    monkeypatch.setattr(daemon, "START_BUDGET_S", 0.2)
    with pytest.raises(LocalCloudError, match="did not answer"):
        daemon.ensure_running(place)
    lock.release()
    assert daemon.stop(place) is False


def test_a_large_log_is_put_aside(place: Path) -> None:
    places = Places(place)
    places.make()
    with places.log.open("wb") as log:
        log.truncate(10_000_001)
    daemon.ensure_running(place)
    assert places.log.stat().st_size < 10_000
    assert places.log.with_name("server.log.1").stat().st_size > 10_000_000
