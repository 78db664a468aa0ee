"""The runner of event sources: what it has done survives, whatever fails meanwhile."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from event_source_fakes import (
    REGION,
    SHARD,
    FakeKinesis,
    described,
    refusal,
)

from awaited import until
from stockpipe.local.event_sources import runner as event_sources
from stockpipe.local.event_sources.checkpoints import Checkpoints, Position
from stockpipe.local.event_sources.runner import EventSourceRunner
from stockpipe.local.event_sources.wakes import Bell, on_set

# Checkpoints and wakes ---------------------------------------------------------------------------


def test_checkpoints_survive_and_a_closed_store_moves_no_more(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    known, first = store.meet("m", REGION, 12.5)
    assert (known.since, first) == (12.5, True)
    store.save("m", SHARD, Position("7"))
    store.save("m", "shardId-2", Position("9", finished=True))
    store.close()
    assert not store.save("m", SHARD, Position("8"))
    store.forget("m")
    again = Checkpoints(tmp_path)
    assert again.meet("m", REGION, 99.0) == (known, False)
    assert again.position("m", SHARD) == Position("7")
    assert again.position("m", "shardId-2").finished
    assert again.position("m", "unknown") == Position()
    again.forget("m")
    assert list(tmp_path.iterdir()) == []
    assert Checkpoints(tmp_path).known() == {}


def test_a_damaged_checkpoint_is_as_if_there_were_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / f"{SHARD}.json").write_text("{", "utf-8")
    assert Checkpoints(tmp_path).position("m", SHARD) == Position()
    assert "cannot read the checkpoint" in caplog.text


def test_a_ring_between_a_look_and_a_wait_is_not_missed() -> None:
    bell, event = Bell(), threading.Event()
    undo = on_set(event, bell.ring)
    seen = bell.rings
    event.set()
    event.clear()  # as the emulator's poll loop does
    assert bell.wait(seen, 5)
    assert not bell.wait(bell.rings, 0.001)
    undo()
    event.set()
    assert bell.rings == seen + 1


# The runner ------------------------------------------------------------------------------------


class FakeLambda:
    """Mappings, and a function whose behaviour is ``answer``."""

    def __init__(self) -> None:
        self.mappings: dict[str, dict[str, Any]] = {}
        self.received: list[list[int]] = []
        self.answer: Callable[[list[int]], Any] = lambda numbers: None
        self.unreachable = self.missing = False

    def list_event_source_mappings(self, **_: Any) -> dict[str, Any]:
        if self.unreachable:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1")
        return {"EventSourceMappings": list(self.mappings.values())}

    def get_event_source_mapping(self, *, UUID: str) -> dict[str, Any]:  # noqa: N803
        if UUID not in self.mappings:
            raise refusal("ResourceNotFoundException")
        return self.mappings[UUID]

    def get_function_configuration(self, **_: Any) -> dict[str, Any]:
        if self.missing:
            raise refusal("ResourceNotFoundException")
        return {"Role": "role"}

    def invoke(self, *, Payload: bytes, **_: Any) -> dict[str, Any]:  # noqa: N803
        import base64

        records = json.loads(Payload)["Records"]
        data = [json.loads(base64.b64decode(raw["kinesis"]["data"])) for raw in records]
        sent = [fields["n"] for fields in data]
        self.received.append(sent)
        answer = json.dumps(self.answer(sent)).encode()
        return {"Payload": io.BytesIO(answer), "ExecutedVersion": "$LATEST"}


class World:
    """A runner over fakes, in real time."""

    def __init__(self, directory: Path) -> None:
        self.functions, self.kinesis = FakeLambda(), FakeKinesis()
        self.directory, self.wake = directory, threading.Event()
        self.runner = self.start()

    def connect(self, service: str, region: str) -> Any:
        assert region == REGION
        return {"lambda": self.functions, "kinesis": self.kinesis}[service]

    def start(self) -> EventSourceRunner:
        self.runner = EventSourceRunner(
            self.connect,
            self.directory,
            self.wake,
            regions=lambda: [REGION],
            idle_poll_s=0.02,
            rescan_s=0.02,
        )
        self.runner.start()
        return self.runner

    def map(self, **fields: Any) -> None:
        self.functions.mappings["mapping-1"] = described(**fields)

    @property
    def received(self) -> list[int]:
        return [n for batch in self.functions.received for n in batch]

    def position(self, shard: str = SHARD) -> Position:
        return Checkpoints(self.directory).position("mapping-1", shard)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "checkpoints")
    yield world
    world.runner.stop(20)


def test_parents_are_read_out_before_their_children(world: World) -> None:
    """A split and a merge: one and two become three, which becomes four and five."""
    fake = FakeKinesis(
        five=("three",), four=("three",), three=("one", "two"), two=(), one=("trimmed-long-ago",)
    )
    world.kinesis = fake
    for shard in ("one", "two", "three", "four", "five"):
        fake.put(2, shard=shard)
    fake.closed = {"one", "three"}
    world.map()
    until(lambda: len(world.received) == 4)
    assert sorted(world.received) == [1, 2, 3, 4]
    until(lambda: world.position("one").finished)
    fake.closed.add("two")
    until(lambda: len(world.received) == 10)
    assert world.received[4:6] == [5, 6]
    assert world.position("three") == Position(f"{6:030d}", finished=True)
    assert not world.position("four").finished


def test_a_finished_shard_is_not_read_again_after_a_restart(world: World) -> None:
    world.kinesis.put(3)
    world.kinesis.closed = {SHARD}
    world.map()
    until(lambda: world.position().finished)
    world.runner.stop(20)
    world.start()
    passes = len(world.kinesis.calls)
    until(lambda: world.runner.status()["mappings"])
    time.sleep(0.1)
    assert world.received == [1, 2, 3]
    assert len(world.kinesis.calls) == passes


def test_an_abandoned_invocation_moves_no_checkpoint(world: World) -> None:
    entered, release = threading.Event(), threading.Event()

    def hang(numbers: list[int]) -> None:
        entered.set()
        release.wait(20)

    world.functions.answer = hang
    world.kinesis.put(2)
    world.map()
    assert entered.wait(20)
    world.runner.stop(0.05)
    release.set()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("esm-f")])
    assert world.position() == Position()
    world.functions.answer = lambda numbers: None
    world.start()
    until(lambda: world.position().sequence == f"{2:030d}")
    assert world.received == [1, 2, 1, 2]


def test_a_function_that_is_not_there_yet_costs_no_record(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.functions.missing = True
    world.kinesis.put(3)
    world.map()
    until(lambda: "ResourceNotFoundException" in caplog.text)
    world.functions.missing = False
    until(lambda: world.received == [1, 2, 3])


def test_a_worker_that_breaks_is_replaced_at_its_checkpoint(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stockpipe.local.event_sources import crew as mapping_crew

    monkeypatch.setattr(mapping_crew, "REST_AFTER_CRASH_S", 0.1)
    world.kinesis.put(3)
    broken = world.kinesis.shards[SHARD][1].pop("PartitionKey")
    world.map()
    until(lambda: "KeyError" in caplog.text)
    world.kinesis.shards[SHARD][1]["PartitionKey"] = broken
    until(lambda: world.received == [1, 2, 3])


def test_a_full_disk_does_not_stop_the_work(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    world.kinesis.put(1)
    world.map()
    until(lambda: world.position().sequence)
    monkeypatch.setattr(Checkpoints, "_write", full)
    world.kinesis.put(2)
    until(lambda: world.received == [1, 2, 3])
    until(lambda: "cannot write a checkpoint" in caplog.text)
    monkeypatch.undo()
    world.kinesis.put(1)
    until(lambda: world.position().sequence == f"{4:030d}")
    assert world.received == [1, 2, 3, 4]


def test_checkpoints_go_only_when_the_mapping_is_known_to_be_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.kinesis.put(1)
    world.map()
    until(lambda: world.position().sequence)
    world.functions.unreachable = True
    until(lambda: world.runner.status()["regions"])
    world.kinesis.put(1)
    until(lambda: world.received == [1, 2])
    world.functions.unreachable = False
    world.runner.stop(20)
    # Another run, whose emulator has not loaded its state yet.
    found = world.functions.mappings.pop("mapping-1")
    world.start()
    until(lambda: world.runner._orphans)
    assert world.position().sequence
    world.functions.mappings["mapping-1"] = found
    world.kinesis.put(1)
    until(lambda: world.received == [1, 2, 3])
    monkeypatch.setattr(event_sources, "ORPHAN_AGE_S", 0.1)
    world.runner.stop(20)
    world.functions.mappings.clear()
    world.start()
    until(lambda: not (world.directory / "mapping-1").exists())


def test_a_blocked_shard_reports_its_age_and_error(world: World) -> None:
    world.functions.answer = lambda numbers: {"batchItemFailures": [{"itemIdentifier": "?"}]}
    world.kinesis.put(1, at=time.time() - 60)
    world.map(FunctionResponseTypes=["ReportBatchItemFailures"])

    def shard() -> dict[str, Any]:
        mappings = world.runner.status()["mappings"]
        found: dict[str, Any] = mappings.get("mapping-1", {}).get("shards", {}).get(SHARD, {})
        return found

    until(lambda: shard().get("last_error"))
    assert shard()["iterator_age_ms"] > 59_000
    assert "as failed" in shard()["last_error"]
    assert shard()["sequence"] is None
    world.functions.answer = lambda numbers: {}
    until(lambda: shard()["sequence"] == f"{1:030d}")
    until(lambda: shard()["iterator_age_ms"] == 0)
