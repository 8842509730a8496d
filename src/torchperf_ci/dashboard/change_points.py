"""Since when a case is slower or faster: lasting changes of its level over many runs, told from noise.

Candidates come from PELT with a least-squares cost on log values (Killick et al. 2012, by ruptures), with spikes cut so
that one bad night is no level. A candidate stays when Student's t between its two neighbouring levels, with the spread
as it is, spikes included, is improbable for as many places as there are runs. docs/dashboard.md has the error rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from torchperf_ci.core.records import METRICS, Case, Direction, Environment, Record, Testing
from torchperf_ci.dashboard.regressions import list_differences
from torchperf_ci.history.runs import HistoryRun

if TYPE_CHECKING:
    import numpy as np

FOLLOWED = ("speedup", "abs_latency", "compilation_latency", "compression_ratio")
"""The metrics whose level is followed, beside those of other tools whose direction is known."""

LEAST_RUNS = 8
LEAST_AT_A_LEVEL = 3
LEAST_CHANGE = 0.02
ERROR_RATE = 0.001
_PENALTY = 3.0
_SPIKE = 3.0
_LEAST_SPREAD = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChangePoint:
    """A lasting change of one metric of one case, between two neighbouring runs that have it.

    old, new: the medians of the levels before and after, in the metric's unit.
    """

    case: Case
    metric: str
    direction: Direction
    last_old: HistoryRun
    first_new: HistoryRun
    old: float
    new: float

    @property
    def change(self) -> float:
        """Relative: 0.04 for 4 % more."""
        return self.new / self.old - 1

    @property
    def is_worse(self) -> bool:
        return (self.change < 0) == (self.direction is Direction.HIGHER)


def find_change_points(runs: Sequence[HistoryRun]) -> tuple[ChangePoint, ...]:
    """Find the lasting changes of every case of the newest run; `runs` are oldest first.

    Only passing results count, and only those of machines like the newest run's.
    """
    newest = runs[-1].results.records if runs else ()
    environments = {r.case: r.environment for r in newest if r.testing is Testing.PERFORMANCE}
    histories: dict[Case, list[tuple[HistoryRun, Record]]] = {case: [] for case in environments}
    is_comparable: dict[tuple[Environment, Environment], bool] = {}  # asked for every record, and there are few pairs
    for run in runs:
        for record in run.results.records:
            if record.testing is Testing.PERFORMANCE and record.status.is_pass and record.case in environments:
                pair = (record.environment, environments[record.case])
                if pair not in is_comparable:
                    is_comparable[pair] = not list_differences(*pair)
                if is_comparable[pair]:
                    histories[record.case].append((run, record))
    points: list[ChangePoint] = []
    for case, records in histories.items():
        own = (metric for _, record in records[-1:] for metric in record.own_metrics.values())
        for metric in (*map(METRICS.__getitem__, FOLLOWED), *own):
            if metric.direction is Direction.UNKNOWN:
                continue
            series = [(run, value) for run, record in records if (value := record.metrics.get(metric.name, 0.0)) > 0]
            values = [value for _, value in series]
            for start, place, end in _neighbours(find_levels(values), len(values)):
                points.append(
                    ChangePoint(
                        case=case,
                        metric=metric.name,
                        direction=metric.direction,
                        last_old=series[place - 1][0],
                        first_new=series[place][0],
                        old=median(values[start:place]),
                        new=median(values[place:end]),
                    )
                )
    return tuple(points)


def find_levels(values: Sequence[float]) -> list[int]:
    """Find where new levels begin, as places in `values`, which are positive."""
    import numpy as np

    logs = np.log(np.asarray(values, dtype=float))
    if len(logs) < LEAST_RUNS or float(np.ptp(logs)) < math.log1p(LEAST_CHANGE):
        return []
    places = _find_candidates(logs)
    while places:
        odds = [
            _rate_change(logs[start:place], logs[place:end]) for start, place, end in _neighbours(places, len(logs))
        ]
        worst = max(range(len(odds)), key=odds.__getitem__)
        if odds[worst] * len(logs) <= ERROR_RATE:
            break
        del places[worst]
    return places


def _neighbours(places: Sequence[int], length: int) -> list[tuple[int, int, int]]:
    """Take every place with the one before and the one after it."""
    edges = [0, *places, length]
    return [(start, place, end) for (start, place), (_, end) in pairwise(pairwise(edges))]


def _find_candidates(logs: np.ndarray[Any, Any]) -> list[int]:
    import numpy as np
    import ruptures
    from scipy.ndimage import median_filter

    spread = max(float(np.median(np.abs(np.diff(logs)))) / (0.6745 * math.sqrt(2)), _LEAST_SPREAD)
    middles = median_filter(logs, size=2 * LEAST_AT_A_LEVEL + 1, mode="nearest")
    signal = np.clip(logs, middles - _SPIKE * spread, middles + _SPIKE * spread) / spread
    search = ruptures.KernelCPD(kernel="linear", min_size=LEAST_AT_A_LEVEL).fit(signal.reshape(-1, 1))
    return [int(place) for place in search.predict(pen=_PENALTY * math.log(len(logs)))[:-1]]


def _rate_change(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> float:
    """Compute how probable a difference like this is without a change, by Student's t with a pooled spread.

    1 for what is no change that matters: a small one, or one that too few runs have.
    """
    import numpy as np
    from scipy.special import stdtr

    old, new = float(np.median(before)), float(np.median(after))
    at_old = int((abs(before - old) < abs(before - new)).sum())
    at_new = int((abs(after - new) < abs(after - old)).sum())
    if abs(new - old) < math.log1p(LEAST_CHANGE) or min(at_old, at_new) < LEAST_AT_A_LEVEL:
        return 1.0
    degrees = len(before) + len(after) - 2
    squares = float(((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum())
    spread = max(math.sqrt(squares / degrees), _LEAST_SPREAD)
    t = abs(float(after.mean() - before.mean())) / (spread * math.sqrt(1 / len(before) + 1 / len(after)))
    return 2 * float(stdtr(degrees, -t))
