"""How a comparison shares its time among launches."""

from __future__ import annotations

import pytest

from torchperf_ci.analysis.compare import LOOKS
from torchperf_ci.analysis.tolerances import Tolerances
from torchperf_ci.bench.compare import LEAST_LAUNCHES, ComparePlan


@pytest.mark.parametrize("seconds", [0.5, 2.0, 5.0, 10.0, 60.0])
@pytest.mark.parametrize("launches", [1, 2, 3, 10, 40])
def test_all_time_is_shared_and_the_first_look_is_in_the_first_launch(seconds: float, launches: int) -> None:
    """A launch is worth a second or more, unless there are the fewest that are allowed or asked for."""
    plan = ComparePlan(tolerances=Tolerances(), launches=launches, seconds=seconds)
    count = plan.launches_in_time
    ends = [plan.end_of(number) for number in range(count)]
    assert min(launches, LEAST_LAUNCHES) <= count <= launches
    assert ends == sorted(ends)
    assert ends[-1] == pytest.approx(seconds)
    assert ends[0] >= LOOKS[0][0] * seconds
    if count > LEAST_LAUNCHES:
        assert seconds / count >= 1.0
