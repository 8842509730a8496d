"""The charts of a dashboard: which there are, and those over time, with a panel per suite and a line per compiler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from torchperf_ci.core.frames import Section
from torchperf_ci.core.text import one_line, safe_name, unique
from torchperf_ci.dashboard.model import Dashboard
from torchperf_ci.dashboard.trends import TRENDS, Trend
from torchperf_ci.report.charts import Charts
from torchperf_ci.report.palette import GRID, colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS_IN_A_ROW = 3


def name_speedup_charts(dashboard: Dashboard, charts: Charts) -> Iterator[str]:
    """Name the charts of this dashboard's suites, without ending."""
    for (section, _), chart in charts.speedups.items():
        if section in dashboard.findings.sections:
            yield chart.name


def name_trend_charts(dashboard: Dashboard) -> dict[str, tuple[Section, str]]:
    """Name the files of the charts over time, with what each shows: `{metric}_over_time.png`, and what tells it apart
    where there are several."""
    taken: set[str] = set()
    sections = dashboard.findings.sections
    files = {}
    for section in sections:
        parts: tuple[str, ...] = () if dashboard.alone else (section.dtype,)
        if len(sections) > 1:
            parts = (section.dtype, section.mode.value, section.device)
        for name in TRENDS:
            stem = "_".join([f"{name}_over_time", *map(safe_name, parts)])
            files[f"{unique(stem, taken)}.png"] = (section, name)
    return files


def draw_pictures(dashboards: Sequence[Dashboard], charts: Charts) -> dict[str, bytes]:
    """Draw the pictures that comments show, as PNG by file name; none for a dashboard without graphs."""
    speedups = {chart.name: chart.png for chart in charts.speedups.values()}
    pictures: dict[str, bytes] = {}
    for dashboard in dashboards:
        if dashboard.options.graphs:
            pictures |= {f"{name}.png": speedups[name] for name in name_speedup_charts(dashboard, charts)}
            pictures |= draw_trends(dashboard)
    return pictures


def draw_trends(dashboard: Dashboard) -> dict[str, bytes]:
    """Draw the charts over time, as PNG by file name."""
    from torchperf_ci.report.plots import saved, style

    now = (name for tables in dashboard.findings.tables for name in tables.compilers)
    inks = colours((*now, *(trend.compiler for trend in dashboard.trends)))
    times = [item.run.time for item in dashboard.summaries]
    pictures = {}
    with style():
        for file, (section, name) in name_trend_charts(dashboard).items():
            trends = [trend for trend in dashboard.trends if (trend.section, trend.name) == (section, name)]
            pictures[file] = saved(draw_over_time(f"{TRENDS[name]}: {section}", trends, times, inks))["png"]
    return pictures


def draw_over_time(title: str, trends: Sequence[Trend], times: Sequence[datetime], inks: Mapping[str, str]) -> Figure:
    """Draw one number over time; `trends` have an element per time. A run without a value leaves a gap in its line."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from torchperf_ci.report.plots import titled

    suites = list(dict.fromkeys(trend.suite for trend in trends))
    down = -(-len(suites) // PANELS_IN_A_ROW)
    across = min(len(suites), PANELS_IN_A_ROW)
    figure = Figure(figsize=(max(6.5, 4.2 * across), 2.6 * down + 0.9), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for panel, suite in zip(panels, suites, strict=False):
        _draw_panel(panel, suite, [trend for trend in trends if trend.suite == suite], times, inks)
    for panel in panels[len(suites) :]:
        panel.set_visible(False)
    compilers = dict.fromkeys(trend.compiler for trend in trends)
    titled(
        figure,
        title,
        [Line2D([], [], color=inks[name], marker="o", markersize=4, label=one_line(name)) for name in compilers],
    )
    return figure


def _draw_panel(
    axes: Any,  # noqa: ANN401 - matplotlib's annotations know no dates
    suite: str,
    trends: Sequence[Trend],
    times: Sequence[datetime],
    inks: Mapping[str, str],
) -> None:
    from matplotlib import dates

    typed: Any = dates  # its functions have no annotations
    for trend in trends:
        values = [float("nan") if value is None else value for value in trend.values]
        axes.plot(times, values, color=inks[trend.compiler], marker="o", markersize=3.5, linewidth=1.4)
    axes.set_title(one_line(suite, limit=40), fontsize=9, loc="left", parse_math=False)
    room = max((times[-1] - times[0]) * 0.04, timedelta(hours=6))
    axes.set_xlim(times[0] - room, times[-1] + room)
    locator = typed.AutoDateLocator(minticks=2, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(typed.ConciseDateFormatter(locator))
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.tick_params(length=0)
    if trends[0].name == "passrate":
        axes.set_ylim(bottom=min(0.0, *axes.get_ylim()), top=105)
    else:
        axes.margins(y=0.2)
