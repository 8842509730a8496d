"""The chart of two arms that were measured in pairs: the samples of one case."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from torchperf_ci.core.records import Record
from torchperf_ci.report.colours import BAD, INK, PALE, PALETTE
from torchperf_ci.report.plots_style import log_axis, titled

MOST_POINTS = 500
"""More pairs than these are drawn as evenly spaced ones."""
BINS = 31
COMPILED = PALETTE[0]

Values = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """Two arms that were measured in pairs: their names, their times in ms per iteration, and a ratio of each pair.

    estimate: the ratio of all with the ends of its interval; absent ends are not drawn.
    """

    title: str
    names: tuple[str, str]
    times: tuple[Values, Values]
    ratios: Values
    ratio_name: str
    estimate: tuple[float | None, float | None, float | None]


def samples_figure(record: Record) -> Figure:
    """Both arms in the order they were taken, and how the speedups of the pairs are spread."""
    eager, compiled = (1e3 * np.array(record.samples[arm], dtype=np.float64) for arm in ("eager", "compiled"))
    metrics = record.metrics
    return arms_figure(
        Arms(
            title=str(record.case),
            names=("eager", "compiled"),
            times=(eager, compiled),
            ratios=eager / compiled,
            ratio_name="speedup",
            estimate=(metrics.get("speedup"), metrics.get("speedup_low"), metrics.get("speedup_high")),
        )
    )


def arms_figure(arms: Arms) -> Figure:
    """Both arms in the order they were taken, and how the ratios of the pairs are spread."""
    figure = Figure(figsize=(9.0, 3.0), layout="constrained")
    course, spread = figure.subplots(1, 2, width_ratios=[3, 2])
    _course(course, *arms.times)
    _spread(spread, arms)
    titled(figure, arms.title, [*_legend(arms.names), *_interval(spread, arms)])
    return figure


def _course(axes: Axes, eager: Values, compiled: Values) -> None:
    step = max(1, math.ceil(len(eager) / MOST_POINTS))
    at = np.arange(len(eager))[::step]
    axes.plot(at, eager[::step], "o", color=PALE, markersize=3)
    axes.plot(at, compiled[::step], "o", color=COMPILED, markersize=3)
    low, high = (float(function([*eager, *compiled])) for function in (min, max))
    log_axis(axes, "y", (low * 0.97, high * 1.03))
    axes.set(xlabel="pair, in the order taken", ylabel="ms per iteration")


def _spread(axes: Axes, arms: Arms) -> None:
    """A histogram; what is beyond the middle 98 % stands in its first and last bar."""
    low, high = np.quantile(arms.ratios, [0.01, 0.99])
    edges = np.geomspace(low * 0.98, high * 1.02, BINS + 1)
    axes.hist(np.clip(arms.ratios, edges[0], edges[-1]), bins=list(edges), color=COMPILED)
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
    log_axis(axes, "x", (float(edges[0]), float(edges[-1])), "x")
    axes.set(xlabel=f"{arms.ratio_name} of a pair", ylabel="pairs")


def _legend(names: tuple[str, str]) -> list[Artist]:
    return [Patch(color=PALE, label=names[0]), Patch(color=COMPILED, label=names[1])]


def _interval(axes: Axes, arms: Arms) -> list[Artist]:
    """Draw the estimate, and its interval as a band; what the legend says about them."""
    value, low, high = arms.estimate
    if value is None or low is None or high is None:
        return []
    axes.axvspan(low, high, color=BAD, alpha=0.2, linewidth=0, zorder=0.5)
    axes.axvline(value, color=BAD, linewidth=1.2)
    return [Line2D([], [], color=BAD, label=arms.ratio_name), Patch(color=BAD, alpha=0.2, label="its 95 % interval")]
