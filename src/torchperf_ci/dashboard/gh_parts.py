"""The parts of PyTorch's dashboard that need earlier runs: gh_summary_diff.txt, gh_metric_regression.txt,
gh_regression.txt and gh_graphs.txt. `report` has the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from torchperf_ci.core.frames import MISSING, Section
from torchperf_ci.core.text import code, count, heading
from torchperf_ci.dashboard.charts import name_speedup_charts, name_trend_charts
from torchperf_ci.dashboard.model import Dashboard
from torchperf_ci.dashboard.regressions import Change, CompilerComparison, Transition
from torchperf_ci.dashboard.states import SeriesState, State
from torchperf_ci.dashboard.trends import Trend, sparkline
from torchperf_ci.dashboard.words import describe_states, group_states, name_section, write_rerun_of
from torchperf_ci.report.charts import Charts
from torchperf_ci.report.csv_tables import cells
from torchperf_ci.report.document import Block, MarkdownTable, TableLine, folded, pretty_table
from torchperf_ci.report.gh_parts import cell_text, section_title
from torchperf_ci.report.summary import FLAGGED
from torchperf_ci.report.words import metric_title

CHANGES_FILE = "gh_metric_regression.txt in the results folder"
TRENDS_FILE = "gh_regression.txt in the results folder"

_NOT_COMPARED = "There is no earlier run to compare with.\n\n"
_DIFF = "The newest two runs of every compiler that warnings are given for.\n\n"
_REGRESSIONS = (
    "Every compiler that warnings are given for is compared with the newest earlier run that tested the same with it. "
    "A model is listed when it is beyond a limit of the warnings and was not before.\n\n"
)
_OPEN = "Metrics of single models that are worse than before, or fail, and are not accepted.\n\n"
_CAPTIONS = {
    "geomean": "Geometric mean speedup",
    "passrate": "Passrate (%)",
    "comp_time": "Mean compilation time (seconds)",
    "memory": "Peak memory footprint compression ratio",
}
_OTHERS = {
    Transition.DISAPPEARED: "Not there any more",
    Transition.FIXED: "Within the limits again",
    Transition.APPEARED: "New",
}


def make_parts(dashboard: Dashboard, charts: Charts, pictures: Mapping[str, str]) -> Mapping[str, Block]:
    """Make the parts by file name. `pictures`: where the charts can be seen, by file name."""
    parts = {"gh_regression.txt": make_trends_part(dashboard, pictures)}
    if dashboard.options.detect:
        parts["gh_summary_diff.txt"] = make_diff_part(dashboard)
        parts["gh_metric_regression.txt"] = make_regressions_part(dashboard)
    if dashboard.options.graphs:
        parts["gh_graphs.txt"] = make_graphs_part(dashboard, charts, pictures)
    return parts


def make_diff_part(dashboard: Dashboard) -> Block:
    """Make gh_summary_diff.txt: pass rate and geometric mean speedup of the newest two runs."""
    write = cells(include_slowdowns=dashboard.findings.options.include_slowdowns)
    columns = ["compiler", "suite", "prev_value", "cur_value"]
    tables = []
    for section in dashboard.findings.sections:
        title = section_title(dashboard.findings, section)
        for name, caption in (("passrate", "Passrate diff"), ("geomean", "Geometric mean speedup diff")):
            rows = [
                [item.compiler, item.suite, write[name](item.line_before), write[name](item.line)]
                for item in dashboard.comparisons
                if item.section == section and item.line_before
            ]
            if rows:
                head, title = f"{title}\n{caption}\n", ""
                tables.append(pretty_table(head, columns, rows, where=CHANGES_FILE))
    before = f"{_DIFF}{_name_runs(dashboard, dashboard.comparisons)}"
    return folded("## Summary Statistics Diff ##", before, tables)


def make_regressions_part(dashboard: Dashboard) -> Block:
    """Make gh_metric_regression.txt: what is beyond PyTorch's limits since the run before, and what is open."""
    by_suite: dict[tuple[Section, str], list[CompilerComparison]] = {}
    for item in dashboard.comparisons:
        by_suite.setdefault((item.section, item.suite), []).append(item)
    tables = [table for items in by_suite.values() for table in _make_suite_tables(dashboard, items)]
    still_open = group_states(dashboard.in_state(State.FAILING, State.CHANGED))
    lines = [f"- {_describe_with_rerun(dashboard, states)}" for states in still_open]
    if lines:
        tables.append(
            MarkdownTable(
                before=f"\n### Open changes ###\n\n{_OPEN}",
                lines=tuple(TableLine(text=text, rank=0) for text in lines),
                where=CHANGES_FILE,
            )
        )
    note = "" if dashboard.comparisons else _NOT_COMPARED
    return folded("## Recent Regressions ##", _REGRESSIONS + note, tables)


def make_trends_part(dashboard: Dashboard, pictures: Mapping[str, str]) -> Block:
    """Make gh_regression.txt. `pictures` are the addresses of charts by file name; the others are only named."""
    times = [item.run.time for item in dashboard.summaries]
    span = f"{count(len(times), 'run')}, {times[0]:%Y-%m-%d} to {times[-1]:%Y-%m-%d} UTC.\n\n"
    tables = []
    for section in dashboard.findings.sections:
        title = section_title(dashboard.findings, section)
        of_section = [trend for trend in dashboard.trends if trend.section == section]
        for name, group in groupby(of_section, key=lambda trend: trend.name):
            rows = [_make_trend_row(trend) for trend in group]
            columns = ["suite", "compiler", "trend", "oldest", "previous", "newest"]
            head, title = f"{title}\n{_CAPTIONS[name]}\n", ""
            tables.append(pretty_table(head, columns, rows, where=TRENDS_FILE))
    names = list(name_trend_charts(dashboard)) if dashboard.options.graphs else []
    return folded("## Metrics over time ##", span + show_pictures(names, pictures), tables)


def make_graphs_part(dashboard: Dashboard, charts: Charts, pictures: Mapping[str, str]) -> Block:
    """Make gh_graphs.txt: the charts of this dashboard's suites."""
    names = [f"{name}.png" for name in name_speedup_charts(dashboard, charts)]
    return folded("## Performance graphs ##", show_pictures(names, pictures))


def show_pictures(names: Sequence[str], pictures: Mapping[str, str]) -> str:
    """Show pictures with their names above them; those without an address are only named."""
    shown = [f"\n{name} : ![{name}]({pictures[name]})\n" for name in names if name in pictures]
    rest = [code(name) for name in names if name not in pictures]
    return "".join(shown) + (f"\nDrawn in the results folder: {', '.join(rest)}\n" if rest else "")


def _describe_with_rerun(dashboard: Dashboard, states: Sequence[SeriesState]) -> str:
    case = states[0].case
    section = Section(mode=case.mode, device=case.device, dtype=case.dtype)
    rerun = write_rerun_of(dashboard, section, case.suite, case.compiler, case.model)
    return f"{describe_states(dashboard, states)}. Run again: {code(rerun)}"


def _name_runs(dashboard: Dashboard, items: Sequence[CompilerComparison]) -> str:
    """Name the runs that are compared; compilers with the same run before are named together."""
    before: dict[str, list[str]] = {}
    for item in items:
        if item.before:
            before.setdefault(str(item.before), []).append(item.compiler)
    if not before:
        return _NOT_COMPARED
    return f"Current run: {code(str(dashboard.now))}\n\n" + "".join(
        f"Previous run: {code(run)} ({', '.join(map(code, dict.fromkeys(compilers)))})\n\n"
        for run, compilers in before.items()
    )


def _make_suite_tables(dashboard: Dashboard, items: Sequence[CompilerComparison]) -> Iterator[MarkdownTable]:
    section, suite = items[0].section, items[0].suite
    title = f"{heading(suite)}{name_section(dashboard, section)}"
    head = f"### Regressions for {title} ###\n\n{_name_runs(dashboard, items)}"
    changes = [change for item in items for change in item.changes]
    if all(change.kind is not Transition.REGRESSED for change in changes):
        yield MarkdownTable(before=f"{head}No regressions found.\n\n", lines=(), where=CHANGES_FILE)
    for metric in FLAGGED:
        rows = [
            [*_make_cells(change), write_rerun_of(dashboard, section, suite, change.compiler, change.model)]
            for change in changes
            if change.kind is Transition.REGRESSED and change.metric == metric
        ]
        if rows:
            columns = ["compiler", "name", "prev_status", "cur_status", "run again"]
            title, head = f"{head}\n{metric_title(metric)} regressions\n", ""
            yield pretty_table(title, columns, rows, where=CHANGES_FILE, left=("run again",))
    for kind, title in _OTHERS.items():
        rows = [[*_make_cells(change), metric_title(change.metric)] for change in changes if change.kind is kind]
        if rows:
            columns = ["compiler", "name", "prev_status", "cur_status", "metric"]
            yield pretty_table(f"\n{title}\n", columns, rows, where=CHANGES_FILE)


def _make_cells(change: Change) -> list[str]:
    seen = (cell_text(cell, change.metric) if cell else MISSING for cell in (change.before, change.now))
    return [change.compiler, change.model, *seen]


def _make_trend_row(trend: Trend) -> list[str]:
    write = {"passrate": "{:.0f}%", "comp_time": "{:.2f}"}.get(trend.name, "{:.2f}x").format
    numbers = ["–" if number is None else write(number) for number in (trend.oldest, trend.previous, trend.values[-1])]
    return [trend.suite, trend.compiler, sparkline(trend.values), *numbers]
