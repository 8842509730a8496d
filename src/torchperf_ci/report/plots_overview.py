"""The chart of a section: pass rate and geometric mean speedup of every suite and compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchperf_ci.core.text import one_line
from torchperf_ci.report.colours import GRID, INK
from torchperf_ci.report.plots_style import DRAWN, log_axis, titled
from torchperf_ci.report.summary import Line
from torchperf_ci.report.words import ratio

MOST_LINES = 60
"""More suites times compilers than these are not drawn."""

_BESIDE: Any = {"textcoords": "offset points", "xytext": (4, 0), "va": "center", "fontsize": 8}


def overview_figure(title: str, lines: Sequence[Line], colours: Mapping[str, str]) -> Figure:
    """A row per suite and compiler, in the order of `lines`."""
    hidden = max(0, len(lines) - MOST_LINES)
    shown = list(lines[:MOST_LINES])
    inks = [colours[line.compiler] for line in shown]
    figure = Figure(figsize=(9.0, 1.2 + 0.27 * len(shown)), layout="constrained")
    rates, means = figure.subplots(1, 2, sharey=True)
    places = _places(shown)
    _rates(rates, shown, places, inks)
    _means(means, shown, places, inks)
    suites = len({line.suite for line in lines}) > 1
    labels = [one_line(f"{line.suite}  {line.compiler}" if suites else line.compiler, limit=48) for line in shown]
    rates.set_yticks(places, labels, parse_math=False)
    rates.invert_yaxis()
    for axes in (rates, means):
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    titled(figure, title + (f" ({hidden:,} lines are not drawn)" if hidden else ""), [])
    return figure


def _places(lines: Sequence[Line]) -> list[float]:
    """Where the bars stand: one below the other, with a gap between suites."""
    suites = list(dict.fromkeys(line.suite for line in lines))
    return [number + 0.5 * suites.index(line.suite) for number, line in enumerate(lines)]


def _rates(axes: Axes, lines: Sequence[Line], places: Sequence[float], inks: Sequence[str]) -> None:
    shares = [100 * line.passed / max(line.total, 1) for line in lines]
    axes.barh(list(places), shares, color=list(inks), height=0.7)
    axes.set_xlim(0, 118)
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
    axes.set_xlabel("models that pass")
    for place, share, line in zip(places, shares, lines, strict=True):
        axes.annotate(f"{line.passed}/{line.total}", (share, place), **_BESIDE)


def _means(axes: Axes, lines: Sequence[Line], places: Sequence[float], inks: Sequence[str]) -> None:
    means = np.clip([line.geomean or 1.0 for line in lines], *DRAWN)
    axes.barh(list(places), means - 1, left=1, color=list(inks), height=0.7)
    low, high = min(0.95, means.min()), max(1.05, means.max())
    room = high / low
    log_axis(axes, "x", (float(low / room**0.05), float(high * room**0.15)), "x")
    axes.axvline(1.0, color=INK, linewidth=0.8)
    axes.set_xlabel("geometric mean speedup over eager")
    for place, mean, line in zip(places, means, lines, strict=True):
        axes.annotate(ratio(line.geomean), (max(mean, 1.0), place), **_BESIDE)
