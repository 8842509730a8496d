"""The findings about a suite: its executive summary, what failed, remarks, and what deserves a second look.

The summary has the pass rate, geometric mean speedup, compile time and memory per section, suite and compiler. The
limits of what is flagged are those of PyTorch's own dashboard.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

import numpy as np
import pandas as pd

from torchperf_ci.core.frames import (
    ACCURACY,
    LEAVES_COMPILER,
    LEAVES_TABLE,
    MISSING,
    PASSES,
    Cell,
    Section,
    SuiteTables,
    model_rows,
)
from torchperf_ci.core.records import Record, Testing

DYNAMO_EAGER = "eager (dynamo)"
DYNAMO_NOTE = (
    f"{DYNAMO_EAGER} is torch.compile with the backend eager, which compiles nothing: it shows what dynamo itself "
    "costs. Files for PyTorch call it eager. Uncompiled code has the compiler none."
)


def name_compiler(name: str, tables: Iterable[SuiteTables]) -> str:
    """Name a compiler in our own pages: a backend of torch.compile is called eager, and so is what was not compiled."""
    return DYNAMO_EAGER if name == "eager" and any(map(runs_dynamo, tables)) else name


@lru_cache(maxsize=256)
def runs_dynamo(tables: SuiteTables) -> bool:
    """Say whether the results of the compiler eager come from dynamo, and not from a tool that compiles nothing."""
    return any(
        compiler == "eager" and bool(record.counters or "speedup" in record.metrics or record.not_compiled)
        for (_, _, compiler), record in tables.records.items()
    )


Interval = tuple[float, float]
"""The ends of a 95 % interval."""

NO_SPEEDUP = "no_speedup"
"""The word for a performance test that passed without a usable speedup."""

NO_LATENCY = "no_latency"
"""The word for one without an eager arm that has no usable latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilerSummary:
    """One compiler on one suite in one section.

    total: the cases that count: all but those that could not be loaded, not run in eager, or whose compiler is not
        available here (`left_out`). A missing case counts, as not passed.
    not_compiled: the passing cases of which nothing was compiled.
    geomean, clipped: over the passing cases; `clipped` takes a slowdown as 1, because eager is always there to be used.
    interval: 95 % interval of `geomean`; None where a case has none.
    compile_seconds, compression: arithmetic means over the passing cases.
    The means are None where nothing was measured.
    """

    section: Section
    suite: str
    compiler: str
    passed: int
    total: int
    missing: int
    left_out: int
    not_compiled: int
    geomean: float | None
    interval: Interval | None
    clipped: float | None
    compile_seconds: float | None
    compression: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A case that did not pass: what was looked at, how it ended, and why, as far as that is known.

    counts: does it lower the pass rate, or is it left out of it?
    """

    section: Section
    suite: str
    model: str
    compiler: str
    testing: Testing
    status: str
    counts: bool
    reason: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """The remarks on the numbers of a case. `not_compiled`: nothing of it was compiled."""

    section: Section
    suite: str
    model: str
    compiler: str
    not_compiled: bool
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benefit:
    """The benefit of a compiler on the passing models of a section, over all suites, whose speedup was measured.

    speedup: geometric mean. interval: its 95 % interval; None where a case has none.
    saved_ms: arithmetic mean over the models of what a call takes less than in eager; below 0 where it takes more.
    compile_seconds: arithmetic mean of the compilation latencies.
    The last two are None where a case lacks them.
    """

    section: Section
    compiler: str
    models: int
    speedup: float
    interval: Interval | None
    saved_ms: float | None
    compile_seconds: float | None

    @property
    def calls_to_pay_off(self) -> float | None:
        """Calls of each model after which what they save together is what compiling them took; None for never."""
        if not self.saved_ms or self.saved_ms < 0 or self.compile_seconds is None:
            return None
        calls = 1000 * self.compile_seconds / self.saved_ms
        return calls if math.isfinite(calls) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakReason:
    """A reason to leave a graph at one place of the user's code, with the models that it was seen in."""

    section: Section
    suite: str
    compiler: str
    reason: str
    place: str
    models: tuple[str, ...]


def combine_intervals(intervals: Sequence[Interval | None], mean: float) -> Interval | None:
    """Combine intervals of cases to that of their geometric `mean`; None where a case has none.

    Errors of cases that are measured one after the other are taken for independent: in logarithms the half width of a
    mean is the root of the sum of the squared half widths over their number (JCGM 100:2008, 5.1.2).
    """
    known = [interval for interval in intervals if interval is not None]
    if not known or len(known) < len(intervals):
        return None
    half = math.sqrt(sum(((math.log(high) - math.log(low)) / 2) ** 2 for low, high in known)) / len(known)
    return mean * math.exp(-half), mean * math.exp(half)


def read_interval(record: Record | None) -> Interval | None:
    """Read the 95 % interval of a record's speedup; None where it was not measured in enough pairs."""
    low, high = (record.metrics.get(name, math.nan) if record else math.nan for name in ("speedup_low", "speedup_high"))
    return (low, high) if 0 < low <= high < math.inf else None


def list_benefits(tables: Sequence[SuiteTables]) -> tuple[Benefit, ...]:
    """Say what each compiler brings, section by section, in the order of the tables."""
    groups: dict[tuple[Section, str], list[Record]] = {}
    for item in tables:
        for compiler in item.compilers:
            passed, speedups = item.passed[compiler], item.values["speedup"][compiler]
            groups.setdefault((item.section, compiler), []).extend(
                item.records[Testing.PERFORMANCE, model, compiler]
                for model in item.models
                if passed[model] and 0 < speedups[model] < math.inf
            )
    benefits = []
    for (section, compiler), records in groups.items():
        if not records:
            continue
        speedup = math.exp(fmean(math.log(record.metrics["speedup"]) for record in records))
        # From the paired speedup, not from two medians, so that its sign is that of the speedup.
        saved = [record.metrics.get("abs_latency", math.nan) * (record.metrics["speedup"] - 1) for record in records]
        compiling = [record.metrics.get("compilation_latency", math.nan) for record in records]
        benefits.append(
            Benefit(
                section=section,
                compiler=compiler,
                models=len(records),
                speedup=speedup,
                interval=combine_intervals([read_interval(record) for record in records], speedup),
                saved_ms=fmean(saved) if all(map(math.isfinite, saved)) else None,
                compile_seconds=fmean(compiling) if all(map(math.isfinite, compiling)) else None,
            )
        )
    return tuple(benefits)


def list_break_reasons(tables: SuiteTables) -> tuple[BreakReason, ...]:
    """List why graphs were left, those first that most models have."""
    groups: dict[tuple[str, str, str], dict[str, None]] = {}
    for (_, model, compiler), record in tables.records.items():
        for graph_break in record.graph_breaks:
            groups.setdefault((compiler, graph_break.reason, graph_break.user_stack), {})[model] = None
    reasons = (
        BreakReason(
            section=tables.section,
            suite=tables.suite,
            compiler=compiler,
            reason=reason,
            place=place,
            models=tuple(models),
        )
        for (compiler, reason, place), models in groups.items()
    )
    return tuple(sorted(reasons, key=lambda item: -len(item.models)))


def summarize(tables: SuiteTables) -> tuple[CompilerSummary, ...]:
    """Sum a suite up, a line per compiler, in the order of the tables."""
    return tuple(_line(tables, compiler) for compiler in tables.compilers)


def list_failures(tables: SuiteTables) -> tuple[Failure, ...]:
    """List what did not pass, once per case: accuracy, if that failed, else performance; in the models' order."""
    return tuple(
        _failure(tables, model, compiler, counts=bool(counts))
        for model, passed, counted in zip(
            tables.models, tables.passed.to_numpy(), tables.counted.to_numpy(), strict=True
        )
        for compiler, passes, counts in zip(tables.compilers, passed, counted, strict=True)
        if not passes
    )


def list_remarks(tables: SuiteTables) -> tuple[Remark, ...]:
    """List the cases that have something to be said about, in the models' order."""
    cases = ((model, compiler) for model in tables.models for compiler in tables.compilers)
    return tuple(remark for model, compiler in cases if (remark := _remark(tables, model, compiler)).texts)


def _remark(tables: SuiteTables, model: str, compiler: str) -> Remark:
    records = [record for testing in Testing if (record := tables.records.get((testing, model, compiler))) is not None]
    not_compiled = any(record.not_compiled and record.status.is_pass for record in records)
    recompiles = max((record.counters.get("recompiles", 0) for record in records), default=0)
    texts = [
        "not compiled: what passed is eager code" if not_compiled else "",
        *(text for record in records for text in record.remarks),
        f"{recompiles:,} {'recompilation' if recompiles == 1 else 'recompilations'}" if recompiles else "",
    ]
    return Remark(
        section=tables.section,
        suite=tables.suite,
        model=model,
        compiler=compiler,
        not_compiled=not_compiled,
        texts=tuple(dict.fromkeys(filter(None, texts))),
    )


def _line(tables: SuiteTables, compiler: str) -> CompilerSummary:
    counted, passed = tables.counted[compiler], tables.passed[compiler]
    speedups = _measured(tables, "speedup", compiler)
    geomean = _geomean(speedups)
    intervals = [read_interval(tables.records[Testing.PERFORMANCE, model, compiler]) for model in speedups.index]
    absent = np.logical_and.reduce([words[compiler] == MISSING for words in tables.statuses.values()])
    return CompilerSummary(
        section=tables.section,
        suite=tables.suite,
        compiler=compiler,
        passed=int(passed.sum()),
        total=int(counted.sum()),
        missing=int((absent & counted).sum()),
        left_out=int((~counted).sum()),
        not_compiled=sum(
            _remark(tables, model, compiler).not_compiled
            for model, passes in zip(tables.models, passed, strict=True)
            if passes
        ),
        geomean=geomean,
        interval=None if geomean is None else combine_intervals(intervals, geomean),
        clipped=_geomean(speedups.clip(lower=1)),
        compile_seconds=_mean(_measured(tables, "compilation_latency", compiler)),
        compression=_mean(_measured(tables, "compression_ratio", compiler)),
    )


def _failure(tables: SuiteTables, model: str, compiler: str, *, counts: bool) -> Failure:
    found = [
        (testing, tables.records.get((testing, model, compiler)))
        for testing in (Testing.ACCURACY, Testing.PERFORMANCE)
        if testing in tables.statuses
    ]
    testing, record = next((item for item in found if item[1] is None or not item[1].status.is_pass), found[-1])
    return Failure(
        section=tables.section,
        suite=tables.suite,
        model=model,
        compiler=compiler,
        testing=testing,
        status=_word(tables, model, record),
        counts=counts,
        reason=_reason(tables, model, record),
        log=record.log if record else "",
    )


def _word(tables: SuiteTables, model: str, record: Record | None) -> str:
    """Choose the status to show. A pass that does not count hangs on what happened to the same model elsewhere."""
    if record is None:
        return MISSING
    if not record.status.is_pass:
        return record.status.value
    unusable = NO_SPEEDUP if "speedup" in record.metrics else NO_LATENCY
    return min(_list_elsewhere(tables, model), default=unusable)


def _list_elsewhere(tables: SuiteTables, model: str) -> set[str]:
    """List the statuses of a model, of any compiler, that leave all of it out."""
    return {str(word) for table in tables.statuses.values() for word in table.loc[model]} & LEAVES_TABLE


def _reason(tables: SuiteTables, model: str, record: Record | None) -> str:
    if record is None:
        return "no result, though there is one for this model elsewhere in the suite"
    if not record.status.is_pass:
        return record.reason
    if record.reason:
        return record.reason
    if _list_elsewhere(tables, model):
        return "passed here; see the same model with the other compilers"
    for metric, noun, unit in (("speedup", "speedup", "x"), ("abs_latency", "latency", " ms")):
        if metric in record.metrics:
            return f"it passed, but its {noun} cannot be used: {record.metrics[metric]:g}{unit} is not above 0"
    return "it passed, but there is no latency or other number of it"


def _measured(tables: SuiteTables, metric: str, compiler: str) -> pd.Series[float]:
    values: pd.Series[float] = tables.values[metric][compiler]
    chosen: pd.Series[float] = values[tables.passed[compiler] & (values > 0)]
    return chosen


def _geomean(values: pd.Series[float]) -> float | None:
    with np.errstate(over="ignore"):  # a file may hold any number
        return float(np.exp(np.log(values.to_numpy(dtype=float)).mean())) if len(values) else None


def _mean(values: pd.Series[float]) -> float | None:
    with np.errstate(over="ignore"):
        return float(values.to_numpy(dtype=float).mean()) if len(values) else None


SPEEDUP_BELOW = 0.95
COMPILE_SECONDS_ABOVE = 120.0
COMPRESSION_BELOW = 0.9

FLAGGED = (ACCURACY, "speedup", "compilation_latency", "compression_ratio")
"""The metrics that have limits, in the order of the warnings."""

DEFAULT_FLAG_COMPILERS = ("inductor", "inductor_no_cudagraphs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One case beyond the limit of one metric.

    value: None where the case failed, so that nothing was measured. interval: that of a speedup, where it has one.
    """

    section: Section
    suite: str
    model: str
    compiler: str
    metric: str
    status: str
    value: float | None
    interval: Interval | None = None

    @property
    def is_warning(self) -> bool:
        """Say whether people are warned: something was measured, and its interval does not reach 1x as it is shown."""
        return self.value is not None and (self.interval is None or round(self.interval[1], 2) < 1)


def flag_compilers(present: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """Choose the compilers to warn about: those asked for, else the defaults, else all, as far as they are present."""
    wanted = asked or DEFAULT_FLAG_COMPILERS
    found = tuple(name for name in wanted if name in present)
    return found if found or asked else tuple(present)


def find_flags(tables: SuiteTables, compilers: Sequence[str]) -> tuple[Flag, ...]:
    """List everything beyond a limit for `compilers`, by metric, then in the order of that metric's table."""
    return tuple(
        Flag(
            section=tables.section,
            suite=tables.suite,
            model=model,
            compiler=compiler,
            metric=metric,
            status=cell.status,
            value=cell.value if cell.measured else None,
            interval=read_interval(tables.records.get((Testing.PERFORMANCE, model, compiler)))
            if metric == "speedup"
            else None,
        )
        for metric in FLAGGED
        for model, compiler, cell in _cells(tables, metric)
        if compiler in compilers and is_flagged(metric, cell)
    )


def is_flagged(metric: str, cell: Cell) -> bool:
    """Say whether a case is beyond the limit.

    Of a case that failed, speedup and compression count as 0, as in PyTorch's files; a metric that was merely not
    measured is beyond no limit.
    """
    if cell.status == LEAVES_COMPILER:
        return False
    failed = not cell.measured and cell.status not in PASSES
    match metric:
        case "accuracy":
            return "pass" not in cell.status
        case "speedup":
            return failed or cell.value < SPEEDUP_BELOW
        case "compilation_latency":
            return cell.value > COMPILE_SECONDS_ABOVE
        case "compression_ratio":
            return failed or cell.value < COMPRESSION_BELOW
        case _:
            return False


def _cells(tables: SuiteTables, metric: str) -> Iterator[tuple[str, str, Cell]]:
    for row in model_rows(tables, metric):
        for compiler, cell in zip(tables.compilers, row.cells, strict=True):
            yield row.model, compiler, cell
