"""Verdicts on recorded runs: two of different times, or one against the runs before it. docs/method.md.

What stays comparable is the speedup: both of its arms saw the same machine in the same moment. Times are compared only
where machine and settings are the same, and then with wide limits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from statistics import fmean, median, quantiles, stdev

from torchperf_ci.compare.effects import LEAST_PAIRS, ChangeTolerance, Verdict, judge, make_effect
from torchperf_ci.compare.model import (
    COMPILING,
    LATENCY,
    LEAST,
    MEMORY,
    PROCESS,
    SPEEDUP,
    CommitSummary,
    Comparison,
    ComparisonFindings,
    Header,
    ToleranceRules,
    widen_for_days,
)
from torchperf_ci.compare.verdicts import (
    LEAST_BYTES,
    SILENT,
    compare_accuracy,
    compare_compile_times,
    compare_counted,
    compare_counts,
    compare_failures,
    compare_memory,
    correct_family,
    describe_status,
    list_remarks,
    with_effect,
)
from torchperf_ci.core.records import (
    EXACT_COUNTS,
    INSTRUCTIONS,
    MACHINE_UNKNOWN,
    METRICS,
    Case,
    Direction,
    Metric,
    Record,
    Source,
    Status,
    Testing,
)
from torchperf_ci.core.results import Problem, Results
from torchperf_ci.core.statistics import BATCHES, batch_squared_error, student_t
from torchperf_ci.core.text import some_of

RUNS = 30
"""Runs a band is made of, at most: the newest ones."""
LEAST_RUNS = 10
"""Fewer runs do not make a band."""

_IN_BANDS = (SPEEDUP, LATENCY, MEMORY, COMPILING)
_BETWEEN = {SPEEDUP: 0.016, LATENCY: 0.05}
"""Standard deviation of the logarithm between runs of equal code. Other tools' metrics are of times, mostly."""
_ROUNDING = 1e-9
"""Relative differences below this come from adding up floating-point numbers in another order."""

_Key = tuple[Case, Testing]


def compare_results(
    base: tuple[str, Results],
    head: tuple[str, Results],
    tolerances: ToleranceRules,
    *,
    source: Source,
    same_machine: bool,
) -> ComparisonFindings:
    """Compare two recorded runs, each with its label. `source` is where head comes from."""
    tolerances = replace(tolerances, latency=widen_for_days(tolerances.latency, SPEEDUP))
    (base_label, one), (head_label, two) = base, head
    reasons = list_differences(one.records, two.records, same_machine=same_machine)
    sources = [max((record.source for record in run.records), key=lambda source: source.time) for run in (one, two)]
    days = [day for each in sources if (day := _format_time(each.time))]
    when = f" ({days[0]} and {days[1]})" if len(days) == 2 else ""
    latency = (
        "Times are not compared."
        if reasons
        else "The machine looks the same, so times are compared as well, but count only beyond "
        f"{100 * LEAST[LATENCY].margin:.3g} %."
    )
    how = (
        f"The two were recorded in different runs{when}: another moment, and maybe another machine, is part of every "
        f"difference. So the speedup over eager is compared, whose two arms ran side by side. {latency}"
    )
    warnings = []
    cases = [{record.case for record in run.records} for run in (one, two)]
    if not cases[0] & cases[1]:
        names = [some_of(sorted(map(str, each)), 3) for each in cases]
        warnings.append(f"the runs have no case in common: base has {names[0]}; head has {names[1]}")
    if same_machine and not reasons and list_differences(one.records, two.records):
        warnings.append(f"{MACHINE_UNKNOWN}: times are compared because --same-machine says that it is one")
    if MACHINE_UNKNOWN in reasons:
        warnings.append(f"{MACHINE_UNKNOWN}, so times are not compared; --same-machine compares them if it was one")
    if others := [reason for reason in reasons if reason != MACHINE_UNKNOWN]:
        warnings.append(f"times are not compared: {'; '.join(others)}")
    return ComparisonFindings(
        header=Header(
            base=base_label,
            head=head_label,
            how=how,
            machine=_describe_machine(two.records),
            tolerances=tolerances,
            source=source,
            base_commit=CommitSummary(sha=sources[0].commit, subject=sources[0].subject) if sources[0].commit else None,
            head_commit=CommitSummary(sha=source.commit, subject=source.subject) if source.commit else None,
            warnings=(*warnings, *map(str, (*one.problems, *two.problems))),
        ),
        comparisons=tuple(compare_runs(one.records, two.records, tolerances, same_machine=same_machine)),
        not_compiled=_count_not_compiled((*one.records, *two.records)),
    )


def compare_with_past(
    head: tuple[str, Results],
    past: tuple[str, Sequence[Sequence[Record]]],
    tolerances: ToleranceRules,
    *,
    days: tuple[datetime, datetime],
    problems: Sequence[Problem],
    source: Source,
    same_machine: bool,
) -> ComparisonFindings:
    """Compare a recorded run with the runs before it, oldest first, each side with its label.

    days: when the first and the last of them began. problems: what of them could not be read.
    """
    tolerances = replace(tolerances, latency=widen_for_days(tolerances.latency, SPEEDUP))
    (head_label, results), (past_label, earlier) = head, past
    speedup, latency = (f"{100 * LEAST[metric].margin:.3g} %" for metric in (SPEEDUP, LATENCY))
    how = (
        f"Head is compared with what the runs between {days[0]:%Y-%m-%d} and {days[1]:%Y-%m-%d} usually gave: up to "
        f"{RUNS} of them on a comparable machine, at least {LEAST_RUNS}. They are of other days: another moment, and "
        "maybe another machine of the same kind, is part of every difference. A speedup counts as changed beyond "
        f"{speedup}, a time beyond {latency}, and only outside of the interval that 19 of 20 such runs fall into."
    )
    return ComparisonFindings(
        header=Header(
            base=past_label,
            head=head_label,
            how=how,
            machine=_describe_machine(results.records),
            tolerances=tolerances,
            source=source,
            head_commit=CommitSummary(sha=source.commit, subject=source.subject) if source.commit else None,
            warnings=tuple(map(str, (*problems, *results.problems))),
        ),
        comparisons=tuple(compare_with_history(results.records, earlier, tolerances, same_machine=same_machine)),
        not_compiled=_count_not_compiled(results.records),
    )


def _format_time(text: str) -> str:
    """Format a record's time, which may be any text; blank for what is none."""
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"
    except ValueError:
        return ""


def _describe_machine(records: Sequence[Record]) -> str:
    environment = records[0].environment
    return f"{environment.gpu or environment.cpu or 'an unknown machine'}, torch {environment.torch or 'unknown'}"


def _count_not_compiled(records: Sequence[Record]) -> int:
    return len({record.case for record in records if record.not_compiled and record.status.is_pass})


def compare_runs(
    base: Sequence[Record], head: Sequence[Record], tolerances: ToleranceRules, *, same_machine: bool = False
) -> list[Comparison]:
    """Compare two runs' records, head's cases first; the verdicts are corrected for how many there are.

    With `same_machine` times are compared also where the machine is not recorded.
    """
    one, two = ({record.key: record for record in records} for records in (base, head))
    cases = dict.fromkeys([*(case for case, _ in two), *(case for case, _ in one)])
    return correct_family(
        [c for case in cases for c in _compare_case(case, one, two, tolerances, same_machine=same_machine)]
    )


def list_differences(base: Sequence[Record], head: Sequence[Record], *, same_machine: bool = False) -> list[str]:
    """List why times of the two runs may not be compared, each reason once."""
    one = {record.key: record for record in base}
    pairs = [(one[record.key], record) for record in head if record.key in one]
    reasons = [reason for mine, theirs in pairs for reason in _differ(mine, theirs, same_machine=same_machine)]
    return list(dict.fromkeys(reasons))


def _differ(base: Record, head: Record, *, same_machine: bool) -> list[str]:
    reasons = base.environment.comparable_to(head.environment)
    return [] if same_machine and reasons == [MACHINE_UNKNOWN] else reasons


def _compare_case(
    case: Case,
    base: Mapping[_Key, Record],
    head: Mapping[_Key, Record],
    tolerances: ToleranceRules,
    *,
    same_machine: bool,
) -> Iterator[Comparison]:
    timed = (base.get((case, Testing.PERFORMANCE)), head.get((case, Testing.PERFORMANCE)))
    checked = (base.get((case, Testing.ACCURACY)), head.get((case, Testing.ACCURACY)))
    if not timed[0] and not checked[0]:
        failed = next((r for r in (*timed[1:], *checked[1:]) if r is not None and not r.status.is_pass), None)
        reason = f"; head: {describe_status(failed)}" if failed is not None else ""
        yield Comparison(case=case, metric=SPEEDUP, verdict=Verdict.NEW, why=f"base does not have it{reason}")
        return
    if not timed[1] and not checked[1]:
        yield Comparison(case=case, metric=SPEEDUP, verdict=Verdict.MISSING, why="head lost it")
        return
    if timed[0] and timed[1]:
        yield from _compare_performance(timed[0], timed[1], tolerances, same_machine=same_machine)
    if checked[0] and checked[1] and Status.NOT_RUN not in {checked[0].status, checked[1].status}:
        yield from compare_accuracy(case, describe_status(checked[0]), describe_status(checked[1]))


def _compare_performance(
    base: Record, head: Record, tolerances: ToleranceRules, *, same_machine: bool
) -> Iterator[Comparison]:
    case, sides = head.case, (("base", base), ("head", head))
    refusals = _list_refusals(base, head)
    if refusals:
        yield Comparison(case=case, metric=SPEEDUP, verdict=Verdict.REFUSED, why="; ".join(refusals))
        return
    if not base.status.is_pass or not head.status.is_pass:
        texts = ["" if side.status.is_pass else describe_status(side) for _, side in sides]
        yield compare_failures(case, *texts, metric=SPEEDUP)
        return
    remarks = [remark for name, side in sides for remark in list_remarks(name, side)]
    for comparison in _compare_metric(base, head, METRICS[SPEEDUP], tolerances):
        yield replace(comparison, why="; ".join(remarks))
    own = [
        metric
        for name, metric in head.own_metrics.items()
        if metric.direction is not Direction.UNKNOWN and metric == base.own_metrics.get(name)
    ]
    times = [metric for metric in (METRICS[LATENCY], *own) if _both_have(base, head, metric.name)]
    reasons = _differ(base, head, same_machine=same_machine)
    if not reasons:
        for metric in times:
            yield from _compare_metric(base, head, metric, tolerances)
    elif times and not _both_have(base, head, SPEEDUP):
        # Without an eager arm times are all there is: what cannot be compared must not be left out without a word.
        why = f"times cannot be compared: {'; '.join(reasons)}"
        yield Comparison(case=case, metric=times[0].name, verdict=Verdict.REFUSED, why=why)
    yield from compare_counts(case, base.counters, head.counters, tolerances)
    yield from _compare_counted(base, head, tolerances, is_same_machine=not reasons)
    if _is_memory_comparable(base, head):
        peaks, sizes = ((base.metrics.get(name), head.metrics.get(name)) for name in (MEMORY, PROCESS))
        yield from compare_memory(case, *peaks, tolerances, processes=sizes)
    one, two = ([side.metrics[COMPILING]] if COMPILING in side.metrics else [] for side in (base, head))
    yield from compare_compile_times(case, one, two, tolerances)


def _compare_counted(
    base: Record, head: Record, tolerances: ToleranceRules, *, is_same_machine: bool
) -> Iterator[Comparison]:
    """Compare counts. Code is generated for a machine, and runs as other instructions on another one: there only the
    program's own counts are compared."""
    digests = (base.digests, head.digests) if is_same_machine else ({}, {})
    metrics = (*EXACT_COUNTS, *INSTRUCTIONS) if is_same_machine else ("operators", "flops")
    one, two = (base.metrics, digests[0]), (head.metrics, digests[1])
    yield from compare_counted(head.case, one, two, tolerances, metrics=metrics)


def _list_refusals(base: Record, head: Record) -> list[str]:
    """List why two records of a case are not of the same thing."""
    refusals = [
        f"{name}: {describe_status(side)}" for name, side in (("base", base), ("head", head)) if side.status in SILENT
    ]
    if base.batch_size and head.batch_size and base.batch_size != head.batch_size:
        refusals.append(f"batch size {base.batch_size} against {head.batch_size}")
    if base.parameters and head.parameters and base.parameters != head.parameters:
        refusals.append(f"{base.parameters:,} parameters against {head.parameters:,}: not the same model")
    threads = base.environment.threads, head.environment.threads
    if all(threads) and threads[0] != threads[1] and head.case.device.startswith("cpu"):
        refusals.append(f"{threads[0]} against {threads[1]} threads: measure both with the same --threads of `run`")
    if base.environment.world != head.environment.world:
        refusals.append(f"{base.environment.world} against {head.environment.world} processes")
    return refusals


def _is_memory_comparable(base: Record, head: Record) -> bool:
    """Say whether the peaks are of one kind: records without a size of the process are older, and may hold that
    instead."""
    return (PROCESS in base.metrics) == (PROCESS in head.metrics)


def _both_have(base: Record, head: Record, metric: str) -> bool:
    return all(side.metrics.get(metric, 0.0) > 0 for side in (base, head))


def _compare_metric(base: Record, head: Record, metric: Metric, tolerances: ToleranceRules) -> Iterator[Comparison]:
    """Compare a metric of times by its ratio head / base; nothing when a side does not have it."""
    name = metric.name
    logs = [_estimate_log(side, name) for side in (base, head)]
    if logs[0] is None or logs[1] is None:
        return
    variance = logs[0][1] + logs[1][1] + 2 * _BETWEEN.get(name, _BETWEEN[LATENCY]) ** 2
    effect = make_effect(logs[1][0] - logs[0][0], variance=variance, freedom=BATCHES - 1)
    slowdown = effect.invert() if metric.direction is Direction.HIGHER else effect
    tolerance = widen_for_days(tolerances.find(head.case, name), name if name in _BETWEEN else LATENCY)
    comparison = Comparison(
        case=head.case,
        metric=name,
        verdict=judge(slowdown, tolerance),
        base=base.metrics.get(name),
        head=head.metrics.get(name),
        unit=metric.unit,
    )
    yield with_effect(comparison, effect, verdict=comparison.verdict, p=slowdown.p_above(tolerance.margin))


def _estimate_log(record: Record, metric: str) -> tuple[float, float] | None:
    """Estimate the logarithm of a metric and its squared error: from the samples, where they are kept."""
    eager, compiled = record.samples.get("eager", ()), record.samples.get("compiled", ())
    logs: list[float] = []
    if metric == LATENCY:
        logs = [math.log(1e3 * time) for time in compiled if time > 0]
    elif metric in record.own_metrics:
        logs = [math.log(value) for value in record.samples.get(metric, ()) if value > 0]
    elif metric == SPEEDUP:
        logs = [math.log(a / b) for a, b in zip(eager, compiled, strict=False) if a > 0 and b > 0]
    if len(logs) >= LEAST_PAIRS:
        return median(logs), batch_squared_error(logs)
    value = record.metrics.get(metric)
    return (math.log(value), 0.0) if value is not None and value > 0 else None


def compare_with_history(
    head: Sequence[Record],
    past: Sequence[Sequence[Record]],
    tolerances: ToleranceRules,
    *,
    same_machine: bool = False,
) -> list[Comparison]:
    """Compare a run's records with those of the runs before it, oldest first; corrected for how many there are.

    Only runs on comparable environments and with the same batch size count; with `same_machine` also those whose
    machine is not recorded.
    """
    earlier: dict[_Key, list[Record]] = {}
    for record in (record for records in past for record in records if record.status not in SILENT):
        earlier.setdefault(record.key, []).append(record)
    comparisons = [
        comparison
        for record in head
        for comparison in _compare_record(record, earlier.get(record.key, ()), tolerances, same_machine=same_machine)
    ]
    measured = {record.case for record in head}
    lost = [
        case for case in dict.fromkeys(record.case for record in (past[-1] if past else ())) if case not in measured
    ]
    comparisons += [
        Comparison(case=case, metric=SPEEDUP, verdict=Verdict.MISSING, why="the run before had it") for case in lost
    ]
    return correct_family(comparisons)


def _compare_record(
    head: Record, before: Sequence[Record], tolerances: ToleranceRules, *, same_machine: bool
) -> Iterator[Comparison]:
    """Compare a record with those of the same testing in earlier runs. Statuses are compared with the last of them."""
    case = head.case
    if head.status in SILENT:
        if head.testing is Testing.PERFORMANCE:
            why = f"head: {describe_status(head)}"
            yield Comparison(case=case, metric=SPEEDUP, verdict=Verdict.REFUSED, why=why)
        return
    if head.testing is Testing.ACCURACY:
        if before:
            yield from compare_accuracy(case, describe_status(before[-1]), describe_status(head))
        return
    if not before and not head.status.is_pass:
        yield Comparison(case=case, metric=SPEEDUP, verdict=Verdict.NEW, why=f"head: {describe_status(head)}")
        return
    if not head.status.is_pass or (before and not before[-1].status.is_pass):
        texts = ["" if record.status.is_pass else describe_status(record) for record in (before[-1], head)]
        yield compare_failures(case, *texts, metric=SPEEDUP)
        return
    comparable = [
        record
        for record in before
        if record.status.is_pass
        and (not record.batch_size or not head.batch_size or record.batch_size == head.batch_size)
        and not _differ(record, head, same_machine=same_machine)
    ]
    if comparable:
        yield from _compare_counted(comparable[-1], head, tolerances, is_same_machine=True)
    own = [metric for metric in head.own_metrics.values() if metric.direction is not Direction.UNKNOWN]
    for metric in (*map(METRICS.__getitem__, _IN_BANDS), *own):
        name, value = metric.name, head.metrics.get(metric.name)
        if value is None or value <= 0:
            continue
        values = [
            record.metrics[name]
            for record in comparable
            if record.metrics.get(name, 0.0) > 0 and (name != MEMORY or _is_memory_comparable(record, head))
        ]
        tolerance = widen_for_days(tolerances.find(case, name), name if name in _IN_BANDS else LATENCY)
        yield compare_with_band(case, metric, value, values, tolerance)


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


def make_band(values: Sequence[float]) -> Band | None:
    """Make the band of positive values, oldest first; None for fewer than `LEAST_RUNS`."""
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
    case: Case, metric: Metric, value: float, history: Sequence[float], tolerance: ChangeTolerance
) -> Comparison:
    """Judge one new value. It is worse when it is outside of the prediction interval, further from the median than an
    unusual jump and than the margin; unchanged inside of the interval and the threshold.

    Memory is the same in every run, and then the interval has no width: what rounding, or a few bytes of an allocator,
    add is inside of it.
    """
    band = make_band(history)
    if band is None:
        why = f"{len(history)} comparable runs before this one, {LEAST_RUNS} are needed"
        return Comparison(case=case, metric=metric.name, verdict=Verdict.SKIPPED, head=value, why=why)
    change = math.log(value / band.center)
    is_none = abs(change) < _ROUNDING or (metric.name == MEMORY and abs(value - band.center) < LEAST_BYTES)
    inside = is_none or band.low <= value <= band.high
    if not inside and abs(change) > max(band.jump, math.log1p(tolerance.margin)):
        is_worse = (change > 0) == (metric.direction is Direction.LOWER)
        verdict = Verdict.REGRESSED if is_worse else Verdict.IMPROVED
    else:
        is_near = is_none or abs(change) < math.log1p(tolerance.threshold)
        verdict = Verdict.UNCHANGED if inside and is_near else Verdict.INCONCLUSIVE
    return Comparison(
        case=case,
        metric=metric.name,
        verdict=verdict,
        base=band.center,
        head=value,
        ratio=math.exp(change),
        low=value / band.high,
        high=value / band.low,
        why=f"against the median of {band.runs} runs",
    )
