"""The summary numbers of every compiler along the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from torchperf_ci.core.frames import CaseSelection, Section, SuiteTables, suite_tables
from torchperf_ci.core.text import ABSENT
from torchperf_ci.history.runs import HistoryRun
from torchperf_ci.report.summary import CompilerSummary, summarize
from torchperf_ci.report.words import ratio, seconds

TRENDS: Mapping[str, str] = MappingProxyType(
    {
        "geomean": "Geometric mean speedup",
        "passrate": "Pass rate",
        "comp_time": "Mean compilation time",
        "memory": "Memory compression",
    }
)
"""The numbers that are followed over time and their titles, by the names of the summary's CSV files."""

BARS = "▁▂▃▄▅▆▇█"
GAP = "·"
FULL_SCALE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunSummary:
    """Hold a run with its tables and summary numbers."""

    run: HistoryRun
    tables: tuple[SuiteTables, ...]
    lines: tuple[CompilerSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Hold a number over time: `values` has an element per run, None where the compiler did not run."""

    section: Section
    suite: str
    compiler: str
    name: str
    values: tuple[float | None, ...]

    @property
    def newest_known(self) -> float | None:
        return next((value for value in reversed(self.values) if value is not None), None)

    @property
    def oldest(self) -> float | None:
        return next((value for value in self.values if value is not None), None)

    @property
    def previous(self) -> float | None:
        """Return the last value but one of those that are known."""
        known = [value for value in self.values if value is not None]
        return known[-2] if len(known) > 1 else None


def summarize_run(run: HistoryRun, selection: CaseSelection) -> RunSummary:
    """Make the tables and summary numbers of a run, as far as `selection` takes it."""
    tables = suite_tables(run.results.records, selection)
    return RunSummary(run=run, tables=tables, lines=tuple(line for item in tables for line in summarize(item)))


def follow_numbers(summaries: Sequence[RunSummary], *, include_slowdowns: bool) -> tuple[Trend, ...]:
    """Follow every number of every compiler that any of the runs has, in the order of the newest run."""
    by_run = [{(line.section, line.suite, line.compiler): line for line in item.lines} for item in summaries]
    keys = dict.fromkeys(key for lines in reversed(by_run) for key in lines)
    return tuple(
        Trend(
            section=key[0],
            suite=key[1],
            compiler=key[2],
            name=name,
            values=tuple(
                _number_of(lines[key], name, include_slowdowns=include_slowdowns) if key in lines else None
                for lines in by_run
            ),
        )
        for name in TRENDS
        for key in keys
    )


def explain_number(name: str, *, include_slowdowns: bool) -> str:
    """Say what a number of `TRENDS` means, in a few words."""
    match name:
        case "geomean":
            counted = "counts as it is" if include_slowdowns else "counts as 1x, since eager can be used instead"
            return f"of passing models; a slowdown {counted}"
        case "passrate":
            return "of the models that could be judged"
        case "comp_time":
            return "of passing models, with a cold cache"
        case _:
            return "of passing models: eager's peak memory over the compiled model's; more is better"


def write_number(name: str, value: float | None) -> str:
    """Write a number of `TRENDS` with its unit, or a dash."""
    match name:
        case "passrate":
            return ABSENT if value is None else f"{value:.0f} %"
        case "comp_time":
            return seconds(value)
        case _:
            return ratio(value)


def sparkline(values: Sequence[float | None]) -> str:
    """Draw a bar per value, a dot where there is none. From the lowest to the highest bar it is `FULL_SCALE` of the
    highest value or more, so that noise stays small."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    scale = max(high - low, FULL_SCALE * abs(high)) or 1.0
    bottom = (low + high - scale) / 2
    return "".join(
        GAP if value is None else BARS[round((len(BARS) - 1) * (value - bottom) / scale)] for value in values
    )


def _number_of(line: CompilerSummary, name: str, *, include_slowdowns: bool) -> float | None:
    match name:
        case "geomean":
            return line.geomean if include_slowdowns else line.clipped
        case "passrate":
            return 100 * line.passed / line.total if line.total else None
        case "comp_time":
            return line.compile_seconds
        case _:
            return line.compression
