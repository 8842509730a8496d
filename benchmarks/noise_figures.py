"""What raw comparisons say: our rule replayed on their beginnings, shares with intervals, coverage."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

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
    Verdict,
    estimate_effect,
    is_settled,
    judge,
)
from torchperf_ci.compare.live import ComparePlan
from torchperf_ci.compare.model import Comparison, ToleranceRules
from torchperf_ci.compare.verdicts import correct_family
from torchperf_ci.core.records import Case, Mode

LIMITS: dict[str, tuple[ChangeTolerance, float]] = {
    "one": (ONE_PROCESS, ARMS_FLOOR),
    "two": (TWO_PROCESSES, BETWEEN_FLOOR),
}
"""Margin and threshold, and the standard deviation between launches, by kind."""
AT = {"one": 2.0, "two": 10.0}
"""The seconds per case that the aims are about."""
CASES = 20
FAMILIES = 2000

_CASE = Case(suite="noise", model="blocks", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="eager")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One comparison: with how much extra work in head (per cent), and how many seconds of sampling it took."""

    kind: str
    extra: float
    stress: bool
    seconds: float
    launches: tuple[Launch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What our rule says with some budget, and after how many seconds of sampling."""

    verdict: Verdict
    seconds: float
    found: Effect | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`hits` of `count`."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        return self.hits / self.count if self.count else math.nan

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


def replayed(item: Round, budget: float, *, family: int = 1) -> Judged:
    """Our rule with its looks, for one of `family` cases, on the beginning of what was measured."""
    tolerance, between = LIMITS[item.kind]
    share, found = 1.0, None
    for look, (share, _) in enumerate(LOOKS):
        found = estimate_effect(begun(item, budget, share), between=between, look=look)
        if is_settled(found, tolerance, family=family):
            break
    verdict = Verdict.INCONCLUSIVE if found is None else judge(found, tolerance)
    return Judged(verdict=verdict, seconds=share * budget, found=found)


def called(rounds: Sequence[Round], verdict: Verdict, budget: float) -> Share:
    """How many of the comparisons get a verdict."""
    return Share(hits=sum(replayed(item, budget).verdict is verdict for item in rounds), count=len(rounds))


def told_apart(rounds: Sequence[Round], budget: float) -> Share:
    """How many of the comparisons, at their end, say that head is slower at all, by whatever little."""
    found = [estimate_effect(begun(item, budget), between=LIMITS[item.kind][1]) for item in rounds]
    return Share(hits=sum(one is not None and one.low > 1 for one in found), count=len(rounds))


def family_alarms(rounds: Sequence[Round]) -> Share:
    """Pull requests of 20 equal cases in which anything blocks, drawn from the comparisons there are.

    What looks slower is confirmed with another one of them, as a second measurement would.
    """
    rng = random.Random(0)
    found = [_comparison(item) for item in rounds]
    if not found:
        return Share(hits=0, count=0)
    alarms = sum(
        any(comparison.blocks for comparison in correct_family([_drawn(found, rng) for _ in range(CASES)]))
        for _ in range(FAMILIES)
    )
    return Share(hits=alarms, count=FAMILIES)


def found_among(rounds: Sequence[Round], equal: Sequence[Round]) -> Share:
    """Pull requests of 20 cases in which the only slower one blocks, drawn in the same way."""
    rng = random.Random(0)
    slower, others = ([_comparison(item) for item in some] for some in (rounds, equal))
    if not slower or not others:
        return Share(hits=0, count=0)
    hits = sum(
        correct_family([_drawn(slower, rng), *(_drawn(others, rng) for _ in range(CASES - 1))])[0].blocks
        for _ in range(FAMILIES)
    )
    return Share(hits=hits, count=FAMILIES)


def _comparison(item: Round) -> Comparison:
    one = replayed(item, AT[item.kind], family=CASES)
    p = one.found.p_above(LIMITS[item.kind][0].margin) if one.found else None
    return Comparison(case=_CASE, metric="abs_latency", verdict=one.verdict, p=p)


def _drawn(found: Sequence[Comparison], rng: random.Random) -> Comparison:
    """One of them; what is slower, held against another one."""
    first, second = rng.choice(found), rng.choice(found)
    if first.verdict is not Verdict.REGRESSED:
        return first
    p = max(one.p for one in (first, second) if one.p is not None)
    verdict = first.verdict if second.verdict is Verdict.REGRESSED else Verdict.INCONCLUSIVE
    return replace(first, verdict=verdict, p=p)


def smallest(found: Sequence[tuple[float, float]]) -> float:
    """The slowdown that is found 80 % of the time, from (slowdown, share found), by straight lines between them;
    infinite when none is."""
    for (low, before), (high, after) in pairwise([(0.0, 0.0), *found]):
        if after >= 0.8:
            return low + (high - low) * max(0.0, 0.8 - before) / (after - before)
    return math.inf


def truth(rounds: Sequence[Round]) -> float:
    """The ratio head / base that comparisons agree on: 1 for equal code."""
    if not rounds or not rounds[0].extra:
        return 1.0
    found = (estimate_effect(item.launches, between=LIMITS[item.kind][1]) for item in rounds)
    return math.exp(fmean(math.log(one.ratio) for one in found if one is not None))


def coverage(rounds: Sequence[Round]) -> Share:
    """How many intervals of the last look hold the truth."""
    found = [
        one
        for item in rounds
        if (one := estimate_effect(begun(item, AT[item.kind]), between=LIMITS[item.kind][1])) is not None
    ]
    true = truth(rounds)
    return Share(hits=sum(one.low <= true <= one.high for one in found), count=len(found))


def peer_alarms(rule: str, rounds: Sequence[Round], before: Sequence[Round] = ()) -> Share:
    """How often another rule calls head slower; its history are the base times of the comparisons before it, first
    those of `before`."""
    first = [launch for item in (*before, *rounds) for launch in begun(item, AT["one"])[:1]]
    later = range(len(first) - len(rounds), len(first))
    known = [answer for at in later if (answer := RULES[rule](_samples(first[at], first[:at]))) is not None]
    return Share(hits=sum(known), count=len(known))


def _samples(launch: Launch, before: Sequence[Launch]) -> Samples:
    return Samples(
        base=launch.base,
        head=launch.head,
        before=[fmean(one.base) for one in before],
        minimum_before=min(before[-1].base) if before else None,
    )
