"""The comment on one dtype: the state in a sentence, what is new, open and well again; the report, PyTorch's limits and
the numbers over time in folds.

PyTorch's parts, gh_*.txt, say the same in PyTorch's order and look, as files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from torchperf_ci.core.frames import MISSING, Section
from torchperf_ci.core.results import ResultsFolder
from torchperf_ci.core.text import code, count, heading, html, safe_name
from torchperf_ci.dashboard.charts import name_speedup_charts, name_trend_charts
from torchperf_ci.dashboard.model import Dashboard
from torchperf_ci.dashboard.regressions import (
    GAP,
    TRENDS,
    Change,
    CompilerComparison,
    Transition,
    Trend,
    explain_number,
    sparkline,
    write_number,
)
from torchperf_ci.dashboard.states import SeriesState, State
from torchperf_ci.dashboard.words import (
    describe_states,
    group_states,
    link_run,
    list_bisects,
    list_comparisons,
    list_reruns,
    list_sections,
    name_case,
    name_section,
    write_acceptance,
    write_not_judged,
    write_rerun_of,
    write_state,
)
from torchperf_ci.report.charts import Charts
from torchperf_ci.report.document import (
    Block,
    MarkdownTable,
    fit,
    fold,
    folded,
    lines_table,
    markdown_table,
    pretty_table,
    whole,
)
from torchperf_ci.report.gh_parts import cell_text, cells, section_title
from torchperf_ci.report.markdown import FAILING, body_blocks
from torchperf_ci.report.model import RunFindings
from torchperf_ci.report.summary import COMPILE_SECONDS_ABOVE, COMPRESSION_BELOW, FLAGGED, SPEEDUP_BELOW
from torchperf_ci.report.words import change_text, metric_title
from torchperf_ci.report.write import write_findings

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
        names = [f"{name}.png" for name in name_speedup_charts(dashboard, charts)]
        parts["gh_graphs.txt"] = folded("## Performance graphs ##", show_pictures(names, pictures))
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
        tables.append(lines_table(lines, where=CHANGES_FILE, before=f"\n### Open changes ###\n\n{_OPEN}"))
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


def show_pictures(names: Sequence[str], pictures: Mapping[str, str]) -> str:
    """Show pictures with their names above them; those without an address are only named."""
    shown = [f"\n{name} : ![{name}]({pictures[name]})\n" for name in names if name in pictures]
    rest = [code(name) for name in names if name not in pictures]
    return "".join(shown) + (f"\nDrawn in the results folder: {', '.join(rest)}\n" if rest else "")


def _describe_with_rerun(dashboard: Dashboard, states: Sequence[SeriesState]) -> str:
    rerun = write_rerun_of(dashboard, states[0].case)
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
        yield lines_table((), where=CHANGES_FILE, before=f"{head}No regressions found.\n\n")
    for metric in FLAGGED:
        rows = [
            [*_make_cells(change), write_rerun_of(dashboard, change.case)]
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
    return [change.case.compiler, change.case.model, *seen]


def _make_trend_row(trend: Trend) -> list[str]:
    write = {"passrate": "{:.0f}%", "comp_time": "{:.2f}"}.get(trend.name, "{:.2f}x").format
    numbers = ["–" if number is None else write(number) for number in (trend.oldest, trend.previous, trend.values[-1])]
    return [trend.suite, trend.compiler, sparkline(trend.values), *numbers]


PARTS_OF_HISTORY = ("gh_summary_diff.txt", "gh_regression.txt", "gh_metric_regression.txt", "gh_graphs.txt")
"""The parts that `report` does not write."""

HEAD, CHANGE, PROBLEM, RERUN, TREND, OTHER = 0, 1, 3, 4, 4, 5
"""The order in which parts are hidden when a comment gets too long, on the scale of `report.markdown`."""

MOST_NAMED = 10
"""So many cases of each kind are named above the folds."""

PICTURE_WIDTH = 380
"""Of a chart in CSS pixels: two beside each other on a wide screen, and no smaller than it is drawn on a phone."""

LIMITS_MEAN = (
    "PyTorch's dashboard warns of a case that is beyond a limit now and was not in the newest earlier run that tested "
    f"the same: its accuracy check fails, its speedup is below {SPEEDUP_BELOW}x, compiling takes more than "
    f"{COMPILE_SECONDS_ABOVE:.0f} s, or memory compression is below {COMPRESSION_BELOW}x."
)
_TITLE = re.compile(r"\n### (?P<title>[^\n]*)\n(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """Hold what to post about one dtype, and the file in the results folder that holds it."""

    dtype: str
    text: str
    path: Path


def write_dashboards(
    folder: ResultsFolder,
    findings: RunFindings,
    dashboards: Sequence[Dashboard],
    charts: Charts,
    urls: Mapping[str, str],
) -> tuple[str, tuple[Comment, ...]]:
    """Write the report, the parts and the comments; return the first as plain text, and the last. `urls`: where
    pictures can be seen, by file name."""
    summary = write_findings(folder, findings, charts)
    parts = [make_parts(dashboard, charts, urls) for dashboard in dashboards]
    for name in PARTS_OF_HISTORY:
        blocks = [of_dtype[name] for of_dtype in parts if name in of_dtype]
        if blocks:
            folder.write_text(name, whole(blocks))
        else:
            folder.forget([name])
    comments = []
    for dashboard in dashboards:
        text = make_comment(dashboard, charts, urls)
        path = folder.write_text(f"dashboard_{safe_name(dashboard.dtype)}.md", text)
        comments.append(Comment(dtype=dashboard.dtype, text=text, path=path))
    return summary, tuple(comments)


def make_comment(dashboard: Dashboard, charts: Charts, pictures: Mapping[str, str]) -> str:
    """Make the comment, at most `dashboard.options.limit` bytes. `pictures`: where charts can be seen, by file name."""
    sign, state = write_state(dashboard, code)
    site = dashboard.options.site
    links = [link_run(dashboard), *([f"[all runs and cases]({site})"] if site else [])]
    paragraphs = [f"## {sign} {heading(dashboard.dtype)}: {state}", " · ".join(links)]
    if dashboard.options.detect and (waiting := write_not_judged(dashboard)):
        paragraphs.append(f"{waiting}.")
    blocks = [Block(before="\n\n".join(paragraphs) + "\n", rank=HEAD)]
    blocks += _make_states(dashboard) if dashboard.options.detect else []
    # What failed and the summary come before the numbers over time, the details of this run after them.
    body = [_fold_open(block) for block in body_blocks(dashboard.findings)]
    blocks += [block for block in body if block.rank <= FAILING]
    blocks += _make_limits(dashboard) if dashboard.options.detect else []
    blocks += _make_history(dashboard, charts, pictures)
    blocks += [block for block in body if block.rank > FAILING]
    return fit(blocks, dashboard.options.limit, where="report.html in the results folder")


def _fold_open(block: Block) -> Block:
    """Fold a part of the report that stands open there: the title becomes that of the fold."""
    if not (match := _TITLE.fullmatch(block.before)):
        return block if block.before.lstrip().startswith("<details>") else _fold_benefits(block)
    before = f"\n<details>\n<summary>{_write_summary(match['title'])}</summary>\n{match['rest']}"
    return replace(block, before=before, after=f"{block.after}\n</details>\n")


def _fold_benefits(block: Block) -> Block:
    before = f"\n<details>\n<summary>This run: speedup and compile time of every compiler</summary>\n{block.before}"
    return replace(block, before=before, after=f"{block.after}\n</details>\n")


def _write_summary(title: str) -> str:
    """Write a title, which is Markdown, for a fold, where only HTML means something."""
    text = re.sub(r"(`+) ?(.*?) ?\1", lambda match: f"<code>{html(match[2])}</code>", title)
    return text.replace("Executive summary", "Executive summary: pass rate, speedup, compile time, memory")


def _make_states(dashboard: Dashboard) -> Iterator[Block]:
    """Show what is new, open and well again: the first lines of each open, the others folded."""
    for title, meaning, groups in list_sections(dashboard):
        lines = [f"- {describe_states(dashboard, group)}" for group in groups]
        before = f"\n### {title} ({len(lines):,})\n" + (f"\n{meaning}\n" if meaning else "")
        yield Block(before=before, tables=(_make_lines(lines[:MOST_NAMED], CHANGE),), rank=CHANGE)
        if rest := lines[MOST_NAMED:]:
            yield fold(f"{title}: {len(rest):,} more", [_make_lines(rest, CHANGE)], CHANGE)
    for purpose, commands in (
        ("find the commit", list_bisects(dashboard)),
        ("compare the two commits and explain", list_comparisons(dashboard)),
        ("measure these cases again", list_reruns(dashboard)),
    ):
        if commands:
            table = lines_table(commands, rank=RERUN, where=CHANGES_FILE, before="\n~~~sh\n", after="~~~\n")
            yield fold(f"{count(len(commands), 'command')} to {purpose}", [table], RERUN)
    for state, title in ((State.ACCEPTED, "Accepted changes"), (State.NEW, "New cases"), (State.SKIPPED, "Skipped")):
        lines = [f"- {_describe_folded(dashboard, group)}" for group in group_states(dashboard.in_state(state))]
        if lines:
            yield fold(f"{title} ({len(lines):,})", [_make_lines(lines, OTHER)], OTHER)


def _describe_folded(dashboard: Dashboard, states: Sequence[SeriesState]) -> str:
    """Describe what nobody has to look at: by whom and why a change was accepted, and why a case is skipped."""
    first = states[0]
    if first.acceptance is not None:
        return f"{describe_states(dashboard, states)}, {write_acceptance(first.acceptance)}"
    name = name_case(dashboard, first.case)
    return f"{name}: {code(first.reason, limit=200)}" if first.state is State.SKIPPED and first.reason else name


def _make_limits(dashboard: Dashboard) -> Iterator[Block]:
    """Show what PyTorch's dashboard lists as regressed, and why runs should not be compared."""
    lines = _name_compared(dashboard)
    regressed = dashboard.regressed_cases()
    rows = [f"- {_describe_change(dashboard, changes)}" for changes in regressed]
    fixed = dashboard.cases(Transition.FIXED)
    rows += [f"- within the limits again: {_describe_change(dashboard, changes)}" for changes in fixed]
    before = "\n".join(("", LIMITS_MEAN, "", *lines, ""))
    table = lines_table(rows, rank=OTHER, where=CHANGES_FILE, before=before)
    title = f"PyTorch's limits: {count(len(regressed), 'case')} beyond one since the run before"
    yield fold(title, [table], OTHER)


def _name_compared(dashboard: Dashboard) -> list[str]:
    """Name the runs that are compared, and why some should not be."""
    compilers: dict[str, list[str]] = {}
    for item in dashboard.comparisons:
        name = code(str(item.before)) if item.before else "no run, since no earlier one tested the same"
        compilers.setdefault(name, []).append(f"{code(item.suite)} with {code(item.compiler)}")
    lines = []
    for name, cases in compilers.items():
        which = f": {', '.join(dict.fromkeys(cases))}" if len(compilers) > 1 else ""
        lines.append(f"Compared with {name}{which}\n")
    doubts = dict.fromkeys(
        f"⚠️ {code(item.suite)} with {code(item.compiler)} was measured under other conditions before: "
        f"{code('; '.join(item.doubts), limit=200)}\n"
        for item in dashboard.comparisons
        if item.doubts
    )
    return [*lines, *doubts]


def _describe_change(dashboard: Dashboard, changes: Sequence[Change]) -> str:
    by_cause: dict[str, Change] = {}  # a failure only once, though none of the metrics can be measured any more
    for change in changes:
        now = change.now
        by_cause.setdefault(now.status if now and not now.measured else change.metric, change)
    return f"{name_case(dashboard, changes[0].case)}: " + "; ".join(
        f"{metric_title(change.metric)} {change_text(change.metric, change.before, change.now, code)}"
        for change in by_cause.values()
    )


def _make_lines(lines: Sequence[str], rank: int) -> MarkdownTable:
    return lines_table(lines, rank=rank, where=CHANGES_FILE, before="\n")


def _make_history(dashboard: Dashboard, charts: Charts, pictures: Mapping[str, str]) -> Iterator[Block]:
    """Show the numbers over time, the charts of this run, and what of the history could not be read."""
    if dashboard.problems:
        lines = [f"- {code(str(item), limit=300)}" for item in dashboard.problems]
        title = f"{count(len(lines), 'problem')} with the history: what could not be read is not compared"
        yield fold(title, [_make_lines(lines, PROBLEM)], PROBLEM)
    runs = [item.run for item in dashboard.summaries]
    several = len(dashboard.findings.sections) > 1
    tables = []
    for section in dashboard.findings.sections:
        for name, caption in TRENDS.items():
            trends = [trend for trend in dashboard.trends if (trend.section, trend.name) == (section, name)]
            rows = [
                (
                    code(trend.suite),
                    code(trend.compiler),
                    code(sparkline(trend.values)),
                    *(write_number(name, value) for value in (trend.oldest, trend.previous, trend.values[-1])),
                )
                for trend in trends
            ]
            columns = ("Suite", "Compiler", "Runs, oldest first", "Oldest", "Previous", "This run")
            means = explain_number(name, include_slowdowns=dashboard.findings.options.include_slowdowns)
            title = f"\n**{caption}**{f', {code(str(section))}' if several else ''}: {means}\n"
            tables.append(markdown_table(columns, rows, rank=TREND, before=title))
    shown = _show_pictures(list(name_trend_charts(dashboard)) if dashboard.options.graphs else [], pictures)
    first = lines_table((), before=f"{shown}\nIn the columns of runs, `{GAP}` is a run without a result.\n")
    title = f"Over {count(len(runs), 'run')} from {runs[0].time:%Y-%m-%d} to {runs[-1].time:%Y-%m-%d}"
    yield fold(f"{title}: speedup, pass rate, compilation time, memory", [first, *tables], TREND)
    names = [f"{name}.png" for name in name_speedup_charts(dashboard, charts)] if dashboard.options.graphs else []
    if names:
        table = lines_table((), before=_show_pictures(names, pictures))
        yield fold(f"{count(len(names), 'chart')} of the speedup of every model", [table], OTHER)


def _show_pictures(names: Sequence[str], pictures: Mapping[str, str]) -> str:
    """Show pictures side by side as far as there is room; those without an address are only named.

    names: made by `safe_name`, so that nothing in them means anything in HTML.
    """
    shown = "".join(
        f'<img alt="{name}" src="{pictures[name].replace("&", "&amp;")}" width="{PICTURE_WIDTH}">\n'
        for name in names
        if name in pictures
    )
    rest = ", ".join(code(name) for name in names if name not in pictures)
    named = f"\nCharts in the results folder: {rest}\n" if rest else ""
    return f"\n{shown}{named}" if shown else named
