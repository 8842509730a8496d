"""Lasting changes of level, told from noise."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from report_builders import case, performance
from run_builders import MACHINE, a_run
from torchperf_ci.core.records import Environment, Status
from torchperf_ci.dashboard.change_points import find_change_points, find_levels
from torchperf_ci.history.runs import HistoryRun


def noisy(levels_and_lengths: list[tuple[float, int]], *, spread: float = 0.005, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [level * chance.lognormvariate(0, spread) for level, length in levels_and_lengths for _ in range(length)]


def runs_of(values: list[float], *, metric: str = "speedup") -> list[HistoryRun]:
    return [a_run(day, [replace(performance(case()), metrics={metric: value})]) for day, value in enumerate(values)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("change", [0.9, 0.95, 1.06])
@pytest.mark.parametrize("at", [5, 20, 37])
def test_a_step_is_found_where_it_is(change: float, at: int, seed: int):
    """A change of 5 % and more is found at its run, from three runs after it."""
    assert find_levels(noisy([(1.0, at), (change, 40 - at)], seed=seed)) == [at]


def test_several_steps_are_found():
    """A level that goes down and up again has two places."""
    assert find_levels(noisy([(1.0, 15), (0.8, 10), (1.0, 15)])) == [15, 25]


@pytest.mark.parametrize("seed", range(20))
def test_noise_has_no_levels(seed: int):
    """Noise, however wide, with spikes or with two states of the machine, is no change."""
    chance = random.Random(seed)
    for spread in (0.001, 0.02, 0.2):
        assert find_levels(noisy([(1.0, 50)], spread=spread, seed=seed)) == []
    spiky = [value * (1.4 if chance.random() < 0.1 else 1) for value in noisy([(1.0, 30)], spread=0.02, seed=seed)]
    assert find_levels(spiky) == []


def test_one_bad_night_is_no_change():
    """One or two runs off the level are no new level."""
    for off in (1, 2):
        assert find_levels(noisy([(1.0, 20), (0.7, off), (1.0, 20)])) == []
        assert find_levels(noisy([(1.0, 20), (0.7, off)])) == []


def test_a_change_too_small_to_matter_is_not_told():
    """Below 2 % nothing is said, however sure it is."""
    assert find_levels(noisy([(1.0, 50), (0.985, 50)], spread=0.0005)) == []


def test_values_without_any_noise_have_levels_too():
    """Equal values have no spread; a step between them is a change."""
    assert find_levels([1.0] * 10) == []
    assert find_levels([1.0] * 6 + [0.9] * 6) == [6]


def test_too_few_runs_say_nothing():
    """With fewer than eight runs nothing can be told."""
    assert find_levels([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]) == []


def test_a_change_names_the_runs_between_which_it_came():
    """A change has the last run of the old level, the first of the new one, and both levels."""
    (found,) = find_change_points(runs_of(noisy([(2.0, 12), (1.8, 8)])))
    assert (found.case, found.metric) == (case(), "speedup")
    assert (found.last_old.source.commit, found.first_new.source.commit) == ("0b" * 20, "0c" * 20)
    assert found.change == pytest.approx(-0.1, abs=0.01)
    assert found.is_worse


def test_which_way_is_worse_hangs_on_the_metric():
    """A higher latency is worse, a higher speedup better."""
    (slower,) = find_change_points(runs_of(noisy([(2.0, 10), (3.0, 10)]), metric="abs_latency"))
    (faster,) = find_change_points(runs_of(noisy([(2.0, 10), (3.0, 10)])))
    assert (slower.is_worse, faster.is_worse) == (True, False)


def test_failures_and_other_machines_do_not_count():
    """Runs in which the case failed, and runs of other machines, are no part of its level; unknown machines are."""
    values = noisy([(2.0, 20)])
    points = runs_of(values)
    other = replace(MACHINE, cpu="Xeon")
    for day in range(12, 17):
        points[day] = a_run(day, [performance(case(), 1.0)], machine=other)
    points[17] = a_run(17, [performance(case(), 0.1, Status.FAIL_TO_RUN)])
    assert find_change_points(points) == ()
    slow_before = [
        a_run(day, [performance(case(), value)], machine=Environment()) for day, value in enumerate(noisy([(2.5, 10)]))
    ]
    assert len(find_change_points([*slow_before, *runs_of(values)])) == 1


def test_only_cases_of_the_newest_run_are_told():
    """A case that is gone has no lasting change any more; without runs there is nothing."""
    points = runs_of(noisy([(2.0, 10), (1.0, 10)]))
    gone = a_run(30, [performance(case("lstm"))])
    assert find_change_points([*points, gone]) == ()
    assert find_change_points([]) == ()
