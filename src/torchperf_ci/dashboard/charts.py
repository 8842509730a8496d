"""The charts of a dashboard: which there are, and those over time; and where their pictures can be seen."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.frames import Section
from torchperf_ci.core.text import one_line, safe_name, unique
from torchperf_ci.dashboard.model import Dashboard
from torchperf_ci.dashboard.regressions import TRENDS, Trend, explain_number, write_number
from torchperf_ci.report.charts import Charts
from torchperf_ci.report.palette import GRID, colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure


WIDTH, PANEL_HEIGHT, LABEL_HEIGHT = 4.0, 1.7, 0.15
"""Inches: of a picture, of a panel in it at least, and of a label at the end of a line."""
LETTERS = 68
"""Of a line of text below a picture."""
DOTS_PER_INCH = 200
"""Twice what a comment shows a picture at: sharp where pixels are small."""


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
            means = explain_number(name, include_slowdowns=dashboard.findings.options.include_slowdowns)
            figure = draw_over_time(TRENDS[name], f"{section}; {means}", trends, times, inks)
            pictures[file] = saved(figure)["png"]
    return pictures


def draw_over_time(
    title: str, caption: str, trends: Sequence[Trend], times: Sequence[datetime], inks: Mapping[str, str]
) -> Figure:
    """Draw one number over time, with a caption below. `trends` have an element per time; None leaves a gap.

    A panel per suite below each other, and the names at the ends of the lines: the picture can be read at the width of
    a phone, where a legend and panels side by side cannot.
    """
    from matplotlib.figure import Figure

    by_suite: dict[str, list[Trend]] = {}
    for trend in trends:
        by_suite.setdefault(trend.suite, []).append(trend)
    heights = [max(PANEL_HEIGHT, LABEL_HEIGHT * len(of_suite) + 0.5) for of_suite in by_suite.values()]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.6), dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(title, fontsize=10, fontweight="bold", x=0.02, ha="left")
    figure.supxlabel(fill(one_line(caption), LETTERS), fontsize=8, x=0.02, ha="left", parse_math=False)
    panels = figure.subplots(len(by_suite), 1, squeeze=False, height_ratios=heights).flat
    for axes, height, (suite, of_suite) in zip(panels, heights, by_suite.items(), strict=True):
        _draw_panel(axes, height, suite, of_suite, times, inks)
    return figure


def _draw_panel(
    axes: Any,  # noqa: ANN401 - matplotlib's annotations know no dates
    height: float,
    suite: str,
    trends: Sequence[Trend],
    times: Sequence[datetime],
    inks: Mapping[str, str],
) -> None:
    from matplotlib import dates

    typed: Any = dates  # its functions have no annotations
    for trend in trends:
        values = [float("nan") if value is None else value for value in trend.values]
        axes.plot(times, values, color=inks[trend.compiler], marker="o", markersize=3, linewidth=1.4)
    axes.set_title(one_line(suite, limit=40), fontsize=9, loc="left", parse_math=False)
    room = max((times[-1] - times[0]) * 0.03, timedelta(hours=6))
    axes.set_xlim(times[0] - room, times[-1] + room)
    locator = typed.AutoDateLocator(minticks=2, maxticks=4)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(typed.ConciseDateFormatter(locator))
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.tick_params(length=0, labelsize=8)
    if trends[0].name == "passrate":
        axes.set_ylim(bottom=min(0.0, *axes.get_ylim()), top=105)
    else:
        axes.margins(y=0.2)
    low, high = axes.get_ylim()
    known = [(trend.compiler, value) for trend in trends if (value := trend.newest_known) is not None]
    known.sort(key=lambda item: item[1])
    places = spread_labels([(value - low) / (high - low) for _, value in known], gap=LABEL_HEIGHT / (height - 0.45))
    for (compiler, value), place in zip(known, places, strict=True):
        end = (value - low) / (high - low)
        axes.plot(
            [1.0, 1.03], [end, place], color=inks[compiler], linewidth=1.4, transform=axes.transAxes, clip_on=False
        )
        text = f"{one_line(compiler, limit=24)} {write_number(trends[0].name, value)}"
        axes.text(1.04, place, text, fontsize=8, va="center", transform=axes.transAxes, parse_math=False)


def spread_labels(wanted: Sequence[float], *, gap: float) -> list[float]:
    """Move labels apart that would cover each other; `wanted` are heights from the lowest up, in shares of the panel.

    They are pushed up one after the other, and then all of them down, as far as they stand out at the top.
    """
    places: list[float] = []
    for height in wanted:
        places.append(max(height, places[-1] + gap) if places else height)
    limit = 1.0
    for number in reversed(range(len(places))):
        places[number] = min(places[number], limit)
        limit = places[number] - gap
    return places


TIMEOUT_S = 120


def upload_by_command(command: str, pictures: Sequence[Path]) -> tuple[dict[str, str], list[str]]:
    """Run `command FILE`, without a shell, for every picture; its one line of output is the address.

    Return the addresses by file name, and a sentence for every picture whose command fails or prints anything else.
    Raises `UsageProblem` when the command cannot be started at all.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageProblem(f"--image-uploader {command!r} cannot be split into words: {error}") from error
    if not words:
        raise UsageProblem("--image-uploader is blank")
    urls: dict[str, str] = {}
    problems: list[str] = []
    for picture in pictures:
        try:
            urls[picture.name] = _upload(words, picture)
        except ValueError as error:
            problems.append(f"--image-uploader: {picture.name} has no address: {error}")
    return urls, problems


def _upload(words: Sequence[str], picture: Path) -> str:
    """Upload one picture and return its address. Raises `ValueError` saying why there is none."""
    try:
        done = subprocess.run(
            [*words, str(picture)], capture_output=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"no answer within {TIMEOUT_S} s") from error
    except OSError as error:
        raise UsageProblem(f"--image-uploader: {words[0]} cannot be started ({error.strerror})") from error
    if done.returncode:
        why = one_line(done.stderr.decode(errors="replace"), limit=200)
        raise ValueError(f"the command ended with {done.returncode}{f': {why}' if why else ''}")
    address = done.stdout.decode(errors="replace").strip()
    parts = urlsplit(address)
    # Nothing in it may mean anything else in Markdown.
    is_tame = address.isascii() and address.isprintable() and not set(address) & set(" ()<>\"'\\|`")
    if not (is_tame and parts.scheme in {"http", "https"} and parts.hostname):
        raise ValueError(f"the command printed {one_line(address, limit=80)!r}, expected one line with a URL")
    return address
