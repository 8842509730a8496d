"""Since when a case is slower or faster: lasting changes of its level over many runs, told from noise.

Candidates come from PELT with a least-squares cost on log values (Killick et al. 2012, by ruptures), with spikes cut so
that one bad night is no level. A candidate stays when Student's t between its two neighbouring levels, with the spread
as it is, spikes included, is improbable for as many places as there are runs. docs/dashboard.md has the error rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LEAST_RUNS = 8
LEAST_AT_A_LEVEL = 3
LEAST_CHANGE = 0.02
ERROR_RATE = 0.001
_PENALTY = 3.0
_SPIKE = 3.0
_LEAST_SPREAD = 1e-4


def find_levels(logs: np.ndarray[Any, Any]) -> list[int]:
    """Find where new levels begin, as places in the logarithms of values."""
    import numpy as np

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
