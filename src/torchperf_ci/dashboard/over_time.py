"""Runs on a time line, and the summary numbers of every compiler along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from torchperf_ci.core.frames import CaseSelection, Section, SuiteTables, suite_tables
from torchperf_ci.core.records import MACHINE_UNKNOWN, Environment, Record, Source
from torchperf_ci.report.summary import CompilerSummary, summarize

TRENDS: Mapping[str, str] = MappingProxyType(
    {
        "geomean": "Geometric mean speedup",
        "passrate": "Passrate (%)",
        "comp_time": "Mean compilation time (seconds)",
        "memory": "Peak memory footprint compression ratio",
    }
)
"""The numbers that are followed over time, by the names of the summary's CSV files."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Point:
    """A run on the time line. `source` is that of its newest record, `time` in UTC."""

    key: str
    time: datetime
    source: Source
    records: tuple[Record, ...]

    def __str__(self) -> str:
        commit = f" {self.source.commit[:12]}" if self.source.commit else ""
        return f"{self.time:%Y-%m-%d %H:%M}{commit} ({self.key})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """A run with its tables and summary lines."""

    point: Point
    tables: tuple[SuiteTables, ...]
    lines: tuple[CompilerSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A number over time: `values` has an element per run, None where the compiler did not run."""

    section: Section
    suite: str
    compiler: str
    name: str
    values: tuple[float | None, ...]


def differences(before: Environment, now: Environment) -> list[str]:
    """Why numbers of two machines cannot be compared, a sentence each; none when one of them was not recorded."""
    if Environment() in (before, now):
        return []
    return [reason for reason in before.comparable_to(now) if reason != MACHINE_UNKNOWN]


def look_at(point: Point, selection: CaseSelection) -> Look:
    """The tables of a run, as far as `selection` takes it."""
    tables = suite_tables(point.records, selection)
    return Look(point=point, tables=tables, lines=tuple(line for item in tables for line in summarize(item)))


def trends(looks: Sequence[Look], *, include_slowdowns: bool) -> tuple[Trend, ...]:
    """Every number of every compiler that any of the runs has, in the order of the newest run."""
    keys = dict.fromkeys((line.section, line.suite, line.compiler) for look in reversed(looks) for line in look.lines)
    by_run = [{(line.section, line.suite, line.compiler): line for line in look.lines} for look in looks]
    return tuple(
        Trend(
            section=section,
            suite=suite,
            compiler=compiler,
            name=name,
            values=tuple(
                _value(lines.get((section, suite, compiler)), name, include_slowdowns=include_slowdowns)
                for lines in by_run
            ),
        )
        for name in TRENDS
        for section, suite, compiler in keys
    )


def _value(line: CompilerSummary | None, name: str, *, include_slowdowns: bool) -> float | None:
    if line is None:
        return None
    match name:
        case "geomean":
            return line.geomean if include_slowdowns else line.clipped
        case "passrate":
            return 100 * line.passed / line.total if line.total else None
        case "comp_time":
            return line.compile_seconds
        case _:
            return line.compression
