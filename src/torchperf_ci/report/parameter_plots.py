"""Draw cases over their parameters: speedup, or latency, over the numeric one, a line for what else differs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from torchperf_ci.core.frames import SuiteTables
from torchperf_ci.core.records import Record, Testing
from torchperf_ci.core.text import one_line
from torchperf_ci.report.palette import GRID, INK
from torchperf_ci.report.plots import DRAWN, log_axis, titled
from torchperf_ci.report.summary import name_compiler, read_interval

MOST_PANELS = 24
_DECADE = 10
_MARKERS = "os^Dv*"

Dash = Literal["-", "--", ":", "-."]
_DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.")

Point = tuple[float, float, float, float]
"""A parameter's value, a number, and the ends of its interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One model over its numeric parameter. lines: points by compiler and by the other parameters."""

    model: str
    axis: str
    metric: str
    lines: Mapping[tuple[str, str], Sequence[Point]]


def collect_panels(tables: SuiteTables) -> list[Panel]:
    """Collect the models that were measured with several values of a numeric parameter."""
    models: dict[str, list[Record]] = {}
    for (testing, model, _), record in tables.records.items():
        if testing is Testing.PERFORMANCE and record.params and "abs_latency" in record.metrics:
            models.setdefault(model.partition("[")[0], []).append(record)
    panels = [panel for model, records in models.items() if (panel := _make_panel(model, records)) is not None]
    return panels[:MOST_PANELS]


def _make_panel(model: str, records: Sequence[Record]) -> Panel | None:
    values: dict[str, set[float]] = {}
    for record in records:
        for name, value in record.params.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
                values.setdefault(name, set()).add(float(value))
    if not values:
        return None
    axis = max(values, key=lambda name: len(values[name]))
    if len(values[axis]) < 2:
        return None
    metric = "speedup" if any("speedup" in record.metrics for record in records) else "abs_latency"
    lines: dict[tuple[str, str], list[Point]] = {}
    for record in records:
        place = record.params.get(axis)
        if metric in record.metrics and isinstance(place, (int, float)):
            others = ", ".join(f"{name}={each}" for name, each in record.params.items() if name != axis)
            lines.setdefault((record.case.compiler, others), []).append((float(place), *_read_point(record, metric)))
    return Panel(model=model, axis=axis, metric=metric, lines={key: sorted(points) for key, points in lines.items()})


def _read_point(record: Record, metric: str) -> tuple[float, float, float]:
    number = record.metrics[metric]
    if metric == "speedup":
        low, high = read_interval(record) or (number, number)
    else:
        low, high = (record.metrics.get(f"{metric}_{end}", number) for end in ("low", "high"))
    number, low, high = (min(max(each, DRAWN[0]), DRAWN[1]) for each in (number, low, high))
    return number, low, high


def draw_parameters(tables: SuiteTables, panels: Sequence[Panel], colours: Mapping[str, str]) -> Figure:
    """Draw a panel per model. An axis is logarithmic where its values span a decade, that of speedups always."""
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.2 * columns, 0.7 + 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    others = list(dict.fromkeys(other for panel in panels for _, other in panel.lines))
    marks = dict(zip(others, zip(cycle(_MARKERS), cycle(_DASHES), strict=False), strict=False))
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, colours, marks)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles = [
        Line2D([], [], color=colours[name], label=one_line(name_compiler(name, (tables,))))
        for name in tables.compilers
        if any(name == compiler for panel in panels for compiler, _ in panel.lines)
    ]
    handles += [
        Line2D([], [], color=INK, marker=marks[other][0], linestyle=marks[other][1], label=one_line(other, limit=40))
        for other in others
        if other
    ]
    titled(figure, f"{tables.suite} over its parameters: {tables.section}", handles, columns=4)
    return figure


def _draw_panel(axes: Axes, panel: Panel, colours: Mapping[str, str], marks: Mapping[str, tuple[str, Dash]]) -> None:
    points = [point for line in panel.lines.values() for point in line]
    for (compiler, other), line in panel.lines.items():
        places, numbers, lows, highs = (list(each) for each in zip(*line, strict=True))
        marker, dash = marks[other]
        axes.plot(places, numbers, color=colours[compiler], marker=marker, linestyle=dash, markersize=4, linewidth=1.4)
        axes.vlines(places, lows, highs, color=colours[compiler], linewidth=1.0)
    places = [point[0] for point in points]
    if min(places) > 0 and max(places) >= _DECADE * min(places):
        room = (max(places) / min(places)) ** 0.08
        log_axis(axes, "x", (min(places) / room, max(places) * room), ticks=5)
    low, high = min(point[2] for point in points), max(point[3] for point in points)
    if panel.metric == "speedup":
        low, high = min(low, 0.95), max(high, 1.05)
        axes.axhline(1.0, color=INK, linewidth=0.8)
    if panel.metric == "speedup" or high >= _DECADE * low:
        log_axis(axes, "y", (low / 1.1, high * 1.1), "x" if panel.metric == "speedup" else "", ticks=5)
    else:
        axes.set_ylim(0, high * 1.1)
    axes.grid(color=GRID, linewidth=0.6)
    axes.tick_params(length=0)
    title = axes.set_title(one_line(panel.model, limit=40), fontsize=9, loc="left")
    label = axes.set_xlabel(one_line(panel.axis, limit=40))
    axes.set_ylabel("speedup over eager" if panel.metric == "speedup" else "latency (ms)")
    for each in (title, label):
        each.set_parse_math(False)
