"""Records as the CSV files of PyTorch's suite runner: one per compiler, suite, dtype, mode, device and testing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from torchperf_ci.escape import csv_cell
from torchperf_ci.records import COUNTERS, METRICS, Case, Record, Testing
from torchperf_ci.report.names import unique
from torchperf_ci.results import csv_name

PERFORMANCE_METRICS = (
    "speedup",
    "abs_latency",
    "compilation_latency",
    "compression_ratio",
    "eager_peak_mem",
    "dynamo_peak_mem",
)
COLUMNS: Mapping[Testing, tuple[str, ...]] = {
    Testing.PERFORMANCE: ("dev", "name", "batch_size", *PERFORMANCE_METRICS, *COUNTERS),
    Testing.ACCURACY: ("dev", "name", "batch_size", "accuracy", *COUNTERS, "compilation_latency"),
}
ZERO_ON_ERROR = frozenset({"speedup", "abs_latency"})


def case_csvs(records: Iterable[Record]) -> Iterator[tuple[str, str]]:
    """Name and text of every file that `records` make, with the graph breaks of each beside it."""
    files: dict[tuple[Case, Testing], list[Record]] = {}
    for record in records:
        files.setdefault((replace(record.case, model=""), record.testing), []).append(record)
    taken: set[str] = set()
    for (case, testing), held in files.items():
        stem = unique(csv_name(case, testing).removesuffix(".csv"), taken)
        rows = [list(COLUMNS[testing]), *map(_row, held)]
        if any(record.environment.world > 1 for record in held):  # PyTorch's files have no word for it
            worlds = ("world", *(str(record.environment.world) for record in held))
            rows = [[*row, world] for row, world in zip(rows, worlds, strict=True)]
        yield f"{stem}.csv", _text(rows)
        breaks = list(_graph_breaks(held))
        if breaks:
            yield f"{stem}_graph_breaks.csv", _text([("model", "reason", "user_stack"), *breaks])


def _row(record: Record) -> list[str]:
    head = [csv_cell(record.case.device), csv_cell(record.case.model), str(_batch_size(record))]
    counters = [str(record.counters[name]) if name in record.counters else "" for name in COUNTERS]
    match record.testing:
        case Testing.PERFORMANCE:
            return [*head, *(_number(record, name) for name in PERFORMANCE_METRICS), *counters]
        case Testing.ACCURACY:
            return [*head, record.status.value, *counters, _number(record, "compilation_latency")]


def _batch_size(record: Record) -> int:
    return record.batch_size if record.status.is_pass or record.testing is Testing.ACCURACY else 0


def _number(record: Record, name: str) -> str:
    """Six decimals in the CSV's unit; blank for what was not measured, 0 where PyTorch's tools expect it."""
    value = record.metrics.get(name)
    if not record.status.is_pass and name in ZERO_ON_ERROR:
        value = 0.0
    return "" if value is None else f"{value * METRICS[name].csv_scale:.6f}"


def _graph_breaks(records: Sequence[Record]) -> Iterator[tuple[str, str, str]]:
    for record in records:
        for found in record.graph_breaks:
            yield csv_cell(record.case.model), csv_cell(found.reason), csv_cell(found.user_stack)


def _text(rows: Iterable[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
