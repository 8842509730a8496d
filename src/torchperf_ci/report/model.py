"""Compute what a report shows: once, then drawn as Markdown, text, HTML and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from torchperf_ci.core.frames import CaseSelection, Section, SuiteTables, suite_tables
from torchperf_ci.core.records import Build, Record, Source, Testing
from torchperf_ci.core.results import Problem, Results
from torchperf_ci.report.summary import (
    DYNAMO_NOTE,
    Benefit,
    BreakReason,
    CompilerSummary,
    Failure,
    Flag,
    Remark,
    find_flags,
    flag_compilers,
    list_benefits,
    list_break_reasons,
    list_failures,
    list_remarks,
    name_compiler,
    runs_dynamo,
    summarize,
)

DEFAULT_LIMIT = 60_000


class RunOutcome(Enum):
    """The outcomes of a run, best first."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    """Everything passed, but there is something that a reader must not miss."""
    INCOMPLETE = "incomplete"
    """Nothing failed, but something could not be read, or nothing is there to be judged."""
    FAILED = "failed"

    @property
    def sign(self) -> str:
        return {RunOutcome.GOOD: "✅", RunOutcome.FAILED: "❌"}.get(self, "⚠️")

    @property
    def is_pass(self) -> bool:
        """Whether a run that ends so may exit with 0."""
        return self in {RunOutcome.GOOD, RunOutcome.DOUBTFUL}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """The commit of a source tree. Empty `commit`: there is none at that place."""

    name: str
    commit: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """The choices of a report.

    limit: the largest size of report.md in UTF-8 bytes.
    case_csvs: write the records as PyTorch's CSV files as well; not when they were read from such files.
    run_name, checkouts: what the build summary calls the run, and the source trees it names.
    """

    selection: CaseSelection = field(default_factory=CaseSelection)
    flag_compilers: tuple[str, ...] = ()
    include_slowdowns: bool = False
    run_name: str = ""
    checkouts: tuple[SourceTree, ...] = ()
    limit: int = DEFAULT_LIMIT
    case_csvs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFindings:
    """Everything a report says, before it is drawn; all of it in the order of the report.

    flag_compilers: those whose results are compared with the limits; `flags` is what was found.
    notes: sentences a reader should know before trusting the numbers.
    remarks: what a reader should know of single cases.
    benefits: what each compiler brings, for the sentences that come first.
    breaks: why dynamo left graphs, and where.
    regressed: cases that are worse than in earlier runs, where somebody looked.
    passed, total: of the cases in the pass rate. not_compiled: those of `passed` of which nothing was compiled.
    missing: those that have no result at all. left_out: cases that could not be loaded, not run in eager, or whose
        compiler is not available.
    """

    options: ReportOptions
    records: tuple[Record, ...]
    tables: tuple[SuiteTables, ...]
    lines: tuple[CompilerSummary, ...]
    failures: tuple[Failure, ...]
    flags: tuple[Flag, ...]
    remarks: tuple[Remark, ...]
    benefits: tuple[Benefit, ...]
    breaks: tuple[BreakReason, ...]
    flag_compilers: tuple[str, ...]
    builds: tuple[Build, ...]
    source: Source
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]
    regressed: int = 0

    @property
    def sections(self) -> tuple[Section, ...]:
        return tuple(dict.fromkeys(tables.section for tables in self.tables))

    @property
    def build(self) -> Build | None:
        """The newest one."""
        return self.builds[-1] if self.builds else None

    @property
    def warnings(self) -> tuple[Flag, ...]:
        """The flags that people are warned of; the parts of PyTorch's dashboard have all of them."""
        return tuple(flag for flag in self.flags if flag.is_warning)

    @property
    def passed(self) -> int:
        return sum(line.passed for line in self.lines)

    @property
    def total(self) -> int:
        return sum(line.total for line in self.lines)

    @property
    def missing(self) -> int:
        return sum(line.missing for line in self.lines)

    @property
    def left_out(self) -> int:
        return sum(line.left_out for line in self.lines)

    @property
    def not_compiled(self) -> int:
        return sum(line.not_compiled for line in self.lines)

    @property
    def outcome(self) -> RunOutcome:
        """The source of every headline and every exit code, so that they cannot contradict each other."""
        if self.passed < self.total or self.left_out:
            return RunOutcome.FAILED
        if not self.total or self.problems:
            return RunOutcome.INCOMPLETE
        return RunOutcome.DOUBTFUL if self.not_compiled or self.regressed else RunOutcome.GOOD

    def tables_of(self, section: Section) -> tuple[SuiteTables, ...]:
        return tuple(tables for tables in self.tables if tables.section == section)

    def lines_of(self, section: Section) -> tuple[CompilerSummary, ...]:
        return tuple(line for line in self.lines if line.section == section)

    def name_of(self, compiler: str) -> str:
        """Name a compiler as people read it."""
        return name_compiler(compiler, self.tables)


def collect_findings(results: Results, options: ReportOptions) -> RunFindings:
    """Collect everything to report about `results`."""
    records = tuple(record for record in results.records if options.selection.takes(record.case))
    tables = suite_tables(records, options.selection)
    present = tuple(dict.fromkeys(name for item in tables for name in item.compilers))
    flagged = flag_compilers(present, options.flag_compilers)
    gaps = dict.fromkeys(gap for build in results.builds for gap in build.gaps)
    return RunFindings(
        options=options,
        records=records,
        tables=tables,
        lines=tuple(line for item in tables for line in summarize(item)),
        failures=tuple(failure for item in tables for failure in list_failures(item)),
        flags=tuple(flag for item in tables for flag in find_flags(item, flagged)),
        remarks=tuple(remark for item in tables for remark in list_remarks(item)),
        benefits=list_benefits(tables),
        breaks=tuple(reason for item in tables for reason in list_break_reasons(item)),
        flag_compilers=flagged,
        builds=results.builds,
        source=max((record.source for record in records), key=lambda source: source.time, default=Source()),
        notes=tuple(_notes(results, tables)),
        problems=(
            *results.problems,
            *(Problem(file="shards", what=gap) for gap in gaps),
            *_absent(tables, options.selection),
        ),
    )


def _absent(tables: Sequence[SuiteTables], asked: CaseSelection) -> Iterator[Problem]:
    """Name what was asked for and is not there."""
    axes = {
        "suites": (asked.suites, {item.suite for item in tables}),
        "devices": (asked.devices, {item.section.device for item in tables}),
        "dtypes": (asked.dtypes, {item.section.dtype for item in tables}),
        "compilers": (asked.compilers, {name for item in tables for name in item.compilers}),
    }
    for axis, (names, present) in axes.items():
        for name in dict.fromkeys(names):
            if name not in present:
                yield Problem(file=f"--{axis} {name}", what="there are no results for it")


def _notes(results: Results, tables: Sequence[SuiteTables]) -> Iterator[str]:
    if results.left_out:
        more = f" and {len(results.left_out) - 5} more" if len(results.left_out) > 5 else ""
        yield f"Not read, since the options ask for others: {', '.join(results.left_out[:5])}{more}."
    yield from dict.fromkeys(text for build in results.builds for text in build.warnings)
    if any(map(runs_dynamo, tables)):
        yield DYNAMO_NOTE
    environments = [build.environment for build in results.builds]
    others = [other for other in environments[1:] if other != environments[0]]
    reasons = dict.fromkeys(why for other in others for why in environments[0].comparable_to(other))
    if reasons:
        yield f"the results come from machines that cannot be compared with each other: {'; '.join(reasons)}"
    for item in tables:
        where = f"{item.suite} ({item.section})"
        if Testing.ACCURACY not in item.statuses:
            yield f"{where}: accuracy was not looked at, so a pass only says that it ran"
        if Testing.PERFORMANCE not in item.statuses:
            yield f"{where}: performance was not looked at, so a pass only says that the results are right"
        for testing in item.statuses:
            differing = [model for model in item.models if len(_batch_sizes(item, testing, model)) > 1]
            if differing:
                more = f" and {len(differing) - 1:,} more" if len(differing) > 1 else ""
                yield f"{where}: the compilers ran with different batch sizes ({testing} of {differing[0]}{more})"


def _batch_sizes(tables: SuiteTables, testing: Testing, model: str) -> set[int]:
    records = (tables.records.get((testing, model, compiler)) for compiler in tables.compilers)
    return {record.batch_size for record in records if record and record.batch_size}
