"""The way from one number of shards to another, as Kinesis lets a stream go it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stockpipe.infra.resources.kinesis import shard_counts


def test_the_steps_double_or_halve() -> None:
    assert list(shard_counts(1, 10)) == [2, 4, 8, 10]
    assert list(shard_counts(10, 1)) == [5, 3, 2, 1]
    assert list(shard_counts(3, 3)) == []


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_no_step_is_one_that_kinesis_refuses(count: int, wanted: int) -> None:
    """At most double, at least half: UpdateShardCount in the API reference."""
    for step in shard_counts(count, wanted):
        assert count / 2 <= step <= 2 * count
        count = step
    assert count == wanted
