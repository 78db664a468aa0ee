"""Where batches end, what answers mean, what is retried, split and given up; and filters."""

from __future__ import annotations

import base64
import json
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpipe.local.event_sources.batching import (
    PAYLOAD_LIMIT,
    Policy,
    Record,
    Segment,
    cut,
    first_failure,
    settle,
    split_expired,
)
from stockpipe.local.event_sources.filters import compile_criteria
from stockpipe.local.event_sources.mappings import Refused, Start, read_mapping, stream_kind

BISECT = Policy(bisect=True, max_retries=0)


def records(count: int, *, size: int = 10, arrived: float = 0.0) -> list[Record]:
    return [Record(f"{n:030d}", arrived, json.dumps("x" * size)) for n in range(count)]


def segment(count: int, **fields: Any) -> Segment:
    return Segment(tuple(records(count)), **fields)


# Batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("available", "size", "expected"),
    [
        (0, 10, (0, 0, False)),
        (9, 10, (9, 9, False)),
        (10, 10, (10, 10, True)),
        (11, 10, (10, 10, True)),
        (3, 1, (1, 1, True)),
    ],
)
def test_a_batch_ends_at_its_size(
    available: int, size: int, expected: tuple[int, int, bool]
) -> None:
    batch = cut(records(available), Policy(batch_size=size))
    assert (batch.length, batch.live, batch.full) == expected


def test_filtered_records_go_along_with_the_batch_before_them() -> None:
    left_out = Record("9", 0.0, None)
    buffer = [left_out, *records(2), left_out, left_out, *records(1), left_out]
    batch = cut(buffer, Policy(batch_size=2))
    assert (batch.length, batch.live, batch.full) == (5, 2, True)
    batch = cut(buffer, Policy(batch_size=3))
    assert (batch.length, batch.live, batch.full) == (7, 3, True)
    assert cut([left_out] * 3, Policy()).live == 0
    assert cut([left_out] * 3, Policy()).length == 3


@settings(deadline=None)
@given(
    st.lists(st.integers(min_value=0, max_value=400), max_size=30),
    st.integers(min_value=1, max_value=10),
    st.integers(min_value=50, max_value=1000),
)
def test_every_event_is_within_the_limit_unless_one_record_alone_is_not(
    sizes: list[int], batch_size: int, limit: int
) -> None:
    buffer = deque(Record(str(n), 0.0, json.dumps("x" * size)) for n, size in enumerate(sizes))
    seen: list[str] = []
    while buffer:
        batch = cut(buffer, Policy(batch_size=batch_size), limit)
        assert 0 < batch.live <= batch_size
        taken = Segment(tuple(buffer.popleft() for _ in range(batch.length)))
        assert len(taken.event()) <= limit or batch.live == 1
        assert batch.full or not buffer
        assert len(json.loads(taken.event())["Records"]) == batch.live
        seen += taken.sequences
    assert seen == [str(n) for n in range(len(sizes))]


def test_the_real_limit_is_that_of_a_synchronous_invocation() -> None:
    batch = cut(records(10, size=1_000_000), Policy(batch_size=100))
    assert (batch.length, batch.full) == (6, True)
    assert len(Segment(tuple(records(6, size=1_000_000))).event()) <= PAYLOAD_LIMIT


# Answers -------------------------------------------------------------------------------------


def failing(*names: Any) -> bytes:
    return json.dumps({"batchItemFailures": [{"itemIdentifier": name} for name in names]}).encode()


@pytest.mark.parametrize(
    ("answer", "done"),
    [
        # complete success
        (b"", 5),
        (b"null", 5),
        (b"{}", 5),
        (b'""', 5),
        (b"[]", 5),
        (b'{"batchItemFailures": []}', 5),
        (b'{"batchItemFailures": null}', 5),
        (b'{"statusCode": 200}', 5),
        # the lowest sequence number is the checkpoint
        (failing("3"), 3),
        (failing("4", "2", "3"), 2),
        (failing("0"), 0),
        (failing("1", "1"), 1),
        # complete failure
        (failing(""), 0),
        (failing(None), 0),
        (failing(3), 0),
        (failing("7"), 0),
        (failing("3", "7"), 0),
        (b'{"batchItemFailures": [{"itemIdentifer": "3"}]}', 0),
        (b'{"batchItemFailures": ["3"]}', 0),
        (b'{"batchItemFailures": {"itemIdentifier": "3"}}', 0),
        (b'{"batchItemFailures": true}', 0),
        (b'"done"', 0),
        (b"17", 0),
        (b"not JSON", 0),
    ],
)
def test_what_an_answer_means(answer: bytes, done: int) -> None:
    assert first_failure(answer, ["0", "1", "2", "3", "4"]) == done


# Retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "done", "policy", "expected"),
    [
        # all done
        (segment(4), 4, Policy(), (4, [], None)),
        # a failed batch goes again as it is, until its retries are used up
        (segment(4), 0, Policy(max_retries=2), (0, [(4, 1)], None)),
        (segment(4, retries=1), 0, Policy(max_retries=2), (0, [(4, 2)], None)),
        (segment(4, retries=2), 0, Policy(max_retries=2), (0, [], 4)),
        (segment(4), 0, Policy(max_retries=0), (0, [], 4)),
        (segment(4, retries=99_999), 0, Policy(), (0, [(4, 100_000)], None)),
        # what remains after a partial success is another batch
        (segment(4, retries=2), 1, Policy(max_retries=2), (1, [(3, 0)], None)),
        (segment(4), 3, Policy(max_retries=0), (3, [(1, 0)], None)),
        # bisect: halves, without a retry; a single record is retried
        (segment(4), 0, BISECT, (0, [(2, 0), (2, 0)], None)),
        (segment(5), 0, BISECT, (0, [(3, 0), (2, 0)], None)),
        (segment(1), 0, BISECT, (0, [], 1)),
        (segment(1), 0, Policy(bisect=True, max_retries=1), (0, [(1, 1)], None)),
        # bisect with a partial success: cut at the returned sequence number
        (segment(5), 3, BISECT, (3, [(2, 0)], None)),
    ],
)
def test_what_follows_an_invocation(
    before: Segment,
    done: int,
    policy: Policy,
    expected: tuple[int, list[tuple[int, int]], int | None],
) -> None:
    after = settle(before, done, policy, reported=False)
    assert after.done == expected[0]
    assert [(len(part.records), part.retries) for part in after.pending] == expected[1]
    assert (len(after.discarded.records) if after.discarded else None) == expected[2]


def test_pauses() -> None:
    """Back off before the same records, and whenever the function asked for it; not to split."""
    assert not settle(segment(4), 4, Policy(), reported=False).pause
    assert settle(segment(4), 0, Policy(), reported=False).pause
    assert settle(segment(4), 2, Policy(), reported=True).pause
    assert not settle(segment(4), 0, BISECT, reported=False).pause
    assert settle(segment(4), 0, BISECT, reported=True).pause


@settings(deadline=None)
@given(
    count=st.integers(min_value=1, max_value=60),
    poison=st.sets(st.integers(min_value=0, max_value=59)),
    retries=st.integers(min_value=0, max_value=3),
    bisect=st.booleans(),
    partial=st.booleans(),
)
def test_every_record_is_done_or_given_up_once_and_in_order(
    count: int, poison: set[int], retries: int, bisect: bool, partial: bool
) -> None:
    policy = Policy(bisect=bisect, partial=partial, max_retries=retries)
    bad = {f"{n:030d}" for n in poison}
    pending = deque([segment(count)])
    settled: list[str] = []
    given_up: list[str] = []
    invocations = 0
    while pending:
        invocations += 1
        assert invocations < 40 * count * (retries + 1)
        now = pending.popleft()
        failed = [place for place, name in enumerate(now.sequences) if name in bad]
        done = len(now.records) if not failed else failed[0] if partial else 0
        after = settle(now, done, policy, reported=partial)
        settled += now.sequences[: after.done]
        if after.discarded:
            settled += after.discarded.sequences
            given_up += after.discarded.sequences
        pending.extendleft(reversed(after.pending))
    assert settled == segment(count).sequences
    if bisect:
        assert set(given_up) == bad & set(settled)
    else:
        assert set(given_up) >= bad & set(settled)


@pytest.mark.parametrize(
    ("arrivals", "limit", "old", "young"),
    [
        ([0, 50, 90], None, 0, 3),
        ([0, 50, 90], 200, 0, 3),
        ([0, 50, 90], 60, 1, 2),
        ([0, 50, 90], 5, 3, 0),
        ([90, 0, 90], 60, 0, 3),  # a clock that went back: never past a young record
    ],
)
def test_only_the_leading_records_are_too_old(
    arrivals: list[float], limit: float | None, old: int, young: int
) -> None:
    whole = Segment(tuple(Record(str(n), at, "{}") for n, at in enumerate(arrivals)), 1, 2)
    left, right = split_expired(whole, limit, 100.0)
    assert len(left.records if left else ()) == old
    assert len(right.records if right else ()) == young
    assert all(part.retries == 1 and part.invocations == 2 for part in (left, right) if part)


# Filters -------------------------------------------------------------------------------------

QUOTE = {"symbol": "AAPL", "price": 180.5, "tags": ["tech", "us"], "none": None, "deep": {"x": ""}}


@pytest.mark.parametrize(
    ("pattern", "passes"),
    [
        ({"symbol": ["AAPL"]}, True),
        ({"symbol": ["TSLA", "AAPL"]}, True),
        ({"symbol": ["aapl"]}, False),
        ({"symbol": [{"equals-ignore-case": "aapl"}]}, True),
        ({"symbol": [{"prefix": "AA"}]}, True),
        ({"symbol": [{"suffix": "AA"}]}, False),
        ({"symbol": [{"anything-but": ["TSLA"]}]}, True),
        ({"symbol": [{"anything-but": "AAPL"}]}, False),
        ({"absent": [{"anything-but": ["TSLA"]}]}, False),
        ({"price": [180.5]}, True),
        ({"price": [{"numeric": [">", 180, "<=", 180.5]}]}, True),
        ({"price": [{"numeric": ["=", 181]}]}, False),
        ({"symbol": [{"numeric": [">", 0]}]}, False),
        ({"tags": ["us"]}, True),
        ({"tags": ["eu"]}, False),
        ({"none": [None]}, True),
        ({"symbol": [None]}, False),
        ({"absent": [None]}, False),
        ({"deep": {"x": [""]}}, True),
        ({"deep": {"y": [{"exists": False}]}}, True),
        ({"deep": [{"exists": True}]}, False),
        ({"absent": {"y": [{"exists": False}]}}, True),
        ({"symbol": ["AAPL"], "price": [1]}, False),
        ({"$or": [{"symbol": ["TSLA"]}, {"price": [180.5]}]}, True),
        ({"$or": [{"symbol": ["TSLA"]}, {"price": [1]}]}, False),
    ],
)
def test_filter_operators(pattern: dict[str, Any], passes: bool) -> None:
    accepts = compile_criteria({"Filters": [{"Pattern": json.dumps({"data": pattern})}]})
    data = base64.b64encode(json.dumps(QUOTE).encode()).decode()
    assert accepts
    assert accepts({"kinesis": {"data": data, "partitionKey": "AAPL"}}) is passes


def test_filters_are_alternatives_and_see_metadata() -> None:
    patterns = [{"partitionKey": ["TSLA"]}, {"eventName": ["INSERT"]}]
    accepts = compile_criteria({"Filters": [{"Pattern": json.dumps(p)} for p in patterns]})
    assert accepts
    assert accepts({"kinesis": {"data": "bm90IEpTT04=", "partitionKey": "TSLA"}})
    assert not accepts({"kinesis": {"data": "bm90IEpTT04=", "partitionKey": "AAPL"}})
    assert accepts({"eventName": "INSERT", "dynamodb": {}})
    assert compile_criteria(None) is None
    assert compile_criteria({"Filters": []}) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "{",
        "[]",
        '{"a": "b"}',
        '{"a": []}',
        '{"a": [["b"]]}',
        '{"a": [{"wildcard": "x*"}]}',
        '{"a": [{"prefix": 1}]}',
        '{"a": [{"exists": "yes"}]}',
        '{"a": [{"numeric": [">"]}]}',
        '{"a": [{"numeric": ["~", 1]}]}',
        '{"a": [{"anything-but": {"prefix": "x"}}]}',
        '{"a": [{"prefix": "x", "suffix": "y"}]}',
        '{"$or": [{"a": ["b"]}]}',
    ],
)
def test_patterns_that_are_wrong_or_unknown_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="filter pattern"):
        compile_criteria({"Filters": [{"Pattern": pattern}]})


# Mappings ------------------------------------------------------------------------------------

KINESIS = "arn:aws:kinesis:us-east-2:000000000000:stream/s"
TABLE = "arn:aws:dynamodb:us-east-2:000000000000:table/t/stream/2026-01-01T00:00:00.000"


def described(**fields: Any) -> dict[str, Any]:
    return {
        "UUID": "u",
        "EventSourceArn": KINESIS,
        "FunctionArn": "arn:aws:lambda:us-east-2:000000000000:function:f",
        "StartingPosition": "TRIM_HORIZON",
        "State": "Enabled",
    } | fields


def test_defaults_are_those_of_aws() -> None:
    mapping = read_mapping(described(), "us-east-2")
    assert mapping.policy == Policy(100, 0.0, None, None, bisect=False, partial=False)
    assert mapping.enabled
    assert mapping.destination is None
    assert mapping.accepts is None
    assert (mapping.account, mapping.function_name) == ("000000000000", "f")


def test_every_setting_is_read() -> None:
    mapping = read_mapping(
        described(
            FunctionArn="arn:aws:lambda:us-east-2:000000000000:function:f:live",
            BatchSize=500,
            MaximumBatchingWindowInSeconds=5,
            MaximumRetryAttempts=3,
            MaximumRecordAgeInSeconds=72_000,
            BisectBatchOnFunctionError=True,
            FunctionResponseTypes=["ReportBatchItemFailures"],
            DestinationConfig={"OnFailure": {"Destination": "arn:aws:s3:::b"}},
            StartingPosition="AT_TIMESTAMP",
            StartingPositionTimestamp=12.5,
            ParallelizationFactor=1,
            State="Disabled",
        ),
        "us-east-2",
    )
    assert mapping.policy == Policy(500, 5.0, 3, 72_000, bisect=True, partial=True)
    assert mapping.start == Start("AT_TIMESTAMP", 12.5)
    assert mapping.destination == "arn:aws:s3:::b"
    assert mapping.qualifier == "live"
    assert mapping.function.endswith(":function:f")
    assert not mapping.enabled


def test_minus_one_is_unlimited_and_no_destination_may_be_written_empty() -> None:
    mapping = read_mapping(
        described(
            MaximumRetryAttempts=-1,
            MaximumRecordAgeInSeconds=-1,
            DestinationConfig={"OnFailure": {"Destination": ""}},
        ),
        "us-east-2",
    )
    assert (mapping.policy.max_retries, mapping.policy.max_age_s) == (None, None)
    assert mapping.destination is None


@pytest.mark.parametrize(
    "fields",
    [
        {"ParallelizationFactor": 2},
        {"TumblingWindowInSeconds": 60},
        {"EventSourceArn": f"{KINESIS}/consumer/c:1"},
        {"StartingPosition": "AT_TIMESTAMP"},
        {"StartingPosition": "AT_TIMESTAMP", "EventSourceArn": TABLE},
        {"StartingPosition": None},
        {"DestinationConfig": {"OnFailure": {"Destination": "kafka://topic"}}},
        {"FilterCriteria": {"Filters": [{"Pattern": "{"}]}},
    ],
)
def test_settings_that_are_not_honoured_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        read_mapping(described(**fields), "us-east-2")


@pytest.mark.parametrize(
    ("arn", "kind"),
    [
        (KINESIS, "kinesis"),
        (TABLE, "dynamodb"),
        ("arn:aws:sqs:us-east-2:000000000000:q", None),
        ("arn:aws:dynamodb:us-east-2:000000000000:table/t", None),
        ("nonsense", None),
    ],
)
def test_only_streams_are_ours(arn: str, kind: str | None) -> None:
    assert stream_kind(arn) == kind
