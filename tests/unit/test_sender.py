"""The sender: nothing lost, nothing counted twice, order per symbol, whatever Kinesis answers."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from feed_clock import FeedClock
from hypothesis import given
from hypothesis import strategies as st
from stores import THROTTLED, refused

from stockpipe.domain.quote import Quote, quote_json
from stockpipe.errors import NotProvisioned, StockpipeError
from stockpipe.producer.buffer import Waiting
from stockpipe.producer.sender import Sender, Sent

INTERNAL = "InternalFailure"
URL = "https://kinesis.us-east-2.amazonaws.com"
PASSING = (
    refused(THROTTLED),
    refused("LimitExceededException", status=500),
    refused("KMSThrottlingException"),
    refused(INTERNAL, status=500),
    refused("ServiceUnavailable", status=503),
    EndpointConnectionError(endpoint_url=URL),
    ConnectionClosedError(endpoint_url=URL),
    ConnectTimeoutError(endpoint_url=URL),
    ReadTimeoutError(endpoint_url=URL),
)


@dataclass(frozen=True)
class Fate:
    """What becomes of one request.

    Records at the places in ``failed`` are refused with ``code``. An ``error`` comes in place of
    the answer; ``arrives``: whether what is not refused is in the stream all the same.
    """

    failed: frozenset[int] = frozenset()
    code: str = THROTTLED
    error: Exception | None = None
    arrives: bool = False


TAKEN = Fate()


def failing(*places: int, code: str = THROTTLED) -> Fate:
    return Fate(frozenset(places), code)


@dataclass
class Kinesis:
    """PutRecords of one shard by a script, one fate per request; then everything is taken."""

    script: deque[Fate]
    stream: list[dict[str, Any]] = field(default_factory=list)
    requests: list[list[str]] = field(default_factory=list)
    """The partition keys of each."""
    sizes: list[int] = field(default_factory=list)

    def put_records(self, **request: Any) -> dict[str, Any]:
        assert request["StreamName"] == "stream"
        records = request["Records"]
        self.requests.append([record["PartitionKey"] for record in records])
        self.sizes.append(sum(len(r["Data"]) + len(r["PartitionKey"].encode()) for r in records))
        fate = self.script.popleft() if self.script else TAKEN
        if fate.error and not fate.arrives:
            raise fate.error
        answer = [self._one(index in fate.failed, fate, r) for index, r in enumerate(records)]
        if fate.error:
            raise fate.error
        refusals = sum("ErrorCode" in result for result in answer)
        return {"FailedRecordCount": refusals, "Records": answer}

    def _one(self, fails: bool, fate: Fate, record: dict[str, Any]) -> dict[str, str]:
        if fails:
            return {"ErrorCode": fate.code, "ErrorMessage": "Rate exceeded for shard"}
        quote = json.loads(record["Data"])
        assert record["PartitionKey"] == quote["symbol"]
        self.stream.append(quote)
        return {"ShardId": "shardId-000000000000", "SequenceNumber": str(len(self.stream) - 1)}


class World:
    """A sender on a scripted stream, with a clock that passes only where it waits."""

    def __init__(self, *script: Fate, patience_s: float | None = 300.0) -> None:
        self.kinesis = Kinesis(deque(script))
        self.clock = FeedClock()
        self.sent: list[Sent] = []
        self.troubles: list[str] = []
        self.connections = 0
        self.sender = Sender(
            self._connect,
            "stream",
            on_sent=self.sent.append,
            on_trouble=self.troubles.append,
            patience_s=patience_s,
            clock=self.clock,
        )

    def _connect(self) -> Any:
        self.connections += 1
        return cast("Any", self.kinesis)

    def accept(self, quotes: Sequence[Quote]) -> None:
        now = self.clock.monotonic()
        self.sender.accept(Waiting(number, one, now) for number, one in enumerate(quotes))

    def stored(self) -> dict[tuple[str, str], dict[str, Any]]:
        """As downstream keeps it: of one symbol and time the last in stream order."""
        return {(one["symbol"], one["timestamp"]): one for one in self.kinesis.stream}


def quotes_of(symbols: Iterable[str]) -> list[Quote]:
    """One quote per symbol given, numbered in their volume, a millisecond apart."""
    return [
        Quote(symbol, 1, 1, 1, 1, None, number, f"2022-03-14T13:30:{number / 1000:06.3f}Z")
        for number, symbol in enumerate(symbols)
    ]


def sizes(world: World) -> list[int]:
    return [len(request) for request in world.kinesis.requests]


def last_copies(stream: list[dict[str, Any]], symbol: str) -> list[int]:
    """The numbers of a symbol's quotes in the order of their last copies."""
    last = {one["volume"]: place for place, one in enumerate(stream) if one["symbol"] == symbol}
    return sorted(last, key=last.__getitem__)


fates = st.builds(
    Fate,
    st.frozensets(st.integers(0, 30), max_size=12) | st.frozensets(st.integers(0, 500)),
    st.sampled_from([THROTTLED, INTERNAL]),
    st.none() | st.none() | st.sampled_from([*PASSING, refused("ExpiredTokenException")]),
    st.booleans(),
)


@given(
    st.lists(st.tuples(st.sampled_from("ABCDE"), st.integers(0, 9)), min_size=1, max_size=60),
    st.lists(fates, max_size=25),
)
def test_whatever_fails_every_quote_is_stored_as_sent_in_order_and_counted_once(
    readings: list[tuple[str, int]], script: list[Fate]
) -> None:
    """Also where a symbol has two readings of one time: the later one has to win."""
    world = World(*script)
    quotes = [
        Quote(symbol, 1, 1, 1, 1, None, number, f"2022-03-14T13:30:00.00{milli}Z")
        for number, (symbol, milli) in enumerate(readings)
    ]
    world.sender.send(quotes)

    assert world.stored() == {one.key: json.loads(quote_json(one)) for one in quotes}
    for symbol in "ABCDE":
        numbers = [one.volume for one in quotes if one.symbol == symbol]
        assert last_copies(world.kinesis.stream, symbol) == numbers
        heard = [sent.position for sent in world.sent if sent.quote.symbol == symbol]
        assert heard == numbers
    assert sorted(sent.position for sent in world.sent) == list(range(len(quotes)))
    for sent in world.sent:
        assert world.kinesis.stream[int(sent.seq)] == json.loads(quote_json(sent.quote))
    totals = world.sender.totals
    assert totals.sent == len(quotes)
    assert totals.by_symbol == Counter(one.symbol for one in quotes)
    assert totals.resent == sum(sizes(world)) - len(quotes)
    assert totals.requests == len(world.kinesis.requests)
    assert (world.sender.unsent, world.sender.room) == (0, 1000)


def test_a_request_has_500_records_at_most() -> None:
    world = World()
    world.sender.send(quotes_of(["A"] * 700 + ["B"] * 600))
    assert sizes(world) == [500, 500, 300]
    assert [*chain(*world.kinesis.requests)] == ["A"] * 700 + ["B"] * 600


def test_a_request_has_5_mb_at_most() -> None:
    world = World()
    big = Quote("A", 1, 1, 1, 1, None, 1, "2022-03-14T13:30:00.000Z", source="x" * 900_000)
    world.sender.send([big] * 12)
    assert sizes(world) == [5, 5, 2]
    assert max(world.kinesis.sizes) <= 5 * 1024 * 1024


def test_a_record_is_the_quote_under_its_symbol_and_the_answer_says_where_it_is() -> None:
    world = World()
    (quote,) = quotes_of(["AAPL"])
    world.accept([quote])
    world.clock.sleep(2.5)
    assert world.sender.flush() == 0.0
    assert world.kinesis.stream == [json.loads(quote_json(quote))]
    assert world.sent == [Sent(0, quote, "shardId-000000000000", "0", 2.5)]


def test_only_what_failed_is_sent_again_and_what_follows_it_of_the_same_symbol() -> None:
    world = World(failing(1, 4))
    #                                0    1    2    3    4    5
    world.accept(quotes := quotes_of(["A", "B", "A", "B", "C", "D"]))
    assert world.sender.flush() > 0.0
    assert [sent.quote.symbol for sent in world.sent] == ["A", "A", "D"]
    assert world.sender.unsent == 3
    while world.sender.unsent:
        world.sender.flush()
    assert world.kinesis.requests[1:] == [["B", "C"], ["B"]]
    assert world.sender.totals.resent == 3
    assert len(world.kinesis.stream) == len(quotes) + 1  # B's second record was in already


def test_after_a_failure_a_symbol_sends_one_record_then_two_then_four_and_others_all() -> None:
    world = World(failing(0))
    world.accept(quotes_of(["A"] * 20 + ["B"] * 100))
    world.sender.flush()
    world.accept(quotes_of(["B"] * 100))
    while world.sender.unsent:
        world.sender.flush()
    a = [request.count("A") for request in world.kinesis.requests]
    assert a == [20, 1, 2, 4, 8, 5]
    assert [request.count("B") for request in world.kinesis.requests[:3]] == [100, 100, 0]


def test_another_failure_begins_with_one_record_again() -> None:
    world = World(failing(0), TAKEN, failing(1))
    world.sender.send(quotes_of(["A"] * 10))
    assert sizes(world) == [10, 1, 2, 1, 2, 4, 1]


def test_in_time_a_symbol_that_had_a_failure_fills_requests_again() -> None:
    world = World(failing(0))
    world.sender.send(quotes_of(["A"] * 2000))
    assert sizes(world) == [500, 1, 2, 4, 8, 16, 32, 64, 128, 256, 500, 500, 489]


def test_a_symbol_that_is_stuck_does_not_keep_the_others() -> None:
    world = World(*[failing(0)] * 9)
    world.accept(quotes_of(["A", "B", "A", "C"]))
    for _ in range(9):
        world.sender.flush()
    assert [sent.quote.symbol for sent in world.sent] == ["B", "C"]
    assert [*map(len, world.kinesis.requests)] == [4, *[1] * 8]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: str(error)[:50])
@pytest.mark.parametrize("arrives", [False, True])
def test_a_request_that_fails_as_a_whole_is_sent_again_as_it_was(
    error: Exception, arrives: bool
) -> None:
    world = World(Fate(error=error, arrives=arrives))
    world.accept(quotes_of("ABAB"))
    assert world.sender.flush() > 0.0
    assert (world.sent, world.sender.unsent) == ([], 4)
    assert len(world.troubles) == 1
    assert world.sender.flush() == 0.0
    assert world.kinesis.requests == [["A", "B", "A", "B"]] * 2
    assert world.sender.totals.sent == 4
    assert world.connections == 1


def test_the_trouble_is_named_by_its_code_and_throttles_are_counted() -> None:
    world = World(
        Fate(error=refused(THROTTLED)), failing(0, 1), failing(0, code=INTERNAL),
        Fate(error=ConnectionClosedError(endpoint_url=URL)),
    )  # fmt: skip
    world.sender.send(quotes_of("ABC"))
    assert world.troubles == [THROTTLED, THROTTLED, INTERNAL, "ConnectionClosedError"]
    assert world.sender.totals.throttled == 3


@pytest.mark.parametrize(
    "error", [refused("ExpiredTokenException"), refused("ExpiredToken"), refused("RequestExpired")]
)
def test_expired_credentials_are_read_anew_until_there_are_valid_ones(error: Exception) -> None:
    world = World(*[Fate(error=error)] * 3)
    world.sender.send(quotes_of("AB"))
    assert world.connections == 4
    assert world.sender.totals.sent == 2


@pytest.mark.parametrize(
    "error", [refused("AccessDeniedException"), refused("ValidationException"), KeyError("x")]
)
def test_what_does_not_pass_is_raised_as_it_came_and_nothing_counts_as_sent(
    error: Exception,
) -> None:
    world = World(Fate(error=error))
    world.accept(quotes_of("AB"))
    with pytest.raises(type(error)) as raised:
        world.sender.flush()
    assert raised.value is error
    assert (world.sent, world.sender.unsent) == ([], 2)


def test_without_a_stream_it_says_that_there_is_none() -> None:
    world = World(Fate(error=refused("ResourceNotFoundException")))
    with pytest.raises(NotProvisioned, match="no stream stream"):
        world.sender.send(quotes_of("A"))


def test_waits_grow_to_seconds_and_begin_anew_once_something_got_through() -> None:
    throttled = Fate(error=refused(THROTTLED))
    world = World(*[throttled] * 40, failing(0), *[throttled] * 3)
    world.accept(quotes_of("AB"))
    pauses = [world.sender.flush() for _ in range(40)]
    bounds = [min(5.0, 0.05 * 2**number) for number in range(40)]
    assert all(0 <= pause <= bound for pause, bound in zip(pauses, bounds, strict=True))
    assert max(pauses) > 1.0  # a draw of 33 from 0 to 5 seconds
    assert world.sender.flush() <= 0.05  # B is through, A is not


def test_patience_ends_when_nothing_got_through_for_so_long_and_says_how_much_is_unsent() -> None:
    world = World(*[Fate(error=refused(THROTTLED))] * 1000, patience_s=60)
    with pytest.raises(StockpipeError, match=r"took nothing for 6\d s .*2 quotes were not") as end:
        world.sender.send(quotes_of("AB"))
    assert THROTTLED in end.value.message
    assert "run the same command again" in (end.value.hint or "")
    assert 60 < world.clock.passed_s < 70


def test_patience_begins_anew_with_every_record_that_gets_through() -> None:
    world = World(*[failing(0)] * 5, patience_s=60)
    world.accept(quotes_of("ABCDEF"))
    for number in range(5):
        world.clock.sleep(50)
        world.accept(quotes_of("A" + "GHIJK"[number]))
        world.sender.flush()
    assert world.sender.totals.sent == 10


def test_patience_does_not_begin_anew_with_what_is_added() -> None:
    world = World(*[Fate(error=refused(THROTTLED))] * 9, patience_s=60)
    for symbol in "ABC":
        world.accept(quotes_of(symbol))
        world.accept([])
        world.sender.flush()
        world.clock.sleep(25)
    with pytest.raises(StockpipeError, match="3 quotes were not sent"):
        world.sender.flush()


def test_patience_begins_with_the_first_quote_that_waits_not_with_idleness() -> None:
    world = World(Fate(error=refused(THROTTLED)), patience_s=60)
    world.clock.sleep(3600)
    world.accept(quotes_of("A"))
    assert world.sender.flush() > 0.0


def test_a_live_feed_has_patience_without_end() -> None:
    world = World(*[Fate(error=refused(THROTTLED))] * 2000, patience_s=None)
    world.sender.send(quotes_of("AB"))
    assert world.clock.passed_s > 3600
    assert world.sender.totals.sent == 2


def test_it_has_room_for_two_requests() -> None:
    world = World()
    assert world.sender.room == 1000
    world.accept(quotes_of(["A"] * 700))
    assert (world.sender.room, world.sender.unsent) == (300, 700)
    world.sender.flush()
    assert (world.sender.room, world.sender.unsent) == (800, 200)
