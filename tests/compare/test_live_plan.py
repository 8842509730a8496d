"""How a comparison shares its time among cases and launches."""

from __future__ import annotations

from itertools import pairwise

import pytest

from torchperf_ci.compare.effects import LOOKS
from torchperf_ci.compare.live import LEAST_LAUNCHES, ComparePlan, Interleave
from torchperf_ci.compare.model import ToleranceRules
from torchperf_ci.compare.session import LEAST_SECONDS, CaseBudget


@pytest.mark.parametrize("seconds", [0.5, 2.0, 5.0, 10.0, 60.0])
@pytest.mark.parametrize("launches", [1, 2, 3, 10, 40])
def test_all_time_is_shared_among_launches_that_all_count(seconds: float, launches: int) -> None:
    """A launch is worth a second or more, unless there are the fewest that are allowed or asked for. Few of them leave
    the first look to the first one; of many none is less than half as long as it, or it would not count."""
    plan = ComparePlan(tolerances=ToleranceRules(), launches=launches, seconds=seconds)
    count = plan.launches_in_time
    ends = [plan.end_of(number) for number in range(count)]
    assert min(launches, LEAST_LAUNCHES) <= count <= launches
    assert ends == sorted(ends)
    assert ends[-1] == pytest.approx(seconds)
    assert ends[0] >= min(LOOKS[0][0], 1.5 / count) * seconds
    assert all(2 * (end - start) >= ends[0] for start, end in pairwise(ends))
    if count > LEAST_LAUNCHES:
        assert seconds / count >= 1.0


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_clear_cases_leave_goes_to_the_others() -> None:
    """Loading and compiling counts as the cases before needed it, and no case takes more than twice its usual time."""
    clock = Clock()
    budget = CaseBudget(40.0, usual=10.0, clock=clock)
    assert budget.share(4) == 10.0
    clock.now += 4.0
    budget.note(4.0, sampling=1.0, to_repeat=False)
    assert budget.share(3) == pytest.approx(36 / 3 - 3)
    assert budget.share(1) == 20.0


def test_time_is_kept_to_measure_again() -> None:
    """As much as the first measurement took. What is left is for the others; when that is over, there is nothing."""
    clock = Clock()
    budget = CaseBudget(30.0, usual=10.0, clock=clock)
    clock.now += 14.0
    budget.note(14.0, sampling=10.0, to_repeat=True)
    assert budget.share(1) == LEAST_SECONDS / 2
    assert budget.share(1, again=True) == pytest.approx(16 - 4)
    clock.now += 2.0
    assert budget.share(1) == 0.0
    clock.now += 14.0
    assert budget.share(1, again=True) == 0.0


def test_without_a_budget_every_case_has_its_usual_time() -> None:
    """Whatever the cases before took."""
    budget = CaseBudget(None, usual=10.0)
    budget.note(1e9, sampling=1.0, to_repeat=True)
    assert budget.share(1000) == 10.0


def test_sides_share_the_memory_unless_they_run_in_turn() -> None:
    """Whole launches and arms of one process hold one model at a time."""
    plan = ComparePlan(tolerances=ToleranceRules())
    assert plan.sides_at_once == 2
    assert ComparePlan(tolerances=ToleranceRules(), interleave=Interleave.LAUNCH).sides_at_once == 1
    assert ComparePlan(tolerances=ToleranceRules(), one_process=True).sides_at_once == 1
