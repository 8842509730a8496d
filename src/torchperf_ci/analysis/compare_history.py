"""Verdicts on one run from the runs before it: a band per case and metric. docs/method.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchperf_ci.analysis.band import compare_with_band
from torchperf_ci.analysis.compare import Comparison, Tolerance, Verdict, correct_family
from torchperf_ci.analysis.tolerances import COMPILING, LATENCY, MEMORY, SPEEDUP, Tolerances
from torchperf_ci.analysis.verdicts import accuracy, failed
from torchperf_ci.records import Case, Record, Status, Testing

METRICS = (SPEEDUP, LATENCY, MEMORY, COMPILING)

LEAST = {
    SPEEDUP: Tolerance(margin=0.05, threshold=0.10),
    LATENCY: Tolerance(margin=0.10, threshold=0.25),
}
"""The least a difference between runs of different days has to be, for `compare_runs` as well. Speedups differ by 1.1
to 1.6 % (SD) between moments of a shared machine, times by 2.6 to 23.5 %."""

_UNTOLD = frozenset({Status.NOT_RUN, Status.PASS_DUE_TO_SKIP})


def compare_with_history(
    head: Sequence[Record], past: Sequence[Sequence[Record]], tolerances: Tolerances
) -> list[Comparison]:
    """Every comparison of a run's records with those of the runs before it, oldest first, corrected for how many there
    are. Only runs on comparable environments and with the same batch size count."""
    mine = {record.case for record in head}
    newest = past[-1] if past else ()
    earlier: dict[tuple[Case, Testing], list[Record]] = {}
    for record in (record for records in past for record in records if record.status not in _UNTOLD):
        earlier.setdefault(record.key, []).append(record)
    found = [comparison for record in head for comparison in _compare(record, earlier.get(record.key, ()), tolerances)]
    missing = [
        Comparison(case=case, metric=SPEEDUP, verdict=Verdict.MISSING, why="the run before had it")
        for case in dict.fromkeys(record.case for record in newest)
        if case not in mine
    ]
    return correct_family([*found, *missing])


def at_least(asked: Tolerance, metric: str) -> Tolerance:
    """What was asked for, or what runs of different days need, whichever is more."""
    least = LEAST.get(metric, asked)
    return Tolerance(margin=max(asked.margin, least.margin), threshold=max(asked.threshold, least.threshold))


def _compare(head: Record, before: Sequence[Record], tolerances: Tolerances) -> Iterator[Comparison]:
    if head.status in _UNTOLD:
        if head.testing is Testing.PERFORMANCE:
            yield Comparison(case=head.case, metric=SPEEDUP, verdict=Verdict.REFUSED, why=f"head: {_told(head)}")
        return
    if head.testing is Testing.ACCURACY:
        if before:
            yield from accuracy(head.case, _told(before[-1]), _told(head))
        return
    if not head.status.is_pass or (before and not before[-1].status.is_pass):
        yield _status_change(head, before)
        return
    comparable = [record for record in before if record.status.is_pass and _is_comparable(record, head)]
    for metric in METRICS:
        value = head.metrics.get(metric)
        if value is None or value <= 0:
            continue
        values = [record.metrics[metric] for record in comparable if record.metrics.get(metric, 0.0) > 0]
        yield compare_with_band(head.case, metric, value, values, at_least(tolerances.of(head.case, metric), metric))


def _status_change(head: Record, before: Sequence[Record]) -> Comparison:
    """The verdict where head, or the run before it, has no times."""
    if not before:
        return Comparison(case=head.case, metric=SPEEDUP, verdict=Verdict.NEW, why=f"head: {_told(head)}")
    texts = ["" if record.status.is_pass else _told(record) for record in (before[-1], head)]
    return failed(head.case, *texts, metric=SPEEDUP)


def _is_comparable(record: Record, head: Record) -> bool:
    same_batch = not record.batch_size or not head.batch_size or record.batch_size == head.batch_size
    return same_batch and not record.environment.comparable_to(head.environment)


def _told(record: Record) -> str:
    return f"{record.status}: {record.reason}" if record.reason else str(record.status)
