"""What raw comparisons say: our rule replayed on their beginnings, shares with intervals, coverage."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean, linear_regression, median, stdev
from types import MappingProxyType

from noise_rules import RULES, Samples

from torchperf_ci.compare.effects import (
    ARMS_FLOOR,
    BETWEEN_FLOOR,
    LEAST_PAIRS,
    LOOKS,
    ONE_PROCESS,
    TWO_PROCESSES,
    ChangeTolerance,
    Effect,
    Launch,
    LaunchNoise,
    Verdict,
    estimate_effect,
    find_floor,
    is_settled,
    measure_launch_noise,
    pool_launch_noise,
)
from torchperf_ci.compare.live import ComparePlan
from torchperf_ci.compare.model import LATENCY, Comparison, Measured, SideResult, ToleranceRules
from torchperf_ci.compare.session import CONFIRMATION
from torchperf_ci.compare.verdicts import (
    compare_case,
    correct_family,
    is_to_repeat,
    measure_spread,
    share_launch_noise,
)
from torchperf_ci.core.records import Case, Mode
from torchperf_ci.core.statistics import batch_squared_error, interquartile_mean

Limits = tuple[ChangeTolerance, float]
LIMITS: dict[str, Limits] = {
    "one": (ONE_PROCESS, ARMS_FLOOR),
    "two": (TWO_PROCESSES, BETWEEN_FLOOR),
}
"""Margin and threshold, and the standard deviation between launches, by kind."""
AT = {"one": 2.0, "two": 10.0}
"""The seconds per case that the aims are about."""
SECONDS = {"one": 5.0, "two": 10.0}
"""The seconds of sampling of a comparison; smaller budgets are the beginnings of these."""
TRIAL = 1 / 20
"""The part of its seconds that a comparison of a trial takes."""
CASES = 20
SLOW = 1.2
"""Times its lower quartile that a probe of the slow state takes."""
FAMILIES = 400
"""Pull requests that are drawn from what was measured."""

_CASE = Case(suite="noise", model="blocks", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="eager")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One comparison: with how much extra work in head (per cent), and how many seconds of sampling it took.

    call: microseconds of a short call; 0 for the model of a hundred blocks. wall: seconds with what is not sampling.
    """

    kind: str
    extra: float
    stress: bool
    seconds: float
    launches: tuple[Launch, ...]
    call: float = 0
    wall: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`hits` of `count`."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        return self.hits / self.count if self.count else math.nan

    def reaches(self, least: float) -> bool | None:
        """Say whether it is at least so much; None where it is not, but its interval is wide enough for that."""
        if not self.count or wilson(self.hits, self.count)[1] >= least > self.value:
            return None
        return self.value >= least

    def __str__(self) -> str:
        if not self.count:
            return "–"
        low, high = wilson(self.hits, self.count)
        return f"{self.hits} of {self.count} ({100 * low:.1f} to {100 * high:.1f} %)"


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    share, scale = hits / count, 1 + z * z / count
    center = (share + z * z / (2 * count)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, center - half), min(1.0, center + half)


def estimate(
    launches: Sequence[Launch], between: float, *, look: int = len(LOOKS) - 1, noise: LaunchNoise | None = None
) -> Effect | None:
    """The effect as our rule has it."""
    return estimate_effect(launches, between=find_floor(launches, between), look=look, noise=noise)


def begun(item: Round, budget: float, share: float = 1.0) -> list[Launch]:
    """The launches as they would be after `share` of a smaller budget: fewer, and every launch has its part of it."""
    had, has = (
        [plan.end_of(number) for number in range(plan.launches_in_time)]
        for plan in (
            ComparePlan(tolerances=ToleranceRules(), launches=len(item.launches), seconds=seconds)
            for seconds in (item.seconds, budget)
        )
    )
    parts = [
        (min(share * budget, end) - start) / (whole_end - whole_start)
        for (start, end), (whole_start, whole_end) in zip(pairwise([0.0, *has]), pairwise([0.0, *had]), strict=False)
    ]
    found = []
    for launch, part in zip(item.launches, parts, strict=False):
        size = round(len(launch.base) * min(1.0, part))
        if size >= LEAST_PAIRS:
            found.append(Launch(base=launch.base[:size], head=launch.head[:size], probe=launch.probe[:size]))
    return found


def replay(
    item: Round,
    budget: float,
    *,
    family: int = 1,
    noise: Mapping[str, LaunchNoise] = MappingProxyType({}),
    limits: Limits | None = None,
) -> Measured:
    """The beginning of what was measured, as far as our rule with its looks would have gone; `family`: cases of the
    pull request."""
    tolerance, between = limits or LIMITS[item.kind]
    share, launches, look = 1.0, [], 0
    for look, (share, _) in enumerate(LOOKS):
        launches = begun(item, budget, share)
        if look == len(LOOKS) - 1:
            break
        effect = estimate(launches, between, look=look, noise=noise.get(LATENCY))
        if is_settled(effect, tolerance, family=family):
            break
    return Measured(
        case=_CASE,
        base=SideResult(),
        head=SideResult(),
        launches=tuple(launches),
        between=between,
        seconds=share * budget,
        look=look,
        spread=measure_spread(launches, ()) if between == BETWEEN_FLOOR else {},
        noise=noise,
    )


def judge_alone(item: Round, budget: float) -> tuple[Verdict, float]:
    """The verdict of a single measurement, and the seconds of sampling it took."""
    measured = replay(item, budget)
    (latency, *_) = compare_case(measured, ToleranceRules(latency=LIMITS[item.kind][0]))
    return latency.verdict, measured.seconds


def called(rounds: Sequence[Round], verdict: Verdict, budget: float) -> Share:
    """How many of the comparisons that are as long as the budget get a verdict."""
    rounds = long_enough(rounds, budget)
    return Share(hits=sum(judge_alone(item, budget)[0] is verdict for item in rounds), count=len(rounds))


def long_enough(rounds: Sequence[Round], budget: float) -> list[Round]:
    """Those that were sampled for so long, but for the last iteration or two."""
    return [item for item in rounds if item.seconds > 0.9 * budget]


def told_apart(rounds: Sequence[Round], budget: float) -> Share:
    """How many of the comparisons, at their end, say that head is slower at all, by whatever little."""
    rounds = long_enough(rounds, budget)
    found = [estimate(begun(item, budget), LIMITS[item.kind][1]) for item in rounds]
    return Share(hits=sum(one is not None and one.low > 1 for one in found), count=len(rounds))


def family_alarms(rounds: Sequence[Round], *, families: int = FAMILIES) -> Share:
    """Pull requests of 20 equal cases in which anything blocks, drawn from the comparisons there are."""
    if not rounds:
        return Share(hits=0, count=0)
    rng = random.Random(0)
    alarms = sum(any(c.blocks for c in judge_pull_request([rounds] * CASES, rng)) for _ in range(families))
    return Share(hits=alarms, count=families)


def found_among(
    rounds: Sequence[Round],
    equal: Sequence[Round],
    *,
    cases: int = CASES,
    limits: Limits | None = None,
    families: int = FAMILIES,
) -> Share:
    """Pull requests of so many cases in which the only slower one blocks, drawn in the same way."""
    if not rounds or not equal:
        return Share(hits=0, count=0)
    rng = random.Random(0)
    series = [rounds, *[equal] * (cases - 1)]
    hits = sum(judge_pull_request(series, rng, limits=limits)[0].blocks for _ in range(families))
    return Share(hits=hits, count=families)


def judge_pull_request(
    series: Sequence[Sequence[Round]], rng: random.Random, *, limits: Limits | None = None
) -> list[Comparison]:
    """A pull request with a case of each series, judged as `compare` does it: one drawn comparison per case, and a
    longer one made of others where it has to be measured again."""
    kind = series[0][0].kind
    rules = ToleranceRules(latency=(limits or LIMITS[kind])[0])
    spreads: list[Mapping[str, LaunchNoise]] = []

    def measure(item: Round, budget: float) -> Measured:
        noise = pool_launch_noise(spreads)
        measured = replay(item, budget, family=len(series), noise=noise, limits=limits)
        spreads.append(measured.spread)
        return measured

    first = [measure(rng.choice(rounds), AT[kind]) for rounds in series]
    both = [
        replace(one, again=measure(join(rng.choices(rounds, k=CONFIRMATION)), CONFIRMATION * AT[kind]))
        if is_to_repeat(shared, rules)
        else one
        for one, shared, rounds in zip(first, share_launch_noise(first), series, strict=True)
    ]
    return correct_family(
        [c for one in share_launch_noise(both) for c in compare_case(one, rules) if c.metric == LATENCY]
    )


def join(rounds: Sequence[Round]) -> Round:
    """A longer comparison: the launches of several, or in one process the pairs of their only one."""
    launches = [launch for item in rounds for launch in item.launches]
    if rounds[0].kind == "one":
        pairs = {name: tuple(x for one in launches for x in getattr(one, name)) for name in ("base", "head", "probe")}
        launches = [Launch(**pairs)]
    return replace(rounds[0], seconds=sum(item.seconds for item in rounds), launches=tuple(launches))


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceShares:
    """The parts of a comparison's variance: standard deviations of log ratios in per cent, between launches and within
    a second of sampling; seconds that a launch costs besides; and those of sampling per launch that make the most of
    the time (Kalibera and Jones, "Rigorous benchmarking in reasonable time", 2013, section 6)."""

    between: float
    within: float
    cost: float

    @property
    def best_seconds(self) -> float:
        return math.sqrt(self.cost) * self.within / self.between if self.between else math.inf


def share_variance(rounds: Sequence[Round]) -> VarianceShares | None:
    """Split the variance of a series of comparisons in two processes; None where there is none."""
    several = [item for item in rounds if len(item.launches) > 1]
    if not several:
        return None
    seconds = fmean(item.seconds / len(item.launches) for item in several)
    squared = [
        batch_squared_error(launch.log_ratios, center=interquartile_mean)
        for item in several
        for launch in item.launches
        if len(launch.log_ratios) >= LEAST_PAIRS
    ]
    spreads = [spread.variance for item in several if (spread := measure_launch_noise(item.launches))]
    return VarianceShares(
        between=100 * math.sqrt(max(0.0, fmean(spreads) - fmean(squared))),
        within=100 * math.sqrt(fmean(squared) * seconds),
        cost=fmean((item.wall - item.seconds) / len(item.launches) for item in several),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """The comparisons of a series, adjusted in one way. In per cent: the mean estimate, its standard deviation between
    comparisons, the mean width of their intervals, and how far the mean moves with the standard error of that.

    covered: the intervals that hold the truth, which is what the unadjusted comparisons agree on, or that there is no
        difference.
    """

    mean: float
    deviation: float
    width: float
    shift: float
    shift_error: float
    covered: Share

    @property
    def is_biased(self) -> bool:
        """Say whether the estimates move, by more than chance and by a tenth of a margin of 1 %."""
        return abs(self.shift) > max(0.1, 2 * self.shift_error)


def adjust_by_probe(rounds: Sequence[Round]) -> dict[str, Adjustment]:
    """Try what the probe, a loop that neither side changes, could do for the estimate; empty for less than two."""
    between = LIMITS[rounds[0].kind][1] if rounds else 0.0
    effects: dict[str, list[Effect]] = {way: [] for way in WAYS}
    for item in rounds:
        ways = {
            way: estimate_effect([_relative(adjust(launch)) for launch in item.launches], between=between)
            for way, adjust in WAYS.items()
        }
        for way, effect in ways.items():
            if effect is not None and None not in ways.values():
                effects[way].append(effect)
    usual = [100 * math.log(one.ratio) for one in effects[AS_IT_IS]]
    if len(usual) < 2:
        return {}
    true = math.exp(fmean(usual) / 100) if rounds[0].extra else 1.0
    found = {}
    for way, each in effects.items():
        estimates = [100 * math.log(one.ratio) for one in each]
        shifts = [one - other for one, other in zip(estimates, usual, strict=True)]
        found[way] = Adjustment(
            mean=fmean(estimates),
            deviation=stdev(estimates),
            width=fmean(100 * math.log(one.high / one.low) for one in each),
            shift=fmean(shifts),
            shift_error=stdev(shifts) / math.sqrt(len(shifts)),
            covered=Share(hits=sum(one.low <= true <= one.high for one in each), count=len(each)),
        )
    return found


def _relative(logs: Sequence[float]) -> Launch:
    """A launch with these log ratios."""
    return Launch(base=(1.0,) * len(logs), head=tuple(math.exp(one) for one in logs))


def _drop_slow(launch: Launch) -> list[float]:
    usual = sorted(launch.probe)[len(launch.probe) // 4]
    pairs = zip(launch.log_ratios, launch.probe, strict=True)
    return [ratio for ratio, probe in pairs if probe <= SLOW * usual]


def _take_off_line(launch: Launch) -> list[float]:
    probes = [math.log(probe) for probe in launch.probe]
    if len(set(probes)) < 2:
        return launch.log_ratios
    slope = linear_regression(probes, launch.log_ratios).slope
    usual = median(probes)
    return [ratio - slope * (probe - usual) for ratio, probe in zip(launch.log_ratios, probes, strict=True)]


AS_IT_IS = "as it is"
WAYS: Mapping[str, Callable[[Launch], Sequence[float]]] = {
    AS_IT_IS: lambda launch: launch.log_ratios,
    "without pairs of a slow probe": _drop_slow,
    "line on the probe": _take_off_line,
}
"""What the probe could be used for: the log ratios of a launch without the pairs in which it is slow, or less what a
line through log ratios over log probes says of them."""


def smallest(found: Sequence[tuple[float, float]]) -> float:
    """The slowdown that is found 80 % of the time, from (slowdown, share found), by straight lines between them;
    infinite when none is."""
    for (low, before), (high, after) in pairwise([(0.0, 0.0), *found]):
        if after >= 0.8:
            return low + (high - low) * max(0.0, 0.8 - before) / (after - before)
    return math.inf


def truth(rounds: Sequence[Round]) -> float:
    """The ratio head / base that comparisons agree on: 1 for equal code, NaN where none has enough samples."""
    if not rounds or not rounds[0].extra:
        return 1.0
    found = [estimate(item.launches, LIMITS[item.kind][1]) for item in rounds]
    logs = [math.log(one.ratio) for one in found if one is not None]
    return math.exp(fmean(logs)) if logs else math.nan


def coverage(rounds: Sequence[Round]) -> Share:
    """How many intervals of the last look hold the truth."""
    found = [one for item in rounds if (one := estimate(begun(item, AT[item.kind]), LIMITS[item.kind][1])) is not None]
    true = truth(rounds)
    return Share(hits=sum(one.low <= true <= one.high for one in found), count=len(found))


def peer_alarms(rule: str, rounds: Sequence[Round], before: Sequence[Round] = ()) -> Share:
    """How often another rule calls head slower; its history are the base times of the comparisons before it, first
    those of `before`."""
    first = [launch for item in (*before, *rounds) for launch in begun(item, AT["one"])[:1]]
    later = range(len([item for item in before if begun(item, AT["one"])]), len(first))
    known = [answer for at in later if (answer := RULES[rule](_samples(first[at], first[:at]))) is not None]
    return Share(hits=sum(known), count=len(known))


def _samples(launch: Launch, before: Sequence[Launch]) -> Samples:
    return Samples(
        base=launch.base,
        head=launch.head,
        before=[fmean(one.base) for one in before],
        minimum_before=min(before[-1].base) if before else None,
    )
