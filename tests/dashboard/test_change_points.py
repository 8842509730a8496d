"""Lasting changes of level, told from noise."""

from __future__ import annotations

import random

import numpy as np
import pytest

from torchperf_ci.dashboard.levels import find_levels


def noisy(levels_and_lengths: list[tuple[float, int]], *, spread: float = 0.005, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [level * chance.lognormvariate(0, spread) for level, length in levels_and_lengths for _ in range(length)]


def find(values: list[float]) -> list[int]:
    return find_levels(np.log(values))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("change", [0.9, 0.95, 1.06])
@pytest.mark.parametrize("at", [5, 20, 37])
def test_a_step_is_found_where_it_is(change: float, at: int, seed: int):
    """A change of 5 % and more is found at its run, from three runs after it."""
    assert find(noisy([(1.0, at), (change, 40 - at)], seed=seed)) == [at]


def test_several_steps_are_found():
    """A level that goes down and up again has two places."""
    assert find(noisy([(1.0, 15), (0.8, 10), (1.0, 15)])) == [15, 25]


@pytest.mark.parametrize("seed", range(20))
def test_noise_has_no_levels(seed: int):
    """Noise, however wide, with spikes or with two states of the machine, is no change."""
    chance = random.Random(seed)
    for spread in (0.001, 0.02, 0.2):
        assert find(noisy([(1.0, 50)], spread=spread, seed=seed)) == []
    spiky = [value * (1.4 if chance.random() < 0.1 else 1) for value in noisy([(1.0, 30)], spread=0.02, seed=seed)]
    assert find(spiky) == []


def test_one_bad_night_is_no_change():
    """One or two runs off the level are no new level."""
    for off in (1, 2):
        assert find(noisy([(1.0, 20), (0.7, off), (1.0, 20)])) == []
        assert find(noisy([(1.0, 20), (0.7, off)])) == []


def test_a_change_too_small_to_matter_is_not_told():
    """Below 2 % nothing is said, however sure it is."""
    assert find(noisy([(1.0, 50), (0.985, 50)], spread=0.0005)) == []


def test_values_without_any_noise_have_levels_too():
    """Equal values have no spread; a step between them is a change."""
    assert find([1.0] * 10) == []
    assert find([1.0] * 6 + [0.9] * 6) == [6]


def test_too_few_runs_say_nothing():
    """With fewer than eight runs nothing can be told."""
    assert find([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]) == []
