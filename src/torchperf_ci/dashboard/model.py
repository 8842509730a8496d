"""The dashboard of one dtype: a run, the runs before it, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from torchperf_ci.core.records import Case
from torchperf_ci.core.results import Problem, Results
from torchperf_ci.dashboard.commits import Ranges
from torchperf_ci.dashboard.owners import OwnerRule
from torchperf_ci.dashboard.regressions import (
    Change,
    CompilerComparison,
    RunSummary,
    Transition,
    Trend,
    compare_with_past,
    follow_numbers,
    summarize_run,
)
from torchperf_ci.dashboard.states import Events, SeriesState, State, list_events
from torchperf_ci.history.runs import HistoryRun, Past
from torchperf_ci.report.model import RunFindings, collect_findings

DEFAULT_LAST = 10
DEFAULT_LIMIT = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardOptions:
    """Say what to show.

    last: how many runs are shown over time, with this one.
    detect: compare with earlier runs; graphs: draw.
    server: the address of GitHub's pages, for links. site: that of a site of the history, or blank.
    owners: who owns which cases. limit: the largest size of the comment in UTF-8 bytes.
    """

    last: int = DEFAULT_LAST
    detect: bool = True
    graphs: bool = True
    server: str = "https://github.com"
    site: str = ""
    owners: tuple[OwnerRule, ...] = ()
    limit: int = DEFAULT_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dashboard:
    """Hold one run with one dtype, and its past.

    alone: does the run have no other dtype?
    summaries: the last runs, oldest first, this one last. trends: their numbers.
    comparisons: every compiler that warnings are given for, against its run before.
    states: the state of every metric of every case, and events: the news of this run among them.
    ranges: the commits in which they became worse, as far as they are known.
    problems: what of the history could not be read.
    """

    options: DashboardOptions
    dtype: str
    alone: bool
    findings: RunFindings
    summaries: tuple[RunSummary, ...]
    trends: tuple[Trend, ...]
    comparisons: tuple[CompilerComparison, ...]
    states: tuple[SeriesState, ...]
    events: Events
    ranges: Ranges = field(default_factory=dict)
    problems: tuple[Problem, ...] = field(default=())

    @property
    def now(self) -> HistoryRun:
        return self.summaries[-1].run

    def cases(self, kind: Transition) -> list[list[Change]]:
        """Group the changes of this kind by case, in the order of the dashboard."""
        groups: dict[Case, list[Change]] = {}
        for change in (change for item in self.comparisons for change in item.changes if change.kind is kind):
            groups.setdefault(change.case, []).append(change)
        return list(groups.values())

    def regressed_cases(self) -> list[list[Change]]:
        """Group the regressions by case: first what fails now, then the largest change."""
        return sorted(self.cases(Transition.REGRESSED), key=lambda changes: -max(map(_size_of, changes)))

    def in_state(self, *chosen: State) -> list[SeriesState]:
        """List what is in one of these states, the most urgent first, and of changes the largest first."""
        order = list(State)
        return sorted(
            (item for item in self.states if item.state in chosen),
            key=lambda item: (order.index(item.state), -abs(item.change or 0.0)),
        )


def name_cases(states: Iterable[SeriesState]) -> list[Case]:
    """List the cases of states, each once."""
    return list(dict.fromkeys(item.case for item in states))


def study_run(
    findings: RunFindings,
    run: HistoryRun,
    past: Past,
    options: DashboardOptions,
    states: Sequence[SeriesState] = (),
    *,
    ranges: Ranges | None = None,
) -> tuple[Dashboard, ...]:
    """Make a dashboard for every dtype of the run that `findings` are about, in the order of the report.

    states: those after the run, of all dtypes. ranges: the commits in which they became worse.
    """
    dtypes = list(dict.fromkeys(section.dtype for section in findings.sections))
    dashboards = []
    for dtype in dtypes:
        of_dtype = findings
        if len(dtypes) > 1:
            # What is wrong with the whole input stays with every dtype.
            records = tuple(record for record in findings.records if record.case.dtype == dtype)
            results = Results(records=records, builds=findings.builds, problems=findings.problems)
            chosen = replace(findings.options.selection, dtypes=(dtype,))
            of_dtype = collect_findings(results, replace(findings.options, selection=chosen))
        earlier = [item for item in (_keep_dtype(item, dtype) for item in past.runs) if item.results.records]
        dashboards.append(
            study(
                of_dtype,
                _keep_dtype(run, dtype),
                earlier,
                options,
                states=[item for item in states if item.case.dtype == dtype],
                ranges=ranges,
                alone=len(dtypes) == 1,
                problems=past.problems,
            )
        )
    return tuple(dashboards)


def study(
    findings: RunFindings,
    now: HistoryRun,
    past: Sequence[HistoryRun],
    options: DashboardOptions,
    *,
    states: Sequence[SeriesState] = (),
    ranges: Ranges | None = None,
    alone: bool = True,
    problems: Sequence[Problem] = (),
) -> Dashboard:
    """Make the dashboard of the run `now`, of which `findings` are about one dtype.

    past: oldest first; it may reach further back than what is shown. states: those after the run.
    """
    (dtype,) = {section.dtype for section in findings.sections}
    shown = [*past, now][-options.last :]
    summaries = tuple(summarize_run(run, findings.options.selection) for run in shown)
    selection = findings.options.selection
    judged = tuple(item for item in states if selection.takes(item.case)) if options.detect else ()
    return Dashboard(
        options=options,
        dtype=dtype,
        alone=alone,
        findings=findings,
        summaries=summaries,
        trends=follow_numbers(summaries, include_slowdowns=findings.options.include_slowdowns),
        comparisons=compare_with_past(summaries[-1], past, findings.flag_compilers),
        states=judged,
        events=list_events(judged, now.key),
        ranges=ranges or {},
        problems=tuple(problems),
    )


def _keep_dtype(run: HistoryRun, dtype: str) -> HistoryRun:
    records = tuple(record for record in run.results.records if record.case.dtype == dtype)
    return replace(run, results=replace(run.results, records=records))


def _size_of(change: Change) -> float:
    """Compute by what part of the larger number the metric changed; 1 for one that cannot be measured any more."""
    before, now = change.before, change.now
    if before is None or now is None or not now.measured:
        return 1.0
    return abs(now.value - before.value) / (max(now.value, before.value) or 1.0) if before.measured else 0.0
