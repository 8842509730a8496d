"""Is head slower than base? Effects with intervals from launches of paired samples, and verdicts. docs/method.md.

Everything is in log ratios of head over base, so that swapping the sides mirrors every verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from torchperf_ci.core.records import Case
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
"""How often a comparison of any number of cases may be wrong about one: what Holm and Benjamini–Hochberg keep to."""

_CERTAIN = 1e6
_HOPELESS = 1e4
"""Nobody measures so many times as long."""

BETWEEN_FLOOR = 0.007
"""Standard deviation of log ratios between launches of equal code, taken where history does not say more."""


ARMS_FLOOR = 0.002
"""The same between the two arms of one process: equal modules lie elsewhere in memory."""

LAUNCHES = 10
"""Launches of a case that no look decides: what they differ by takes the root of their number to average out."""


class Verdict(str, Enum):
    """What a comparison found out about one metric of one case."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"
    """Head does not run or is wrong, and base did and was right."""
    FIXED = "fixed"
    NEW = "new"
    MISSING = "missing"
    REFUSED = "refused"
    """The two sides may not be compared; `why` says the reason."""
    SKIPPED = "skipped"
    """There is too little history to say anything."""

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """`margin`: the slowdown that counts as one. `threshold`: how far it may be open whether there is one.

    Both as ratios less one: 0.02 is 2 %.
    """

    margin: float
    threshold: float


ONE_PROCESS = Tolerance(margin=0.01, threshold=0.03)
TWO_PROCESSES = Tolerance(margin=0.02, threshold=0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Paired times of one launch of the two sides, in seconds: element i of all three belongs to pair i."""

    base: tuple[float, ...]
    head: tuple[float, ...]
    probe: tuple[float, ...] = ()

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

    def flipped(self) -> Effect:
        """The same with base and head exchanged."""
        return replace(self, ratio=1 / self.ratio, low=1 / self.high, high=1 / self.low)

    def p_above(self, margin: float) -> float:
        """One-sided p value of "the slowdown is at most `margin`": small when head is surely slower than that."""
        beyond = math.log(self.ratio) - math.log1p(margin)
        if self.error <= 0 or not math.isfinite(self.error):
            return 0.0 if self.error == 0 and beyond > 0 else 1.0
        return student_t_above(beyond / self.error, self.freedom)


def effect(launches: Sequence[Launch], *, between: float, look: int = len(LOOKS) - 1) -> Effect | None:
    """The effect over all launches; None when no launch has enough pairs. Each end of its interval has the error of
    `look`, an index of `LOOKS`. A launch that has only begun, with less than half the pairs of another, does not count.

    The centre is the mean over launches of the interquartile mean of their log ratios. Its variance is that within
    launches, from contiguous batches, plus that between them: what they differ by beyond it, and at least `between`
    squared: `BETWEEN_FLOOR`, or `ARMS_FLOOR` for two arms of one process.
    """
    found = [launch.log_ratios for launch in launches]
    enough = max(LEAST_PAIRS, max(map(len, found), default=0) / 2)
    ratios = [logs for logs in found if len(logs) >= enough]
    if not ratios:
        return None
    centers = [interquartile_mean(logs) for logs in ratios]
    errors = [batch_squared_error(logs, center=interquartile_mean) for logs in ratios]
    count, center = len(centers), sum(centers) / len(centers)
    within = sum(errors) / count**2
    spread = sum((value - center) ** 2 for value in centers) / (count - 1) if count > 1 and between > 0 else 0.0
    seen = max(0.0, spread - sum(errors) / count)
    estimated = [(within, sum(min(BATCHES, len(logs) // 2) - 1 for logs in ratios))]
    if seen > between**2:
        estimated.append((seen / count, count - 1))
    return effect_of(
        center,
        variance=within + max(seen, between**2) / count,
        freedom=_freedom(estimated, known=0.0 if seen > between**2 else between**2 / count),
        look=look,
        launches=count,
        pairs=sum(len(logs) for logs in ratios),
    )


def effect_of(
    center: float, *, variance: float, freedom: float, look: int = len(LOOKS) - 1, launches: int = 1, pairs: int = 1
) -> Effect:
    """The effect whose log ratio is `center` with `variance`, known from `freedom` degrees of freedom."""
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


def _freedom(parts: Sequence[tuple[float, int]], *, known: float) -> float:
    """Degrees of freedom of a sum of estimated variances (variance, its degrees) and a known one, after Welch and
    Satterthwaite: few, when most of it was seen in a few launches only."""
    whole = known + sum(variance for variance, _ in parts)
    doubt = sum(variance**2 / degrees for variance, degrees in parts)
    return max(1.0, whole**2 / doubt) if doubt > 0 else _CERTAIN


def judge(found: Effect, tolerance: Tolerance) -> Verdict:
    """The verdict of an interval, of a ratio that is worse above one; for speedups judge `Effect.flipped`."""
    low, high = math.log(found.low), math.log(found.high)
    margin, threshold = math.log1p(tolerance.margin), math.log1p(tolerance.threshold)
    if low > margin:
        return Verdict.REGRESSED
    if high < -margin:
        return Verdict.IMPROVED
    if high < threshold and low > -threshold:
        return Verdict.UNCHANGED
    return Verdict.INCONCLUSIVE


def is_settled(found: Effect | None, tolerance: Tolerance, *, family: int = 1) -> bool:
    """Whether a look before the last one may end the measurement of a case among `family` cases.

    It needs a verdict, and `EARLY_PAIRS` pairs, because the first few of a crowded machine agree by accident more often
    than any formula says. What is slower has to be so surely that it still is among all of the cases. What is unchanged
    has to be nearer to 1 than to the margin: else it might yet turn out to be beyond that, though within the threshold.
    """
    if found is None or found.pairs < EARLY_PAIRS:
        return False
    verdict = judge(found, tolerance)
    if verdict is Verdict.REGRESSED:
        return found.p_above(tolerance.margin) <= FAMILY_ERROR / family
    if verdict is Verdict.UNCHANGED:
        return abs(math.log(found.ratio)) <= math.log1p(tolerance.margin) / 2
    return verdict is Verdict.IMPROVED


def more_needed(found: Effect, tolerance: Tolerance) -> float:
    """How many times the measurement (its time and its launches) an inconclusive effect would need to be decided: the
    error shrinks with the root of it, and has to fit between the estimate and the nearest bound that decides.
    Infinite when no time that anybody has would do."""
    center, half = abs(math.log(found.ratio)), math.log(found.high / found.low) / 2
    room = max(center - math.log1p(tolerance.margin), math.log1p(tolerance.threshold) - center)
    times = (half / room) ** 2 if room > 0 else math.inf
    return max(1.0, times) if times < _HOPELESS else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The verdict on one metric of one case. `base` and `head` are in the metric's unit, or absent.

    p: of "the slowdown is at most the margin".
    confirmed: whether a second measurement in fresh processes says the same; None when there was none.
    more_seconds, more_launches: what an inconclusive one would need on top.
    fails_on_both: neither side runs, or is right: there is nothing to compare, and it is nobody's change.
    listed, blocks: whether it stands after the correction for the size of the family (Benjamini and Hochberg for what
        is listed, Holm for what blocks).
    """

    case: Case
    metric: str
    verdict: Verdict
    base: float | None = None
    head: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    listed: bool = False
    blocks: bool = False
    fails_on_both: bool = False
    confirmed: bool | None = None
    more_seconds: float | None = None
    more_launches: int | None = None
    why: str = ""


def correct_family(comparisons: Sequence[Comparison], *, rate: float = FAMILY_ERROR) -> list[Comparison]:
    """Decide which regressions stand, given how many comparisons were made.

    Listed: Benjamini and Hochberg's step-up procedure (1995) at false discovery rate `rate`. Blocking: Holm's
    step-down procedure (1979) at family-wise error `rate`. Every comparison with a p value counts in the family. A
    regression that does not stand becomes inconclusive.
    """
    family = sorted((c.p, index) for index, c in enumerate(comparisons) if c.p is not None)
    size = len(family)
    passed = [rank for rank, (p, _) in enumerate(family, start=1) if p <= rate * rank / size]
    listed = {index for _, index in family[: max(passed, default=0)]}
    blocking = set()
    for rank, (p, index) in enumerate(family):
        if p > rate / (size - rank):
            break
        blocking.add(index)
    return [
        _corrected(comparison, listed=index in listed, blocking=index in blocking, size=size)
        for index, comparison in enumerate(comparisons)
    ]


def _corrected(comparison: Comparison, *, listed: bool, blocking: bool, size: int) -> Comparison:
    if comparison.p is None:
        regressed = comparison.verdict in {Verdict.REGRESSED, Verdict.FAILED, Verdict.MISSING}
        return replace(comparison, listed=regressed, blocks=regressed and comparison.confirmed is not False)
    if comparison.verdict is not Verdict.REGRESSED:
        return comparison
    if not listed:
        why = f"slower by itself, but not among {size} comparisons (p = {comparison.p:.2g})"
        return replace(comparison, verdict=Verdict.INCONCLUSIVE, why=why)
    return replace(comparison, listed=True, blocks=blocking and comparison.confirmed is not False)
