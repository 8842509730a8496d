"""A new value against the runs before it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchperf_ci.compare.effects import ChangeTolerance, Verdict
from torchperf_ci.compare.recorded import LEAST_RUNS, compare_with_band, make_band
from torchperf_ci.core.records import METRICS, Case, Mode

CASE = Case(suite="tiny", model="mlp", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor")
LIMITS = ChangeTolerance(margin=0.05, threshold=0.10)


def history(count: int = 30, *, spread: float = 0.01, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [2.0 * math.exp(rng.gauss(0, spread)) for _ in range(count)]


def test_few_runs_are_skipped_in_words() -> None:
    """Nine runs are no history."""
    found = compare_with_band(CASE, METRICS["speedup"], 1.0, history(LEAST_RUNS - 1), LIMITS)
    assert (found.verdict, found.why) == (Verdict.SKIPPED, "9 comparable runs before this one, 10 are needed")


@pytest.mark.parametrize(
    ("metric", "value", "verdict"),
    [
        ("speedup", 1.6, Verdict.REGRESSED),
        ("abs_latency", 1.6, Verdict.IMPROVED),
        ("abs_latency", 2.5, Verdict.REGRESSED),
        ("speedup", 2.01, Verdict.UNCHANGED),
        ("abs_latency", 2.1, Verdict.INCONCLUSIVE),
    ],
)
def test_a_value_is_judged_in_its_metrics_direction(metric: str, value: float, verdict: Verdict) -> None:
    """Far outside is worse or better, inside is unchanged, between is open."""
    found = compare_with_band(CASE, METRICS[metric], value, history(), LIMITS)
    assert found.verdict is verdict
    assert found.ratio == pytest.approx(value / 2.0, rel=0.02)


def test_a_noisy_history_hides_what_a_calm_one_shows() -> None:
    """The band is as wide as the runs were apart."""
    values = [
        compare_with_band(CASE, METRICS["abs_latency"], 2.5, history(spread=s), LIMITS).verdict for s in (0.01, 0.2)
    ]
    assert values == [Verdict.REGRESSED, Verdict.INCONCLUSIVE]


def test_the_prediction_interval_holds_new_values_as_often_as_it_says() -> None:
    """About 19 of 20 values of the same kind."""
    inside = 0
    for seed in range(200):
        *before, value = history(31, seed=seed)
        found = make_band(before)
        assert found is not None
        inside += found.low <= value <= found.high
    assert 180 <= inside <= 199


@settings(max_examples=50)
@given(st.lists(st.floats(0.1, 10), min_size=10, max_size=40), st.floats(0.1, 10), st.floats(0.01, 100))
def test_the_unit_does_not_matter(values: list[float], value: float, scale: float) -> None:
    """Scaling the history and the value alike keeps the ratio."""
    one = compare_with_band(CASE, METRICS["abs_latency"], value, values, LIMITS)
    two = compare_with_band(CASE, METRICS["abs_latency"], value * scale, [item * scale for item in values], LIMITS)
    assert two.ratio == pytest.approx(one.ratio)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (403824640.0000004, Verdict.UNCHANGED),
        (403824640.0 + 60_000, Verdict.UNCHANGED),
        (403824640.0 * 1.005, Verdict.INCONCLUSIVE),
        (403824640.0 * 1.02, Verdict.REGRESSED),
    ],
)
def test_memory_that_is_the_same_every_time_is_unchanged_but_for_rounding(value: float, verdict: Verdict) -> None:
    """An interval without a width holds what adding up in another order, or a few bytes of an allocator, make of it."""
    usual, limits = [403824640.0] * 12, ChangeTolerance(margin=0.01, threshold=0.01)
    assert compare_with_band(CASE, METRICS["dynamo_peak_mem"], value, usual, limits).verdict is verdict


def test_a_time_that_never_varied_is_unchanged_but_for_rounding() -> None:
    """Also where the logarithm's mean is not quite the value itself."""
    assert compare_with_band(CASE, METRICS["abs_latency"], 0.1 + 0.2, [0.3] * 12, LIMITS).verdict is Verdict.UNCHANGED
