"""Levels of numbers, followed run by run."""

from __future__ import annotations

import numpy as np
import pytest

from torchperf_ci.dashboard.levels import NEEDED, Levels, follow_levels

MARGIN = 0.03


def draw(seed: int, *steps: tuple[int, float], runs: int = 90, spread: float = 0.01) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0, spread, runs)
    for place, size in steps:
        values[place:] += size
    return values


def spans(levels: Levels) -> list[tuple[int, int]]:
    return [(shift.first, shift.shown) for shift in levels.shifts]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.005, 0.03])
def test_what_was_said_after_a_run_stays_said(seed: int, spread: float) -> None:
    """More values add changes; they neither move nor withdraw one, so that a night's news is news once."""
    values = draw(seed, (30, 0.2), (45, -0.2), (60, 0.06), (75, -0.1), spread=spread)
    whole = follow_levels(values, margin=MARGIN)
    assert whole.shifts
    for length in range(1, len(values)):
        part = follow_levels(values[:length], margin=MARGIN)
        assert spans(part) == [span for span in spans(whole) if span[1] < length]


@pytest.mark.parametrize("seed", range(5))
def test_a_step_is_off_at_once_and_shown_by_the_next_value(seed: int) -> None:
    """With the place where it began, and both levels."""
    values = draw(seed, (50, 0.3))
    assert follow_levels(values[:51], margin=MARGIN).off == 50
    (shift,) = follow_levels(values, margin=MARGIN).shifts
    assert (shift.first, shift.shown, shift.is_open) == (50, 51, True)
    assert (shift.old, shift.new) == (pytest.approx(0, abs=0.02), pytest.approx(0.3, abs=0.02))


def test_one_value_is_no_change_and_two_are() -> None:
    """On the worse side and on the better one; two on different sides are none."""
    for offs, shown in (((0.5,), 0), ((-0.5,), 0), ((0.5, 0.5), 1), ((-0.5, -0.5), 1), ((0.5, -0.5), 0)):
        values = draw(1)
        values[40 : 40 + len(offs)] += offs
        shifts = [shift for shift in follow_levels(values[:43], margin=MARGIN).shifts if shift.first == 40]
        assert len(shifts) == shown


@pytest.mark.parametrize("seed", range(5))
def test_a_change_closes_when_two_values_are_back(seed: int) -> None:
    """One may be chance; the level before counts on."""
    values = draw(seed, (40, 0.2), (60, -0.2))
    assert follow_levels(values[:61], margin=MARGIN).shifts[-1].is_open
    assert follow_levels(values[:62], margin=MARGIN).shifts[-1].returned == 61
    assert follow_levels(values, margin=MARGIN).runs > 60


def test_a_part_of_the_way_back_is_not_back() -> None:
    """From +20 % to +10 %: it stays open, with the level of now."""
    (shift,) = follow_levels(draw(1, (40, 0.2), (60, -0.1)), margin=MARGIN).shifts
    assert shift.is_open
    assert shift.new == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("slope", [0.001, 0.002, 0.005])
def test_a_slow_drift_is_found(slope: float) -> None:
    """Though no run is off by itself."""
    values = draw(2, runs=120) + slope * np.arange(120)
    assert follow_levels(values, margin=MARGIN).shifts[0].is_worse


def test_an_accepted_level_is_the_usual_one() -> None:
    """Accepted after the 45th value; a further step is a change of its own, and the accepted one is none."""
    values = draw(3, (40, 0.2), (60, 0.2))
    accepted, again = follow_levels(values, margin=MARGIN, accepted=[(45, 45)]).shifts
    assert (accepted.is_accepted, accepted.is_open) == (True, False)
    assert (again.first, again.is_open) == (60, True)
    assert again.old == pytest.approx(0.2, abs=0.02)


def test_a_change_for_the_better_raises_the_bar() -> None:
    """The way back to the old level is a change for the worse."""
    better, worse = follow_levels(draw(4, (30, -0.2), (60, 0.2)), margin=MARGIN).shifts
    assert (better.is_worse, better.is_open, worse.first, worse.is_open) == (False, False, 60, True)


def test_any_more_of_a_count_is_a_change() -> None:
    """Counts have no noise; a margin of 0 takes them as they are."""
    counts = [2.0] * 30 + [3.0] * 2
    assert spans(follow_levels(counts, margin=0.0)) == [(30, 31)]
    assert follow_levels([2.0] * 60, margin=0.0).shifts == ()


def test_too_few_values_are_not_judged() -> None:
    """The level is not known before there are enough."""
    values = draw(5)
    assert follow_levels(values[: NEEDED - 1], margin=MARGIN).level is None
    assert follow_levels(values[:NEEDED], margin=MARGIN).level is not None
    assert follow_levels([], margin=MARGIN) == Levels(shifts=(), off=None, level=None, runs=0)
