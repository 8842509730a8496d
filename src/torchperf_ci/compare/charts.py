"""The charts of a comparison: all ratios with their intervals, and the samples of the cases that changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from torchperf_ci.compare.effects import ChangeTolerance, Verdict
from torchperf_ci.compare.model import LATENCY, TIMED, Comparison, ComparisonFindings, Measured
from torchperf_ci.compare.words import name, ordered, percent
from torchperf_ci.core.text import one_line, safe_name, short_name, unique
from torchperf_ci.report.palette import BAD, GRID, INK, PALE, PALETTE
from torchperf_ci.report.plots import Arms, arms_figure, log_axis, saved, style, titled

MOST_ROWS = 80
"""Of more cases than these only the most urgent are drawn."""
MOST_SAMPLES = 12
LABEL_LENGTH = 48

COLOURS = {
    Verdict.REGRESSED: BAD,
    Verdict.IMPROVED: PALETTE[2],
    Verdict.UNCHANGED: PALETTE[0],
    Verdict.INCONCLUSIVE: PALETTE[1],
}
"""The verdicts that have a ratio."""


def comparison_charts(findings: ComparisonFindings) -> Iterator[tuple[str, bytes]]:
    """File names and contents: `compare.svg` and `.png`, and a pair per case that changed or is open."""
    timed = [c for c in ordered(findings.comparisons) if c.metric in TIMED and c.ratio and c.verdict in COLOURS]
    if not timed:
        return
    taken = {"compare"}
    measured = {item.case: item for item in findings.measured}
    with style():
        yield from _files("compare", forest_figure(timed, findings.header.tolerances.latency))
        changed = [c for c in timed if c.verdict is not Verdict.UNCHANGED and _samples(measured.get(c.case))]
        for comparison in changed[:MOST_SAMPLES]:
            parts = ("compare", comparison.case.suite, comparison.case.model, comparison.case.compiler)
            file = unique(short_name("_".join(map(safe_name, parts))), taken)
            yield from _files(file, case_figure(comparison, measured[comparison.case]))


def _files(stem: str, figure: Figure) -> Iterator[tuple[str, bytes]]:
    for ending, content in saved(figure).items():
        yield f"{stem}.{ending}", content


def _samples(measured: Measured | None) -> bool:
    return measured is not None and any(len(launch.base) > 1 for launch in measured.launches)


def forest_figure(comparisons: Sequence[Comparison], tolerance: ChangeTolerance) -> Figure:
    """Every ratio head / base with its interval, the most urgent at the top, over the margin and the threshold."""
    shown = list(comparisons)[:MOST_ROWS]
    figure = Figure(figsize=(9.0, 1.6 + 0.24 * len(shown)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(shown), dtype=np.float64)
    _bounds(axes, tolerance)
    for row, comparison in zip(rows, shown, strict=True):
        _row(axes, float(row), comparison)
    axes.set_yticks(rows, [_label(comparison) for comparison in shown], parse_math=False)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    log_axis(axes, "x", _limits(shown, tolerance), "x")
    axes.set_xlabel("head / base")
    hidden = len(comparisons) - len(shown)
    cut = f" ({hidden:,} more are not drawn)" if hidden else ""
    titled(figure, f"Head against base{cut}", _legend(shown, tolerance))
    return figure


def _label(comparison: Comparison) -> str:
    metric = "" if comparison.metric == LATENCY else f" {comparison.metric}"
    return one_line(name(comparison.case), limit=LABEL_LENGTH) + metric


def _bounds(axes: Axes, tolerance: ChangeTolerance) -> None:
    threshold, margin = 1 + tolerance.threshold, 1 + tolerance.margin
    axes.axvspan(1 / threshold, threshold, color=PALE, alpha=0.15, linewidth=0, zorder=0.4)
    axes.axvline(1.0, color=INK, linewidth=0.8)
    for bound in (1 / margin, margin):
        axes.axvline(bound, color=INK, linewidth=0.8, linestyle=":")


def _row(axes: Axes, row: float, comparison: Comparison) -> None:
    colour = COLOURS[comparison.verdict]
    if comparison.low is not None and comparison.high is not None:
        axes.plot([comparison.low, comparison.high], [row, row], color=colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot([comparison.ratio or 1.0], [row], "o", color=colour, markersize=4.5)


def _limits(comparisons: Sequence[Comparison], tolerance: ChangeTolerance) -> tuple[float, float]:
    """As far as the points and the bounds go, and of the intervals what does not squeeze these together."""
    ratios = [c.ratio for c in comparisons if c.ratio]
    far = max(abs(math.log(ratio)) for ratio in [*ratios, (1 + tolerance.threshold) ** 1.3])
    ends = [end for c in comparisons for end in (c.low, c.high) if end]
    wide = max([abs(math.log(end)) for end in ends], default=0.0)
    reach = math.exp(1.06 * min(max(far, wide), 2 * far))
    return 1 / reach, reach


def _legend(comparisons: Sequence[Comparison], tolerance: ChangeTolerance) -> list[Artist]:
    found = {comparison.verdict for comparison in comparisons}
    return [
        *(
            Line2D([], [], color=colour, marker="o", label=str(verdict))
            for verdict, colour in COLOURS.items()
            if verdict in found
        ),
        Patch(color=PALE, alpha=0.3, label=f"within {percent(tolerance.threshold)}"),
        Line2D([], [], color=INK, linestyle=":", linewidth=0.8, label=f"margin {percent(tolerance.margin)}"),
    ]


def case_figure(comparison: Comparison, measured: Measured) -> Figure:
    """The samples of one case, all launches one after the other."""
    pairs = [
        (base, head)
        for launch in measured.launches
        for base, head in zip(launch.base, launch.head, strict=True)
        if base > 0 and head > 0
    ]
    base, head = 1e3 * np.array(pairs, dtype=np.float64).T
    return arms_figure(
        Arms(
            title=f"{comparison.case}: {comparison.verdict}",
            names=("base", "head"),
            times=(base, head),
            ratios=head / base,
            ratio_name="head / base",
            estimate=(comparison.ratio, comparison.low, comparison.high),
        )
    )
