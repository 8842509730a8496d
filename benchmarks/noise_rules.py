"""When other tools would call head slower than base, judged on our samples. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, quantiles, stdev

from scipy.stats import mannwhitneyu, ttest_ind


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Times of one comparison in seconds, and base's mean times in the comparisons before it, oldest first."""

    base: Sequence[float]
    head: Sequence[float]
    before: Sequence[float]
    minimum_before: float | None = None


def _over_previous(factor: float) -> Callable[[Samples], bool | None]:
    return lambda s: fmean(s.head) > factor * s.before[-1] if s.before else None


def _minimum_over_previous(s: Samples) -> bool | None:
    return None if s.minimum_before is None else min(s.head) > 1.05 * s.minimum_before


def _minimum(s: Samples) -> bool:
    return min(s.head) > 1.05 * min(s.base)


def _mann_whitney(s: Samples) -> bool:
    slower = median(s.head) > 1.1 * median(s.base)
    return slower and float(mannwhitneyu(s.head, s.base).pvalue) < 0.002


def _welch(s: Samples) -> bool:
    return fmean(s.head) > fmean(s.base) and float(ttest_ind(s.head, s.base, equal_var=False).pvalue) < 0.05


def _z_score(s: Samples) -> bool | None:
    history = s.before[-100:]
    return (fmean(s.head) - fmean(history)) / stdev(history) > 5 if len(history) >= 10 else None


def _unusual_change(s: Samples) -> bool | None:
    history = s.before[-31:]
    if len(history) < 11:
        return None
    first, _, third = quantiles([abs(math.log(after / before)) for before, after in pairwise(history)], n=4)
    return math.log(fmean(s.head) / history[-1]) > third + 3 * (third - first)


RULES: Mapping[str, Callable[[Samples], bool | None]] = {
    "github-action-benchmark: mean over 105 % of the run before": _over_previous(1.05),
    "github-action-benchmark: over 110 %": _over_previous(1.10),
    "github-action-benchmark: over 200 % (its default)": _over_previous(2.0),
    "pytest-benchmark: minimum 5 % over that of the run before": _minimum_over_previous,
    "pytest-benchmark: minimum 5 % over, samples interleaved as ours": _minimum,
    "asv: Mann–Whitney p < 0.002 and factor 1.1, interleaved": _mann_whitney,
    "t-test: Welch p < 0.05, interleaved": _welch,
    "conbench: z above 5 over the last 100 runs": _z_score,
    "rustc-perf: beyond Q3 + 3·IQR of the last 30 changes": _unusual_change,
}
"""Every rule by what the card calls it; None: too little history."""
