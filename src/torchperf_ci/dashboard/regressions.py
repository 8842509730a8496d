"""Find the changes between a run and the newest earlier one that can be compared with it; and trends along all runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torchperf_ci.core.frames import (
    LEAVES_COMPILER,
    MISSING,
    CaseSelection,
    Cell,
    Section,
    SuiteTables,
    model_rows,
    suite_tables,
)
from torchperf_ci.core.records import MACHINE_UNKNOWN, Case, Environment, Status, Testing
from torchperf_ci.core.text import ABSENT, Word
from torchperf_ci.history.runs import HistoryRun
from torchperf_ci.report.summary import FLAGGED, CompilerSummary, is_flagged, summarize
from torchperf_ci.report.words import ratio, seconds

TRENDS: Mapping[str, str] = {
    "geomean": "Geometric mean speedup",
    "passrate": "Pass rate",
    "comp_time": "Mean compilation time",
    "memory": "Memory compression",
}
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


NOT_THERE = frozenset({MISSING, LEAVES_COMPILER, Status.NOT_RUN.value})
"""Statuses of cases that were not looked at: they have neither got worse nor better, they are not there."""


class Transition(Word):
    """Tell how a case changed. The first two go by the limits of the warnings."""

    REGRESSED = "regressed"
    FIXED = "fixed"
    DISAPPEARED = "disappeared"
    APPEARED = "appeared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Hold a case that is flagged and was not, or the other way round, in one metric; or one that came or went.

    before, now: what the metric's table says; None in a run that lacks the case.
    """

    kind: Transition
    case: Case
    metric: str
    before: Cell | None
    now: Cell | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompilerComparison:
    """Hold one compiler on one suite against the newest earlier run with the same tests of it.

    before: that run; None when there is none, and then there are no changes.
    line, line_before: the summary numbers of both.
    doubts: why numbers of the two runs should not be compared, in sentences.
    """

    section: Section
    suite: str
    compiler: str
    before: HistoryRun | None
    line: CompilerSummary
    line_before: CompilerSummary | None
    doubts: tuple[str, ...]
    changes: tuple[Change, ...]


def compare_with_past(
    now: RunSummary, past: Sequence[HistoryRun], compilers: Sequence[str]
) -> tuple[CompilerComparison, ...]:
    """Compare every suite of `now` and every one of `compilers` that ran there with `past`, which is oldest first."""
    return tuple(
        _compare_compiler(now, tables, compiler, past)
        for tables in now.tables
        for compiler in compilers
        if compiler in tables.compilers
    )


def list_differences(before: Environment, now: Environment) -> list[str]:
    """Say why numbers of two machines cannot be compared; nothing when one of them was not recorded."""
    if Environment() in (before, now):
        return []
    return [reason for reason in before.comparable_to(now) if reason != MACHINE_UNKNOWN]


def _compare_compiler(
    now: RunSummary, tables: SuiteTables, compiler: str, past: Sequence[HistoryRun]
) -> CompilerComparison:
    section = tables.section
    of_suite = CaseSelection(
        suites=(tables.suite,), devices=(section.device,), dtypes=(section.dtype,), mode=section.mode
    )
    of_compiler = replace(of_suite, compilers=(compiler,))
    needed = _list_testings(now.run, of_compiler)
    before = next((run for run in reversed(past) if needed and needed <= _list_testings(run, of_compiler)), None)
    compared = partial(
        CompilerComparison,
        section=section,
        suite=tables.suite,
        compiler=compiler,
        before=before,
        line=_line_of(tables, compiler),
    )
    if before is None:
        return compared(line_before=None, doubts=(), changes=())
    (earlier,) = suite_tables(before.results.records, of_suite)
    environments = [
        next((record.environment for record in run.results.records if of_compiler.takes(record.case)), Environment())
        for run in (before, now.run)
    ]
    return compared(
        line_before=_line_of(earlier, compiler),
        doubts=(*list_differences(*environments), *_list_changed_worlds(before, now.run, of_compiler)),
        changes=tuple(_find_changes(tables, earlier, compiler)),
    )


def _list_changed_worlds(before: HistoryRun, now: HistoryRun, selection: CaseSelection) -> list[str]:
    """Say which models ran in another number of processes than before."""
    worlds = {record.key: record.environment.world for record in before.results.records if selection.takes(record.case)}
    changed = {
        f"{record.case.model} ran in {worlds[record.key]} processes, now in {record.environment.world}": None
        for record in now.results.records
        if worlds.get(record.key, record.environment.world) != record.environment.world
    }
    return list(changed)


def _list_testings(run: HistoryRun, selection: CaseSelection) -> set[Testing]:
    return {
        record.testing
        for record in run.results.records
        if record.status.value not in NOT_THERE and selection.takes(record.case)
    }


def _line_of(tables: SuiteTables, compiler: str) -> CompilerSummary:
    return next(line for line in summarize(tables) if line.compiler == compiler)


def _find_changes(tables: SuiteTables, earlier: SuiteTables, compiler: str) -> Iterator[Change]:
    section = tables.section
    of_model = partial(
        Case, suite=tables.suite, mode=section.mode, device=section.device, dtype=section.dtype, compiler=compiler
    )
    cells, cells_before = _cells_of(tables, compiler), _cells_of(earlier, compiler)
    # The models that were looked at, in the tables' order.
    present, present_before = (
        dict.fromkeys(
            model for of_metric in of_run.values() for model, cell in of_metric.items() if cell.status not in NOT_THERE
        )
        for of_run in (cells, cells_before)
    )
    for metric in FLAGGED:
        for model in filter(present_before.__contains__, present):
            now, before = cells[metric].get(model), cells_before[metric].get(model)
            # A test that is missing where it was made before is a failure, one that was not asked for is none.
            if not now or not before or before.status in NOT_THERE or now.status in NOT_THERE - {MISSING}:
                continue
            if (flagged := is_flagged(metric, now)) != is_flagged(metric, before):
                kind = Transition.REGRESSED if flagged else Transition.FIXED
                yield Change(kind=kind, case=of_model(model=model), metric=metric, before=before, now=now)
    for kind, models, where in (
        (Transition.DISAPPEARED, [model for model in present_before if model not in present], cells_before),
        (Transition.APPEARED, [model for model in present if model not in present_before], cells),
    ):
        for model in models:
            metric = next(metric for metric in FLAGGED if model in where[metric])
            before, now = cells_before[metric].get(model), cells[metric].get(model)
            yield Change(kind=kind, case=of_model(model=model), metric=metric, before=before, now=now)


def _cells_of(tables: SuiteTables, compiler: str) -> Mapping[str, Mapping[str, Cell]]:
    """Take a compiler's cells out of the tables, by metric and model."""
    place = tables.compilers.index(compiler)
    return {metric: {row.model: row.cells[place] for row in model_rows(tables, metric)} for metric in FLAGGED}
