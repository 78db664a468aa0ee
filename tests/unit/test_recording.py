"""The recorder: what was streamed can be replayed, and a crash costs the last round at most."""

from __future__ import annotations

import gzip
import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from feed_clock import FeedClock
from hypothesis import given
from hypothesis import strategies as st

from stockpipe.domain.exact import moment_text
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.errors import StockpipeError, UsageError
from stockpipe.feeds.recording import Recorder
from stockpipe.feeds.replay import ReplayFeed

NAMES = ("quotes.ndjson", "quotes.ndjson.gz")
moments = st.datetimes(
    FeedClock().now().replace(year=1970, tzinfo=None), FeedClock().now().replace(tzinfo=None)
).map(lambda naive: moment_text(naive.replace(tzinfo=FeedClock().now().tzinfo)))
prices = st.integers(1, 10**18 - 1)
quotes = st.builds(
    Quote,
    st.from_regex(r"[A-Z0-9.^=-]{1,20}", fullmatch=True),
    prices,
    prices,
    prices,
    prices,
    st.none() | prices,
    st.integers(0, 10**15 - 1),
    moments,
    st.none() | moments,
    st.sampled_from([None, "yahoo", "yahoo-stream", "replay", "synthetic", 'quo"ted']),
    st.none() | st.integers(-50_400, 50_400),
)


def quote(price: int = 1) -> Quote:
    return Quote("A", 1, 1, 1, price, None, 0, "2022-03-14T13:30:00.000Z", None, "yahoo")


def replayed(file: Path) -> ReplayFeed:
    return ReplayFeed(str(file), clock=FeedClock())


def prices_of(feed: ReplayFeed) -> list[int]:
    return [one.price for taken in feed.rounds() for one in taken.quotes]


def notices(feed: ReplayFeed) -> list[str]:
    return [notice for taken in feed.rounds() for notice in taken.notices if "cut off" in notice]


@pytest.fixture(params=NAMES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


@given(st.sampled_from(NAMES), st.lists(st.lists(quotes, max_size=4), min_size=1, max_size=5))
def test_what_is_recorded_is_replayed_but_for_label_and_reading_time(
    tmp_path_factory: pytest.TempPathFactory, name: str, rounds: list[list[Quote]]
) -> None:
    recorded = [one for taken in rounds for one in taken]
    file = tmp_path_factory.mktemp("recorded") / name
    with Recorder(file) as recorder:
        for taken in rounds:
            recorder.write(taken)
    assert recorder.quotes == len(recorded)
    if not recorded:
        assert file.read_bytes() == b""
        return
    feed = replayed(file)
    assert [one for taken in feed.rounds() for one in taken.quotes] == [
        replace(
            one,
            source="synthetic" if one.source == "synthetic" else "replay",
            ingested_at=moment_text(FeedClock().now()),
        )
        for one in sorted(recorded, key=lambda one: one.timestamp)
    ]
    assert notices(feed) == []


def test_a_line_is_what_goes_into_the_stream(tmp_path: Path) -> None:
    file = tmp_path / NAMES[0]
    with Recorder(file) as recorder:
        recorder.write([quote(1), quote(2)])
        recorder.write([quote(3)])
    assert file.read_text().splitlines() == [quote_json(quote(n)) for n in (1, 2, 3)]


def test_a_name_in_gz_packs_it(tmp_path: Path) -> None:
    file = tmp_path / NAMES[1]
    with Recorder(file) as recorder:
        for _ in range(100):
            recorder.write([quote()])
    assert gzip.decompress(file.read_bytes()).count(b"\n") == 100


def test_every_round_is_in_the_file_once_it_is_written(file: Path) -> None:
    with Recorder(file) as recorder:
        for n in (1, 2, 3):
            recorder.write([quote(n)])
            assert prices_of(replayed(file)) == list(range(1, n + 1))


def test_an_unfinished_packed_recording_says_so_when_it_is_replayed(tmp_path: Path) -> None:
    file, cut = tmp_path / NAMES[1], tmp_path / "cut.gz"
    with Recorder(file) as recorder:
        recorder.write([quote()])
        cut.write_bytes(file.read_bytes())
    assert len(notices(replayed(cut))) == 1
    assert notices(replayed(file)) == []


def test_an_error_of_the_stream_still_finishes_the_file(file: Path) -> None:
    def stream() -> None:
        with Recorder(file) as recorder:
            recorder.write([quote(7)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream()
    feed = replayed(file)
    assert (prices_of(feed), notices(feed)) == ([7], [])


def test_another_recording_is_never_touched(file: Path) -> None:
    with Recorder(file) as recorder:
        recorder.write([quote()])
    before = file.read_bytes()
    with pytest.raises(UsageError, match="is there already") as refused, Recorder(file):
        pass
    assert "another name" in str(refused.value.hint)
    assert file.read_bytes() == before


def test_an_empty_file_may_be_recorded_to(file: Path) -> None:
    with Recorder(file) as recorder:
        recorder.write([])  # a closed market
    assert file.read_bytes() == b""
    with Recorder(file) as recorder:
        recorder.write([quote(5)])
    assert prices_of(replayed(file)) == [5]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=f"There is no directory {tmp_path}/nowhere"),
        Recorder(tmp_path / "nowhere" / "quotes"),
    ):
        pass
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(UsageError, match="cannot be written: Not a directory"),
        Recorder(tmp_path / "file" / "quotes"),
    ):
        pass
    with pytest.raises(UsageError, match="is there already"), Recorder(tmp_path):
        pass


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Files of this process cannot grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_whole_rounds_and_says_how_many_quotes_they_are(file: Path) -> None:
    recorder = Recorder(file)

    def stream() -> None:
        with recorder, at_most(1000):
            for n in range(1000):
                recorder.write([quote(2 * n + 1), quote(2 * n + 2)])

    with pytest.raises(StockpipeError, match="Quotes recorded: ") as told:
        stream()
    assert f"Quotes recorded: {recorder.quotes}." in told.value.message
    assert str(file) in told.value.message
    assert recorder.quotes >= 2
    assert prices_of(replayed(file)) == list(range(1, 1 + recorder.quotes))
    with pytest.raises(ValueError, match="not after it failed"):
        recorder.write([quote()])


def test_a_disk_that_is_full_at_the_very_end_costs_the_trailer_alone(tmp_path: Path) -> None:
    file = tmp_path / NAMES[1]

    def stream() -> None:
        with ExitStack() as full_at_the_end, Recorder(file) as recorder:
            recorder.write([quote(4)])
            full_at_the_end.enter_context(at_most(file.stat().st_size))

    with pytest.raises(StockpipeError, match="Quotes recorded: 1"):
        stream()
    assert prices_of(replayed(file)) == [4]
