"""The figures: speedups, the overview of a section, samples, cases over their parameters; and how they become files.

Matplotlib is used without its global state.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from torchperf_ci.core.frames import SuiteTables, sort_models
from torchperf_ci.core.records import Record, Testing
from torchperf_ci.core.text import one_line
from torchperf_ci.report.palette import BAD, GRID, INK, PALE, PALETTE, PAPER
from torchperf_ci.report.summary import CompilerSummary, name_compiler, read_interval
from torchperf_ci.report.words import format_interval, ratio

DOTS_PER_INCH = 110
DRAWN = (1e-6, 1e6)
"""Ratios beyond these are drawn at the edge: a file may hold any number."""

_STYLE: Any = {
    "svg.hashsalt": "torchperf-ci",  # the same figure gives the same file
    "svg.fonttype": "none",
    "figure.dpi": DOTS_PER_INCH,  # also for the layout, so that the PNG finds every text measured already
    "font.size": 9.0,
    "text.hinting": "none",  # an eighth of the time; at this size it shows nowhere
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw and save figures inside of this."""
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the font lacks some character of a name
        yield


def titled(figure: Figure, title: str, handles: Sequence[Artist], *, columns: int = 6) -> None:
    """Put a title at the upper left, and the legend in a line below it."""
    legend = figure.legend(
        handles=list(handles),
        loc="outside upper left",
        ncols=max(1, min(len(handles), columns)),
        title=" ",
        alignment="left",
        frameon=False,
        handlelength=1.2,
        columnspacing=1.4,
        borderpad=0.2,
    )
    text = legend.get_title()
    text.set_parse_math(False)
    text.set(text=one_line(title, limit=120), fontsize=11, fontweight="bold")


def log_axis(
    axes: Axes, which: Literal["x", "y"], limits: tuple[float, float], unit: str = "", *, ticks: int = 6
) -> None:
    """Make an axis logarithmic, with up to `ticks` marks at round numbers that read like `0.8x`, `1x`, `2x`."""
    low, high = limits
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(round_numbers(low, high, ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}{unit}"))


def saved(figure: Figure) -> dict[str, bytes]:
    """Save the figure as `svg` and `png`. It is laid out once for both: that is what takes the time."""
    FigureCanvasAgg(figure)
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)
        figure.set_layout_engine(None)
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 1})
    figure.savefig(svg, format="svg", metadata={"Date": None})
    return {"svg": svg.getvalue(), "png": png.getvalue()}


def round_numbers(low: float, high: float, most: int = 6) -> list[float]:
    """Choose some five round numbers: even steps in a narrow range, then halves of powers of 2, then powers of 2 or 10.

    Between `low` and `high`, about `most` of them at most; 1 is among the powers.
    """
    if high / low < 4:
        values = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        return [float(value) for value in values if low <= value <= high]
    base = 2.0 if high / low < 2**9 else 10.0
    exponents = range(math.ceil(math.log(low, base)), math.floor(math.log(high, base)) + 1)
    step = max(1, round(len(exponents) / most))
    powers = [base**power for power in range(exponents.start - 1, exponents.stop + 1) if power % step == 0]
    between = [1.5 * power for power in powers] if high / low < 2**4 else []
    return sorted(tick for tick in powers + between if low <= tick <= high)


PER_PANEL = 40
MOST_MODELS = 240
"""More than these are not drawn one by one; the best and the worst half of them are."""
LABEL_LENGTH = 30
LEAST_BAR, WIDE_BAR = 0.13, 0.32
"""Inches: a bar that has room for a number on its side, and for one that stands upright."""
RATIOS = ("speedup", "speedup_low", "speedup_high")
TURNED: Any = {"rotation": 40, "ha": "right", "va": "top", "rotation_mode": "anchor"}
FAILED: Any = {"marker": "x", "color": BAD, "linestyle": "none", "markersize": 5, "markeredgewidth": 1.4}
NOT_RUN: Any = {"marker": "o", "color": PALE, "linestyle": "none", "markersize": 4, "markerfacecolor": PAPER}

Values = np.ndarray[Any, np.dtype[np.float64]]


def draw_speedups(tables: SuiteTables, colours: Mapping[str, str]) -> Figure:
    """Speedup per model and compiler: bars from 1x on a logarithmic axis, with 95 % intervals where they are known."""
    models = list(sort_models(tables.values["speedup"]).index)
    hidden = max(0, len(models) - MOST_MODELS)
    if hidden:
        models = models[: MOST_MODELS // 2] + models[-(MOST_MODELS // 2) :]
    number = math.ceil(len(models) / PER_PANEL)
    size = math.ceil(len(models) / number)  # as few panels of equal size as hold them
    panels = [models[start : start + size] for start in range(0, len(models), size)]
    slots = len(panels[0]) * max(1.0, len(tables.compilers) / 4)
    figure = Figure(figsize=(min(14.0, max(6.5, 2.0 + 0.4 * slots)), 3.0 * len(panels) + 0.6), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    limits = _limits(tables)
    for panel, axis in zip(panels, axes, strict=True):
        _bars(axis, tables, panel, colours)
        _names(axis, panel)
        axis.set_xlim(-0.6, max(len(panels[0]), 3) - 0.4)
        _label_bars(axis, tables, panel, inches=(figure.get_figwidth() - 1.0) / max(len(panels[0]), 3))
        log_axis(axis, "y", limits, "x")
        axis.set_ylabel("speedup over eager")
    cut = f" ({hidden:,} models in the middle are not drawn)" if hidden else ""
    titled(figure, f"{tables.suite}: {tables.section}{cut}", _legend(tables, colours))
    return figure


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
        for at, look in ((middle[counted & ~passed], FAILED), (middle[~counted], NOT_RUN)):
            axis.plot(at, np.ones(len(at)), **look)
    axis.add_collection(LineCollection(ends, colors=INK, linewidths=0.8))


def _label_bars(axis: Axes, tables: SuiteTables, models: Sequence[str], *, inches: float) -> None:
    """Write every speedup beyond the end of its bar and interval, if bars are wide enough. inches: a model's room."""
    width = min(0.8 / len(tables.compilers), 0.5)
    if width * inches < LEAST_BAR:
        return
    first = -width * len(tables.compilers) / 2
    for place, compiler in enumerate(tables.compilers):
        values, low, high = (_column(tables, name, models, compiler) for name in RATIOS)
        for number, value in enumerate(values):
            if not value > 0:
                continue
            is_up = value >= 1
            end = np.nanmax([value, high[number]]) if is_up else np.nanmin([value, low[number]])
            axis.annotate(
                f"{value:.2f}",
                (number + first + (place + 0.46) * width, end),
                xytext=(0, 2 if is_up else -2),
                textcoords="offset points",
                ha="center",
                va="bottom" if is_up else "top",
                fontsize=7,
                rotation=0 if width * inches >= WIDE_BAR else 90,
            )


def _names(axis: Axes, models: Sequence[str]) -> None:
    """Draw the axes' lines, and the models below. Plain texts take a fifth less time for a chart than tick labels."""
    axis.axhline(1.0, color=INK, linewidth=0.8)
    axis.grid(axis="y", color=GRID, linewidth=0.6)
    axis.tick_params(length=0)
    axis.set_xticks([])
    below = axis.get_xaxis_transform()
    for place, name in enumerate(models):
        axis.text(place, -0.03, one_line(name, limit=LABEL_LENGTH), transform=below, parse_math=False, **TURNED)


def _legend(tables: SuiteTables, colours: Mapping[str, str]) -> list[Patch | Line2D]:
    handles: list[Patch | Line2D] = [
        Patch(color=colours[name], label=one_line(name_compiler(name, (tables,)))) for name in tables.compilers
    ]
    if (tables.counted & ~tables.passed).any(axis=None):
        handles.append(Line2D([], [], label="failed", **FAILED))
    if not tables.counted.all(axis=None):
        handles.append(Line2D([], [], label="could not run", **NOT_RUN))
    return handles


def _limits(tables: SuiteTables) -> tuple[float, float]:
    """Find the smallest and the largest speedup to show, with room around them."""
    known = np.concatenate([_column(tables, name, tables.models, one) for name in RATIOS for one in tables.compilers])
    low, high = np.nanmin([0.95, *known]), np.nanmax([1.05, *known])
    room = (high / low) ** 0.12
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


MOST_LINES = 60
"""More suites times compilers than these are not drawn."""

_BESIDE: Any = {"textcoords": "offset points", "xytext": (4, 0), "va": "center", "fontsize": 8}


def draw_overview(
    title: str, lines: Sequence[CompilerSummary], colours: Mapping[str, str], *, name: Callable[[str], str] = str
) -> Figure:
    """Draw a row per suite and compiler, in the order of `lines`. name: what a compiler is called."""
    hidden = max(0, len(lines) - MOST_LINES)
    shown = list(lines[:MOST_LINES])
    inks = [colours[line.compiler] for line in shown]
    # The last tick of one panel and the first of the other are neighbours, hence the room between them.
    layout = ConstrainedLayoutEngine(w_pad=0.2)
    figure = Figure(figsize=(9.0, 1.2 + 0.27 * len(shown)), layout=layout)
    rates, means = figure.subplots(1, 2, sharey=True)
    places = _places(shown)
    _rates(rates, shown, places, inks)
    _means(means, shown, places, inks)
    suites = len({line.suite for line in lines}) > 1
    labels = [one_line((f"{line.suite}  " if suites else "") + name(line.compiler), limit=48) for line in shown]
    rates.set_yticks(places, labels, parse_math=False)
    rates.invert_yaxis()
    for axes in (rates, means):
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    titled(figure, title + (f" ({hidden:,} lines are not drawn)" if hidden else ""), [])
    return figure


def _places(lines: Sequence[CompilerSummary]) -> list[float]:
    """Place the bars: one below the other, with a gap between suites."""
    suites = list(dict.fromkeys(line.suite for line in lines))
    return [number + 0.5 * suites.index(line.suite) for number, line in enumerate(lines)]


def _rates(axes: Axes, lines: Sequence[CompilerSummary], places: Sequence[float], inks: Sequence[str]) -> None:
    shares = [100 * line.passed / max(line.total, 1) for line in lines]
    axes.barh(list(places), shares, color=list(inks), height=0.7)
    axes.set_xlim(0, 118)
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
    axes.set_xlabel("models that pass")
    for place, share, line in zip(places, shares, lines, strict=True):
        axes.annotate(f"{line.passed}/{line.total}", (share, place), **_BESIDE)


def _means(axes: Axes, lines: Sequence[CompilerSummary], places: Sequence[float], inks: Sequence[str]) -> None:
    means = np.clip([line.geomean or 1.0 for line in lines], *DRAWN)
    axes.barh(list(places), means - 1, left=1, color=list(inks), height=0.7)
    ends = [line.interval or (mean, mean) for line, mean in zip(lines, means, strict=True)]
    intervals = np.clip(ends, *DRAWN)
    low, high = min(0.95, intervals.min(), means.min()), max(1.05, intervals.max(), means.max())
    room = high / low
    log_axis(axes, "x", (float(low / room**0.05), float(high * room**0.45)), "x")
    axes.axvline(1.0, color=INK, linewidth=0.8)
    axes.set_xlabel("geometric mean speedup over eager")
    axes.hlines(places, intervals[:, 0], intervals[:, 1], color=INK, linewidth=0.8)
    for place, mean, end, line in zip(places, means, intervals[:, 1], lines, strict=True):
        axes.annotate(f"{ratio(line.geomean)}{format_interval(line.interval)}", (max(mean, end, 1.0), place), **_BESIDE)


MOST_POINTS = 500
"""More pairs than these are drawn as evenly spaced ones."""
BINS = 31
COMPILED = PALETTE[0]


def draw_samples(record: Record) -> Figure:
    """Both arms in the order they were taken, and how the speedups of the pairs are spread."""
    eager, compiled = (1e3 * np.array(record.samples[arm], dtype=np.float64) for arm in ("eager", "compiled"))
    metrics = record.metrics
    return arms_figure(
        str(record.case),
        {"eager": eager, "compiled": compiled},
        ratios=eager / compiled,
        ratio_name="speedup",
        estimate=(metrics.get("speedup"), metrics.get("speedup_low"), metrics.get("speedup_high")),
    )


def arms_figure(
    title: str,
    arms: Mapping[str, Values],
    *,
    ratios: Values,
    ratio_name: str,
    estimate: tuple[float | None, float | None, float | None],
) -> Figure:
    """Both arms in the order they were taken, and how the ratios of the pairs are spread.

    arms: their times in ms per iteration, by name. ratios: of each pair. estimate: the ratio of all with the ends of
    its interval; absent ends are not drawn.
    """
    figure = Figure(figsize=(9.0, 3.0), layout="constrained")
    course, spread = figure.subplots(1, 2, width_ratios=[3, 2])
    _course(course, *arms.values())
    _spread(spread, ratios, ratio_name)
    colours = (PALE, COMPILED)
    legend: list[Artist] = [Patch(color=ink, label=name) for ink, name in zip(colours, arms, strict=True)]
    titled(figure, title, [*legend, *_interval(spread, ratio_name, *estimate)])
    return figure


def _course(axes: Axes, eager: Values, compiled: Values) -> None:
    step = max(1, math.ceil(len(eager) / MOST_POINTS))
    at = np.arange(len(eager))[::step]
    axes.plot(at, eager[::step], "o", color=PALE, markersize=3)
    axes.plot(at, compiled[::step], "o", color=COMPILED, markersize=3)
    low, high = (float(function([*eager, *compiled])) for function in (min, max))
    log_axis(axes, "y", (low * 0.97, high * 1.03))
    axes.set(xlabel="pair, in the order taken", ylabel="ms per iteration")


def _spread(axes: Axes, ratios: Values, name: str) -> None:
    """Draw a histogram; what is beyond the middle 98 % stands in its first and last bar."""
    low, high = np.quantile(ratios, [0.01, 0.99])
    edges = np.geomspace(low * 0.98, high * 1.02, BINS + 1)
    axes.hist(np.clip(ratios, edges[0], edges[-1]), bins=list(edges), color=COMPILED)
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
    log_axis(axes, "x", (float(edges[0]), float(edges[-1])), "x", ticks=4)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set(xlabel=f"{name} of a pair", ylabel="pairs")


def _interval(axes: Axes, name: str, value: float | None, low: float | None, high: float | None) -> list[Artist]:
    """Draw the estimate, and its interval as a band; what the legend says about them."""
    if value is None or low is None or high is None:
        return []
    axes.axvspan(low, high, color=BAD, alpha=0.2, linewidth=0, zorder=0.5)
    axes.axvline(value, color=BAD, linewidth=1.2)
    return [Line2D([], [], color=BAD, label=name), Patch(color=BAD, alpha=0.2, label="its 95 % interval")]


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
