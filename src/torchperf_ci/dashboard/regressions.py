"""What changed between a run and the newest earlier one that can be compared with it, compiler by compiler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

from torchperf_ci.core.frames import (
    LEAVES_COMPILER,
    MISSING,
    CaseSelection,
    Cell,
    Section,
    SuiteTables,
    rows,
    suite_tables,
)
from torchperf_ci.core.records import Environment, Status, Testing
from torchperf_ci.dashboard.over_time import Look, Point, differences
from torchperf_ci.report.summary import FLAGGED, CompilerSummary, is_flagged, summarize

ABSENT = frozenset({MISSING, LEAVES_COMPILER, Status.NOT_RUN.value})
"""Statuses of cases that were not looked at: they have neither got worse nor better, they are not there."""

Cells = Mapping[str, Mapping[str, Cell]]
"""By metric and model."""


class Kind(str, Enum):
    """How a case changed. The first two go by the limits of the warnings."""

    REGRESSED = "regressed"
    FIXED = "fixed"
    DISAPPEARED = "disappeared"
    APPEARED = "appeared"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A case that is flagged and was not, or the other way round, in one metric; or one that came or went.

    before, now: what the metric's table says; None in a run that lacks the case.
    """

    kind: Kind
    section: Section
    suite: str
    compiler: str
    model: str
    metric: str
    before: Cell | None
    now: Cell | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Against:
    """One compiler on one suite, held against the newest earlier run with the same tests of it.

    before: that run; None when there is none, and then there are no changes.
    line, line_before: the summary numbers of both.
    doubts: why numbers of the two runs should not be compared, in sentences.
    """

    section: Section
    suite: str
    compiler: str
    before: Point | None
    line: CompilerSummary
    line_before: CompilerSummary | None
    doubts: tuple[str, ...]
    changes: tuple[Change, ...]


def held_against(now: Look, past: Sequence[Point], compilers: Sequence[str]) -> tuple[Against, ...]:
    """Every suite of `now`, with every one of `compilers` that ran there; `past` is oldest first."""
    return tuple(
        _against(now, tables, compiler, past)
        for tables in now.tables
        for compiler in compilers
        if compiler in tables.compilers
    )


def _against(now: Look, tables: SuiteTables, compiler: str, past: Sequence[Point]) -> Against:
    section = tables.section
    suite_only = CaseSelection(
        suites=(tables.suite,), devices=(section.device,), dtypes=(section.dtype,), mode=section.mode
    )
    only = replace(suite_only, compilers=(compiler,))
    needed = _testings(now.point, only)
    before = next((point for point in reversed(past) if needed and needed <= _testings(point, only)), None)
    earlier = suite_tables(before.records, suite_only)[0] if before else None
    return Against(
        section=section,
        suite=tables.suite,
        compiler=compiler,
        before=before,
        line=_line(tables, compiler),
        line_before=_line(earlier, compiler) if earlier else None,
        doubts=_doubts(before, now.point, only) if before else (),
        changes=tuple(_changes(tables, earlier, compiler)) if earlier else (),
    )


def _testings(point: Point, only: CaseSelection) -> set[Testing]:
    """What of a run's tests was looked at."""
    return {record.testing for record in point.records if record.status.value not in ABSENT and only.takes(record.case)}


def _line(tables: SuiteTables, compiler: str) -> CompilerSummary:
    return next(line for line in summarize(tables) if line.compiler == compiler)


def _doubts(before: Point, now: Point, only: CaseSelection) -> tuple[str, ...]:
    earlier, later = (
        next((record.environment for record in point.records if only.takes(record.case)), Environment())
        for point in (before, now)
    )
    worlds = {record.key: record.environment.world for record in before.records if only.takes(record.case)}
    changed = {
        f"{record.case.model} ran in {worlds[record.key]} processes, now in {record.environment.world}": None
        for record in now.records
        if worlds.get(record.key, record.environment.world) != record.environment.world
    }
    return (*differences(earlier, later), *changed)


def _changes(tables: SuiteTables, earlier: SuiteTables, compiler: str) -> Iterator[Change]:
    made = partial(Change, section=tables.section, suite=tables.suite, compiler=compiler)
    cells, cells_before = _cells(tables, compiler), _cells(earlier, compiler)
    present, present_before = _present(cells), _present(cells_before)
    for metric in FLAGGED:
        for model in filter(present_before.__contains__, present):
            now, before = cells.get(metric, {}).get(model), cells_before.get(metric, {}).get(model)
            kind = _kind(metric, before, now) if now and before else None
            if kind:
                yield made(kind=kind, model=model, metric=metric, before=before, now=now)
    for kind, models, where in (
        (Kind.DISAPPEARED, [model for model in present_before if model not in present], cells_before),
        (Kind.APPEARED, [model for model in present if model not in present_before], cells),
    ):
        for model in models:
            metric = next(metric for metric in FLAGGED if model in where.get(metric, {}))
            before, now = (found.get(metric, {}).get(model) for found in (cells_before, cells))
            yield made(kind=kind, model=model, metric=metric, before=before, now=now)


def _kind(metric: str, before: Cell, now: Cell) -> Kind | None:
    if before.status in ABSENT or now.status in ABSENT - {MISSING}:
        return None
    flagged = is_flagged(metric, now)
    if flagged == is_flagged(metric, before):
        return None
    return Kind.REGRESSED if flagged else Kind.FIXED


def _cells(tables: SuiteTables, compiler: str) -> Cells:
    place = tables.compilers.index(compiler)
    return {metric: {row.model: row.cells[place] for row in rows(tables, metric)} for metric in FLAGGED}


def _present(cells: Cells) -> dict[str, None]:
    """The models that were looked at, in the tables' order."""
    return {model: None for metric in FLAGGED for model, cell in cells[metric].items() if cell.status not in ABSENT}
