"""The dashboard: its parts in the order of PyTorch's, as files and as one comment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torchperf_ci.core.text import code, count
from torchperf_ci.dashboard.changes import regressions, summary_diff, verdict_block
from torchperf_ci.dashboard.model import Dashboard
from torchperf_ci.dashboard.trends import graphs, metrics_over_time
from torchperf_ci.report.charts import Charts
from torchperf_ci.report.document import Block, MarkdownTable, TableLine, fit, folded, whole
from torchperf_ci.report.gh_parts import legacy_blocks

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

PROBLEM = 11
"""When problems are hidden of a comment that gets too long; see `legacy`."""

Parts = Mapping[str, Sequence[Block]]


def dashboard_parts(dashboard: Dashboard, charts: Charts, pictures: Mapping[str, str]) -> Parts:
    """All parts by file name. `pictures`: where the charts can be seen, by file name."""
    made = {**legacy_blocks(dashboard.findings), "gh_regression.txt": metrics_over_time(dashboard, pictures)}
    if dashboard.options.detect:
        made["gh_summary_diff.txt"] = [summary_diff(dashboard)]
        made["gh_metric_regression.txt"] = regressions(dashboard)
    if dashboard.options.graphs:
        made["gh_graphs.txt"] = graphs(dashboard, charts, pictures)
    return {name: made[name] for name in ORDER if name in made}


def part_texts(parts: Parts) -> Mapping[str, str]:
    """The parts as whole texts."""
    return {name: whole(blocks) for name, blocks in parts.items()}


def comment(dashboard: Dashboard, parts: Parts) -> str:
    """All parts as one comment of at most `dashboard.options.limit` bytes, with what changed behind the title."""
    title, *others = (block for blocks in parts.values() for block in blocks)
    verdict = [verdict_block(dashboard)] if dashboard.options.detect else []
    blocks = [title, *verdict, *others, *_problems(dashboard)]
    return fit(blocks, dashboard.options.limit, where="report.html in the results folder")


def _problems(dashboard: Dashboard) -> list[Block]:
    """What of the history could not be read: the comparison does not know it."""
    if not dashboard.problems:
        return []
    lines = tuple(TableLine(text=f"- {code(str(problem), limit=300)}", rank=PROBLEM) for problem in dashboard.problems)
    title = f"## {count(len(lines), 'problem')} with the history ##"
    return [folded(title, "\n", [MarkdownTable(before="", lines=lines, where="the command's output")], rank=PROBLEM)]
