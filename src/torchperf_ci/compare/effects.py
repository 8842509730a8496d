"""Estimate how much slower head is than base: effects with intervals from launches of paired samples. docs/method.md.

Everything is in log ratios of head over base, so that swapping the sides mirrors every verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from torchperf_ci.core.statistics import (
    BATCHES,
    MIN_BATCHES,
    batch_squared_error,
    interquartile_mean,
    student_t,
    student_t_above,
)

LOOKS = ((1 / 8, 0.002), (1 / 4, 0.004), (1 / 2, 0.010), (1.0, 0.034))
"""When a measurement may stop, as a share of its time, and the error each look may make on one side. They add up to
0.05; most is kept for the last look, where all launches are there, so that stopping early costs little power."""

LEAST_PAIRS = 2 * MIN_BATCHES
"""Fewer pairs than these in a launch say nothing about its error."""

EARLY_PAIRS = 2 * BATCHES

FAMILY_ERROR = 0.05
"""The share of comparisons that may be wrong about one of their cases: what Holm and Benjamini–Hochberg keep to."""

BETWEEN_FLOOR = 0.007
"""Standard deviation of log ratios between launches of equal code, taken where history does not say more."""

ARMS_FLOOR = 0.002
"""The same between the two arms of one process: equal modules lie elsewhere in memory."""

LAUNCHES = 10
"""Launches of a case that no look decides: what they differ by takes the root of their number to average out."""

_CERTAIN = 1e6
_HOPELESS = 1e4
"""Nobody measures so many times as long."""


class Verdict(str, Enum):
    """The verdicts on one metric of one case, the most urgent first."""

    REGRESSED = "regressed"
    FAILED = "failed"
    """Head does not run or is wrong, and base did and was right."""
    MISSING = "missing"
    REFUSED = "refused"
    """The two sides may not be compared; `why` says the reason."""
    INCONCLUSIVE = "inconclusive"
    SKIPPED = "skipped"
    """There is too little history to say anything."""
    NEW = "new"
    FIXED = "fixed"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeTolerance:
    """`margin`: the slowdown that counts as one. `threshold`: how far it may be open whether there is one.

    Both as ratios less one: 0.02 is 2 %.
    """

    margin: float
    threshold: float


ONE_PROCESS = ChangeTolerance(margin=0.01, threshold=0.03)
TWO_PROCESSES = ChangeTolerance(margin=0.02, threshold=0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Paired times of one launch of the two sides, in seconds: element i of all three belongs to pair i.

    values: the suite's own metrics of the same readings, of base and of head, by name.
    """

    base: tuple[float, ...]
    head: tuple[float, ...]
    probe: tuple[float, ...] = ()
    values: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)

    @property
    def log_ratios(self) -> list[float]:
        return [math.log(h / b) for b, h in zip(self.base, self.head, strict=True) if b > 0 and h > 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The ratio head / base with its interval, and `error`, the standard error of its log. `freedom`: degrees of it."""

    ratio: float
    low: float
    high: float
    error: float
    freedom: float
    launches: int
    pairs: int

    def invert(self) -> Effect:
        """Exchange base and head."""
        return replace(self, ratio=1 / self.ratio, low=1 / self.high, high=1 / self.low)

    def p_above(self, margin: float) -> float:
        """Compute the one-sided p value of "the slowdown is at most `margin`": small when head is surely slower."""
        beyond = math.log(self.ratio) - math.log1p(margin)
        if self.error <= 0 or not math.isfinite(self.error):
            return 0.0 if self.error == 0 and beyond > 0 else 1.0
        return student_t_above(beyond / self.error, self.freedom)


def estimate_effect(launches: Sequence[Launch], *, between: float, look: int = len(LOOKS) - 1) -> Effect | None:
    """Estimate the effect over all launches; None when no launch has enough pairs.

    The centre is the mean over launches of the interquartile mean of their log ratios. Its variance is that within
    launches, from contiguous batches, plus that between them: what they differ by beyond it, and at least `between`
    squared: `BETWEEN_FLOOR`, or `ARMS_FLOOR` for two arms of one process. Degrees of freedom are those of a sum of
    estimated variances after Welch and Satterthwaite: few, when most of it was seen in a few launches only.

    look: an index of `LOOKS`, whose error each end of the interval has. A launch that has only begun, with less than
    half the pairs of another, does not count.
    """
    all_logs = [launch.log_ratios for launch in launches]
    enough = max(LEAST_PAIRS, max(map(len, all_logs), default=0) / 2)
    ratios = [logs for logs in all_logs if len(logs) >= enough]
    if not ratios:
        return None
    centers = [interquartile_mean(logs) for logs in ratios]
    errors = [batch_squared_error(logs, center=interquartile_mean) for logs in ratios]
    count, center = len(centers), sum(centers) / len(centers)
    within = sum(errors) / count**2
    spread = sum((value - center) ** 2 for value in centers) / (count - 1) if count > 1 and between > 0 else 0.0
    beyond = max(0.0, spread - sum(errors) / count)
    variance = within + max(beyond, between**2) / count
    doubt = within**2 / sum(min(BATCHES, len(logs) // 2) - 1 for logs in ratios)
    if beyond > between**2:  # else the part between launches is a constant, which adds no doubt
        doubt += (beyond / count) ** 2 / (count - 1)
    return make_effect(
        center,
        variance=variance,
        freedom=max(1.0, variance**2 / doubt) if doubt > 0 else _CERTAIN,
        look=look,
        launches=count,
        pairs=sum(len(logs) for logs in ratios),
    )


def make_effect(
    center: float, *, variance: float, freedom: float, look: int = len(LOOKS) - 1, launches: int = 1, pairs: int = 1
) -> Effect:
    """Make the effect whose log ratio is `center` with `variance`, known from `freedom` degrees of freedom."""
    error = math.sqrt(variance)
    half = student_t(1 - LOOKS[look][1], freedom) * error if error > 0 else 0.0
    return Effect(
        ratio=math.exp(center),
        low=math.exp(center - half),
        high=math.exp(center + half),
        error=error,
        freedom=freedom,
        launches=launches,
        pairs=pairs,
    )


def judge(effect: Effect, tolerance: ChangeTolerance) -> Verdict:
    """Judge the interval of a ratio that is worse above one; for speedups judge `Effect.invert`."""
    low, high = math.log(effect.low), math.log(effect.high)
    margin, threshold = math.log1p(tolerance.margin), math.log1p(tolerance.threshold)
    if low > margin:
        return Verdict.REGRESSED
    if high < -margin:
        return Verdict.IMPROVED
    if high < threshold and low > -threshold:
        return Verdict.UNCHANGED
    return Verdict.INCONCLUSIVE


def is_settled(effect: Effect | None, tolerance: ChangeTolerance, *, family: int = 1) -> bool:
    """Say whether a look before the last one may end the measurement of a case among `family` cases.

    It needs a verdict, and `EARLY_PAIRS` pairs, because the first few of a crowded machine agree by accident more often
    than any formula says. What is slower has to be so surely that it still is among all of the cases. What is unchanged
    has to be nearer to 1 than to the margin: else it might yet turn out to be beyond that, though within the threshold.
    """
    if effect is None or effect.pairs < EARLY_PAIRS:
        return False
    verdict = judge(effect, tolerance)
    if verdict is Verdict.REGRESSED:
        return effect.p_above(tolerance.margin) <= FAMILY_ERROR / family
    if verdict is Verdict.UNCHANGED:
        return abs(math.log(effect.ratio)) <= math.log1p(tolerance.margin) / 2
    return verdict is Verdict.IMPROVED


def estimate_time_factor(effect: Effect, tolerance: ChangeTolerance) -> float:
    """Estimate how many times the measurement (its time and its launches) would decide an inconclusive effect.

    The error shrinks with the root of it, and has to fit between the estimate and the nearest bound that decides.
    Infinite when no time that anybody has would do.
    """
    center, half = abs(math.log(effect.ratio)), math.log(effect.high / effect.low) / 2
    room = max(center - math.log1p(tolerance.margin), math.log1p(tolerance.threshold) - center)
    times = (half / room) ** 2 if room > 0 else math.inf
    return max(1.0, times) if times < _HOPELESS else math.inf
