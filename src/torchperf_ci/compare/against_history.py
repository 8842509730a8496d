"""Verdicts on one run from the runs before it: a band per case and metric. docs/method.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchperf_ci.compare.band import compare_with_band
from torchperf_ci.compare.effects import Comparison, Verdict, correct_family
from torchperf_ci.compare.recorded import is_memory_comparable
from torchperf_ci.compare.tolerances import COMPILING, LATENCY, MEMORY, SPEEDUP, Tolerances, at_least
from torchperf_ci.compare.verdicts import UNTOLD, accuracy, failed, told
from torchperf_ci.core.records import MACHINE_UNKNOWN, METRICS, Case, Direction, Record, Testing

JUDGED = (SPEEDUP, LATENCY, MEMORY, COMPILING)


def compare_with_history(
    head: Sequence[Record],
    past: Sequence[Sequence[Record]],
    tolerances: Tolerances,
    *,
    same_machine: bool = False,
) -> list[Comparison]:
    """Every comparison of a run's records with those of the runs before it, oldest first, corrected for how many there
    are. Only runs on comparable environments and with the same batch size count; with `same_machine` also those whose
    machine is not recorded."""
    mine = {record.case for record in head}
    newest = past[-1] if past else ()
    earlier: dict[tuple[Case, Testing], list[Record]] = {}
    for record in (record for records in past for record in records if record.status not in UNTOLD):
        earlier.setdefault(record.key, []).append(record)
    found = [
        comparison
        for record in head
        for comparison in _compare(record, earlier.get(record.key, ()), tolerances, same_machine=same_machine)
    ]
    missing = [
        Comparison(case=case, metric=SPEEDUP, verdict=Verdict.MISSING, why="the run before had it")
        for case in dict.fromkeys(record.case for record in newest)
        if case not in mine
    ]
    return correct_family([*found, *missing])


def _compare(
    head: Record, before: Sequence[Record], tolerances: Tolerances, *, same_machine: bool
) -> Iterator[Comparison]:
    if head.status in UNTOLD:
        if head.testing is Testing.PERFORMANCE:
            yield Comparison(case=head.case, metric=SPEEDUP, verdict=Verdict.REFUSED, why=f"head: {told(head)}")
        return
    if head.testing is Testing.ACCURACY:
        if before:
            yield from accuracy(head.case, told(before[-1]), told(head))
        return
    if not head.status.is_pass or (before and not before[-1].status.is_pass):
        yield _status_change(head, before)
        return
    comparable = [
        record for record in before if record.status.is_pass and _is_comparable(record, head, same_machine=same_machine)
    ]
    own = [metric for metric in head.own_metrics.values() if metric.direction is not Direction.UNKNOWN]
    for metric in (*map(METRICS.__getitem__, JUDGED), *own):
        name, value = metric.name, head.metrics.get(metric.name)
        if value is None or value <= 0:
            continue
        values = [
            record.metrics[name]
            for record in comparable
            if record.metrics.get(name, 0.0) > 0 and (name != MEMORY or is_memory_comparable(record, head))
        ]
        tolerance = at_least(tolerances.of(head.case, name), name if name in JUDGED else LATENCY)
        yield compare_with_band(head.case, metric, value, values, tolerance)


def _status_change(head: Record, before: Sequence[Record]) -> Comparison:
    """The verdict where head, or the run before it, has no times."""
    if not before:
        return Comparison(case=head.case, metric=SPEEDUP, verdict=Verdict.NEW, why=f"head: {told(head)}")
    texts = ["" if record.status.is_pass else told(record) for record in (before[-1], head)]
    return failed(head.case, *texts, metric=SPEEDUP)


def _is_comparable(record: Record, head: Record, *, same_machine: bool) -> bool:
    same_batch = not record.batch_size or not head.batch_size or record.batch_size == head.batch_size
    reasons = record.environment.comparable_to(head.environment)
    return same_batch and (not reasons or (same_machine and reasons == [MACHINE_UNKNOWN]))
