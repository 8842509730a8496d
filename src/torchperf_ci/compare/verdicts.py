"""The verdicts on every metric of a case that was measured live, and on a family of cases. docs/method.md."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median

from torchperf_ci.compare.effects import (
    BETWEEN_FLOOR,
    FAMILY_ERROR,
    LEAST_PAIRS,
    LOOKS,
    ChangeTolerance,
    Effect,
    Launch,
    LaunchNoise,
    Verdict,
    combine_p_values,
    estimate_effect,
    estimate_time_factor,
    find_floor,
    find_lean,
    judge,
    make_effect,
    measure_launch_noise,
    pool_launch_noise,
)
from torchperf_ci.compare.model import (
    ACCURACY,
    COMPILING,
    COUNTED,
    GRAPHS,
    LATENCY,
    MEMORY,
    Comparison,
    Measured,
    SideResult,
    ToleranceRules,
    name_verdict,
)
from torchperf_ci.core.records import EXACT_COUNTS, INSTRUCTIONS, Case, Direction, Metric, Record, Status

LEAST_BYTES = 64 * 1024
"""A difference in memory below this is none, whatever share of a small model's memory it is."""

LEAST_INSTRUCTIONS = 10_000
"""A difference below this is none: a dictionary that lies elsewhere takes as many, whatever the model."""

SILENT = frozenset({Status.NOT_RUN, Status.PASS_DUE_TO_SKIP})
"""Statuses of records that say nothing about their case."""

_SEEN_TWICE = frozenset({Verdict.REGRESSED, Verdict.FAILED, Verdict.IMPROVED})
"""Verdicts that have to be seen twice. What is better by accident is as frequent as what is worse."""

_ONE_SIDED = frozenset({Verdict.FAILED, Verdict.FIXED})
"""The verdicts that a failure by accident, of either side, leads to."""

COMPILE_BETWEEN = 0.05

SAME_PROGRAM = "the same program on both sides; a short check shows no clear difference"
"""The reason why a case that was spared is unchanged."""


def share_launch_noise(
    measured: Sequence[Measured], earlier: Sequence[Mapping[str, LaunchNoise]] = ()
) -> list[Measured]:
    """Give the cases that no look decided what launches differ by in all cases that were measured in their way.

    What a look decided stays as it was then. earlier: that of cases of earlier comparisons on this machine, whose sides
    ran in turn.
    """
    spreads = {BETWEEN_FLOOR: list(earlier)}
    for one in measured:
        for each in filter(None, (one, one.again)):
            spreads.setdefault(each.between, []).append(each.spread)
    pools = {between: pool_launch_noise(of_kind) for between, of_kind in spreads.items()}

    def share(one: Measured) -> Measured:
        is_last = one.look == len(LOOKS) - 1
        again = None if one.again is None else share(one.again)
        return replace(one, noise=pools[one.between] if is_last else one.noise, again=again)

    return [share(one) for one in measured]


def compare_case(measured: Measured, tolerances: ToleranceRules) -> list[Comparison]:
    """Judge every metric of a case, times first. The family's correction is still to come.

    With a second measurement only what changed in both stays changed, and a side that failed once is not said to fail.
    """
    first = _compare_once(measured, tolerances)
    if measured.again is None:
        return first
    second = _compare_once(measured.again, tolerances)
    before, after = first[0], second[0]
    if before.verdict in _ONE_SIDED and after.verdict is not before.verdict:
        then = "and could not be measured again" if after.verdict is Verdict.REFUSED else "not again"
        why = _join(f"failed at first, {then}: {before.why}", after.why)
        return [_open_change(c, "only one measurement says so") for c in (replace(after, why=why), *second[1:])]
    return [_hold_against(comparison, second) for comparison in first]


def is_to_repeat(measured: Measured, tolerances: ToleranceRules) -> bool:
    """Say whether it has to be measured again: something in it is worse or better, or leans to it, or one side alone
    failed."""
    first = _compare_once(measured, tolerances)
    return first[0].verdict in _ONE_SIDED or any(c.verdict in _SEEN_TWICE or c.leans is not None for c in first)


def open_unconfirmed(comparison: Comparison) -> Comparison:
    """Take back an improvement that was seen in one measurement alone, as an interrupt leaves it. What is worse stays:
    nobody should miss it."""
    if comparison.verdict is not Verdict.IMPROVED or comparison.confirmed:
        return comparison
    word = name_verdict(Verdict.IMPROVED, comparison.metric)
    return _open_change(comparison, f"{word} at first, and not measured again")


def _hold_against(first: Comparison, second: Sequence[Comparison]) -> Comparison:
    """Say there is a change where the first measurement leans to it and the second one says so by itself; and what is
    worse also if head does not run any more.

    This is the one place that weighs the two measurements of a metric: their p values are combined, both with the same
    weight.
    """
    expected = first.verdict if first.verdict in _SEEN_TWICE else first.leans
    if expected is None:
        return first
    own = second[0]
    same = own if own.verdict is Verdict.FAILED else next((c for c in second if c.metric == first.metric), None)
    p = first.p if same is None or first.p is None or same.p is None else combine_p_values(first.p, same.p)
    first = replace(first, again=same, p=p)
    agrees = same is not None and same.verdict in _SEEN_TWICE
    if same is not None and agrees and (same.verdict is Verdict.IMPROVED) == (expected is Verdict.IMPROVED):
        return replace(first, verdict=expected, confirmed=True)
    if own.verdict in {Verdict.REFUSED, Verdict.FIXED, Verdict.FAILED}:
        why = f"it could not be measured again: {own.why}"
    else:
        why = f"{name_verdict(first.verdict, first.metric)} at first, but not when measured again in fresh processes"
    return _open_change(first, why)


def _open_change(comparison: Comparison, why: str) -> Comparison:
    """Make a change inconclusive, because it was not seen twice."""
    if comparison.verdict not in _SEEN_TWICE:
        return comparison
    return replace(comparison, confirmed=False, verdict=Verdict.INCONCLUSIVE, why=_join(comparison.why, why))


def _compare_once(measured: Measured, tolerances: ToleranceRules) -> list[Comparison]:
    case, base, head = measured.case, measured.base, measured.head
    if base is None or head is None:
        verdict, why = (Verdict.NEW, "base does not have it") if base is None else (Verdict.MISSING, "head lost it")
        return [Comparison(case=case, metric=LATENCY, verdict=verdict, why=why)]
    failures = {"base": base.failure, "head": head.failure}
    if skips := {name: reason for name, reason in failures.items() if reason.startswith(Status.PASS_DUE_TO_SKIP)}:
        verdict = Verdict.REFUSED if len(skips) == 2 else Verdict.MISSING if "head" in skips else Verdict.NEW
        why = "; ".join(f"{name} skips it: {reason.partition(': ')[2]}" for name, reason in skips.items())
        return [Comparison(case=case, metric=LATENCY, verdict=verdict, why=why)]
    if base.failure or head.failure:
        log = head.log if head.failure else base.log
        return [replace(compare_failures(case, base.failure, head.failure, metric=LATENCY), log=log)]
    if measured.refusals:
        return [Comparison(case=case, metric=LATENCY, verdict=Verdict.REFUSED, why="; ".join(measured.refusals))]
    sizes = (base.process_bytes, head.process_bytes)
    return [
        _compare_latency(measured, base, head, tolerances),
        *_compare_own(measured, tolerances),
        *(
            replace(c, log=head.log) if c.verdict is Verdict.FAILED else c
            for c in compare_accuracy(case, base.accuracy, head.accuracy)
        ),
        *compare_counts(case, base.counters, head.counters, tolerances),
        *compare_counted(case, (base.counted, base.digests), (head.counted, head.digests), tolerances),
        *compare_memory(case, base.memory_bytes, head.memory_bytes, tolerances, processes=sizes),
        *(
            replace(c, verdict=Verdict.UNCHANGED, why=SAME_PROGRAM) if measured.spared else c
            for c in compare_compile_times(case, base.compile_seconds, head.compile_seconds, tolerances)
        ),
    ]


def _compare_latency(measured: Measured, base: SideResult, head: SideResult, tolerances: ToleranceRules) -> Comparison:
    medians = []
    for sides in ([launch.base for launch in measured.launches], [launch.head for launch in measured.launches]):
        times = [time for side in sides for time in side]
        medians.append(median(times) * 1e3 if times else None)
    comparison = Comparison(
        case=measured.case,
        metric=LATENCY,
        verdict=Verdict.INCONCLUSIVE,
        base=medians[0],
        head=medians[1],
        why="; ".join((*measured.remarks, *list_remarks("base", base), *list_remarks("head", head))),
    )
    return _judge_pairs(comparison, measured.launches, measured, tolerances)


def _compare_own(measured: Measured, tolerances: ToleranceRules) -> Iterator[Comparison]:
    """Judge the suite's own metrics that have a direction like times: they belong to the same readings."""
    for metric in measured.metrics:
        launches = _list_pairs(measured.launches, metric)
        if metric.direction is Direction.UNKNOWN or not launches:
            continue
        base = median(value for launch in launches for value in launch.base)
        head = median(value for launch in launches for value in launch.head)
        comparison = Comparison(
            case=measured.case,
            metric=metric.name,
            verdict=Verdict.INCONCLUSIVE,
            base=base,
            head=head,
            unit=metric.unit,
        )
        if _has_ratios(launches):
            yield _judge_pairs(comparison, launches, measured, tolerances, direction=metric.direction)
        else:
            why = "" if base == head else "it is not above 0 everywhere, so there is no ratio to judge"
            yield replace(comparison, verdict=Verdict.INCONCLUSIVE if why else Verdict.UNCHANGED, why=why)


def _judge_pairs(
    comparison: Comparison,
    launches: Sequence[Launch],
    measured: Measured,
    tolerances: ToleranceRules,
    *,
    direction: Direction = Direction.LOWER,
) -> Comparison:
    """Judge a metric of which there are pairs of readings, and where it stays open, say what would decide it."""
    if measured.spared:
        why = _join(SAME_PROGRAM, comparison.why)
        return replace(comparison, verdict=Verdict.UNCHANGED, spared=True, why=why)
    effect = _estimate_effect(measured, comparison.metric, launches)
    if effect is None:
        why = _join(comparison.why, f"too few samples for an interval: no launch has {LEAST_PAIRS} pairs")
        return replace(comparison, why=why)
    tolerance = tolerances.find(measured.case, comparison.metric)
    slowdown = effect.invert() if direction is Direction.HIGHER else effect
    verdict = judge(slowdown, tolerance)
    comparison = with_effect(comparison, effect, verdict=verdict, p=slowdown.p_above(tolerance.margin))
    comparison = replace(comparison, leans=find_lean(slowdown, tolerance))
    times_needed = estimate_time_factor(slowdown, tolerance)
    if verdict is not Verdict.INCONCLUSIVE or not math.isfinite(times_needed):
        return comparison
    more_launches = math.ceil(times_needed * effect.launches) - effect.launches
    return replace(
        comparison,
        more_seconds=measured.seconds * (times_needed - 1),
        more_launches=more_launches if measured.between >= BETWEEN_FLOOR else 0,  # the arms of one process have one
    )


def measure_spread(launches: Sequence[Launch], metrics: Sequence[Metric]) -> dict[str, LaunchNoise]:
    """Measure what the launches of a case differ by: in time, and in those of its own metrics that are judged."""
    pairs = {LATENCY: launches, **{metric.name: each for metric, each in _list_judged(launches, metrics)}}
    spreads = {name: measure_launch_noise(each) for name, each in pairs.items()}
    return {name: spread for name, spread in spreads.items() if spread is not None}


def estimate_slowdowns(measured: Measured, tolerances: ToleranceRules) -> list[tuple[Effect | None, ChangeTolerance]]:
    """Estimate how much worse head is, above one where it is: in time, and in each own metric that is judged."""
    slowdowns = [(LATENCY, _estimate_effect(measured, LATENCY, measured.launches))]
    for metric, launches in _list_judged(measured.launches, measured.metrics):
        effect = _estimate_effect(measured, metric.name, launches)
        if effect is not None and metric.direction is Direction.HIGHER:
            effect = effect.invert()
        slowdowns.append((metric.name, effect))
    return [(slowdown, tolerances.find(measured.case, name)) for name, slowdown in slowdowns]


def _list_judged(launches: Sequence[Launch], metrics: Sequence[Metric]) -> Iterator[tuple[Metric, list[Launch]]]:
    """List the own metrics that have a direction and ratios, with their values."""
    for metric in metrics:
        pairs = _list_pairs(launches, metric)
        if metric.direction is not Direction.UNKNOWN and pairs and _has_ratios(pairs):
            yield metric, pairs


def _list_pairs(launches: Sequence[Launch], metric: Metric) -> list[Launch]:
    """List a suite's own metric as launches have it, in the place of times."""
    values = (launch.values.get(metric.name) for launch in launches)
    return [Launch(base=each[0], head=each[1]) for each in values if each is not None]


def _has_ratios(launches: Sequence[Launch]) -> bool:
    return all(value > 0 for launch in launches for side in (launch.base, launch.head) for value in side)


def _estimate_effect(measured: Measured, metric: str, launches: Sequence[Launch]) -> Effect | None:
    floor = find_floor(measured.launches, measured.between)
    return estimate_effect(launches, between=floor, look=measured.look, noise=measured.noise.get(metric))


def list_remarks(name: str, side: SideResult | Record) -> Iterator[str]:
    """List what a reader should know of one side's numbers."""
    if side.not_compiled:
        yield f"{name}: not compiled, so this is eager code"
    yield from (f"{name}: {remark}" for remark in side.remarks)


def describe_status(record: Record) -> str:
    """Give the status of a record, with its reason."""
    return f"{record.status}: {record.reason}" if record.reason else str(record.status)


def with_effect(comparison: Comparison, effect: Effect, *, verdict: Verdict, p: float | None = None) -> Comparison:
    """Add the numbers of an effect to a comparison."""
    return replace(comparison, verdict=verdict, ratio=effect.ratio, low=effect.low, high=effect.high, p=p)


def compare_failures(case: Case, base: str, head: str, *, metric: str) -> Comparison:
    """Judge a case of which at least one side has no times; the texts say why, an empty one: it has."""
    if base and head:
        why = f"neither side runs; base: {base}; head: {head}"
        return Comparison(case=case, metric=metric, verdict=Verdict.REFUSED, why=why, fails_on_both=True)
    if head:
        return Comparison(case=case, metric=metric, verdict=Verdict.FAILED, why=f"head: {head}")
    return Comparison(case=case, metric=metric, verdict=Verdict.FIXED, why=f"base: {base}")


def compare_accuracy(case: Case, base: str, head: str) -> Iterator[Comparison]:
    """Compare whether the results are right; each text is a status, maybe with a reason. Empty: not looked at.

    What is wrong on both sides is nobody's change, but no pass either: it is refused. So is what could not be judged.
    """
    if not base or not head:
        return
    passes = (base.startswith("pass"), head.startswith("pass"))
    if any(text.startswith(Status.NOT_JUDGED) for text in (base, head)):
        yield Comparison(case=case, metric=ACCURACY, verdict=Verdict.REFUSED, why=f"base: {base}; head: {head}")
    elif not any(passes):
        why = f"fails on both sides; base: {base}; head: {head}"
        yield Comparison(case=case, metric=ACCURACY, verdict=Verdict.REFUSED, why=why, fails_on_both=True)
    else:
        verdict = {(True, False): Verdict.FAILED, (False, True): Verdict.FIXED}.get(passes, Verdict.UNCHANGED)
        yield Comparison(case=case, metric=ACCURACY, verdict=verdict, why="" if base == head else f"{base} → {head}")


def compare_counts(
    case: Case, base: Mapping[str, int], head: Mapping[str, int], tolerances: ToleranceRules
) -> Iterator[Comparison]:
    """Compare counts that are the same every time: unless a rule allows more, one more is one too many. No graph at all
    where there was one is not fewer graphs, but nothing compiled any more."""
    for metric in COUNTED:
        if metric not in base or metric not in head:
            continue
        one, two, margin = base[metric], head[metric], tolerances.find(case, metric).margin
        worse, better = two > one * (1 + margin), one > two * (1 + margin)
        if metric == GRAPHS and 0 in {one, two}:
            worse, better = better, worse
        verdict = Verdict.REGRESSED if worse else Verdict.IMPROVED if better else Verdict.UNCHANGED
        why = "" if one == two else f"{one} → {two}"
        if metric == GRAPHS and worse and not two:
            why += ": nothing is compiled any more"
        yield Comparison(case=case, metric=metric, verdict=verdict, base=one, head=two, why=why)


def compare_counted(
    case: Case,
    base: tuple[Mapping[str, float], Mapping[str, str]],
    head: tuple[Mapping[str, float], Mapping[str, str]],
    tolerances: ToleranceRules,
    *,
    metrics: Collection[str] = (*EXACT_COUNTS, *INSTRUCTIONS),
) -> Iterator[Comparison]:
    """Compare what an iteration counts on each side, with the digests of what is counted.

    Fewer is better. Instructions beyond their margin are a verdict. Of the other counts, which are the same in every
    process, one more is only told, unless the tolerances gate them: it need not cost anything. So is other code, or
    another order of as many operators.
    """
    (one, digests), (two, other_digests) = base, head
    for metric in metrics:
        if metric not in one or metric not in two:
            continue
        before, after, margin = one[metric], two[metric], tolerances.find(case, metric).margin
        is_gated = metric in INSTRUCTIONS or tolerances.gates(case, metric)
        verdict, why = Verdict.UNCHANGED, ""
        if metric in INSTRUCTIONS and abs(after - before) < LEAST_INSTRUCTIONS:
            pass
        elif before != after and not is_gated:
            verdict = Verdict.CHANGED
        elif after > before * (1 + margin):
            verdict = Verdict.REGRESSED
        elif before > after * (1 + margin):
            verdict = Verdict.IMPROVED
        digest, said = _DIGEST_OF.get(metric, ("", ""))
        mine, theirs = digests.get(digest), other_digests.get(digest)
        if before == after and mine and theirs and mine != theirs:
            verdict, why = Verdict.CHANGED, said
        ratio = after / before if before > 0 and after > 0 else None
        yield Comparison(case=case, metric=metric, verdict=verdict, why=why, base=before, head=after, ratio=ratio)


_DIGEST_OF = {
    "operators": ("operators", "as many operators, but others, or with other arguments"),
    "generated_kernels": ("generated_code", "as many kernels, but the generated code differs"),
}
"""The digest of what a metric counts, and the words for one that differs though the count is the same."""


def compare_memory(
    case: Case,
    base: float | None,
    head: float | None,
    tolerances: ToleranceRules,
    *,
    processes: tuple[float | None, float | None] = (None, None),
) -> Iterator[Comparison]:
    """Compare what an iteration needs in bytes, which hardly varies: a single value is enough. The sizes of the
    processes stand beside it and are not judged: they hold the libraries, too."""
    if not base or not head:
        return
    effect = make_effect(math.log(head / base), variance=0.0, freedom=1)
    verdict = judge(effect, tolerances.find(case, MEMORY))
    if abs(head - base) < LEAST_BYTES or verdict is Verdict.INCONCLUSIVE:
        verdict = Verdict.UNCHANGED
    one, two = (f"{size / 1e6:,.0f} MB" if size else "" for size in processes)
    why = f"the whole process: {one} → {two}" if one and two else ""
    yield Comparison(case=case, metric=MEMORY, verdict=verdict, why=why, base=base, head=head, ratio=effect.ratio)


def average_log_ratios(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, int]:
    """Return the mean logarithm of the ratios of seconds of compiling, head over base, its variance, which is never
    smaller than what launches usually differ by, and its degrees of freedom."""
    logs = [math.log(head / base) for base, head in pairs]
    center, freedom = fmean(logs), max(1, len(logs) - 1)
    spread = sum((value - center) ** 2 for value in logs) / freedom
    return center, max(spread, COMPILE_BETWEEN**2) / len(logs), freedom


def compare_compile_times(
    case: Case, base: Sequence[float], head: Sequence[float], tolerances: ToleranceRules
) -> Iterator[Comparison]:
    """Compare a series of its own: few rounds, so a wide tolerance, and never a verdict from a single one."""
    pairs = [(b, h) for b, h in zip(base, head, strict=False) if b > 0 and h > 0]
    if not pairs:
        return
    center, variance, freedom = average_log_ratios(pairs)
    effect = make_effect(center, variance=variance, freedom=freedom, launches=len(pairs), pairs=len(pairs))
    comparison = Comparison(
        case=case,
        metric=COMPILING,
        verdict=Verdict.INCONCLUSIVE,
        base=median(b for b, _ in pairs),
        head=median(h for _, h in pairs),
    )
    if len(pairs) == 1:
        yield replace(comparison, ratio=effect.ratio, why="compiled once on each side: no verdict from that")
    else:
        yield with_effect(comparison, effect, verdict=judge(effect, tolerances.find(case, COMPILING)))


def is_compile_time_open(case: Case, base: Sequence[float], head: Sequence[float], tolerances: ToleranceRules) -> bool:
    """Say whether another launch is needed to judge the time of compiling: one is enough where it says the same of
    both."""
    if not base or not head:
        return False
    if min(len(base), len(head)) == 1 and base[0] > 0 and head[0] > 0:
        return abs(math.log(head[0] / base[0])) > math.log1p(tolerances.find(case, COMPILING).margin)
    return any(c.verdict is Verdict.INCONCLUSIVE for c in compare_compile_times(case, base, head, tolerances))


def is_clear_difference(measured: Measured, tolerances: ToleranceRules) -> bool:
    """Say whether the short check of a case that is the same program shows that it is not: the time of an iteration, or
    an own metric, is worse or better by itself, or the time of compiling differs by more than its threshold."""
    case, base, head = measured.case, measured.base, measured.head
    verdicts = {
        judge(effect, tolerance) for effect, tolerance in estimate_slowdowns(measured, tolerances) if effect is not None
    }
    times = [seconds for side in (base, head) if side is not None for seconds in side.compile_seconds[:1]]
    limit = math.log1p(tolerances.find(case, COMPILING).threshold)
    is_compiled_otherwise = len(times) == 2 and min(times) > 0 and abs(math.log(times[1] / times[0])) > limit
    return bool(verdicts & {Verdict.REGRESSED, Verdict.IMPROVED}) or is_compiled_otherwise


def estimate_saved_seconds(measured: Sequence[Measured]) -> float:
    """Estimate how much longer the spared cases would have taken: what the others took on average.

    Where all were spared, it is the sampling that was not done, which is less.
    """
    spared = [each for each in measured if each.spared]
    usual = [each.wall_seconds for each in measured if not each.spared and each.launches]
    if usual:
        return sum(max(0.0, fmean(usual) - each.wall_seconds) for each in spared)
    return sum(each.seconds / LOOKS[0][0] - each.seconds for each in spared)


def correct_family(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Decide which regressions stand, given how many comparisons were made.

    Listed: Benjamini and Hochberg's step-up procedure (1995) at false discovery rate `FAMILY_ERROR`. Blocking: Holm's
    step-down procedure (1979) at that family-wise error. Every comparison with a p value counts in the family. A
    regression that does not stand becomes inconclusive. What has no p value is no matter of chance.
    """
    from scipy.stats import false_discovery_control  # takes long to import

    family = sorted((c.p, index) for index, c in enumerate(comparisons) if c.p is not None)
    adjusted = false_discovery_control([p for p, _ in family], method="bh") if family else []
    listed = {index for (_, index), p in zip(family, adjusted, strict=True) if p <= FAMILY_ERROR}
    blocking = set()
    for rank, (p, index) in enumerate(family):
        if p > FAMILY_ERROR / (len(family) - rank):
            break
        blocking.add(index)
    corrected = []
    for index, comparison in enumerate(comparisons):
        if comparison.p is None:
            is_worse = comparison.verdict in {Verdict.REGRESSED, Verdict.FAILED, Verdict.MISSING}
            blocks = is_worse and comparison.confirmed is not False
            corrected.append(replace(comparison, listed=is_worse, blocks=blocks))
        elif comparison.verdict is not Verdict.REGRESSED:
            corrected.append(comparison)
        elif index in listed:
            blocks = index in blocking and comparison.confirmed is not False
            corrected.append(replace(comparison, listed=True, blocks=blocks))
        else:
            word = name_verdict(comparison.verdict, comparison.metric)
            why = f"{word} by itself, but among {len(family)} comparisons one may look like this by chance"
            corrected.append(replace(comparison, verdict=Verdict.INCONCLUSIVE, why=why))
    return corrected


def _join(*texts: str) -> str:
    return "; ".join(text for text in texts if text)
