"""The comment on one dtype: the state in a sentence, what is bad, the report, and the numbers over time in folds.

PyTorch's parts, gh_*.txt, say the same in PyTorch's order and look, as files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torchperf_ci.core.results import ResultsFolder
from torchperf_ci.core.text import code, count, heading, safe_name
from torchperf_ci.dashboard.charts import name_speedup_charts, name_trend_charts
from torchperf_ci.dashboard.gh_parts import make_parts
from torchperf_ci.dashboard.model import Dashboard
from torchperf_ci.dashboard.regressions import Change, Transition
from torchperf_ci.dashboard.trends import GAP, TRENDS, explain_number, sparkline, write_number
from torchperf_ci.dashboard.words import (
    describe_lasting,
    link_run,
    list_changes,
    list_reruns,
    name_case,
    write_changes,
    write_state,
)
from torchperf_ci.report.charts import Charts
from torchperf_ci.report.document import Block, MarkdownTable, TableLine, fit, fold, markdown_table, whole
from torchperf_ci.report.markdown import FAILING, body_blocks
from torchperf_ci.report.model import Report, RunFindings
from torchperf_ci.report.summary import COMPILE_SECONDS_ABOVE, COMPRESSION_BELOW, SPEEDUP_BELOW
from torchperf_ci.report.write import write_findings

PARTS_OF_HISTORY = ("gh_summary_diff.txt", "gh_regression.txt", "gh_metric_regression.txt", "gh_graphs.txt")
"""The parts that `report` does not write."""

HEAD, CHANGE, PROBLEM, RERUN, TREND, OTHER = 0, 1, 3, 4, 4, 5
"""The order in which parts are hidden when a comment gets too long, on the scale of `report.markdown`."""

MOST_NAMED = 10
"""So many cases of each kind are named above the folds."""

PICTURE_WIDTH = 380
"""Of a chart in CSS pixels: two beside each other on a wide screen, and no smaller than it is drawn on a phone."""

REGRESSED_MEANS = (
    "A case has regressed when it is beyond a limit now and was not in the newest earlier run that tested the same: "
    f"its accuracy check fails, its speedup is below {SPEEDUP_BELOW}x, compiling takes more than "
    f"{COMPILE_SECONDS_ABOVE:.0f} s, or memory compression is below {COMPRESSION_BELOW}x."
)
LASTING_MEANS = (
    "A lasting change (change point) is a run since which the level of a case stays higher or lower than before, by "
    "more than noise explains."
)


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
) -> tuple[Report, tuple[Comment, ...]]:
    """Write the report, the parts and the comments. `urls`: where pictures can be seen, by file name."""
    report = write_findings(folder, findings, charts)
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
    return report, tuple(comments)


def make_comment(dashboard: Dashboard, charts: Charts, pictures: Mapping[str, str]) -> str:
    """Make the comment, at most `dashboard.options.limit` bytes. `pictures`: where charts can be seen, by file name."""
    sign, state = write_state(dashboard, code)
    changes = write_changes(dashboard)[1]
    paragraphs = [
        f"## {sign} {heading(dashboard.dtype)}: {state}",
        f"{changes}." if changes else "",
        link_run(dashboard),
    ]
    before = "\n\n".join(filter(None, paragraphs)) + "\n"
    blocks = [Block(before=before, rank=HEAD)]
    blocks += _make_changes(dashboard) if dashboard.options.detect else []
    # What failed and the summary come before the numbers over time, the details of this run after them.
    body = body_blocks(dashboard.findings)
    blocks += [block for block in body if block.rank <= FAILING]
    blocks += _make_history(dashboard, charts, pictures)
    blocks += [block for block in body if block.rank > FAILING]
    return fit(blocks, dashboard.options.limit, where="report.html in the results folder")


def _make_changes(dashboard: Dashboard) -> Iterator[Block]:
    """Say what changed since earlier runs: doubts about the comparison, what is worse, then the rest in folds."""
    yield _make_compared(dashboard)
    for groups, title, meaning in (
        (dashboard.regressed_cases(), "Regressed", REGRESSED_MEANS),
        (dashboard.cases(Transition.DISAPPEARED), "Gone", "The run before had these cases, this one has not."),
    ):
        lines = [f"- {_describe_case(dashboard, changes)}" for changes in groups]
        yield from _make_list(f"{title} ({len(lines):,})", meaning, lines)
    lasting = dashboard.lasting_cases()
    worse_first = sorted(lasting, key=lambda points: not any(point.is_worse for point in points))
    lines = [f"- {describe_lasting(dashboard, points)}" for points in worse_first]
    yield from _make_list(f"Lasting changes ({len(lines):,})", LASTING_MEANS, lines)
    if commands := list_reruns(dashboard):
        table = MarkdownTable(
            before="\n~~~sh\n",
            lines=tuple(TableLine(text=command, rank=RERUN) for command in commands),
            where="gh_metric_regression.txt in the results folder",
            after="~~~\n",
        )
        yield fold(f"{count(len(commands), 'command')} to measure these cases again", [table], RERUN)
    fixed, new = dashboard.cases(Transition.FIXED), dashboard.cases(Transition.APPEARED)
    lines = [f"- within the limits again: {_describe_case(dashboard, changes)}" for changes in fixed]
    lines += [f"- new: {_describe_case(dashboard, changes)}" for changes in new]
    titles = [f"{count(len(fixed), 'case')} within the limits again"] if fixed else []
    titles += [count(len(new), "new case")] if new else []
    if lines:
        yield fold(", ".join(titles), [_make_lines(lines, OTHER)], OTHER)


def _make_compared(dashboard: Dashboard) -> Block:
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
    return Block(before="".join(f"\n{text}" for text in (*lines, *doubts)), rank=CHANGE)


def _describe_case(dashboard: Dashboard, changes: Sequence[Change]) -> str:
    first = changes[0]
    name = name_case(dashboard, first.section, first.suite, first.model, first.compiler)
    return f"{name}: {list_changes(changes, code)}"


def _make_list(title: str, meaning: str, lines: Sequence[str]) -> Iterator[Block]:
    """Make a titled list of what is bad: the first lines open, the others folded."""
    if lines:
        yield Block(
            before=f"\n### {title}\n\n{meaning}\n",
            tables=(_make_lines(lines[:MOST_NAMED], CHANGE),),
            rank=CHANGE,
        )
    if rest := lines[MOST_NAMED:]:
        yield fold(f"{len(rest):,} more: {title.partition(' (')[0].lower()}", [_make_lines(rest, CHANGE)], CHANGE)


def _make_lines(lines: Sequence[str], rank: int) -> MarkdownTable:
    shown = tuple(TableLine(text=text, rank=rank) for text in lines)
    return MarkdownTable(before="\n", lines=shown, where="gh_metric_regression.txt in the results folder")


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
    first = MarkdownTable(
        before=f"{shown}\nIn the columns of runs, `{GAP}` is a run without a result.\n", lines=(), where=""
    )
    title = f"Over {count(len(runs), 'run')} from {runs[0].time:%Y-%m-%d} to {runs[-1].time:%Y-%m-%d}"
    yield fold(f"{title}: speedup, pass rate, compilation time, memory", [first, *tables], TREND)
    names = [f"{name}.png" for name in name_speedup_charts(dashboard, charts)] if dashboard.options.graphs else []
    if names:
        table = MarkdownTable(before=_show_pictures(names, pictures), lines=(), where="")
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
