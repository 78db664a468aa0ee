"""The spike rule: against a fold written down separately, on real and on random prices."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpipe.domain.exact import to_micro
from stockpipe.domain.rules import SpikeRule
from stockpipe.domain.rules.spike import CLIP, FLOOR, LAMBDA, REFRACTORY, WARM_UP, WINDOW
from stockpipe.domain.signals import Reading

SIGMAS = 5.0


def found(prices: list[int]) -> list[int]:
    scan = SpikeRule().scan()
    return [i for i, p in enumerate(prices) if scan.push(Reading(f"{i:09d}", p))]


def by_definition(prices: list[int]) -> list[int]:
    """For each reading the whole fold over the last 256, in numpy and in standard deviations."""
    spikes = []
    for index in range(len(prices)):
        window = np.array(prices[max(0, index - WINDOW + 1) : index + 1], dtype=float)
        returns = np.diff(np.log(window))
        if len(returns) <= WARM_UP:
            continue
        deviation = math.sqrt(float(np.median(returns[:WARM_UP] ** 2)) / 0.4549)
        since, spike = REFRACTORY + 1, False
        for size in np.abs(returns[WARM_UP:]):
            limit = max(deviation, FLOOR)
            spike = bool(size > SIGMAS * limit and since > REFRACTORY)
            since = 1 if spike else since + 1
            clipped = min(float(size), CLIP * limit)
            deviation = math.sqrt(LAMBDA * deviation**2 + (1 - LAMBDA) * clipped**2)
        if spike:
            spikes.append(index)
    return spikes


def walk(rng: random.Random, length: int, step: float) -> list[int]:
    """A random walk with jumps, stretches of calm and stretches without any change."""
    price, prices = 100.0, list[int]()
    while len(prices) < length:
        scale = rng.choice([0.0, step / 10, step, step, 3 * step])
        for _ in range(rng.randint(1, 120)):
            jump = 10 if rng.random() < 0.02 else 1
            price = min(max(price * math.exp(rng.gauss(0, scale * jump)), 1.0), 1e6)
            prices.append(to_micro(round(price, 4)))
    return prices[:length]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32).map(random.Random),
    st.integers(1, 700),
    st.sampled_from([0.0005, 0.005, 0.02]),
)
def test_the_incremental_form_is_the_fold_over_the_last_256_readings(
    rng: random.Random, length: int, step: float
) -> None:
    prices = walk(rng, length, step)
    assert found(prices) == by_definition(prices)


def test_numpy_agrees_on_years_of_real_prices(closes: dict[str, list[tuple[str, str]]]) -> None:
    total = 0
    for series in closes.values():
        prices = [to_micro(close) for _, close in series][-1200:]
        spikes = found(prices)
        assert spikes == by_definition(prices)
        total += len(spikes)
    assert total > 8


def quiet(count: int) -> list[int]:
    """Steps of 1 % up and down."""
    return [(100 + i % 2) * 10**6 for i in range(count)]


def test_the_warm_up_says_nothing() -> None:
    assert found([*quiet(WARM_UP), 200 * 10**6]) == []
    assert found([*quiet(WARM_UP + 1), 200 * 10**6]) == [WARM_UP + 1]


def test_a_jump_is_told_with_its_size() -> None:
    scan = SpikeRule().scan()
    signals = [scan.push(Reading(f"{i:09d}", p)) for i, p in enumerate([*quiet(61), 120 * 10**6])]
    last = signals[-1]
    assert last is not None
    assert last.sigmas is not None
    assert 10 < float(last.sigmas) < 30
    assert not any(signals[:-1])


def test_what_follows_a_spike_at_once_is_not_told() -> None:
    jumps = [(100, 120)[i % 2] * 10**6 for i in range(1, REFRACTORY + 3)]
    prices = [*quiet(61), *jumps]
    assert found(prices) == [61, 61 + REFRACTORY + 1]


def test_below_the_floor_nothing_is_a_jump_however_still_it_was() -> None:
    still = [100 * 10**6] * 60
    assert found([*still, round(100 * 10**6 * (1 + 0.9 * SIGMAS * FLOOR))]) == []
    assert found([*still, round(100 * 10**6 * (1 + 1.1 * SIGMAS * FLOOR))]) == [60]


@pytest.mark.parametrize(("old", "new"), [(7, 1), (3, 2), (1, 10), (20, 1)])
def test_a_split_is_no_spike_and_hides_none_on_its_own_day(old: int, new: int) -> None:
    before = quiet(60)
    close = before[-1]
    ex = [price * new // old for price in quiet(8)]
    ex[5:] = [price * 5 // 4 for price in ex[5:]]  # a real jump, five readings later
    scan = SpikeRule().scan()
    rows = [Reading(f"{i:09d}", p, before[0], before[0]) for i, p in enumerate(before)]
    rows += [Reading(f"{60 + i:09d}", p, close, ex[0]) for i, p in enumerate(ex)]
    assert [row.timestamp for row in rows if scan.push(row)] == [f"{65:09d}"]


def test_the_same_jump_that_is_no_simple_ratio_is_a_spike() -> None:
    before = quiet(60)
    fallen = before[-1] * 48 // 100
    scan = SpikeRule().scan()
    rows = [Reading(f"{i:09d}", p, before[0], before[0]) for i, p in enumerate(before)]
    rows.append(Reading("000000060", fallen, before[-1], before[-1] * 53 // 100))
    assert [row.timestamp for row in rows if scan.push(row)] == ["000000060"]
