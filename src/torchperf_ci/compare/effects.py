"""Estimate how much slower head is than base: effects with intervals from launches of paired samples. docs/method.md.

Everything is in log ratios of head over base, so that swapping the sides mirrors every verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median, variance

from torchperf_ci.core.statistics import (
    BATCHES,
    MIN_BATCHES,
    batch_squared_error,
    interquartile_mean,
    student_t,
    student_t_above,
)
from torchperf_ci.core.text import Word

LOOKS = ((1 / 8, 0.002), (1 / 4, 0.004), (1 / 2, 0.010), (1.0, 0.034))
"""When a measurement may stop, as a share of its time, and the error each look may make on one side. They add up to
0.05; most is kept for the last look, where all launches are there, so that stopping early costs little power."""

LEAST_PAIRS = 2 * MIN_BATCHES
"""Fewer pairs than these in a launch say nothing about its error."""

EARLY_PAIRS = 2 * BATCHES

FAMILY_ERROR = 0.05
"""The share of comparisons that may be wrong about one of their cases: what Holm and Benjamini–Hochberg keep to."""

PROMISE = 0.15
"""The p value up to which a change is worth a second measurement: with one that is beyond doubt by itself, both
together are below 0.03."""

BETWEEN_FLOOR = 0.007
"""Standard deviation of log ratios between launches of equal code, taken where history does not say more."""

SHORT_CALL = 1e-3
SHORT_CALL_FLOOR = 0.025
"""Seconds of an iteration below which that is more, and the most that it is then."""

ARMS_FLOOR = 0.002
"""The same between the two arms of one process: equal modules lie elsewhere in memory."""

LAUNCHES = 10
"""Launches of a case that no look decides: what they differ by takes the root of their number to average out."""

LEAST_CASES = 3
"""Fewer cases than these do not tell what launches of a machine differ by."""

_LEAST_VARIANCE = 1e-10
_LEAST_P = 1e-15
_CERTAIN = 1e6
_FARTHEST = 300.0
_HOPELESS = 1e4
"""Nobody measures so many times as long."""


class Verdict(Word):
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
    CHANGED = "changed"
    """It counts something else, or has other code: a fact, neither good nor bad."""
    UNCHANGED = "unchanged"


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
class LaunchNoise:
    """The variance of log ratios between launches, known from `freedom` degrees of freedom: of one case, or of all."""

    variance: float
    freedom: float


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


def estimate_effect(
    launches: Sequence[Launch], *, between: float, look: int = len(LOOKS) - 1, noise: LaunchNoise | None = None
) -> Effect | None:
    """Estimate the effect over all launches; None when no launch has enough pairs.

    The centre is the mean over launches of the interquartile mean of their log ratios. Its variance is that within
    launches, from contiguous batches, plus that between them: what they differ by beyond it, and at least `between`
    squared: `find_floor`, or `ARMS_FLOOR` for two arms of one process. Degrees of freedom are those of a sum of
    estimated variances after Welch and Satterthwaite: few, when most of it was seen in a few launches only.

    noise: what other cases say of the spread of launches. The case's own is shrunk towards it (moderated t: Smyth,
        "Linear models and empirical Bayes methods", 2004, section 3), and a single launch has it alone.
    look: an index of `LOOKS`, whose error each end of the interval has. A launch that has only begun, with less than
        half the pairs of another, does not count.
    """
    ratios = _pick_launches(launches)
    if not ratios:
        return None
    centers = [interquartile_mean(logs) for logs in ratios]
    errors = [batch_squared_error(logs, center=interquartile_mean) for logs in ratios]
    count, center = len(centers), sum(centers) / len(centers)
    within = sum(errors) / count**2
    prior = LaunchNoise(variance=0.0, freedom=0.0) if noise is None or between == 0 else noise
    squares = sum((value - center) ** 2 for value in centers) if between > 0 else 0.0
    freedom = count - 1 + prior.freedom
    spread = (squares + prior.freedom * prior.variance) / freedom if freedom > 0 else 0.0
    beyond = max(0.0, spread - sum(errors) / count)
    variance = within + max(beyond, between**2) / count
    doubt = within**2 / sum(min(BATCHES, len(logs) // 2) - 1 for logs in ratios)
    if beyond > between**2:  # else the part between launches is a constant, which adds no doubt
        doubt += (beyond / count) ** 2 / freedom
    return make_effect(
        center,
        variance=variance,
        freedom=max(1.0, variance**2 / doubt) if doubt > 0 else _CERTAIN,
        look=look,
        launches=count,
        pairs=sum(len(logs) for logs in ratios),
    )


def find_floor(launches: Sequence[Launch], between: float) -> float:
    """Find the standard deviation that launches of equal code have at least, which `between` is for long iterations.

    The arms of one process share where it has its code and data, so theirs stays.
    """
    times = [time for launch in launches for time in (*launch.base, *launch.head) if time > 0]
    return max(between, floor_at(median(times))) if times and between >= BETWEEN_FLOOR else between


def floor_at(seconds: float) -> float:
    """Compute the standard deviation that launches of equal code have at least when an iteration takes `seconds`.

    The shorter a call, the more it depends on where a process has its code and data. The fourth root of the time is
    what the noise card shows: 0.5 % at 4.5 ms, 1.4 % at 0.12 ms, 1.8 % at 0.03 ms, 2.5 % at 0.014 ms.
    """
    growth = math.sqrt(math.sqrt(SHORT_CALL / seconds))
    return min(SHORT_CALL_FLOOR, BETWEEN_FLOOR * max(1.0, growth))


def combine_p_values(first: float, second: float) -> float:
    """Combine the one-sided p values of two measurements by the inverse normal method, with weights fixed beforehand:
    equal ones (Lehmacher and Wassmer, "Adaptive sample size calculations in group sequential trials", 1999).

    That the second one is made only where the first one looks bad does not make it smaller than it should be.
    """
    from scipy.special import ndtr, ndtri

    scores = [float(ndtri(min(max(p, _LEAST_P), 1 - _LEAST_P))) for p in (first, second)]
    return float(ndtr(sum(scores) / math.sqrt(2)))


def _pick_launches(launches: Sequence[Launch]) -> list[list[float]]:
    """Return the log ratios of the launches that have enough pairs, and at least half as many as another."""
    all_logs = [launch.log_ratios for launch in launches]
    enough = max(LEAST_PAIRS, max(map(len, all_logs), default=0) / 2)
    return [logs for logs in all_logs if len(logs) >= enough]


def measure_launch_noise(launches: Sequence[Launch]) -> LaunchNoise | None:
    """Measure what the launches of one case differ by; None when fewer than two have enough pairs."""
    centers = [interquartile_mean(logs) for logs in _pick_launches(launches)]
    if len(centers) < 2:
        return None
    return LaunchNoise(variance=max(variance(centers), _LEAST_VARIANCE), freedom=len(centers) - 1)


def pool_launch_noise(cases: Iterable[Mapping[str, LaunchNoise]]) -> dict[str, LaunchNoise]:
    """Estimate what the launches of a machine differ by, from what each case has by metric: every metric by itself,
    those of fewer than `LEAST_CASES` cases not at all."""
    by_metric: dict[str, list[LaunchNoise]] = {}
    for case in cases:
        for metric, noise in case.items():
            by_metric.setdefault(metric, []).append(noise)
    pools = {metric: _pool_metric(noises) for metric, noises in by_metric.items()}
    return {metric: pool for metric, pool in pools.items() if pool is not None}


def _pool_metric(cases: Sequence[LaunchNoise]) -> LaunchNoise | None:
    """Estimate the common noise of several cases; None below `LEAST_CASES`.

    The common variance and its degrees of freedom, the fewer the more the cases differ in it, come from the mean and
    the variance of the logarithms of their variances (Smyth 2004, section 6.2). It is never worth more degrees than the
    cases have together.
    """
    from scipy.special import digamma, polygamma

    if len(cases) < LEAST_CASES:
        return None
    halves = [case.freedom / 2 for case in cases]
    logs = [
        math.log(case.variance) - float(digamma(half)) + math.log(half)
        for case, half in zip(cases, halves, strict=True)
    ]
    excess = variance(logs) - fmean(float(polygamma(1, half)) for half in halves)
    half = sum(halves)
    if excess > 0:
        half = min(half, _invert_trigamma(excess))
    return LaunchNoise(variance=math.exp(fmean(logs) + float(digamma(half)) - math.log(half)), freedom=2 * half)


def _invert_trigamma(value: float) -> float:
    """Find where the trigamma function has a positive `value`, by Newton's method on its reciprocal (Smyth 2004,
    appendix), which converges from below."""
    from scipy.special import polygamma

    place = 0.5 + 1 / value
    for _ in range(50):
        height = float(polygamma(1, place))
        step = height * (1 - height / value) / float(polygamma(2, place))
        place += step
        if -step / place < 1e-8:
            break
    return place


def _exp(logarithm: float) -> float:
    """Return a ratio that is a finite number, and not zero, however far samples lie apart."""
    return math.exp(max(-_FARTHEST, min(_FARTHEST, logarithm)))


def make_effect(
    center: float, *, variance: float, freedom: float, look: int = len(LOOKS) - 1, launches: int = 1, pairs: int = 1
) -> Effect:
    """Make the effect whose log ratio is `center` with `variance`, known from `freedom` degrees of freedom."""
    error = math.sqrt(variance)
    half = student_t(1 - LOOKS[look][1], freedom) * error if error > 0 else 0.0
    return Effect(
        ratio=_exp(center),
        low=_exp(center - half),
        high=_exp(center + half),
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


def find_lean(effect: Effect, tolerance: ChangeTolerance) -> Verdict | None:
    """Find the change, worse or better, that is probable enough to measure again; None where neither is."""
    if effect.p_above(tolerance.margin) <= PROMISE:
        return Verdict.REGRESSED
    return Verdict.IMPROVED if effect.invert().p_above(tolerance.margin) <= PROMISE else None


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
