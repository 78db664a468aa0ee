"""The archive read back: what the processor has archived, once each, as it was."""

from __future__ import annotations

import socket
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from embedded import bucket, cleaned, client

from stockpipe.aws import Endpoint
from stockpipe.domain.names import RAW_PREFIX
from stockpipe.domain.quote import Quote, quote_json
from stockpipe.errors import FeedError, NotProvisioned, UsageError
from stockpipe.feeds.archive import Archive, ArchiveFeed, open_feed, parse_period
from stockpipe.feeds.base import Request
from stockpipe.functions.archive import Archive as Written
from stockpipe.functions.archive import Row
from stockpipe.functions.table import item_of
from stockpipe.local import daemon

pytest.importorskip("ministack")

NOW = datetime(2022, 3, 18, 12, 0, tzinfo=UTC)
NUMBERS = count(1)


class Noon:
    """A clock that stands, but for its waits."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Bucket:
    """An archive of a test's own."""

    def __init__(self, s3: Any, name: str, account: str) -> None:
        self.s3, self.name, self.account = s3, name, account
        self._seq = 10**20

    def put(self, *quotes: Quote) -> list[Row]:
        """What the processor does with one batch of them."""
        rows = []
        for quote in quotes:
            self._seq += 1
            rows.append(Row(str(self._seq), str(self._seq).zfill(56), quote))
        written = Written(self.s3, self.name, self.account)
        assert written.put_rows(rows, lambda: 60.0) == []
        return rows

    def put_object(self, day: str, body: bytes, name: str = "stranger.json") -> str:
        key = f"{RAW_PREFIX}day={day}/{name}"
        self.s3.put_object(Bucket=self.name, Key=key, Body=body)
        return key

    def read(self, argument: str, **settings: Any) -> ArchiveFeed:
        archive = Archive(self.s3, self.name, self.account)
        given = {"speed": None, "clock": Noon(), **settings}
        return open_feed(Request(argument=argument, archive=lambda: archive, **given))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with cleaned(tmp_path_factory.mktemp("archive")) as home:
        yield daemon.ensure_running(home)


@pytest.fixture
def archive(cloud: Endpoint) -> Bucket:
    account = client("sts", cloud).get_caller_identity()["Account"]
    name = f"archive-{next(NUMBERS)}"
    return Bucket(bucket(cloud, name), name, account)


def quote(time: str, symbol: str = "AAPL", price: int = 10, source: str = "yahoo") -> Quote:
    """A quote of March 2022: ``14T13:30``."""
    micro = price * 10**6
    return Quote(
        symbol, micro, micro, micro, micro, 9_123_457, 100, f"2022-03-{time}:00.000Z",
        "2022-03-18T09:00:00.125Z", source, -14400,
    )  # fmt: skip


def quotes_of(feed: ArchiveFeed) -> list[Quote]:
    return [quote for taken in feed.rounds() for quote in taken.quotes]


def test_what_was_archived_comes_back_as_it_was(archive: Bucket) -> None:
    simulated = replace(quote("15T10:00", "SIM"), source="synthetic", utc_offset_s=None)
    bare = replace(quote("16T10:00"), previous_close=None, ingested_at=None, source=None)
    rows = archive.put(quote("14T13:30"), simulated, bare)
    feed = archive.read("2022-03-14")
    read = quotes_of(feed)
    assert (feed.source, feed.live, feed.total) == (None, False, None)
    assert read == [row.quote for row in rows]
    stored = b"".join(
        archive.s3.get_object(Bucket=archive.name, Key=one["Key"])["Body"].read()
        for one in archive.s3.list_objects_v2(Bucket=archive.name)["Contents"]
    ).decode()
    again = [quote_json(one, seq=row.padded_seq) for one, row in zip(read, rows, strict=True)]
    assert stored.splitlines() == again
    for one, row in zip(read, rows, strict=True):
        assert item_of(one, anomaly_micro=1) == item_of(row.quote, anomaly_micro=1)


def test_it_comes_in_time_order_across_symbols_objects_and_days(archive: Bucket) -> None:
    archive.put(quote("15T13:30", "MSFT"), quote("14T13:31"))
    archive.put(quote("14T13:30", "MSFT"), quote("14T13:31", "IBM"), quote("15T00:00"))
    archive.put(quote("14T13:30"))
    rounds = [
        [(one.symbol, one.timestamp[8:16]) for one in taken.quotes]
        for taken in archive.read("2022-03-14").rounds()
    ]
    assert rounds == [
        [("AAPL", "14T13:30"), ("MSFT", "14T13:30")],
        [("AAPL", "14T13:31"), ("IBM", "14T13:31")],
        [("AAPL", "15T00:00")],
        [("MSFT", "15T13:30")],
    ]


def test_of_one_symbol_and_time_the_last_in_the_stream_counts(archive: Bucket) -> None:
    archive.put(quote("14T13:30", price=99), quote("14T13:30", price=11), quote("14T13:31"))
    archive.put(quote("14T13:31", price=12))
    archive.put(quote("14T13:30", "MSFT", price=13))
    again = archive.put(quote("14T13:30", "MSFT", price=14))[0]
    # The same record delivered twice, in another batch: the same row in another object.
    Written(archive.s3, archive.name, archive.account).put_rows([again, again], lambda: 60.0)
    found = [(one.symbol, one.price // 10**6) for one in quotes_of(archive.read("2022-03-14"))]
    assert found == [("AAPL", 11), ("MSFT", 14), ("AAPL", 12)]


def test_reading_again_what_was_sent_again_brings_nothing_new(archive: Bucket) -> None:
    archive.put(quote("14T13:30", price=1), quote("14T13:30", price=2), quote("15T13:30"))
    first = quotes_of(archive.read("2022-03-14"))
    archive.put(*first)
    assert quotes_of(archive.read("2022-03-14")) == first


@pytest.mark.parametrize(
    ("argument", "read"),
    [
        ("2022-03-14", ["14T23:59", "15T00:00", "17T12:00", "18T11:00", "19T09:00"]),
        ("2022-03-14..2022-03-14", ["14T23:59"]),
        ("2022-03-15..2022-03-17", ["15T00:00", "17T12:00"]),
        ("1d", ["17T12:00", "18T11:00", "19T09:00"]),
        ("24h..2h", ["17T12:00"]),
        ("1439m..0m", ["18T11:00"]),
        ("2022-03-15..24h", ["15T00:00", "17T12:00"]),
    ],
)
def test_a_period_has_both_its_ends(archive: Bucket, argument: str, read: list[str]) -> None:
    archive.put(*(quote(time) for time in ("14T23:59", "15T00:00", "17T12:00", "18T11:00")))
    archive.put(quote("19T09:00"))  # a sender whose clock is ahead
    assert [one.timestamp[8:16] for one in quotes_of(archive.read(argument))] == read


def test_chosen_symbols_alone_are_read(archive: Bucket) -> None:
    archive.put(quote("14T13:30"), quote("14T13:30", "MSFT"), quote("14T13:30", "IBM"))
    found = quotes_of(archive.read("2022-03-14", symbols=("IBM", "MSFT", "NOPE")))
    assert [one.symbol for one in found] == ["IBM", "MSFT"]


def test_it_goes_at_its_own_pace_where_that_is_asked_for(archive: Bucket) -> None:
    archive.put(quote("14T13:30"), quote("14T13:31"), quote("15T13:31"))
    clock = Noon()
    list(archive.read("2022-03-14", speed=60.0, clock=clock).rounds())
    assert clock.slept == [1.0, 24 * 60.0]


def test_where_there_is_nothing_it_says_what_there_is(archive: Bucket) -> None:
    with pytest.raises(FeedError, match="holds nothing from 2022-03-14") as refused:
        archive.read("2022-03-14")
    assert refused.value.hint == "It is empty."
    archive.put(quote("14T13:30"), quote("16T13:30"))
    with pytest.raises(FeedError, match=r"holds nothing from .* to 2022-03-15T23:59") as refused:
        archive.read("2022-03-15..2022-03-15")
    assert refused.value.hint == "It holds 2022-03-14 to 2022-03-16."
    feed = archive.read("2022-03-14", symbols=("NOPE",))
    with pytest.raises(FeedError, match="holds nothing of NOPE from 2022-03-14") as refused:
        list(feed.rounds())
    assert "2 days, 2022-03-14 to 2022-03-16" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (lambda line: line[:50], "record: is not JSON"),
        (lambda line: line.replace(b'"volume":100', b'"volume":-1'), "volume: must lie in"),
        (lambda line: line.replace(b'"seq"', b'"sequel"'), "seq: must be there"),
        (lambda line: line.replace(b"03-15T13", b"03-16T13"), "timestamp: does not belong"),
        (lambda line: b"", "record: is not JSON"),
    ],
)
def test_a_damaged_line_ends_it_by_name_before_anything_of_its_day(
    archive: Bucket, broken: Any, problem: str
) -> None:
    archive.put(quote("14T13:30"), quote("15T13:30"))
    good = quote_json(quote("15T13:31"), seq="1" * 56).encode()
    key = archive.put_object("2022-03-15", good + b"\n" + broken(good) + b"\n")
    rounds = archive.read("2022-03-14").rounds()
    assert next(rounds).quotes[0].day == "2022-03-14"
    with pytest.raises(FeedError) as refused:
        next(rounds)
    assert f"{key}, line 2, {problem}" in refused.value.message
    assert "archive:2022-03-15" in str(refused.value.hint)


def test_listings_of_several_pages_are_read_whole(archive: Bucket) -> None:
    times = [f"{day}T13:{minute}" for day in range(10, 18) for minute in range(10, 18)]
    for time in times:
        archive.put(quote(time))
    pages = []

    def two_keys_a_page(params: dict[str, Any], **_: Any) -> dict[str, Any]:
        pages.append(params["Prefix"])
        return {**params, "MaxKeys": 2}

    archive.s3.meta.events.register("provide-client-params.s3.ListObjectsV2", two_keys_a_page)
    assert [one.timestamp[8:16] for one in quotes_of(archive.read("2022-03-10"))] == times
    assert len(pages) == 4 + 8 * 4


@contextmanager
def cutting(cloud: Endpoint, cuts: int) -> Iterator[tuple[Endpoint, list[str]]]:
    """The cloud behind a relay that breaks off the first bodies of GetObject, and what it cut."""
    upstream = urlsplit(cloud.url)
    cut: list[str] = []

    class Relay(socketserver.BaseRequestHandler):
        """One request per connection: each is asked to be the last."""

        def handle(self) -> None:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := self.request.recv(65536)):
                    return
                head += data
            target = head.split(b" ")[1].decode()
            with socket.create_connection((upstream.hostname, upstream.port)) as server:
                server.sendall(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
                answer = b"".join(iter(lambda: server.recv(65536), b""))
            if ".json" in target and len(cut) < cuts:
                cut.append(target)
                answer = answer[:-40]
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as relay:
        thread = Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield cloud._replace(url=f"http://127.0.0.1:{relay.server_address[1]}"), cut
        finally:
            relay.shutdown()
            thread.join()


def test_a_body_that_breaks_off_is_read_again(archive: Bucket, cloud: Endpoint) -> None:
    rows = archive.put(quote("14T13:30"), quote("14T13:31"), quote("15T13:31"))
    with cutting(cloud, 3) as (relayed, cut):
        clock = Noon()
        behind = Bucket(client("s3", relayed), archive.name, archive.account)
        assert quotes_of(behind.read("2022-03-14", clock=clock)) == [row.quote for row in rows]
        assert len(cut) == len(clock.slept) == 3


def test_one_that_always_breaks_off_ends_it_by_name(archive: Bucket, cloud: Endpoint) -> None:
    archive.put(quote("14T13:30"))
    with cutting(cloud, 10_000) as (relayed, _):
        behind = Bucket(client("s3", relayed), archive.name, archive.account)
        with pytest.raises(FeedError, match=f"The archive {archive.name} cannot be read"):
            quotes_of(behind.read("2022-03-14"))


def test_every_call_names_the_owner_that_it_expects(archive: Bucket) -> None:
    archive.put(quote("14T13:30"), quote("15T13:30"))
    asked: list[tuple[str, str | None]] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        asked.append((model.name, params.get("ExpectedBucketOwner")))

    archive.s3.meta.events.register("provide-client-params.s3", note)
    quotes_of(archive.read("2022-03-14"))
    assert (
        sorted(asked)
        == [("GetObject", archive.account)] * 2 + [("ListObjectsV2", archive.account)] * 3
    )
    archive.account = "999999999999"
    with pytest.raises(FeedError, match="cannot be read"):
        archive.read("2022-03-14")


def test_without_a_pipeline_there_is_no_archive(archive: Bucket, cloud: Endpoint) -> None:
    gone = Bucket(archive.s3, "no-such-bucket", archive.account)
    with pytest.raises(NotProvisioned, match="no-such-bucket") as refused:
        gone.read("3d")
    assert "provision" in str(refused.value.hint)
    with pytest.raises(UsageError, match="no pipeline"):
        open_feed(Request(argument="3d"))


@pytest.mark.parametrize(
    "argument",
    ["", "..", "..3d", "3d..", "yesterday", "2022-02-30", "3", "3w", "2022-03-14...3d",
     "2022-03-14..2022-03-13", "1d..2d", "999999d..1d", "2022-3-14", "20220314"],
)  # fmt: skip
def test_what_is_no_period_is_refused_with_the_forms(argument: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_period(argument, NOW)
    assert "archive:2022-03-14..2022-03-18" in str(refused.value.hint)
