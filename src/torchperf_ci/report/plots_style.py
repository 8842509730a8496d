"""How the charts look, and how a figure becomes a file."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from torchperf_ci.core.text import one_line
from torchperf_ci.report.colours import GRID, INK

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


def titled(figure: Figure, title: str, handles: Sequence[Artist]) -> None:
    """A title at the upper left, and the legend in a line below it."""
    legend = figure.legend(
        handles=list(handles),
        loc="outside upper left",
        ncols=max(1, min(len(handles), 6)),
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


def log_axis(axes: Axes, which: Literal["x", "y"], limits: tuple[float, float], unit: str = "") -> None:
    """Make an axis logarithmic, with ticks at round numbers that read like `0.8x`, `1x`, `2x`."""
    low, high = limits
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}{unit}"))


def saved(figure: Figure) -> dict[str, bytes]:
    """The figure as a file of each kind: `svg` and `png`. It is laid out once for both: that is what takes the time."""
    FigureCanvasAgg(figure)
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)
        figure.set_layout_engine(None)
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 1})
    figure.savefig(svg, format="svg", metadata={"Date": None})
    return {"svg": svg.getvalue(), "png": png.getvalue()}


def _ticks(low: float, high: float) -> list[float]:
    """Some five round numbers: even steps in a narrow range, then halves of powers of 2, then powers of 2 or 10."""
    if high / low < 4:
        return [float(tick) for tick in MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if tick > 0]
    base = 2.0 if high / low < 2**9 else 10.0
    powers = [base**power for power in range(math.floor(math.log(low, base)), math.ceil(math.log(high, base)) + 1)]
    between = [1.5 * power for power in powers] if high / low < 2**4 else []
    return sorted(tick for tick in powers + between if low <= tick <= high)
