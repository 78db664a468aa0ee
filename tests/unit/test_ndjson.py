"""A recording is replayed as it was recorded; only its end may be missing."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

import pytest
from feed_clock import FeedClock

from stockpipe.domain.exact import moment_text
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.errors import BadRow, FeedError
from stockpipe.feeds.replay import ReplayFeed

READ_AT = moment_text(FeedClock().now())


def quote(second: int, symbol: str = "A", source: str | None = "yahoo") -> Quote:
    micro = (10 + second) * 10**6
    return Quote(
        symbol, micro, micro + 1, micro - 1, micro, 9, 100, f"2022-03-14T13:00:{second:02d}.000Z",
        "2022-03-14T13:59:00.000Z", source, -14400,
    )  # fmt: skip


def lines(*quotes: Quote) -> bytes:
    return b"".join(quote_json(one).encode() + b"\n" for one in quotes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recording"


def replay(file: Path, content: bytes) -> ReplayFeed:
    file.write_bytes(content)
    return ReplayFeed(str(file), clock=FeedClock())


def seconds(feed: ReplayFeed) -> list[int]:
    return [int(one.timestamp[17:19]) for taken in feed.rounds() for one in taken.quotes]


def notices(feed: ReplayFeed) -> list[str]:
    return [notice for taken in feed.rounds() for notice in taken.notices]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_recording_is_told_by_its_content_and_comes_in_time_order(
    file: Path, pack: type[bytes]
) -> None:
    feed = replay(file, pack(lines(quote(30), quote(0, "B"), quote(0))))
    assert [len(taken.quotes) for taken in feed.rounds()] == [2, 1]
    assert seconds(feed) == [0, 0, 30]
    assert [one.symbol for taken in feed.rounds() for one in taken.quotes] == ["B", "A", "A"]
    assert (feed.total, notices(feed)) == (3, [])


def test_values_are_kept_and_reading_time_and_label_are_new(file: Path) -> None:
    feed = replay(file, lines(quote(0)))
    (taken,) = feed.rounds()
    (replayed,) = taken.quotes
    assert (replayed.source, replayed.ingested_at) == ("replay", READ_AT)
    assert json.loads(quote_json(replayed)) == {
        **json.loads(quote_json(quote(0))), "source": "replay", "ingested_at": READ_AT,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("recorded", "label"),
    [
        (["yahoo", "yahoo-stream", None, "replay"], "replay"),
        (["synthetic", "synthetic"], "synthetic"),
        (["yahoo", "synthetic"], None),
    ],
)
def test_made_up_prices_stay_labelled_as_such(
    file: Path, recorded: list[str | None], label: str | None
) -> None:
    feed = replay(file, lines(*(quote(n, source=source) for n, source in enumerate(recorded))))
    assert feed.source == label
    assert [one.source for taken in feed.rounds() for one in taken.quotes] == [
        "synthetic" if source == "synthetic" else "replay" for source in recorded
    ]


def test_lines_of_the_archive_and_of_tutorials_are_recordings_too(file: Path) -> None:
    archived = quote_json(quote(0), seq="0" * 56).encode() + b"\n"
    tutorial = lines(quote(1)).replace(b"13:00:01.000Z", b"13:00:01Z")
    assert seconds(replay(file, b"\n" + archived + b"\n" + tutorial)) == [0, 1]


@pytest.mark.parametrize(
    ("content", "line", "field", "rule"),
    [
        (lines(quote(0)) + b'{"symbol":"A"}\n', 2, "timestamp", "is missing"),
        (lines(quote(0), quote(1)).replace(b":100,", b":-1,", 1), 1, "volume", "must lie in"),
        (lines(quote(0)).replace(b"13:00", b"1:00"), 1, "timestamp", "must be ISO 8601"),
        (lines(quote(0)).replace(b"03-14T13", b"03-16T13"), 1, "timestamp", "more than a day"),
        (lines(quote(0)) + b"\n\nnonsense\n", 4, "(all)", "is not JSON"),
        (lines(quote(0)) + b"[1]\n", 2, "(all)", "is not a JSON object"),
        (lines(quote(0))[:40] + b"\n" + lines(quote(1)), 1, "(all)", "is not JSON"),
        # No end of the line, and still no cut: what begins so is no quote.
        (lines(quote(0)) + b"nonsense", 2, "(all)", "is not JSON"),
        (lines(quote(0)) + b'{"symbol":"A"}', 2, "timestamp", "is missing"),
        (lines(quote(0)) + b'{"symbol":"A","symbol":"A"}', 2, "symbol", "appears twice"),
        (lines(quote(0)) + b"\xff\xfe\n", 2, "(all)", "is not UTF-8"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_before_the_first_quote(
    file: Path, content: bytes, line: int, field: str, rule: str
) -> None:
    with pytest.raises(BadRow) as refused:
        replay(file, content)
    assert (refused.value.file, refused.value.line, refused.value.column) == (
        str(file), line, field,
    )  # fmt: skip
    assert rule in refused.value.rule


def test_a_last_line_that_was_cut_off_is_left_out_and_said(file: Path) -> None:
    whole, last = lines(quote(0), quote(1)), lines(quote(2)).rstrip()
    for length in range(1, len(last)):
        feed = replay(file, whole + last[:length])
        assert seconds(feed) == [0, 1]
        (notice,) = notices(feed)
        assert "was cut off" in notice
        assert notice.endswith("whole quotes: 2.")
    feed = replay(file, whole + last)  # only the end of the line is missing
    assert (seconds(feed), notices(feed)) == ([0, 1, 2], [])


def test_a_gzip_file_may_end_at_any_byte_once_there_is_a_quote(file: Path) -> None:
    packer = zlib.compressobj(wbits=31)
    rounds = [lines(quote(n), quote(n, "B")) for n in range(3)]
    content, flushed = b"", [0]
    for data in rounds:
        content += packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
        flushed.append(len(content))
    content += packer.flush()
    for length in range(flushed[1], len(content)):
        feed = replay(file, content[:length])
        whole = sum(length >= end for end in flushed[1:])
        expected = [n for n in range(3) for _ in "AB"]
        found = seconds(feed)
        assert found == expected[: len(found)]
        assert len(found) >= 2 * whole
        assert len(notices(feed)) == 1
    assert notices(replay(file, content)) == []


def test_a_damaged_gzip_file_is_refused(file: Path) -> None:
    content = bytearray(gzip.compress(lines(*(quote(n) for n in range(50)))))
    content[-6] ^= 1  # in the checksum
    with pytest.raises(FeedError, match="is not a whole gzip file"):
        replay(file, bytes(content))


def test_a_recording_of_nothing_whole_is_refused(file: Path) -> None:
    with pytest.raises(FeedError, match="holds no quotes"):
        replay(file, lines(quote(0))[:40])
