"""What the dashboard found, as plain text."""

from __future__ import annotations

from collections.abc import Iterator

from torchperf_ci.compare.words import change as percent_text
from torchperf_ci.core.text import one_line
from torchperf_ci.dashboard.changes import by_case_and_run, regressed_cases, verdict, what_changed
from torchperf_ci.dashboard.model import Dashboard
from torchperf_ci.report.words import metric_title

SHOWN = 20


def dashboard_text(dashboard: Dashboard) -> str:
    """The verdict, then regressions and lasting changes by name."""
    lines = [*_regressions(dashboard), *_lasting(dashboard)]
    more = [f"  … and {len(lines) - SHOWN:,} more, see dashboard_*.md"] if len(lines) > SHOWN else []
    return "\n".join([f"{one_line(dashboard.dtype)}: {' '.join(verdict(dashboard))}", *lines[:SHOWN], *more])


def _regressions(dashboard: Dashboard) -> Iterator[str]:
    for changes in regressed_cases(dashboard):
        first = changes[0]
        what = what_changed(changes, str)
        yield "  " + one_line(f"{first.suite}/{first.model} {first.compiler}: {what}", limit=200)


def _lasting(dashboard: Dashboard) -> Iterator[str]:
    for items in by_case_and_run(dashboard.lasting):
        first = items[0]
        what = "; ".join(f"{metric_title(item.metric)} {percent_text(item.new / item.old)}" for item in items)
        since = f"since {first.first_new.time:%Y-%m-%d} ({first.first_new.source.commit[:12]})"
        yield "  " + one_line(f"{first.case.suite}/{first.case.model} {first.case.compiler}: {what} {since}", limit=200)
