"""report.html: one page that needs no network, with everything the report has."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from torchperf_ci.core.frames import ACCURACY, MISSING, Cell, SuiteTables, model_rows
from torchperf_ci.core.records import Record, Testing
from torchperf_ci.core.text import one_line
from torchperf_ci.report import summary
from torchperf_ci.report.charts import Chart, Charts
from torchperf_ci.report.gh_parts import Part, build_summary
from torchperf_ci.report.model import RunFindings
from torchperf_ci.report.palette import GRID, INK, PALE, PAPER
from torchperf_ci.report.summary import Failure, Flag
from torchperf_ci.report.words import ABSENT, fixed, flag_text, metric_title, own_names, percent, setting, verdict

LONG = 40
"""Texts of more characters are broken into lines of a width of their own, also on a phone; shorter ones never are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    title: str
    numeric: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRow:
    """`cells` is what stands between `<tr>` and `</tr>`. `bad`: something in it failed."""

    cells: Markup
    bad: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    columns: tuple[Column, ...]
    lines: tuple[GridRow, ...]


def grid(titles: Sequence[str], lines: Iterable[tuple[bool, Sequence[str]]]) -> Grid:
    """A table without its empty columns. Titles that begin with `#` are of numbers; lines are `bad` and their cells."""
    held = list(lines)
    kept = [place for place in range(len(titles)) if any(cells[place] not in _EMPTY for _, cells in held)]
    return Grid(
        columns=tuple(_column(titles[place]) for place in kept),
        lines=tuple(_row([cells[place] for place in kept], bad=bad) for bad, cells in held),
    )


def text(value: str) -> str:
    if not value:
        return _EMPTY[0]
    shown = one_line(value)
    kind = ' class="l"' if len(shown) > LONG else ""
    return f"<td{kind}>{escape(shown)}</td>"


def number(value: str, remark: str = "") -> str:
    """A number that is text already, with something smaller behind it."""
    small = f" <small>{escape(remark)}</small>" if remark else ""
    return f'<td class="n">{escape(value)}{small}</td>'


def decimals(value: float | None, digits: int, unit: str = "") -> str:
    return _EMPTY[1] if value is None else number(f"{fixed(value, digits)}{unit}")


def whole(value: int) -> str:
    """A count; nothing for 0."""
    return number(f"{value:,}") if value else _EMPTY[1]


def bad_word(value: str) -> str:
    """The word for a failure, in a column of numbers."""
    return f'<td class="n"><b>{escape(one_line(value))}</b></td>'


def _column(title: str) -> Column:
    return Column(title=one_line(title.removeprefix("#")), numeric=title.startswith("#"))


def _row(cells: Sequence[str], *, bad: bool) -> GridRow:
    return GridRow(cells=Markup("".join(cells)), bad=bad)  # noqa: S704 - made by the functions above, which escape


_EMPTY = (f"<td>{ABSENT}</td>", f'<td class="n">{ABSENT}</td>')


TONES = {"✅": ("passed", "✓"), "❌": ("failed", "✗")}
"""The verdict's class and its sign: a letter that every font has, where Markdown has an emoji."""
_UNUSED = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
_SIZE = re.compile(r'width="([0-9.]+)pt" height="[0-9.]+pt"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The executive summary of one section."""

    title: str
    grid: Grid
    chart: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class SuitePage:
    """One suite in one section: `compared` has a column per compiler, `cases` every measurement of every case."""

    name: str
    section: str
    chart: Markup
    title: str
    compared: Grid
    cases: Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that the template shows."""

    sign: str
    verdict: str
    tone: str
    setting: Sequence[str]
    failed: Grid
    summaries: Sequence[Summary]
    problems: Sequence[str]
    notes: Sequence[str]
    remarks: Grid
    warnings: Grid
    samples: Sequence[Markup]
    left_out: Grid
    suites: Sequence[SuitePage]
    build: Sequence[Part]


def html_page(findings: RunFindings, charts: Charts) -> str:
    """Render report.html."""
    return render_page(read_template(__package__, "report.html"), _page(findings, charts))


def render_page(template: str, page: object) -> str:
    """Render a page that needs no network: a template that extends `frame.html` and may use `pieces.html`.

    page: what the template shows; the frame needs its `sign`, `verdict`, `tone` and `setting`.
    """
    loader = FunctionLoader(lambda name: read_template(__package__, name))
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=loader)
    script = read_template(__package__, "report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(template).render(
        page=page,
        style=read_template(__package__, "report.css"),
        script=script,
        script_hash=f"sha256-{digest}",
    )


def _page(findings: RunFindings, charts: Charts) -> Page:
    sign, sentence = verdict(findings)
    tone, letter = TONES.get(sign, ("unsure", "!"))
    return Page(
        sign=letter,
        verdict=sentence,
        tone=tone,
        setting=[one_line(part) for part in setting(findings)],
        failed=_failures(findings, counts=True),
        summaries=[
            Summary(title=one_line(str(section)), grid=_summary(findings.lines_of(section)), chart=inline_chart(chart))
            for section, chart in zip(findings.sections, charts.overviews, strict=True)
        ],
        problems=[one_line(str(problem)) for problem in findings.problems],
        notes=[one_line(note) for note in findings.notes],
        remarks=_remarks(findings),
        warnings=_warnings(findings),
        samples=[inline_chart(chart) for chart in charts.samples],
        left_out=_failures(findings, counts=False),
        suites=[
            SuitePage(
                name=one_line(tables.suite),
                section=one_line(str(tables.section)),
                chart=inline_chart(charts.speedups.get((tables.section, tables.suite))),
                title=one_line(metric_title(_shown_metric(tables), tables.metrics)),
                compared=_compared(tables),
                cases=_cases(tables),
            )
            for tables in findings.tables
        ],
        build=build_summary(findings),
    )


def _failures(findings: RunFindings, *, counts: bool) -> Grid:
    return grid(
        ("Suite", "Model", "Compiler", "Section", "Testing", "Status", "Reason", "Log"),
        (
            (
                counts,
                (
                    *_where(findings, failure),
                    *map(text, (failure.testing.value, failure.status, failure.reason, failure.log)),
                ),
            )
            for failure in findings.failures
            if failure.counts is counts
        ),
    )


def _warnings(findings: RunFindings) -> Grid:
    flagged = [flag for flag in findings.flags if flag.value is not None]
    lines = ((False, (*_where(findings, flag), text(flag_text(flag)))) for flag in flagged)
    return grid(("Suite", "Model", "Compiler", "Section", "What"), lines)


def _remarks(findings: RunFindings) -> Grid:
    lines = ((False, (*_where(findings, remark), text("; ".join(remark.texts)))) for remark in findings.remarks)
    return grid(("Suite", "Model", "Compiler", "Section", "Remark"), lines)


def _where(findings: RunFindings, item: Failure | Flag | summary.Remark) -> tuple[str, ...]:
    """Suite, model, compiler and section; the last is blank where there is only one."""
    section = str(item.section) if len(findings.sections) > 1 else ""
    return tuple(map(text, (item.suite, item.model, item.compiler, section)))


def _summary(lines: Sequence[summary.CompilerSummary]) -> Grid:
    titles = ("Compiler", "Suite", "#Passed", "#Not compiled", "#Missing", "#Left out", "#Geomean speedup")
    return grid(
        (*titles, "#Geomean, slowdowns as 1x", "#Mean compile time", "#Memory compression"),
        (
            (
                line.passed < line.total,
                (
                    text(line.compiler),
                    text(line.suite),
                    number(percent(line), f"{line.passed:,}/{line.total:,}"),
                    whole(line.not_compiled),
                    whole(line.missing),
                    whole(line.left_out),
                    decimals(line.geomean, 2, "x"),
                    decimals(line.clipped, 2, "x"),
                    decimals(line.compile_seconds, 1, " s"),
                    decimals(line.compression, 2, "x"),
                ),
            )
            for line in lines
        ),
    )


def _shown_metric(tables: SuiteTables) -> str:
    """What the table with a column per compiler shows: speedups, or the next best thing that was measured."""
    names = ("speedup", "abs_latency", *own_names(tables))
    measured = (name for name in names if tables.values[name].notna().any(axis=None))
    return next(measured, ACCURACY if Testing.ACCURACY in tables.statuses else "speedup")


def _compared(tables: SuiteTables) -> Grid:
    metric = _shown_metric(tables)
    lines = (
        (
            row.failed,
            (
                text(row.model),
                whole(row.batch_size),
                *(
                    _value(tables, metric, row.model, name, cell)
                    for name, cell in zip(tables.compilers, row.cells, strict=True)
                ),
            ),
        )
        for row in model_rows(tables, metric)
    )
    return grid(("Model", "#Batch size", *(f"#{name}" for name in tables.compilers)), lines)


def _value(tables: SuiteTables, metric: str, model: str, compiler: str, cell: Cell) -> str:
    """A number, a speedup with its interval; in words what else there is to say about a case that failed."""
    if not cell.measured:
        return number(cell.status) if cell.passed or not cell.counted else bad_word(cell.status)
    value = fixed(cell.value, 3) + ("x" if metric == "speedup" else "")
    if cell.counted and not cell.passed:
        accuracy = tables.records.get((Testing.ACCURACY, model, compiler))
        return number(value, accuracy.status.value if accuracy else MISSING)
    return number(value, _interval(tables.records[Testing.PERFORMANCE, model, compiler]))


def _interval(record: Record) -> str:
    low, high = (record.metrics.get(name) for name in ("speedup_low", "speedup_high"))
    return f"{fixed(low, 3)}–{fixed(high, 3)}" if low is not None and high is not None else ""


def _cases(tables: SuiteTables) -> Grid:
    titles = ("Model", "Compiler", "#Batch size", "Accuracy", "Performance", "#Speedup", "#Compiled ms", "#Eager ms")
    remarks = {(item.model, item.compiler): item.texts for item in summary.list_remarks(tables)}
    judged = zip(tables.models, tables.counted.to_numpy(), tables.passed.to_numpy(), strict=True)
    lines = (
        (bool(counts and not passes), _case(tables, model, compiler, remarks))
        for model, counted, passed in judged
        for compiler, counts, passes in zip(tables.compilers, counted, passed, strict=True)
    )
    own = [f"#{one_line(tables.metrics[name].title)}" for name in own_names(tables)]
    columns = (*titles, "#Compile s", "#Memory compression", "#Graph breaks", "#Recompiles", *own, "Remarks")
    return grid(columns, lines)


def _case(
    tables: SuiteTables, model: str, compiler: str, remarks: Mapping[tuple[str, str], Sequence[str]]
) -> tuple[str, ...]:
    records = [tables.records.get((testing, model, compiler)) for testing in Testing]
    words = [record.status.value if record else MISSING for record in records]
    known = [record for record in records if record]
    metrics = {name: value for record in known for name, value in record.metrics.items()}
    counters = {name: value for record in known for name, value in record.counters.items()}
    return (
        text(model),
        text(compiler),
        whole(max((record.batch_size for record in known), default=0)),
        *(text(word if testing in tables.statuses else "") for testing, word in zip(Testing, words, strict=True)),
        decimals(metrics.get("speedup"), 3, "x"),
        decimals(metrics.get("abs_latency"), 3),
        decimals(metrics.get("eager_latency"), 3),
        decimals(metrics.get("compilation_latency"), 1),
        decimals(metrics.get("compression_ratio"), 3, "x"),
        whole(counters.get("graph_breaks", 0)),
        whole(counters.get("recompiles", 0)),
        *(decimals(metrics.get(name), 3) for name in own_names(tables)),
        text("; ".join(remarks.get((model, compiler), ()))),
    )


def inline_chart(chart: Chart | None) -> Markup:
    """Make an element of the chart that scales with the page and takes on its colours."""
    if chart is None:
        return Markup()
    svg = _UNUSED.sub("", chart.svg.decode())
    svg = svg[svg.index("<svg") :]
    svg = _SIZE.sub(lambda found: f'style="width: {float(found[1]) / 0.75:.0f}px"', svg, count=1)
    for ours, its in ((INK, "var(--ink)"), (GRID, "var(--grid)"), (PALE, "var(--pale)"), (PAPER, "none")):
        svg = svg.replace(ours, its)
    label = escape(f"Chart: {one_line(chart.title)}")
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))  # noqa: S704 - matplotlib escapes


def read_template(package: str, name: str) -> str:
    """Read a template of a room, by the room's dotted name."""
    return (resources.files(package) / "templates" / name).read_text(encoding="utf-8")
