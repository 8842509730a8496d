"""The steps of a dashboard: read the run and its past, study them dtype by dtype, write the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from torchperf_ci.core.records import Record, Source
from torchperf_ci.core.results import RECORDS, Results, ResultsFolder
from torchperf_ci.core.text import safe_name
from torchperf_ci.dashboard.comment import comment, dashboard_parts, part_texts
from torchperf_ci.dashboard.model import Dashboard, DashboardOptions, study
from torchperf_ci.dashboard.over_time import Point
from torchperf_ci.dashboard.trends import speedup_names, trend_pictures
from torchperf_ci.history.store import History, Past, Run, Wanted, run_of
from torchperf_ci.report.charts import Charts
from torchperf_ci.report.model import Report, RunFindings, find
from torchperf_ci.report.write import write_findings

PARTS_OF_HISTORY = ("gh_summary_diff.txt", "gh_regression.txt", "gh_metric_regression.txt", "gh_graphs.txt")
"""The parts that `report` does not write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """What to post about one dtype, and the file in the results folder that holds it."""

    dtype: str
    text: str
    path: Path


def run_in(directory: Path, results: Results, *, name: str, source: Source) -> Run:
    """The run that a folder holds. What knows neither its commit nor its time, as CSV files do not, gets `source`, and
    the time at which the newest file of results was written."""
    written = max((path.stat().st_mtime for path in _result_files(directory)), default=0.0)
    now = datetime.fromtimestamp(int(written), tz=timezone.utc)
    stamped = replace(source, time=now.isoformat())
    records = tuple(
        replace(record, source=stamped) if record.source == Source() else record for record in results.records
    )
    return run_of(replace(results, records=records), name=name, now=now)


def before(history: History, run: Run, count: int, wanted: Wanted) -> Past:
    """The newest `count` runs before `run`."""
    past = history.last(count + 1, replace(wanted, until=run.time))
    earlier = [item for item in past.runs if item.key != run.key]
    return replace(past, runs=tuple(earlier[-count:] if count else ()))


def studied(findings: RunFindings, run: Run, past: Past, options: DashboardOptions) -> tuple[Dashboard, ...]:
    """A dashboard for every dtype of the run, in the order of the report."""
    dtypes = list(dict.fromkeys(section.dtype for section in findings.sections))
    return tuple(
        study(
            findings if len(dtypes) == 1 else _only(findings, dtype),
            _point(run, dtype),
            [point for item in past.runs if (point := _point(item, dtype)).records],
            options,
            alone=len(dtypes) == 1,
            problems=past.problems,
        )
        for dtype in dtypes
    )


def pictures_of(dashboards: Sequence[Dashboard], charts: Charts) -> dict[str, bytes]:
    """The pictures that comments show, as PNG by file name."""
    speedups = {chart.name: chart.png for chart in charts.speedups.values()}
    made: dict[str, bytes] = {}
    for dashboard in dashboards:
        if dashboard.options.graphs:
            made |= {f"{name}.png": speedups[name] for name in speedup_names(dashboard, charts)}
            made |= trend_pictures(dashboard)
    return made


def write_dashboards(
    folder: ResultsFolder,
    findings: RunFindings,
    dashboards: Sequence[Dashboard],
    charts: Charts,
    urls: Mapping[str, str],
) -> tuple[Report, tuple[Comment, ...]]:
    """Write the report, the parts and the comments. `urls`: where pictures can be seen, by file name."""
    report = write_findings(folder, findings, charts)
    parts = {dashboard.dtype: dashboard_parts(dashboard, charts, urls) for dashboard in dashboards}
    texts = [part_texts(found) for found in parts.values()]
    for name in PARTS_OF_HISTORY:
        made = [found[name] for found in texts if name in found]
        if made:
            folder.write_text(name, "".join(made))
        else:
            folder.forget([name])
    comments = []
    for dashboard in dashboards:
        text = comment(dashboard, parts[dashboard.dtype])
        path = folder.write_text(f"dashboard_{safe_name(dashboard.dtype)}.md", text)
        comments.append(Comment(dtype=dashboard.dtype, text=text, path=path))
    return report, tuple(comments)


def _only(findings: RunFindings, dtype: str) -> RunFindings:
    """The findings of one dtype. What is wrong with the whole input stays."""
    options = replace(findings.options, selection=replace(findings.options.selection, dtypes=(dtype,)))
    records = tuple(record for record in findings.records if record.case.dtype == dtype)
    return find(Results(records=records, builds=findings.builds, problems=findings.problems), options)


def _point(run: Run, dtype: str) -> Point:
    records: tuple[Record, ...] = tuple(record for record in run.results.records if record.case.dtype == dtype)
    return Point(key=run.key, time=run.time, source=run.source, records=records)


def _result_files(directory: Path) -> list[Path]:
    records = directory / RECORDS
    return [records] if records.is_file() else [path for path in directory.glob("*.csv") if path.is_file()]
