"""What the dashboard found, as plain text."""

from __future__ import annotations

from collections.abc import Iterator

from torchperf_ci.analysis.frames import Cell
from torchperf_ci.analysis.regressions import Kind
from torchperf_ci.escape import one_line
from torchperf_ci.report.compare_words import change as change_text
from torchperf_ci.report.dashboard_changes import by_case, by_case_and_run, verdict
from torchperf_ci.report.dashboard_model import Dashboard
from torchperf_ci.report.words import ABSENT, metric_text, metric_title

SHOWN = 20


def dashboard_text(dashboard: Dashboard) -> str:
    """The verdict, then regressions and lasting changes by name."""
    lines = [*_regressions(dashboard), *_lasting(dashboard)]
    more = [f"  … and {len(lines) - SHOWN:,} more, see dashboard_*.md"] if len(lines) > SHOWN else []
    return "\n".join([f"{one_line(dashboard.dtype)}: {' '.join(verdict(dashboard))}", *lines[:SHOWN], *more])


def _regressions(dashboard: Dashboard) -> Iterator[str]:
    for changes in by_case(dashboard.changes(Kind.REGRESSED)).values():
        first = changes[0]
        what = "; ".join(
            f"{metric_title(item.metric)} {_seen(item.before, item.metric)} → {_seen(item.now, item.metric)}"
            for item in changes
        )
        yield "  " + one_line(f"{first.suite}/{first.model} {first.compiler}: {what}", limit=200)


def _lasting(dashboard: Dashboard) -> Iterator[str]:
    for items in by_case_and_run(dashboard.lasting):
        first = items[0]
        what = "; ".join(f"{metric_title(item.metric)} {change_text(item.new / item.old)}" for item in items)
        since = f"since {first.first_new.time:%Y-%m-%d} ({first.first_new.source.commit[:12]})"
        yield "  " + one_line(f"{first.case.suite}/{first.case.model} {first.case.compiler}: {what} {since}", limit=200)


def _seen(cell: Cell | None, metric: str) -> str:
    if cell is None:
        return ABSENT
    return metric_text(metric, cell) if cell.measured else cell.status
