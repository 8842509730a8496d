"""The verdicts on every metric of a case that was measured live on both sides. docs/method.md."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from torchperf_ci.compare.effects import (
    BETWEEN_FLOOR,
    LEAST_PAIRS,
    LOOKS,
    Comparison,
    Effect,
    Launch,
    Tolerance,
    Verdict,
    effect,
    effect_of,
    judge,
    more_needed,
)
from torchperf_ci.compare.tolerances import (
    ACCURACY,
    COMPILING,
    COUNTED,
    GRAPHS,
    LATENCY,
    LEAST_BYTES,
    MEMORY,
    Tolerances,
)
from torchperf_ci.core.records import Case, Record, Status
from torchperf_ci.machine.host import HostLoad

SEEN_TWICE = frozenset({Verdict.REGRESSED, Verdict.FAILED, Verdict.IMPROVED})
"""Verdicts that have to be seen twice. What is better by accident is as frequent as what is worse."""

_ONE_SIDED = frozenset({Verdict.FAILED, Verdict.FIXED})
"""What a failure by accident, of either side, looks like."""

UNTOLD = frozenset({Status.NOT_RUN, Status.PASS_DUE_TO_SKIP})
"""Statuses of records that say nothing about their case."""

_COMPILE_BETWEEN = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class SideResult:
    """What one side showed about a case besides its times.

    accuracy: its status, with the reason when it is not a pass; empty where it was not looked at.
    failure: why there are no times, or empty. compile_seconds: one per launch from an empty cache.
    memory_bytes: what an iteration of the compared arm needs. process_bytes: the largest size of the process. Both are
        None where they cannot be measured.
    not_compiled: nothing of it was compiled, though it should have been. remarks: what else a reader should know.
    """

    accuracy: str = ""
    failure: str = ""
    batch_size: int = 0
    parameters: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    compile_seconds: tuple[float, ...] = ()
    memory_bytes: int | None = None
    process_bytes: int | None = None
    not_compiled: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One case measured on both sides: everything the verdicts are made of.

    A side that does not have the model is None. between: see `effect`. seconds: what sampling took.
    look: the index of `LOOKS` at which it ended. refusals: why it may not be compared. remarks: what a reader should
    know. host: the system's load; recorded, not used in verdicts. again: a second measurement in fresh processes, made
    when the first one showed a change.
    """

    case: Case
    base: SideResult | None
    head: SideResult | None
    launches: tuple[Launch, ...] = ()
    between: float = BETWEEN_FLOOR
    seconds: float = 0.0
    look: int = len(LOOKS) - 1
    refusals: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    host: HostLoad | None = None
    again: Measured | None = None


def compare_case(measured: Measured, tolerances: Tolerances) -> list[Comparison]:
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
        why = _joined(f"failed at first, {then}: {before.why}", after.why)
        return [_open_change(found, "only one measurement says so") for found in (replace(after, why=why), *second[1:])]
    return [_held_against(comparison, second) for comparison in first]


def to_repeat(measured: Measured, tolerances: Tolerances) -> bool:
    """Say whether it has to be measured again: something in it is worse or better, or one side alone failed."""
    first = _compare_once(measured, tolerances)
    return first[0].verdict in _ONE_SIDED or any(comparison.verdict in SEEN_TWICE for comparison in first)


def _held_against(first: Comparison, second: Sequence[Comparison]) -> Comparison:
    """Keep a change if the second measurement says the same of its metric, and what is worse also if head does not run
    any more."""
    if first.verdict not in SEEN_TWICE:
        return first
    own = second[0]
    same = own if own.verdict is Verdict.FAILED else next((c for c in second if c.metric == first.metric), None)
    p = first.p if same is None or first.p is None or same.p is None else max(first.p, same.p)
    agrees = same is not None and same.verdict in SEEN_TWICE
    if same is not None and agrees and (same.verdict is Verdict.IMPROVED) == (first.verdict is Verdict.IMPROVED):
        return replace(first, confirmed=True, p=p)
    if own.verdict in {Verdict.REFUSED, Verdict.FIXED, Verdict.FAILED}:
        return replace(_open_change(first, f"it could not be measured again: {own.why}"), p=p)
    return replace(
        _open_change(first, f"{first.verdict} at first, but not when measured again in fresh processes"), p=p
    )


def _open_change(comparison: Comparison, why: str) -> Comparison:
    """Make a change inconclusive, because it was not seen twice."""
    if comparison.verdict not in SEEN_TWICE:
        return comparison
    return replace(comparison, confirmed=False, verdict=Verdict.INCONCLUSIVE, why=_joined(comparison.why, why))


def open_unconfirmed(comparison: Comparison) -> Comparison:
    """Take back an improvement that was seen in one measurement alone, as an interrupt leaves it. What is worse stays:
    nobody should miss it."""
    if comparison.verdict is not Verdict.IMPROVED or comparison.confirmed:
        return comparison
    return _open_change(comparison, "improved at first, and was not measured again")


def _compare_once(measured: Measured, tolerances: Tolerances) -> list[Comparison]:
    case, base, head = measured.case, measured.base, measured.head
    if base is None or head is None:
        verdict, why = (Verdict.NEW, "base does not have it") if base is None else (Verdict.MISSING, "head lost it")
        return [Comparison(case=case, metric=LATENCY, verdict=verdict, why=why)]
    if base.failure or head.failure:
        return [failed(case, base.failure, head.failure, metric=LATENCY)]
    if measured.refusals:
        return [Comparison(case=case, metric=LATENCY, verdict=Verdict.REFUSED, why="; ".join(measured.refusals))]
    return [
        _latency(measured, tolerances.of(case, LATENCY)),
        *accuracy(case, base.accuracy, head.accuracy),
        *counts(case, base.counters, head.counters, tolerances),
        *memory(
            case,
            base.memory_bytes,
            head.memory_bytes,
            tolerances,
            processes=(base.process_bytes, head.process_bytes),
        ),
        *compile_time(case, base.compile_seconds, head.compile_seconds, tolerances),
    ]


def told(record: Record) -> str:
    """The status of a record, with its reason."""
    return f"{record.status}: {record.reason}" if record.reason else str(record.status)


def failed(case: Case, base: str, head: str, *, metric: str) -> Comparison:
    """The verdict when at least one side has no times; the texts say why, an empty one: it has."""
    if base and head:
        why = f"neither side runs; base: {base}; head: {head}"
        return Comparison(case=case, metric=metric, verdict=Verdict.REFUSED, why=why, fails_on_both=True)
    if head:
        return Comparison(case=case, metric=metric, verdict=Verdict.FAILED, why=f"head: {head}")
    return Comparison(case=case, metric=metric, verdict=Verdict.FIXED, why=f"base: {base}")


def _latency(measured: Measured, tolerance: Tolerance) -> Comparison:
    found = effect(measured.launches, between=measured.between, look=measured.look)
    comparison = Comparison(
        case=measured.case,
        metric=LATENCY,
        verdict=Verdict.INCONCLUSIVE,
        base=_median_ms([launch.base for launch in measured.launches]),
        head=_median_ms([launch.head for launch in measured.launches]),
        why="; ".join((*measured.remarks, *_side_remarks(measured))),
    )
    if found is None:
        why = f"too few samples for an interval: no launch has {LEAST_PAIRS} pairs"
        return replace(comparison, why=_joined(comparison.why, why))
    comparison = with_effect(comparison, found, verdict=judge(found, tolerance), p=found.p_above(tolerance.margin))
    return (
        comparison if comparison.verdict is not Verdict.INCONCLUSIVE else _open(comparison, measured, found, tolerance)
    )


def _side_remarks(measured: Measured) -> Iterator[str]:
    for name, side in (("base", measured.base), ("head", measured.head)):
        yield from remarks(name, side) if side is not None else ()


def remarks(name: str, side: SideResult | Record) -> Iterator[str]:
    """What a reader should know of one side's numbers."""
    if side.not_compiled:
        yield f"{name}: not compiled, so this is eager code"
    yield from (f"{name}: {remark}" for remark in side.remarks)


def _open(comparison: Comparison, measured: Measured, found: Effect, tolerance: Tolerance) -> Comparison:
    """An inconclusive comparison with what would decide it."""
    times = more_needed(found, tolerance)
    if not math.isfinite(times):
        return comparison
    more = math.ceil(times * found.launches) - found.launches
    launches = more if measured.between >= BETWEEN_FLOOR else 0  # one process has one
    return replace(comparison, more_seconds=measured.seconds * (times - 1), more_launches=launches)


def with_effect(comparison: Comparison, found: Effect, *, verdict: Verdict, p: float | None = None) -> Comparison:
    """The comparison with the numbers of an effect."""
    return replace(comparison, verdict=verdict, ratio=found.ratio, low=found.low, high=found.high, p=p)


def _median_ms(times: Sequence[Sequence[float]]) -> float | None:
    values = [value for launch in times for value in launch]
    return median(values) * 1e3 if values else None


def accuracy(case: Case, base: str, head: str) -> Iterator[Comparison]:
    """Whether the results are right; each text is a status, which may be followed by a reason. Empty: not looked at.

    What is wrong on both sides is nobody's change, but no pass either: it is refused. So is what could not be judged.
    """
    if not base or not head:
        return
    if any(text.startswith(Status.NOT_JUDGED) for text in (base, head)):
        yield Comparison(case=case, metric=ACCURACY, verdict=Verdict.REFUSED, why=f"base: {base}; head: {head}")
        return
    if not base.startswith("pass") and not head.startswith("pass"):
        why = f"fails on both sides; base: {base}; head: {head}"
        yield Comparison(case=case, metric=ACCURACY, verdict=Verdict.REFUSED, why=why, fails_on_both=True)
        return
    verdict = {
        (True, False): Verdict.FAILED,
        (False, True): Verdict.FIXED,
    }.get((base.startswith("pass"), head.startswith("pass")), Verdict.UNCHANGED)
    yield Comparison(case=case, metric=ACCURACY, verdict=verdict, why="" if base == head else f"{base} → {head}")


def counts(
    case: Case, base: Mapping[str, int], head: Mapping[str, int], tolerances: Tolerances
) -> Iterator[Comparison]:
    """Counts that are the same every time: unless a rule allows more, one more is one too many. No graph at all where
    there was one is not fewer graphs, but nothing compiled any more."""
    for metric in COUNTED:
        if metric not in base or metric not in head:
            continue
        one, two, margin = base[metric], head[metric], tolerances.of(case, metric).margin
        worse, better = two > one * (1 + margin), one > two * (1 + margin)
        if metric == GRAPHS and 0 in {one, two}:
            worse, better = better, worse
        verdict = Verdict.REGRESSED if worse else Verdict.IMPROVED if better else Verdict.UNCHANGED
        why = "" if one == two else f"{one} → {two}"
        if metric == GRAPHS and worse and not two:
            why += ": nothing is compiled any more"
        yield Comparison(case=case, metric=metric, verdict=verdict, base=one, head=two, why=why)


def memory(
    case: Case,
    base: float | None,
    head: float | None,
    tolerances: Tolerances,
    *,
    processes: tuple[float | None, float | None] = (None, None),
) -> Iterator[Comparison]:
    """What an iteration needs in bytes, which hardly varies: a single value is enough. The sizes of the processes stand
    beside it and are not judged: they hold the libraries, too."""
    if not base or not head:
        return
    tolerance = tolerances.of(case, MEMORY)
    found = effect_of(math.log(head / base), variance=0.0, freedom=1)
    verdict = judge(found, tolerance)
    if abs(head - base) < LEAST_BYTES or verdict is Verdict.INCONCLUSIVE:
        verdict = Verdict.UNCHANGED
    one, two = (f"{size / 1e6:,.0f} MB" if size else "" for size in processes)
    yield Comparison(
        case=case,
        metric=MEMORY,
        verdict=verdict,
        why=f"the whole process: {one} → {two}" if one and two else "",
        base=base,
        head=head,
        ratio=found.ratio,
    )


def compile_time(
    case: Case, base: Sequence[float], head: Sequence[float], tolerances: Tolerances
) -> Iterator[Comparison]:
    """A series of its own: few rounds, so a wide tolerance, and never a verdict from a single one."""
    pairs = [(b, h) for b, h in zip(base, head, strict=False) if b > 0 and h > 0]
    if not pairs:
        return
    logs = [math.log(h / b) for b, h in pairs]
    center, freedom = sum(logs) / len(logs), max(1, len(logs) - 1)
    spread = sum((value - center) ** 2 for value in logs) / freedom
    variance = max(spread, _COMPILE_BETWEEN**2) / len(logs)
    found = effect_of(center, variance=variance, freedom=freedom, launches=len(logs), pairs=len(logs))
    comparison = Comparison(
        case=case,
        metric=COMPILING,
        verdict=Verdict.INCONCLUSIVE,
        base=median(b for b, _ in pairs),
        head=median(h for _, h in pairs),
    )
    if len(pairs) == 1:
        yield replace(comparison, ratio=found.ratio, why="compiled once on each side: no verdict from that")
    else:
        yield with_effect(comparison, found, verdict=judge(found, tolerances.of(case, COMPILING)))


def is_compile_time_open(case: Case, base: Sequence[float], head: Sequence[float], tolerances: Tolerances) -> bool:
    """Whether another launch is needed to judge the time of compiling: one is enough where it says the same of both."""
    if not base or not head:
        return False
    if min(len(base), len(head)) == 1 and base[0] > 0 and head[0] > 0:
        return abs(math.log(head[0] / base[0])) > math.log1p(tolerances.of(case, COMPILING).margin)
    return any(found.verdict is Verdict.INCONCLUSIVE for found in compile_time(case, base, head, tolerances))


def _joined(*texts: str) -> str:
    return "; ".join(text for text in texts if text)
