"""The statistics of paired samples: estimates, intervals, the slow state. docs/method.md says why these.

Samples of one machine are strongly autocorrelated, so formulas for independent samples are wrong; intervals here come
from centres of contiguous batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, stdev
from typing import Any

BATCHES = 20
"""Contiguous batches an interval is made of, where there are enough pairs."""

MIN_BATCHES = 5

Center = Callable[[Sequence[float]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A ratio with its confidence interval. `low` and `high` are 0 and infinity when there is too little data."""

    ratio: float
    low: float
    high: float
    pairs: int

    @property
    def half_width(self) -> float:
        """Half the width of the interval of the log ratio; infinite when there is too little data."""
        return math.log(self.high / self.low) / 2 if self.low > 0 and math.isfinite(self.high) else math.inf


def paired_ratio(over: Sequence[float], under: Sequence[float], *, alpha: float = 0.05) -> Estimate:
    """Estimate the ratio over / under of paired times: exp of the median log ratio of the pairs.

    The interval is Student's t over the medians of contiguous batches of pairs (batch means method, Law & Kelton,
    Simulation Modeling and Analysis, ch. 9.5), 1 - alpha wide, around the median of all pairs.
    """
    logs = [math.log(a / b) for a, b in zip(over, under, strict=True) if a > 0 and b > 0]
    if not logs:
        return Estimate(ratio=math.nan, low=0.0, high=math.inf, pairs=0)
    center, half = median(logs), batch_half_width(logs, alpha=alpha)
    return Estimate(ratio=math.exp(center), low=math.exp(center - half), high=math.exp(center + half), pairs=len(logs))


def median_interval(values: Sequence[float], *, alpha: float = 0.05) -> tuple[float, float] | None:
    """Estimate the interval of the median of positive values, over batches of their logarithms; None for too few."""
    logs = [math.log(value) for value in values if value > 0]
    half = batch_half_width(logs, alpha=alpha)
    if not math.isfinite(half) or len(logs) < len(values):
        return None
    center = median(logs)
    return math.exp(center - half), math.exp(center + half)


def batch_half_width(values: Sequence[float], *, alpha: float) -> float:
    """Compute half the width of the t interval over batch medians; infinite below `2 * MIN_BATCHES` values."""
    count = min(BATCHES, len(values) // 2)
    if count < MIN_BATCHES:
        return math.inf
    return student_t(1 - alpha / 2, count - 1) * math.sqrt(batch_squared_error(values))


def interquartile_mean(values: Sequence[float]) -> float:
    """Average the middle half of the values. A quarter of them may be anything, as the median lets half of them be, but
    it uses more of what the others say: its error is 10 to 15 % smaller in measured log ratios."""
    cut = len(values) // 4
    return fmean(sorted(values)[cut : len(values) - cut])


def batch_squared_error(values: Sequence[float], *, center: Center = median) -> float:
    """Compute the squared standard error of the centre of at least `2 * MIN_BATCHES` values, from those of batches."""
    centers = batch_centers(values, min(BATCHES, len(values) // 2), center=center)
    mean = fmean(centers)
    return sum((value - mean) ** 2 for value in centers) / (len(centers) - 1) / len(centers)


def batch_centers(values: Sequence[float], count: int, *, center: Center = median) -> list[float]:
    """Compute the centres of `count` contiguous batches whose sizes differ by at most one."""
    edges = [round(index * len(values) / count) for index in range(count + 1)]
    return [center(values[start:end]) for start, end in pairwise(edges)]


def student_t(probability: float, degrees: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def student_t_above(value: float, degrees: float) -> float:
    """Compute the probability that Student's t exceeds `value`."""
    from scipy.special import stdtr

    return float(stdtr(degrees, -value))


def slow_share(probes: Sequence[float], *, factor: float = 1.2) -> float:
    """Compute how often the machine was in its slow state: the share of probe times above `factor` lower quartiles."""
    if len(probes) < 4:
        return 0.0
    usual = sorted(probes)[len(probes) // 4]
    return sum(probe > factor * usual for probe in probes) / len(probes)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the first and the third quartile by Hazen's rule, which is the one of pytest-benchmark."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = min(max(share * len(ordered) - 0.5, 0.0), len(ordered) - 1.0)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (ordered[above] - ordered[below]) * (place - below)

    return at(0.25), at(0.75)


def describe_times(times: Sequence[float]) -> dict[str, Any]:
    """Compute the statistics that pytest-benchmark has of times in seconds, by its names."""
    first, third = quartiles(times)
    mean, spread = fmean(times), stdev(times) if len(times) > 1 else 0.0  # as pytest-benchmark does
    low, high = first - 1.5 * (third - first), third + 1.5 * (third - first)
    beyond_stddev = sum(abs(time - mean) > spread for time in times)
    beyond_fences = sum(not low <= time <= high for time in times)
    total = sum(times)
    return {
        "min": min(times),
        "max": max(times),
        "mean": mean,
        "stddev": spread,
        "rounds": len(times),
        "median": median(times),
        "iqr": third - first,
        "q1": first,
        "q3": third,
        "iqr_outliers": beyond_fences,
        "stddev_outliers": beyond_stddev,
        "outliers": f"{beyond_stddev};{beyond_fences}",
        "ld15iqr": min(time for time in times if time >= low),
        "hd15iqr": max(time for time in times if time <= high),
        "ops": len(times) / total if total else 0,
        "total": total,
        "data": list(times),
    }
