"""The chart of a suite: speedup per model and compiler. Matplotlib is used here without its global state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from torchperf_ci.core.frames import SuiteTables, sorted_models
from torchperf_ci.core.text import one_line
from torchperf_ci.report.colours import BAD, GRID, INK, PALE, PAPER
from torchperf_ci.report.plots_style import DRAWN, log_axis, titled

PER_PANEL = 40
MOST_MODELS = 240
"""More than these are not drawn one by one; the best and the worst half of them are."""
LABEL_LENGTH = 30
RATIOS = ("speedup", "speedup_low", "speedup_high")
TURNED: Any = {"rotation": 40, "ha": "right", "va": "top", "rotation_mode": "anchor"}
FAILED: Any = {"marker": "x", "color": BAD, "linestyle": "none", "markersize": 5, "markeredgewidth": 1.4}
LEFT_OUT: Any = {"marker": "o", "color": PALE, "linestyle": "none", "markersize": 4, "markerfacecolor": PAPER}

Values = np.ndarray[Any, np.dtype[np.float64]]


def speedup_figure(tables: SuiteTables, colours: Mapping[str, str]) -> Figure:
    """Speedup per model and compiler: bars from 1x on a logarithmic axis, with 95 % intervals where they are known."""
    models = list(sorted_models(tables.values["speedup"]).index)
    hidden = max(0, len(models) - MOST_MODELS)
    if hidden:
        models = models[: MOST_MODELS // 2] + models[-(MOST_MODELS // 2) :]
    panels = _panels(models)
    slots = len(panels[0]) * max(1.0, len(tables.compilers) / 4)
    figure = Figure(figsize=(min(14.0, max(6.5, 2.0 + 0.4 * slots)), 3.0 * len(panels) + 0.6), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    limits = _limits(tables)
    for panel, axis in zip(panels, axes, strict=True):
        _bars(axis, tables, panel, colours)
        _names(axis, panel)
        axis.set_xlim(-0.6, max(len(panels[0]), 3) - 0.4)
        log_axis(axis, "y", limits, "x")
        axis.set_ylabel("speedup over eager")
    cut = f" ({hidden:,} models in the middle are not drawn)" if hidden else ""
    titled(figure, f"{tables.suite}: {tables.section}{cut}", _legend(tables, colours))
    return figure


def _panels(models: Sequence[str]) -> list[Sequence[str]]:
    """The models in as few panels of equal size as hold them."""
    number = math.ceil(len(models) / PER_PANEL)
    size = math.ceil(len(models) / number)
    return [models[start : start + size] for start in range(0, len(models), size)]


def _bars(axis: Axes, tables: SuiteTables, models: Sequence[str], colours: Mapping[str, str]) -> None:
    width = min(0.8 / len(tables.compilers), 0.5)
    first = -width * len(tables.compilers) / 2
    ends: list[list[tuple[float, float]]] = []
    for place, compiler in enumerate(tables.compilers):
        left = np.arange(len(models), dtype=np.float64) + first + place * width
        values, low, high = (_column(tables, name, models, compiler) for name in RATIOS)
        good = values > 0
        axis.add_patch(_boxes(left[good], 0.92 * width, values[good], colours[compiler]))
        middle = left + 0.46 * width
        known = good & (low > 0) & (high > 0)
        ends += [[(x, y), (x, z)] for x, y, z in zip(middle[known], low[known], high[known], strict=True)]
        passed, counted = (table.loc[list(models), compiler].to_numpy() for table in (tables.passed, tables.counted))
        for at, look in ((middle[counted & ~passed], FAILED), (middle[~counted], LEFT_OUT)):
            axis.plot(at, np.ones(len(at)), **look)
    axis.add_collection(LineCollection(ends, colors=INK, linewidths=0.8))


def _names(axis: Axes, models: Sequence[str]) -> None:
    """The axes' lines, and the models below. Plain texts take a fifth less time for a chart than tick labels."""
    axis.axhline(1.0, color=INK, linewidth=0.8)
    axis.grid(axis="y", color=GRID, linewidth=0.6)
    axis.tick_params(length=0)
    axis.set_xticks([])
    below = axis.get_xaxis_transform()
    for place, name in enumerate(models):
        axis.text(place, -0.03, one_line(name, limit=LABEL_LENGTH), transform=below, parse_math=False, **TURNED)


def _legend(tables: SuiteTables, colours: Mapping[str, str]) -> list[Patch | Line2D]:
    handles: list[Patch | Line2D] = [Patch(color=colours[name], label=one_line(name)) for name in tables.compilers]
    if (tables.counted & ~tables.passed).any(axis=None):
        handles.append(Line2D([], [], label="failed", **FAILED))
    if not tables.counted.all(axis=None):
        handles.append(Line2D([], [], label="left out", **LEFT_OUT))
    return handles


def _limits(tables: SuiteTables) -> tuple[float, float]:
    """The smallest and the largest speedup to show, with room around them."""
    known = np.concatenate([_column(tables, name, tables.models, one) for name in RATIOS for one in tables.compilers])
    low, high = np.nanmin([0.95, *known]), np.nanmax([1.05, *known])
    room = (high / low) ** 0.04
    return float(low / room), float(high * room)


def _column(tables: SuiteTables, metric: str, models: Sequence[str], compiler: str) -> Values:
    values: Values = tables.values[metric].loc[list(models), compiler].to_numpy(dtype=float)
    return np.where(values > 0, np.clip(values, *DRAWN), np.nan)


def _boxes(left: Values, width: float, values: Values, ink: str) -> PathPatch:
    """Bars from 1 to each value, as one shape."""
    right, ones = left + width, np.ones_like(values)
    corners = ((left, ones), (left, values), (right, values), (right, ones))
    boxes = np.stack([np.stack(corner, axis=1) for corner in corners], axis=1)
    return PathPatch(Path.make_compound_path_from_polys(boxes), facecolor=ink, edgecolor="none")
