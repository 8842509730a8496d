"""What a metric usually does from run to run, and whether a new value is outside of it. docs/method.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, quantiles, stdev

from torchperf_ci.compare.effects import Comparison, Tolerance, Verdict
from torchperf_ci.core.records import Case, Direction, Metric
from torchperf_ci.core.statistics import student_t

RUNS = 30
"""Runs a band is made of, at most: the newest ones."""
LEAST_RUNS = 10
"""Fewer runs do not make a band."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The usual values of a metric: their median, the prediction interval a new value falls into 19 times of 20, and
    `jump`, the change from one run to the next (as a logarithm) beyond which one is unusual: the third quartile of the
    changes plus three times their interquartile range, as rustc-perf has it."""

    center: float
    low: float
    high: float
    jump: float
    runs: int


def band(values: Sequence[float]) -> Band | None:
    """The band of positive values, oldest first; None for fewer than `LEAST_RUNS`."""
    logs = [math.log(value) for value in values[-RUNS:] if value > 0]
    if len(logs) < LEAST_RUNS:
        return None
    mean, spread = fmean(logs), stdev(logs) * math.sqrt(1 + 1 / len(logs))
    half = student_t(0.975, len(logs) - 1) * spread
    first, _, third = quantiles([abs(after - before) for before, after in pairwise(logs)], n=4, method="inclusive")
    return Band(
        center=math.exp(median(logs)),
        low=math.exp(mean - half),
        high=math.exp(mean + half),
        jump=third + 3 * (third - first),
        runs=len(logs),
    )


def compare_with_band(
    case: Case, metric: Metric, value: float, history: Sequence[float], tolerance: Tolerance
) -> Comparison:
    """The verdict on one new value. It is worse when it is outside of the prediction interval, further from the median
    than an unusual jump and than the margin; unchanged inside of the interval and the threshold."""
    usual = band(history)
    if usual is None:
        why = f"{len(history)} comparable runs before this one, {LEAST_RUNS} are needed"
        return Comparison(case=case, metric=metric.name, verdict=Verdict.SKIPPED, head=value, why=why)
    change = math.log(value / usual.center)
    far = abs(change) > max(usual.jump, math.log1p(tolerance.margin))
    inside = usual.low <= value <= usual.high
    if far and not inside:
        worse = (change > 0) == (metric.direction is Direction.LOWER)
        verdict = Verdict.REGRESSED if worse else Verdict.IMPROVED
    else:
        near = abs(change) < math.log1p(tolerance.threshold)
        verdict = Verdict.UNCHANGED if inside and near else Verdict.INCONCLUSIVE
    return Comparison(
        case=case,
        metric=metric.name,
        verdict=verdict,
        base=usual.center,
        head=value,
        ratio=math.exp(change),
        low=value / usual.high,
        high=value / usual.low,
        why=f"against the median of {usual.runs} runs",
    )
