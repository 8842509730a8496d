"""Records as the CSV files of PyTorch's suite runner, and the summary as tables of compilers and suites."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from torchperf_ci.core.frames import Section
from torchperf_ci.core.records import COUNTERS, METRICS, Case, Record, Testing
from torchperf_ci.core.results import csv_name
from torchperf_ci.core.text import csv_cell, unique
from torchperf_ci.report.model import RunFindings
from torchperf_ci.report.summary import CompilerSummary

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


NO_LINE = "0"
"""The cell of a compiler that this suite did not run with."""


def summary_tables(findings: RunFindings, section: Section) -> Mapping[str, pd.DataFrame]:
    """The four tables of a section by name; their cells are text."""
    compilers = findings.compilers_of(section)
    lines = {(line.compiler, line.suite): line for line in findings.lines_of(section)}
    suites = dict.fromkeys(suite for _, suite in lines)
    return {
        name: pd.DataFrame(
            {
                "Compiler": compilers,
                **{suite: [_cell(lines.get((one, suite)), write) for one in compilers] for suite in suites},
            },
            index=list(compilers),
        )
        for name, write in cells(include_slowdowns=findings.options.include_slowdowns).items()
    }


def summary_csvs(findings: RunFindings) -> Mapping[str, str]:
    """The four files by name. With more than one section three columns say which one a row belongs to."""
    made = {section: summary_tables(findings, section) for section in findings.sections}
    joined: dict[str, list[pd.DataFrame]] = {}
    for section, tables in made.items():
        for name, table in tables.items():
            if len(made) > 1:
                for place, part in enumerate((section.mode.value, section.dtype, section.device), start=1):
                    table.insert(place, ("mode", "dtype", "device")[place - 1], part, allow_duplicates=True)
            joined.setdefault(name, []).append(table)
    return {f"{name}.csv": _csv(tables) for name, tables in joined.items()}


def passrate(line: CompilerSummary) -> str:
    """`85%, 51/60`."""
    percent = round(100 * line.passed / line.total) if line.total else 0
    return f"{percent}%, {line.passed}/{line.total}"


def _csv(tables: list[pd.DataFrame]) -> str:
    table = pd.concat(tables) if len(tables) > 1 else tables[0]
    table["Compiler"] = table["Compiler"].map(csv_cell)
    text: str = table.rename(index=csv_cell, columns=csv_cell).fillna(NO_LINE).to_csv(lineterminator="\n")
    return text


def cells(*, include_slowdowns: bool) -> Mapping[str, Callable[[CompilerSummary], str]]:
    """How the four numbers of a line read, by the names of the files."""
    return {
        "passrate": passrate,
        "geomean": lambda line: _ratio(line.geomean if include_slowdowns else line.clipped),
        "comp_time": lambda line: "0.0" if line.compile_seconds is None else f"{line.compile_seconds:.2f}",
        "memory": lambda line: _ratio(line.compression),
    }


def _cell(line: CompilerSummary | None, write: Callable[[CompilerSummary], str]) -> str:
    return NO_LINE if line is None else write(line)


def _ratio(value: float | None) -> str:
    return "0.0x" if value is None else f"{value:.2f}x"
