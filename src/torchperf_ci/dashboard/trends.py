"""The dashboard's parts that look along time, and its charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from torchperf_ci.core.frames import Section
from torchperf_ci.core.text import code, count, safe_name, unique
from torchperf_ci.dashboard.model import Dashboard
from torchperf_ci.dashboard.over_time import TRENDS, Trend
from torchperf_ci.report.charts import Charts
from torchperf_ci.report.document import Block, MarkdownTable, folded, pretty_table
from torchperf_ci.report.gh_parts import section_title
from torchperf_ci.report.palette import colours

TREND, GRAPH = 6, 4
"""When what is hidden of a comment that gets too long; see `legacy`."""

BARS = "▁▂▃▄▅▆▇█"
GAP = " "
FULL_SCALE = 0.1
WHERE = "gh_regression.txt in the results folder"

_NOT_HOSTED = "\nDrawn in the results folder: {names}\n"


def metrics_over_time(dashboard: Dashboard, pictures: Mapping[str, str]) -> list[Block]:
    """gh_regression.txt. `pictures` are the addresses of charts by file name; the others are only named."""
    runs = [look.point for look in dashboard.looks]
    span = f"{count(len(runs), 'run')}, {runs[0].time:%Y-%m-%d} to {runs[-1].time:%Y-%m-%d} UTC.\n\n"
    names = list(trend_names(dashboard)) if dashboard.options.graphs else []
    tables = [table for section in dashboard.findings.sections for table in _trend_tables(dashboard, section)]
    before = span + shown_pictures(names, pictures)
    return [folded("## Metrics over time ##", before, tables, rank=TREND)]


def graphs(dashboard: Dashboard, charts: Charts, pictures: Mapping[str, str]) -> list[Block]:
    """gh_graphs.txt; nothing when no graphs are asked for."""
    if not dashboard.options.graphs:
        return []
    names = [f"{name}.png" for name in speedup_names(dashboard, charts)]
    return [folded("## Performance graphs ##", shown_pictures(names, pictures), rank=GRAPH)]


def speedup_names(dashboard: Dashboard, charts: Charts) -> Iterator[str]:
    """The names of the charts of this dashboard's suites, without ending."""
    for (section, _), chart in charts.speedups.items():
        if section in dashboard.findings.sections:
            yield chart.name


def trend_names(dashboard: Dashboard) -> dict[str, tuple[Section, str]]:
    """File names of the charts over time, with what each shows: `{metric}_over_time.png`, and what tells it apart where
    there are several."""
    taken: set[str] = set()
    sections = dashboard.findings.sections
    made = {}
    for section in sections:
        parts = _distinction(dashboard, section)
        for name in TRENDS:
            stem = "_".join([f"{name}_over_time", *map(safe_name, parts)])
            made[f"{unique(stem, taken)}.png"] = (section, name)
    return made


def trend_pictures(dashboard: Dashboard) -> Mapping[str, bytes]:
    """The charts over time as PNG by file name; none when no graphs are asked for."""
    if not dashboard.options.graphs:
        return {}
    from torchperf_ci.dashboard.charts import over_time_figure
    from torchperf_ci.report.plots import saved, style

    now = (name for tables in dashboard.findings.tables for name in tables.compilers)
    inks = colours((*now, *(trend.compiler for trend in dashboard.trends)))
    times = [look.point.time for look in dashboard.looks]
    made = {}
    with style():
        for file, (section, name) in trend_names(dashboard).items():
            trends = [trend for trend in dashboard.trends if (trend.section, trend.name) == (section, name)]
            made[file] = saved(over_time_figure(f"{TRENDS[name]}: {section}", trends, times, inks))["png"]
    return made


def sparkline(values: Sequence[float | None]) -> str:
    """A bar per value, a gap where there is none. From the lowest to the highest bar it is `FULL_SCALE` of the highest
    value or more, so that noise stays small."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    scale = max(high - low, FULL_SCALE * abs(high)) or 1.0
    bottom = (low + high - scale) / 2
    return "".join(
        GAP if value is None else BARS[round((len(BARS) - 1) * (value - bottom) / scale)] for value in values
    )


def shown_pictures(names: Sequence[str], pictures: Mapping[str, str]) -> str:
    """Pictures with their names above them; those without an address are only named."""
    shown = [f"\n{name} : ![{name}]({pictures[name]})\n" for name in names if name in pictures]
    rest = [code(name) for name in names if name not in pictures]
    return "".join(shown) + (_NOT_HOSTED.format(names=", ".join(rest)) if rest else "")


def _distinction(dashboard: Dashboard, section: Section) -> tuple[str, ...]:
    if len(dashboard.findings.sections) > 1:
        return (section.dtype, section.mode.value, section.device)
    return () if dashboard.alone else (section.dtype,)


def _trend_tables(dashboard: Dashboard, section: Section) -> Iterator[MarkdownTable]:
    of_section = [trend for trend in dashboard.trends if trend.section == section]
    title = section_title(dashboard.findings, section)
    columns = ["suite", "compiler", "trend", "oldest", "previous", "newest"]
    for name, group in groupby(of_section, key=lambda trend: trend.name):
        rows = [_trend_row(trend) for trend in group]
        yield pretty_table(f"{title}\n{TRENDS[name]}\n", columns, rows, ranks=[TREND] * len(rows), where=WHERE)
        title = ""


def _trend_row(trend: Trend) -> list[str]:
    known = [value for value in trend.values if value is not None]
    previous = known[-2] if len(known) > 1 else None
    newest = trend.values[-1]
    return [
        trend.suite,
        trend.compiler,
        sparkline(trend.values),
        *(_number(trend.name, value) for value in (known[0] if known else None, previous, newest)),
    ]


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    match name:
        case "passrate":
            return f"{value:.0f}%"
        case "comp_time":
            return f"{value:.2f}"
        case _:
            return f"{value:.2f}x"
