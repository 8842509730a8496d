"""The comment: PyTorch's parts in their order with what changed behind the title; and everything as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torchperf_ci.core.results import ResultsFolder
from torchperf_ci.core.text import code, count, safe_name
from torchperf_ci.dashboard.gh_parts import (
    CHANGES_FILE,
    make_diff_part,
    make_graphs_part,
    make_regressions_part,
    make_trends_part,
)
from torchperf_ci.dashboard.model import Dashboard
from torchperf_ci.dashboard.words import link_run, list_changes, name_case, write_verdict
from torchperf_ci.report.charts import Charts
from torchperf_ci.report.document import Block, MarkdownTable, TableLine, fit, folded, whole
from torchperf_ci.report.gh_parts import part_blocks
from torchperf_ci.report.model import Report, RunFindings
from torchperf_ci.report.write import write_findings

ORDER = (
    "gh_title.txt",
    "gh_executive_summary.txt",
    "gh_summary_diff.txt",
    "gh_warnings.txt",
    "gh_regression.txt",
    "gh_metric_regression.txt",
    "gh_training.txt",
    "gh_inference.txt",
    "gh_graphs.txt",
    "gh_build_summary.txt",
)
PARTS_OF_HISTORY = ("gh_summary_diff.txt", "gh_regression.txt", "gh_metric_regression.txt", "gh_graphs.txt")
"""The parts that `report` does not write."""

VERDICT, PROBLEM = 1, 11
"""When what is hidden of a comment that gets too long; see `report.gh_parts`."""

MOST_NAMED = 10
"""So many regressions are named above the folds."""

Parts = Mapping[str, Sequence[Block]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """What to post about one dtype, and the file in the results folder that holds it."""

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
    parts = {dashboard.dtype: make_parts(dashboard, charts, urls) for dashboard in dashboards}
    for name in PARTS_OF_HISTORY:
        blocks = [of_dtype[name] for of_dtype in parts.values() if name in of_dtype]
        if blocks:
            folder.write_text(name, "".join(map(whole, blocks)))
        else:
            folder.forget([name])
    comments = []
    for dashboard in dashboards:
        text = make_comment(dashboard, parts[dashboard.dtype])
        path = folder.write_text(f"dashboard_{safe_name(dashboard.dtype)}.md", text)
        comments.append(Comment(dtype=dashboard.dtype, text=text, path=path))
    return report, tuple(comments)


def make_parts(dashboard: Dashboard, charts: Charts, pictures: Mapping[str, str]) -> Parts:
    """Make all parts by file name. `pictures`: where the charts can be seen, by file name."""
    parts = {**part_blocks(dashboard.findings), "gh_regression.txt": [make_trends_part(dashboard, pictures)]}
    if dashboard.options.detect:
        parts["gh_summary_diff.txt"] = [make_diff_part(dashboard)]
        parts["gh_metric_regression.txt"] = [make_regressions_part(dashboard)]
    if dashboard.options.graphs:
        parts["gh_graphs.txt"] = [make_graphs_part(dashboard, charts, pictures)]
    return {name: parts[name] for name in ORDER if name in parts}


def make_comment(dashboard: Dashboard, parts: Parts) -> str:
    """Make one comment of all parts, at most `dashboard.options.limit` bytes, with what changed behind the title."""
    title, *others = (block for blocks in parts.values() for block in blocks)
    blocks = [title, *([_make_verdict_block(dashboard)] if dashboard.options.detect else []), *others]
    if dashboard.problems:
        lines = tuple(TableLine(text=f"- {code(str(item), limit=300)}", rank=PROBLEM) for item in dashboard.problems)
        table = MarkdownTable(before="", lines=lines, where="the command's output")
        blocks.append(folded(f"## {count(len(lines), 'problem')} with the history ##", "\n", [table], rank=PROBLEM))
    return fit(blocks, dashboard.options.limit, where="report.html in the results folder")


def _make_verdict_block(dashboard: Dashboard) -> Block:
    """Say what changed in a sentence, name the worst regressions, and doubts about the comparison."""
    lines = []
    for changes in dashboard.regressed_cases():
        first = changes[0]
        name = name_case(dashboard, first.section, first.suite, first.model, first.compiler)
        lines.append(TableLine(text=f"- {name}: {list_changes(changes, code)}", rank=VERDICT))
    more = len(lines) - MOST_NAMED
    doubts = dict.fromkeys(
        f"{code(item.suite)} with {code(item.compiler)} is compared with a run on another machine: "
        f"{code('; '.join(item.doubts), limit=200)}"
        for item in dashboard.comparisons
        if item.doubts
    )
    after = f"- … and {more:,} more below\n" if more > 0 else ""
    after += "".join(f"\n⚠️ {text}\n" for text in doubts)
    table = MarkdownTable(before="", lines=tuple(lines[:MOST_NAMED]), where=CHANGES_FILE, after=f"{after}\n")
    before = f"**{' '.join(write_verdict(dashboard))}**\n\n{link_run(dashboard)}"
    return Block(before=before, tables=(table,), rank=VERDICT)
