"""The file of the outbox: what is appended stays, in order and within bounds."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from outbox_messages import SAMPLE, ids, numbered

from awaited import until
from stockpipe.local.outbox import Outbox


def test_what_is_appended_is_read_back_in_order_and_by_its_owner_alone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    assert outbox.read() == []
    outbox.append(SAMPLE)
    outbox.append(*numbered(1, 2))
    assert outbox.read() == [SAMPLE, *numbered(1, 2)]
    assert stat.S_IMODE(outbox.path.stat().st_mode) == 0o600


def test_a_line_torn_anywhere_costs_itself_alone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append(*numbered(1, 2))
    whole = outbox.path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        outbox.path.write_bytes(whole[:cut])
        assert ids(outbox.read()) == [1]
        outbox.append(*numbered(3))
        # Only where nothing but the end of the line is missing, it is whole after all.
        assert ids(outbox.read()) == ([1, 2, 3] if cut == len(whole) - 1 else [1, 3])


def test_lines_of_another_make_are_passed_over(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.path.write_bytes(b'{"time": "x"}\n[]\n\xff\n\n')
    outbox.append(*numbered(1))
    assert ids(outbox.read()) == [1]


def test_the_newest_are_kept_within_bounds(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, segment_bytes=4_000)
    for number in range(200):
        outbox.append(*numbered(number))
    kept = ids(outbox.read())
    assert kept == list(range(kept[0], 200))
    line = len(outbox.path.with_name("outbox.1.jsonl").read_text().splitlines()[0]) + 1
    assert 4_000 // line <= len(kept) <= 2 * 4_000 // line + 2
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3 * 4_000


class Steps:
    """A clock whose waits are the moments at which a test acts."""

    def __init__(self, *acts: Any) -> None:
        self._acts = iter(acts)

    def sleep(self, seconds: float) -> None:
        next(self._acts)()


def test_a_follower_sees_each_message_once_over_rotation_and_clearing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, segment_bytes=1_000)

    def add(*numbers: int) -> Any:
        def adding() -> None:
            for message in numbered(*numbers):
                outbox.append(message)

        return adding

    def torn() -> None:
        outbox.append(*numbered(8))
        whole = outbox.path.read_bytes()
        outbox.path.write_bytes(whole[:-5])
        kept.append(whole)

    def mended() -> None:
        outbox.path.write_bytes(kept[0])

    kept: list[bytes] = []
    outbox.append(*numbered(0))
    acts = (add(1, 2, 3, 4), add(), add(5, 50), outbox.clear, add(6), torn, mended)
    looks = outbox.follow(Steps(*acts))  # type: ignore[arg-type]
    seen = [ids(next(looks)) for _ in range(len(acts) + 1)]
    assert seen == [[0], [1, 2, 3, 4], [], [5, 50], [], [6], [], [8]]


WRITER = """
import sys
from pathlib import Path
from outbox_messages import numbered
from stockpipe.local.outbox import Outbox

outbox, number = Outbox(Path(sys.argv[1]), segment_bytes=50_000), 0
while True:
    outbox.append(*numbered(number, number + 1))
    number += 2
"""


def test_kill_9_while_writing_leaves_a_readable_outbox(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    tests = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    for _ in range(3):
        outbox.clear()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(tests)}
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], env=environment, stderr=subprocess.PIPE
        )
        until(lambda: outbox.read() and ids(outbox.read())[-1] > 500)
        writer.send_signal(signal.SIGKILL)
        assert writer.communicate()[1] == b""
        kept = ids(outbox.read())
        assert kept == list(range(kept[0], kept[-1] + 1))
        outbox.append(*numbered(kept[-1] + 1))
        assert ids(outbox.read())[-1] == kept[-1] + 1
