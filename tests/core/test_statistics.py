"""Paired ratios and their intervals: right on average, symmetric, and honest about autocorrelated noise."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from statistics import fmean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.core.statistics import (
    BATCHES,
    batch_centers,
    batch_half_width,
    interquartile_mean,
    paired_ratio,
    slow_share,
    student_t,
)

SECONDS = st.floats(1e-6, 1e3)
PAIRS = st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=120)


def two_state(count: int, rng: random.Random, *, ratio: float, drift: float) -> tuple[list[float], list[float]]:
    """Pairs on a machine that is 1.48 times slower for a quarter of the time, in stretches of some 50 iterations that
    begin and end between arms as well, with 3 % of noise on each; `drift` is the deviation of the ratio's own slow
    walk, correlated at 0.9 from pair to pair."""
    over, under = [], []
    slow, walk = False, 0.0
    for _ in range(count):
        times = []
        for _ in range(2):
            slow ^= rng.random() < (0.02 if slow else 0.0065)
            times.append(2e-3 * (1.48 if slow else 1.0) * math.exp(rng.gauss(0, 0.03)))
        walk = 0.9 * walk + drift * math.sqrt(1 - 0.9**2) * rng.gauss(0, 1)
        over.append(ratio * times[0] * math.exp(walk))
        under.append(times[1])
    return over, under


def autocorrelation(values: list[float]) -> float:
    """At lag one."""
    mean = fmean(values)
    centred = [value - mean for value in values]
    return sum(a * b for a, b in pairwise(centred)) / sum(a * a for a in centred)


def test_the_noise_is_like_that_of_a_shared_machine() -> None:
    """A single arm's neighbours are strongly correlated: the case that formulas for independent samples get wrong."""
    over, _ = two_state(4000, random.Random(0), ratio=1.0, drift=0.01)
    assert 0.6 < autocorrelation(over) < 0.95


@pytest.mark.parametrize(
    ("count", "drift", "ratio"), [(30, 0.0, 1.0), (60, 0.0, 1.05), (400, 0.0, 0.5), (400, 0.01, 1.0), (2000, 0.01, 1.5)]
)
def test_the_interval_holds_the_true_ratio(count: int, drift: float, ratio: float) -> None:
    """At least nine times of ten."""
    held, rounds = 0, 300
    for seed in range(rounds):
        estimate = paired_ratio(*two_state(count, random.Random(seed), ratio=ratio, drift=drift))
        held += estimate.low <= ratio <= estimate.high
    assert 0.90 <= held / rounds < 1


def test_the_interval_gets_narrower_with_more_pairs() -> None:
    """And is narrow enough to see one percent."""
    widths = [
        median(
            paired_ratio(*two_state(count, random.Random(seed), ratio=1, drift=0.01)).half_width for seed in range(20)
        )
        for count in (40, 400, 4000)
    ]
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 0.005


def test_the_ratio_is_the_median_of_the_pairs() -> None:
    """Not the ratio of the medians, and outliers do not move it."""
    assert paired_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 2.0]).ratio == pytest.approx(2.0)
    assert paired_ratio([1.1] * 40 + [1e6], [1.0] * 41).ratio == pytest.approx(1.1)


@given(PAIRS)
def test_swapping_the_arms_mirrors_everything(pairs: list[tuple[float, float]]) -> None:
    """Half as fast is the inverse of twice as fast, with its interval."""
    over, under = [a for a, _ in pairs], [b for _, b in pairs]
    there, back = paired_ratio(over, under), paired_ratio(under, over)
    assert math.isclose(there.ratio * back.ratio, 1.0, rel_tol=1e-9)
    assert there.pairs == back.pairs == len(pairs)
    if math.isfinite(there.high):
        assert math.isclose(math.log(there.low), -math.log(back.high), rel_tol=1e-9, abs_tol=1e-9)
        assert math.isclose(math.log(there.high), -math.log(back.low), rel_tol=1e-9, abs_tol=1e-9)
    else:
        assert (back.low, back.high) == (there.low, there.high) == (0.0, math.inf)


@given(PAIRS, st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(pairs: list[tuple[float, float]], scale: float) -> None:
    """Seconds or milliseconds: the same ratio and the same interval."""
    over, under = [a for a, _ in pairs], [b for _, b in pairs]
    plain, scaled = paired_ratio(over, under), paired_ratio([a * scale for a in over], [b * scale for b in under])
    assert math.isclose(plain.ratio, scaled.ratio, rel_tol=1e-9)
    assert plain.half_width == pytest.approx(scaled.half_width, rel=1e-6, abs=1e-9)


@given(PAIRS)
def test_the_interval_lies_around_the_ratio(pairs: list[tuple[float, float]]) -> None:
    """Whatever the data."""
    estimate = paired_ratio([a for a, _ in pairs], [b for _, b in pairs])
    assert 0 <= estimate.low <= estimate.ratio <= estimate.high


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_pairs_have_no_interval(count: int) -> None:
    """Fewer than ten say nothing about noise; no pair says nothing at all."""
    estimate = paired_ratio([1.0] * count, [1.0] * count)
    assert (estimate.low, estimate.high, estimate.half_width, estimate.pairs) == (0.0, math.inf, math.inf, count)
    assert math.isnan(estimate.ratio) is (count == 0)


def test_ten_pairs_have_one() -> None:
    """Five batches of two."""
    estimate = paired_ratio([1.0, 1.1] * 5, [1.0] * 10)
    assert math.isfinite(estimate.half_width)


def test_a_time_that_is_not_positive_is_no_pair() -> None:
    """A clock that stood still says nothing about a ratio."""
    assert paired_ratio([0.0, 2.0], [1.0, 1.0]).pairs == 1


def test_arms_of_different_length_are_an_error() -> None:
    """Pairs that were lost are not silently mispaired."""
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([1.0], [1.0, 2.0])


@given(st.lists(st.floats(-1e3, 1e3), min_size=10, max_size=300))
def test_batches_are_contiguous_and_of_like_size(values: list[float]) -> None:
    """Every value is in one batch; sizes differ by at most one."""
    count = min(BATCHES, len(values) // 2)
    ranks = batch_centers(list(range(len(values))), count)
    assert ranks == sorted(ranks)
    edges = [round(index * len(values) / count) for index in range(count + 1)]
    sizes = {end - start for start, end in pairwise(edges)}
    assert max(sizes) - min(sizes) <= 1
    assert batch_centers(values, count) == [median(values[start:end]) for start, end in pairwise(edges)]


def test_a_quarter_of_the_values_may_be_anything() -> None:
    """At each end; the middle half has all the weight. Fewer than four values are averaged as they are."""
    assert interquartile_mean([-1e6, 1.0, 2.0, 1e6]) == 1.5
    assert interquartile_mean([math.inf, 3.0, 1.0, 2.0, 4.0, -math.inf, 0.5, 9.0]) == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert interquartile_mean([1.0, 2.0, 6.0]) == 3.0


def test_the_half_width_is_students() -> None:
    """Worked by hand: batch medians 1 to 5, mean 3, standard error sqrt(2.5 / 5), t(0.975, 4) = 2.776445."""
    values = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0]
    assert batch_half_width(values, alpha=0.05) == pytest.approx(2.776445 * math.sqrt(0.5), rel=1e-6)
    assert student_t(0.975, 19) == pytest.approx(2.093024, rel=1e-6)


@pytest.mark.parametrize(
    ("probes", "share"),
    [([], 0.0), ([1, 1, 9], 0.0), ([1.0] * 8, 0.0), ([1.0] * 3 + [1.5], 0.25), ([1.0, 1.19, 1.21, 1.0], 0.25)],
)
def test_the_slow_share_counts_probes_well_above_the_usual(probes: list[float], share: float) -> None:
    """A fifth above the lower quartile is slow; too few probes say nothing."""
    assert slow_share(probes) == share
