"""The charts of a comparison: all changes with their intervals, and the samples of the cases that changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from torchperf_ci.compare.effects import ChangeTolerance, Verdict
from torchperf_ci.compare.model import (
    LATENCY,
    SPEEDUP,
    TIMED,
    Comparison,
    ComparisonFindings,
    Measured,
    name_verdict,
    widen_for_days,
)
from torchperf_ci.compare.words import change, name, ordered, percent, verdict_of
from torchperf_ci.core.text import one_line, safe_name, short_name, unique
from torchperf_ci.report.charts import Chart
from torchperf_ci.report.palette import BAD, GRID, INK, PALE, PALETTE
from torchperf_ci.report.plots import arms_figure, log_axis, saved, style, titled

MOST_ROWS = 60
"""Of more cases than these only the most urgent are drawn."""
MOST_SAMPLES = 12
LABEL_LENGTH = 56
WIDTH, ROW_HEIGHT = 4.9, 0.42
"""Inches."""

_AXES = {
    LATENCY: "latency of head against base  (slower →)",
    SPEEDUP: "speedup over eager of head against base  (← slower)",
}

COLOURS = {
    Verdict.REGRESSED: BAD,
    Verdict.IMPROVED: PALETTE[2],
    Verdict.UNCHANGED: PALETTE[0],
    Verdict.INCONCLUSIVE: PALETTE[1],
}
"""The verdicts that have a ratio."""


def draw_charts(findings: ComparisonFindings) -> list[Chart]:
    """Draw all ratios, and the samples of each case that changed or is open; nothing where no time was compared."""
    timed = [c for c in ordered(findings.comparisons) if c.metric in TIMED and c.ratio and c.verdict in COLOURS]
    if not timed:
        return []
    taken = {"compare"}
    sampled = {one.case: one for one in findings.measured if any(len(launch.base) > 1 for launch in one.launches)}
    with style():
        usual = findings.header.tolerances.latency
        live = dict.fromkeys(TIMED, usual)
        figure = forest_figure(
            timed, live if findings.measured else {name: widen_for_days(usual, name) for name in TIMED}
        )
        charts = [Chart(name="compare", title="Head against base", **saved(figure))]
        changed = [c for c in timed if c.verdict is not Verdict.UNCHANGED and c.case in sampled]
        for comparison in changed[:MOST_SAMPLES]:
            parts = ("compare", comparison.case.suite, comparison.case.model, comparison.case.compiler)
            file = unique(short_name("_".join(map(safe_name, parts))), taken)
            figure = case_figure(comparison, sampled[comparison.case])
            charts.append(Chart(name=file, title=str(comparison.case), **saved(figure)))
    return charts


def forest_figure(comparisons: Sequence[Comparison], tolerances: Mapping[str, ChangeTolerance]) -> Figure:
    """Draw every change with its interval, the most urgent at the top, over the margin and the threshold.

    A panel per metric, since a slower head has more latency and less speedup. Names stand above their bars, so that
    the picture is narrow enough for a telephone. tolerances: by metric.
    """
    shown = list(comparisons)[:MOST_ROWS]
    panels = [rows for metric in TIMED if (rows := [c for c in shown if c.metric == metric])]
    heights = [len(rows) + 1.0 for rows in panels]
    figure = Figure(figsize=(WIDTH, 0.9 + ROW_HEIGHT * sum(heights) + 0.15 * len(panels)), layout="constrained")
    all_axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, rows in zip(all_axes, panels, strict=True):
        tolerance = tolerances[rows[0].metric]
        low, high = _limits(rows, tolerance)
        threshold, margin = 1 + tolerance.threshold, 1 + tolerance.margin
        axes.axvspan(1 / threshold, threshold, color=PALE, alpha=0.15, linewidth=0, zorder=0.4)
        axes.axvline(1.0, color=INK, linewidth=0.8)
        for bound in (1 / margin, margin):
            axes.axvline(bound, color=INK, linewidth=0.8, linestyle=":")
        for row, comparison in enumerate(rows):
            ratio, colour = comparison.ratio or 1.0, COLOURS[comparison.verdict]
            ends = (comparison.low or ratio, comparison.high or ratio)
            axes.plot(ends, [row, row], color=colour, linewidth=1.8, solid_capstyle="butt")
            axes.plot([ratio], [row], "o", color=colour, markersize=4.5)
            label = one_line(name(comparison.case), limit=LABEL_LENGTH)
            axes.text(low, row - 0.36, f" {label}", va="center", color=INK, parse_math=False)
            at = (min(max(ends), high), row)
            axes.annotate(change(ratio), at, (5, 0), textcoords="offset points", va="center", color=colour)
        axes.set_yticks([])
        axes.set_ylim(len(rows) - 0.5, -0.8)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        log_axis(axes, "x", (low, high))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _label_tick(100 * (value - 1))))
        bounds = f"threshold {percent(tolerance.threshold)}, margin {percent(tolerance.margin)}"
        axes.set_xlabel(f"{_AXES[rows[0].metric]}\n{bounds}")
    hidden = len(comparisons) - len(shown)
    cut = f" ({hidden:,} more are not drawn)" if hidden else ""
    titled(figure, f"Head against base{cut}", _legend(shown), columns=3)
    return figure


def _label_tick(percent: float) -> str:
    return f"{percent:+,.0f} %" if percent >= 100 else f"{percent:+.3g} %".replace("+0 %", "0 %")


def _limits(comparisons: Sequence[Comparison], tolerance: ChangeTolerance) -> tuple[float, float]:
    """Choose limits as far as the points and the bounds go, and of the intervals what does not squeeze these together;
    with room for the numbers at the right ends."""
    far = max(abs(math.log(c.ratio or 1.0)) for c in comparisons)
    far = max(far, 1.3 * math.log1p(tolerance.threshold))
    wide = max((abs(math.log(end)) for c in comparisons for end in (c.low, c.high) if end), default=0.0)
    reach = 1.06 * min(max(far, wide), 2 * far)
    return math.exp(-reach), math.exp(1.25 * reach)


def _legend(comparisons: Sequence[Comparison]) -> list[Artist]:
    drawn = {comparison.verdict for comparison in comparisons}
    verdicts = [
        Line2D([], [], color=colour, marker="o", label=name_verdict(verdict, LATENCY))
        for verdict, colour in COLOURS.items()
        if verdict in drawn
    ]
    return [
        *verdicts,
        Patch(color=PALE, alpha=0.3, label="threshold"),
        Line2D([], [], color=INK, linestyle=":", linewidth=0.8, label="margin"),
    ]


def case_figure(comparison: Comparison, measured: Measured) -> Figure:
    """Draw the samples of one case, all launches one after the other."""
    pairs = [
        (base, head)
        for launch in measured.launches
        for base, head in zip(launch.base, launch.head, strict=True)
        if base > 0 and head > 0
    ]
    base, head = 1e3 * np.array(pairs, dtype=np.float64).T
    return arms_figure(
        f"{comparison.case}: {verdict_of(comparison)}",
        {"base": base, "head": head},
        ratios=head / base,
        ratio_name="head / base",
        estimate=(comparison.ratio, comparison.low, comparison.high),
    )
