"""The charts over time: a panel per suite, a line per compiler, at the times when the runs were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from torchperf_ci.core.text import one_line
from torchperf_ci.dashboard.over_time import Trend
from torchperf_ci.report.palette import GRID
from torchperf_ci.report.plots import titled

ACROSS = 3
"""So many panels beside each other."""


def over_time_figure(
    title: str, trends: Sequence[Trend], times: Sequence[datetime], colours: Mapping[str, str]
) -> Figure:
    """One number over time; `trends` have an element per time. A run without a value leaves a gap in its line."""
    suites = list(dict.fromkeys(trend.suite for trend in trends))
    down = -(-len(suites) // ACROSS)
    across = min(len(suites), ACROSS)
    figure = Figure(figsize=(max(6.5, 4.2 * across), 2.6 * down + 0.9), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for panel, suite in zip(panels, suites, strict=False):
        _panel(panel, suite, [trend for trend in trends if trend.suite == suite], times, colours)
    for panel in panels[len(suites) :]:
        panel.set_visible(False)
    compilers = dict.fromkeys(trend.compiler for trend in trends)
    handles = [
        Line2D([], [], color=colours[name], marker="o", markersize=4, label=one_line(name)) for name in compilers
    ]
    titled(figure, title, handles)
    return figure


def _panel(
    axes: Axes, suite: str, trends: Sequence[Trend], times: Sequence[datetime], colours: Mapping[str, str]
) -> None:
    dates: Any = list(times)  # matplotlib's annotations know no dates
    for trend in trends:
        values = [float("nan") if value is None else value for value in trend.values]
        axes.plot(dates, values, color=colours[trend.compiler], marker="o", markersize=3.5, linewidth=1.4)
    axes.set_title(one_line(suite, limit=40), fontsize=9, loc="left", parse_math=False)
    room = max((dates[-1] - dates[0]) * 0.04, timedelta(hours=6))
    axes.set_xlim(dates[0] - room, dates[-1] + room)
    locate: Any = AutoDateLocator
    formatter: Any = ConciseDateFormatter
    locator = locate(minticks=2, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter(locator))
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.tick_params(length=0)
    if trends[0].name == "passrate":
        axes.set_ylim(bottom=min(0.0, *axes.get_ylim()), top=105)
    else:
        axes.margins(y=0.2)
