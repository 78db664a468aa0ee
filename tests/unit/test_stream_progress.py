"""How far a replay has come: a crash repeats a little, and never leaves out a quote."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from feed_clock import FeedClock
from hypothesis import given
from hypothesis import strategies as st

from stockpipe.producer.progress import SAVE_EVERY_S, Progress, load, place


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "streams" / "replay.json"


def progress(file: Path, start: int = 0) -> tuple[Progress, FeedClock]:
    clock = FeedClock()
    return Progress(file, start, clock=clock), clock


@given(st.permutations(range(30)), st.integers(0, 1000))
def test_it_stands_before_the_first_quote_that_is_not_acknowledged(
    order: list[int], start: int
) -> None:
    acknowledged: set[int] = set()
    found = Progress(Path("/dev/null/never"), start, clock=FeedClock())
    found._saved_s = float("inf")
    for position in order:
        found.sent(start + position)
        acknowledged.add(position)
        first_missing = min(set(range(31)) - acknowledged)
        assert found.position == start + first_missing


def test_nothing_is_known_before_a_first_run(file: Path) -> None:
    assert load(file) == 0


def test_what_is_saved_is_found_by_the_next_run(file: Path) -> None:
    found, _ = progress(file, 100)
    for position in (100, 101, 103):
        found.sent(position)
    found.save()
    assert load(file) == 102


def test_it_is_saved_with_the_first_quote_and_then_once_a_second(file: Path) -> None:
    found, clock = progress(file)
    saved = []
    for position in range(26):
        found.sent(position)
        saved.append(load(file))
        clock.sleep(SAVE_EVERY_S / 8)
    assert saved == [*[1] * 8, *[9] * 8, *[17] * 8, 25, 25]


def test_a_crash_repeats_what_a_second_brought_and_what_was_acknowledged_out_of_order(
    file: Path,
) -> None:
    order = random.Random(1)
    flying = list(range(40))
    acknowledged: list[int] = []
    found, clock = progress(file)
    for following in range(40, 2000):
        position = flying.pop(order.randrange(40))
        found.sent(position)
        acknowledged.append(position)
        flying.append(following)
        clock.sleep(0.01)
    # Here it is killed.
    known = load(file)
    assert set(range(known)) <= set(acknowledged)
    before_s = acknowledged[: -round(SAVE_EVERY_S / 0.01)]
    oldest_missing = min(set(range(2000)) - set(before_s))
    assert known >= oldest_missing


def test_a_crash_while_it_is_saved_leaves_what_was_saved_before(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = progress(file)
    found.sent(0)

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    found.sent(1)
    with pytest.raises(KeyboardInterrupt):
        found.save()
    assert load(file) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"null", b"[]", b"{}", b"7", b'{"position": "7"}', b'{"position": 7.5}',
        b'{"position": true}', b'{"position": -7}', b'{"position": null}', b"\xff\xfe",
        b'{"position": 12',
    ],
)  # fmt: skip
def test_a_damaged_file_counts_as_none(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    assert load(file) == 0
    found, _ = progress(file)
    found.sent(0)
    assert load(file) == 1


def test_one_that_cannot_be_read_or_written_is_an_error(file: Path) -> None:
    file.mkdir(parents=True)
    with pytest.raises(OSError, match=r"replay\.json"):
        load(file)
    with pytest.raises(OSError, match=r"replay\.json"):
        progress(file)[0].sent(0)


def test_what_was_finished_begins_from_the_beginning_the_next_time(file: Path) -> None:
    found, _ = progress(file)
    found.sent(0)
    found.finish()
    found.finish()
    assert load(file) == 0
    assert list(file.parent.iterdir()) == []


def test_only_the_user_may_look(file: Path) -> None:
    progress(file)[0].save()
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_every_recording_and_every_target_has_a_file_of_its_own(tmp_path: Path) -> None:
    target = ("stream", "000000000000", "us-east-2", "local")
    places = {
        place(tmp_path, identity, where)
        for identity in ("a", "b")
        for where in (target, (*target[:3], "aws"), ("other", *target[1:]))
    }
    assert len(places) == 6
    assert place(tmp_path, "a", target) == place(tmp_path, "a", target)
    assert {found.parent for found in places} == {tmp_path / "streams"}
