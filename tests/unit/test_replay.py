"""The replay: a file's quotes in time order, at its own pace or faster, all or none of them."""

from __future__ import annotations

import gzip
import io
import random
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from feed_clock import FeedClock
from hypothesis import given
from hypothesis import strategies as st

from stockpipe.domain.exact import moment_text
from stockpipe.domain.quote import Quote
from stockpipe.errors import BadRow, FeedError, UsageError
from stockpipe.feeds.base import Request, Resumable
from stockpipe.feeds.replay import ReplayFeed, open_feed, parse_speed

HEADER = "symbol,timestamp,open,high,low,close,volume,previous_close\n"


def bar(symbol: str, second: int, close: object = 10, previous: object = 9) -> str:
    """A row of 2022-03-14, so many seconds after the full hour."""
    time = f"2022-03-14T13:{second // 60:02d}:{second % 60:02d}Z"
    return f"{symbol},{time},10,11,9,{close},100,{previous}\n"


def written(file: Path, *rows: str, header: str = HEADER) -> Path:
    file.write_text(header + "".join(rows))
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prices.csv"


def replay(file: Path | str, speed: float | None = None, **settings: object) -> ReplayFeed:
    return ReplayFeed(str(file), speed=speed, clock=FeedClock(), **settings)  # type: ignore[arg-type]


def quotes_of(feed: ReplayFeed) -> list[Quote]:
    return [quote for taken in feed.rounds() for quote in taken.quotes]


def told(feed: ReplayFeed) -> list[tuple[str, str, int]]:
    """Symbol, minute and second, and close of every quote."""
    return [(q.symbol, q.timestamp[14:19], q.price // 10**6) for q in quotes_of(feed)]


def test_symbols_come_in_time_order_and_rows_of_one_time_in_the_order_of_the_file(
    file: Path,
) -> None:
    written(file, bar("B", 60), bar("B", 0), bar("A", 0, 1), bar("A", 0, 2), bar("A", 30))
    assert told(replay(file)) == [
        ("B", "00:00", 10), ("A", "00:00", 1), ("A", "00:00", 2), ("A", "00:30", 10),
        ("B", "01:00", 10),
    ]  # fmt: skip


@pytest.mark.parametrize("speed", [None, 1.0, 60.0])
def test_a_round_is_one_timestamp_at_every_speed(file: Path, speed: float | None) -> None:
    written(file, bar("A", 0), bar("B", 0), bar("A", 60), bar("A", 90), bar("B", 90))
    assert [len(taken.quotes) for taken in replay(file, speed).rounds()] == [2, 1, 2]


@pytest.mark.parametrize(
    ("speed", "due_s"), [(None, [0, 0, 0]), (1.0, [0, 60, 90]), (60.0, [0, 1, 1.5])]
)
def test_a_round_comes_when_it_is_due(
    file: Path, speed: float | None, due_s: list[float]
) -> None:  # fmt: skip
    written(file, bar("A", 0), bar("A", 60), bar("A", 90))
    clock = FeedClock()
    came = [clock.passed_s for _ in ReplayFeed(str(file), speed=speed, clock=clock).rounds()]
    assert came == pytest.approx(due_s)


def test_a_round_that_is_late_is_caught_up_with(file: Path) -> None:
    written(file, bar("A", 0), bar("A", 10), bar("A", 20), bar("A", 60))
    clock = FeedClock()
    came = []
    for _ in ReplayFeed(str(file), speed=1.0, clock=clock).rounds():
        came.append(clock.passed_s)
        if len(came) == 1:
            clock.sleep(15)  # the sender was held up
    assert came == [0, 15, 20, 60]


def test_quotes_are_labelled_and_say_when_they_were_read(file: Path) -> None:
    (quote,) = quotes_of(replay(written(file, bar("A", 0))))
    assert quote.source == "replay"
    assert quote.ingested_at == moment_text(FeedClock().now())


def test_chosen_symbols_alone_are_replayed(file: Path) -> None:
    written(file, bar("A", 0), bar("B", 0), bar("A", 60))
    feed = replay(file, symbols=frozenset({"A"}))
    assert feed.total == 2
    assert {quote.symbol for quote in quotes_of(feed)} == {"A"}
    with pytest.raises(UsageError, match="holds no quotes of C, D") as refused:
        replay(file, symbols=frozenset({"A", "C", "D"}))
    assert refused.value.hint == "It holds A, B."


def test_without_a_previous_close_it_is_said_once_that_there_are_no_changes(file: Path) -> None:
    feed = replay(written(file, bar("A", 0), bar("A", 60)))
    assert feed.has_changes
    assert [taken.notices for taken in feed.rounds()] == [(), ()]
    feed = replay(written(file, bar("A", 0, previous=""), bar("A", 60, previous="")))
    assert not feed.has_changes
    first, second = feed.rounds()
    assert "no changes and no anomalies" in " ".join(first.notices)
    assert second.notices == ()


@pytest.mark.parametrize(
    ("rows", "line", "column", "rule"),
    [
        ([bar("A", 0), bar("A", 60, "x")], 3, "close", "must be a number"),
        ([bar("A", 0, "-2")], 2, "close", "must be above 0"),
        ([bar("A", 0, "nan")], 2, "close", "must be a number"),
        ([bar("A", 0, "1e400")], 2, "close", "must be below 10^12"),
        ([bar("A", 0, previous="0")], 2, "previous_close", "must be above 0"),
        ([bar("A B", 0)], 2, "symbol", "1 to 20"),
        (["A,2022-03-14,1,1,1,1,1,1\n"], 2, "timestamp", "must be ISO 8601"),
        (["A,2022-03-16T00:00:00Z,1,1,1,1,1,1\n"], 2, "timestamp", "more than a day after"),
        (["A,2022-03-14T13:00:00Z,,1,1,1,1,1\n"], 2, "open", "is missing"),
        (["A,2022-03-14T13:00:00Z,1,1,1,1,1.5,1\n"], 2, "volume", "must be an integer"),
        (["A,1,2\n"], 2, "(all)", "has 3 fields, not 8"),
        (['A,"2022\n'], 2, "(all)", "is not CSV"),
    ],
)
def test_a_bad_row_is_named_before_the_first_quote(
    file: Path, rows: list[str], line: int, column: str, rule: str
) -> None:
    with pytest.raises(BadRow) as refused:
        replay(written(file, *rows))
    assert (refused.value.file, refused.value.line, refused.value.column) == (
        str(file), line, column,
    )  # fmt: skip
    assert rule in refused.value.rule


@pytest.mark.parametrize(
    ("header", "column", "rule"),
    [
        ("symbol,timestamp,open,high,low,closing,volume\n", "closing", "is none of"),
        ("symbol,timestamp,open,high,low,low,close,volume\n", "low", "appears twice"),
        ("symbol,timestamp,open,high,low,close\n", "volume", "is missing"),
        ("symbol,timestamp,open,high,low,volume\n", "close", "exactly one of close and price"),
        ("symbol,timestamp,open,high,low,close,price,volume\n", "close", "exactly one"),
    ],
)
def test_a_header_says_which_columns_there_are(
    file: Path, header: str, column: str, rule: str
) -> None:
    with pytest.raises(BadRow) as refused:
        replay(written(file, header=header))
    assert (refused.value.line, refused.value.column) == (1, column)
    assert rule in refused.value.rule


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "There is no file"),
        (b"", "is empty"),
        (HEADER.encode(), "holds no quotes"),
        (b"\xff\xfe\x00\x01", "is not UTF-8"),
        (b"\x1f\x8b", "is not a whole gzip file"),
        (b"\x1f\x8b\x08\x00broken", "is not a whole gzip file"),
        (gzip.compress((HEADER + bar("A", 0)).encode())[:-4], "is not a whole gzip file"),
        (gzip.compress((HEADER + bar("A", 0)).encode())[:-9] + bytes(9), "is not a whole gzip"),
    ],
)
def test_what_cannot_be_read_is_told_by_name(file: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FeedError, match="prices") as refused:
        replay(file)
    assert said in refused.value.message


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="cannot be read: Is a directory"):
        replay(tmp_path)


def test_it_is_unpacked_by_its_content_whatever_its_name(file: Path) -> None:
    plain = told(replay(written(file, bar("A", 0), bar("A", 60))))
    file.write_bytes(gzip.compress(file.read_bytes()))
    assert told(replay(file)) == plain


def test_a_spreadsheets_csv_is_read_byte_order_mark_and_all(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + (HEADER + bar("A", 0)).replace("\n", "\r\n").encode())
    assert told(replay(file)) == [("A", "00:00", 10)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input_is_read_too(monkeypatch: pytest.MonkeyPatch, pack: type[bytes]) -> None:
    content = pack((HEADER + bar("A", 0)).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
    assert told(replay("-")) == [("A", "00:00", 10)]
    assert not sys.stdin.buffer.closed


def test_the_bundled_sample_is_replayed() -> None:
    feed = replay("sample")
    quotes = quotes_of(feed)
    assert feed.total == len(quotes) == 1008
    assert feed.symbols == {"AAPL", "GOOG", "IBM", "MSFT"}
    assert all(one.timestamp <= next_.timestamp for one, next_ in pairwise(quotes))
    assert (feed.source, feed.live, feed.has_changes) == ("replay", False, True)


def test_a_request_opens_it(file: Path) -> None:
    written(file, bar("A", 0), bar("B", 60))
    clock = FeedClock()
    feed = open_feed(Request(("B",), str(file), speed=2.0, clock=clock))
    assert [quote.symbol for quote in quotes_of(feed)] == ["B"]
    with pytest.raises(UsageError) as refused:
        open_feed(Request(clock=clock))
    for form in ("replay:FILE", "replay:-", "replay:sample"):
        assert form in str(refused.value.hint)


@pytest.mark.parametrize(
    ("text", "speed"), [("max", None), ("60x", 60.0), ("1", 1.0), ("0.5x", 0.5)]
)
def test_a_speed_is_a_factor_or_max(text: str, speed: float | None) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["warp", "0", "-1x", "nan", "inf", "60xx", ""])
def test_other_speeds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="like 60x, or max"):
        parse_speed(text)


def test_it_goes_on_where_it_was_cut_off_even_within_a_round(file: Path) -> None:
    written(file, bar("A", 0), bar("B", 0), bar("A", 60), bar("B", 120))
    whole = quotes_of(replay(file))
    for skipped in range(6):
        feed = replay(file)
        assert isinstance(feed, Resumable)
        feed.skip(skipped)
        assert quotes_of(feed) == whole[skipped:]
        assert feed.total == 4


def test_what_was_skipped_is_not_waited_for(file: Path) -> None:
    written(file, bar("A", 0), bar("A", 600), bar("A", 610))
    clock = FeedClock()
    feed = ReplayFeed(str(file), speed=1.0, clock=clock)
    feed.skip(1)
    assert [clock.passed_s for _ in feed.rounds()] == [0, 10]


def test_the_identity_is_that_of_the_quotes_not_of_the_file(file: Path, tmp_path: Path) -> None:
    rows = [bar("A", 0), bar("B", 60), bar("B", 0)]
    identity = replay(written(file, *rows)).identity
    other = written(tmp_path / "other.csv", *reversed(rows))
    # Another name, another order of rows of different times, another way to write a number.
    assert replay(other).identity != identity  # A and B of one time have changed places
    other = written(tmp_path / "third.csv", rows[1], rows[0].replace(",10,", ",10.0,"), rows[2])
    assert replay(other).identity == identity
    other.write_bytes(gzip.compress(other.read_bytes()))
    assert replay(other).identity == identity
    assert len(identity) == 64


@pytest.mark.parametrize(
    "row",
    [
        bar("B", 0), bar("A", 1), bar("A", 0, 10.5), bar("A", 0, previous=""),
        bar("A", 0).replace(",11,", ",12,"), bar("A", 0).replace(",100,", ",101,"),
        bar("A", 0) + bar("A", 60),
    ],
)  # fmt: skip
def test_another_quote_is_another_identity(file: Path, row: str) -> None:
    identity = replay(written(file, bar("A", 0))).identity
    assert replay(written(file, row)).identity != identity


def test_the_chosen_symbols_are_part_of_the_identity(file: Path) -> None:
    written(file, bar("A", 0), bar("B", 0))
    chosen = [replay(file, symbols=frozenset(of)).identity for of in ("A", "B", "AB", "")]
    assert len(set(chosen)) == 3
    assert chosen[2] == chosen[3]


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 300)), min_size=1), st.integers())
def test_the_order_of_a_shuffled_file_is_that_of_its_times(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]], seed: int
) -> None:
    rows = list(dict.fromkeys(rows))
    file = tmp_path_factory.mktemp("shuffled") / "prices.csv"
    ordered = replay(written(file, *(bar(*row) for row in rows)))
    random.Random(seed).shuffle(rows)
    shuffled = replay(written(file, *(bar(*row) for row in rows)))
    assert sorted(told(shuffled)) == sorted(told(ordered))
    times = [quote.timestamp for quote in quotes_of(shuffled)]
    assert times == sorted(times)
