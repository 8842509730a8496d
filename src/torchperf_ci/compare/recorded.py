"""Verdicts from two runs that were recorded at different times, maybe on different machines. docs/method.md.

What stays comparable is the speedup: both of its arms saw the same machine in the same moment. Times are compared only
where machine and settings are the same, and then with wide limits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from torchperf_ci.compare.effects import (
    LEAST_PAIRS,
    Comparison,
    Effect,
    Verdict,
    correct_family,
    effect_of,
    judge,
)
from torchperf_ci.compare.tolerances import COMPILING, LATENCY, MEMORY, PROCESS, SPEEDUP, Tolerances, at_least
from torchperf_ci.compare.verdicts import (
    UNTOLD,
    accuracy,
    compile_time,
    counts,
    failed,
    memory,
    remarks,
    told,
    with_effect,
)
from torchperf_ci.core.records import MACHINE_UNKNOWN, METRICS, Case, Direction, Metric, Record, Status, Testing
from torchperf_ci.core.statistics import BATCHES, batch_squared_error

_BETWEEN = {SPEEDUP: 0.016, LATENCY: 0.05}
"""Standard deviation of the logarithm between runs of equal code."""

_Key = tuple[Case, Testing]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """The records of one testing of one case on both sides."""

    base: Record
    head: Record

    @property
    def case(self) -> Case:
        return self.head.case


def compare_runs(
    base: Sequence[Record], head: Sequence[Record], tolerances: Tolerances, *, same_machine: bool = False
) -> list[Comparison]:
    """Every comparison of two runs' records, head's cases first, corrected for how many there are.

    With `same_machine` times are compared also where the machine is not recorded.
    """
    one, two = ({record.key: record for record in records} for records in (base, head))
    cases = dict.fromkeys([*(case for case, _ in two), *(case for case, _ in one)])
    return correct_family(
        [found for case in cases for found in _compare(case, one, two, tolerances, same_machine=same_machine)]
    )


def unequal(base: Sequence[Record], head: Sequence[Record], *, same_machine: bool = False) -> list[str]:
    """Why times of the two runs may not be compared, each reason once."""
    one = {record.key: record for record in base}
    pairs = [(one[record.key], record) for record in head if record.key in one]
    reasons = [reason for mine, theirs in pairs for reason in _unequal(mine, theirs, same_machine=same_machine)]
    return list(dict.fromkeys(reasons))


def _unequal(base: Record, head: Record, *, same_machine: bool) -> list[str]:
    reasons = base.environment.comparable_to(head.environment)
    return [] if same_machine and reasons == [MACHINE_UNKNOWN] else reasons


def _compare(
    case: Case,
    base: Mapping[_Key, Record],
    head: Mapping[_Key, Record],
    tolerances: Tolerances,
    *,
    same_machine: bool,
) -> Iterator[Comparison]:
    found = {
        testing: [records.get((case, testing)) for records in (base, head)]
        for testing in (Testing.PERFORMANCE, Testing.ACCURACY)
    }
    if not any(one for one, _ in found.values()):
        yield Comparison(case=case, metric=SPEEDUP, verdict=Verdict.NEW, why="base does not have it")
        return
    if not any(two for _, two in found.values()):
        yield Comparison(case=case, metric=SPEEDUP, verdict=Verdict.MISSING, why="head lost it")
        return
    one, two = found[Testing.PERFORMANCE]
    if one and two:
        yield from _performance(_Pair(base=one, head=two), tolerances, same_machine=same_machine)
    one, two = found[Testing.ACCURACY]
    if one and two and Status.NOT_RUN not in {one.status, two.status}:
        yield from accuracy(case, told(one), told(two))


def _performance(pair: _Pair, tolerances: Tolerances, *, same_machine: bool) -> Iterator[Comparison]:
    base, head, case = pair.base, pair.head, pair.case
    refusals = list(_refusals(base, head))
    if refusals:
        yield Comparison(case=case, metric=SPEEDUP, verdict=Verdict.REFUSED, why="; ".join(refusals))
        return
    if not base.status.is_pass or not head.status.is_pass:
        texts = ["" if record.status.is_pass else told(record) for record in (base, head)]
        yield failed(case, *texts, metric=SPEEDUP)
        return
    yield from (_remarked(found, pair) for found in _timed(pair, METRICS[SPEEDUP], tolerances))
    own = [
        metric
        for name, metric in head.own_metrics.items()
        if metric.direction is not Direction.UNKNOWN and metric == base.own_metrics.get(name)
    ]
    timed = [metric for metric in (METRICS[LATENCY], *own) if _has(pair, metric.name)]
    reasons = _unequal(base, head, same_machine=same_machine)
    if not reasons:
        for metric in timed:
            yield from _timed(pair, metric, tolerances)
    elif timed and not _has(pair, SPEEDUP):
        # Without an eager arm times are all there is: what cannot be compared must not be left out without a word.
        why = f"times cannot be compared: {'; '.join(reasons)}"
        yield Comparison(case=case, metric=timed[0].name, verdict=Verdict.REFUSED, why=why)
    yield from counts(case, base.counters, head.counters, tolerances)
    if is_memory_comparable(base, head):
        peaks, sizes = ((base.metrics.get(name), head.metrics.get(name)) for name in (MEMORY, PROCESS))
        yield from memory(case, *peaks, tolerances, processes=sizes)
    yield from compile_time(case, _compiling(base), _compiling(head), tolerances)


def is_memory_comparable(base: Record, head: Record) -> bool:
    """Whether the peaks are of one kind: records without a size of the process are older, and may hold that instead."""
    return (PROCESS in base.metrics) == (PROCESS in head.metrics)


def _remarked(comparison: Comparison, pair: _Pair) -> Comparison:
    texts = [text for name, side in (("base", pair.base), ("head", pair.head)) for text in remarks(name, side)]
    return replace(comparison, why="; ".join(filter(None, (comparison.why, *texts))))


def _compiling(record: Record) -> list[float]:
    return [record.metrics[COMPILING]] if COMPILING in record.metrics else []


def _refusals(base: Record, head: Record) -> Iterator[str]:
    for name, record in (("base", base), ("head", head)):
        if record.status in UNTOLD:
            yield f"{name}: {told(record)}"
    if base.batch_size and head.batch_size and base.batch_size != head.batch_size:
        yield f"batch size {base.batch_size} against {head.batch_size}"
    if base.parameters and head.parameters and base.parameters != head.parameters:
        yield f"{base.parameters:,} parameters against {head.parameters:,}: not the same model"
    if base.environment.world != head.environment.world:
        yield f"{base.environment.world} against {head.environment.world} processes"


def _timed(pair: _Pair, metric: Metric, tolerances: Tolerances) -> Iterator[Comparison]:
    name = metric.name
    base, head = (record.metrics.get(name) for record in (pair.base, pair.head))
    found = _effect(pair, name)
    if found is None:
        return
    tolerance = at_least(tolerances.of(pair.case, name), name if name in _BETWEEN else LATENCY)
    slowdown = found.flipped() if metric.direction is Direction.HIGHER else found
    verdict = judge(slowdown, tolerance)
    comparison = Comparison(case=pair.case, metric=name, verdict=verdict, base=base, head=head)
    yield with_effect(comparison, found, verdict=verdict, p=slowdown.p_above(tolerance.margin))


def _effect(pair: _Pair, metric: str) -> Effect | None:
    """The ratio head / base of a metric; None when a side does not have it."""
    one, two = (_estimate(record, metric) for record in (pair.base, pair.head))
    if one is None or two is None:
        return None
    between = _BETWEEN.get(metric, _BETWEEN[LATENCY])  # other tools' metrics are of times, mostly
    return effect_of(two[0] - one[0], variance=one[1] + two[1] + 2 * between**2, freedom=BATCHES - 1)


def _has(pair: _Pair, metric: str) -> bool:
    return all(record.metrics.get(metric, 0.0) > 0 for record in (pair.base, pair.head))


def _estimate(record: Record, metric: str) -> tuple[float, float] | None:
    """Logarithm of a metric and its squared error: from the samples, where they are kept."""
    eager, compiled = record.samples.get("eager", ()), record.samples.get("compiled", ())
    logs: list[float] = []
    if metric == LATENCY:
        logs = [math.log(1e3 * time) for time in compiled if time > 0]
    elif metric == SPEEDUP:
        logs = [math.log(a / b) for a, b in zip(eager, compiled, strict=False) if a > 0 and b > 0]
    if len(logs) >= LEAST_PAIRS:
        return median(logs), batch_squared_error(logs)
    value = record.metrics.get(metric)
    return (math.log(value), 0.0) if value is not None and value > 0 else None
