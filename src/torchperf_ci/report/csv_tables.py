"""Records as the CSV files of PyTorch's suite runner, and the summary as tables of compilers and suites."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

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
"""Where PyTorch's tools expect a number."""
NO_LINE = "0"
"""The cell of a compiler that this suite did not run with."""

SummaryTable = tuple[list[str], list[list[str]]]
"""Columns and rows."""


def case_csvs(records: Iterable[Record]) -> Iterator[tuple[str, str]]:
    """Yield name and text of every file that `records` make, with the graph breaks of each beside it."""
    files: dict[tuple[Case, Testing], list[Record]] = {}
    for record in records:
        files.setdefault((replace(record.case, model=""), record.testing), []).append(record)
    taken: set[str] = set()
    for (case, testing), held in files.items():
        stem = unique(csv_name(case, testing).removesuffix(".csv"), taken)
        rows = [list(COLUMNS[testing]), *map(_case_row, held)]
        if any(record.environment.world > 1 for record in held):  # PyTorch's files have no word for it
            worlds = ("world", *(str(record.environment.world) for record in held))
            rows = [[*row, world] for row, world in zip(rows, worlds, strict=True)]
        yield f"{stem}.csv", _text(rows)
        breaks = [
            (csv_cell(record.case.model), csv_cell(graph_break.reason), csv_cell(graph_break.user_stack))
            for record in held
            for graph_break in record.graph_breaks
        ]
        if breaks:
            yield f"{stem}_graph_breaks.csv", _text([("model", "reason", "user_stack"), *breaks])


def _case_row(record: Record) -> list[str]:
    """Write a record's cells: numbers with six decimals in the CSV's unit, blank for what was not measured."""

    def number(name: str) -> str:
        value = record.metrics.get(name)
        if not record.status.is_pass and name in ZERO_ON_ERROR:
            value = 0.0
        return "" if value is None else f"{value * METRICS[name].csv_scale:.6f}"

    is_accuracy = record.testing is Testing.ACCURACY
    batch_size = record.batch_size if record.status.is_pass or is_accuracy else 0
    head = [csv_cell(record.case.device), csv_cell(record.case.model), str(batch_size)]
    counters = [str(record.counters[name]) if name in record.counters else "" for name in COUNTERS]
    if is_accuracy:
        return [*head, record.status.value, *counters, number("compilation_latency")]
    return [*head, *map(number, PERFORMANCE_METRICS), *counters]


def make_summary_tables(findings: RunFindings, section: Section) -> Mapping[str, SummaryTable]:
    """Make the four tables of a section by name; their cells are text."""
    compilers = findings.compilers_of(section)
    lines = {(line.compiler, line.suite): line for line in findings.lines_of(section)}
    suites = list(dict.fromkeys(suite for _, suite in lines))
    return {
        name: (
            ["Compiler", *suites],
            [
                [one, *(write(lines[one, suite]) if (one, suite) in lines else NO_LINE for suite in suites)]
                for one in compilers
            ],
        )
        for name, write in cells(include_slowdowns=findings.options.include_slowdowns).items()
    }


def write_summary_csvs(findings: RunFindings) -> Mapping[str, str]:
    """Write the four files by name. With more than one section three columns say which one a row belongs to."""
    sections = findings.sections
    parts = ["mode", "dtype", "device"] if len(sections) > 1 else []
    suites = list(dict.fromkeys(tables.suite for section in sections for tables in findings.tables_of(section)))
    texts: dict[str, list[list[str]]] = {}
    for section in sections:
        of_section = [section.mode.value, section.dtype, section.device][: len(parts)]
        for name, (columns, rows) in make_summary_tables(findings, section).items():
            table = texts.setdefault(name, [["", "Compiler", *parts, *map(csv_cell, suites)]])
            for compiler, *values in rows:
                by_suite = dict(zip(columns[1:], values, strict=True))
                own = [by_suite.get(suite, NO_LINE) for suite in suites]
                table.append([csv_cell(compiler), csv_cell(compiler), *map(csv_cell, of_section), *own])
    return {f"{name}.csv": _text(table) for name, table in texts.items()}


def format_passrate(line: CompilerSummary) -> str:
    """Write the pass rate as PyTorch does: `85%, 51/60`."""
    percent = round(100 * line.passed / line.total) if line.total else 0
    return f"{percent}%, {line.passed}/{line.total}"


def cells(*, include_slowdowns: bool) -> Mapping[str, Callable[[CompilerSummary], str]]:
    """List how the four numbers of a line are written, by the names of the files."""

    def ratio(value: float | None) -> str:
        return "0.0x" if value is None else f"{value:.2f}x"

    return {
        "passrate": format_passrate,
        "geomean": lambda line: ratio(line.geomean if include_slowdowns else line.clipped),
        "comp_time": lambda line: "0.0" if line.compile_seconds is None else f"{line.compile_seconds:.2f}",
        "memory": lambda line: ratio(line.compression),
    }


def _text(rows: Iterable[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
