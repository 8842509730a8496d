"""report.html: one page that needs no network, with everything the report has."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from urllib.parse import quote

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from torchperf_ci.core.frames import ACCURACY, MISSING, Cell, SuiteTables, model_rows
from torchperf_ci.core.records import METRICS, Record, Testing
from torchperf_ci.core.text import ABSENT, one_line
from torchperf_ci.report import summary
from torchperf_ci.report.charts import Chart, Charts
from torchperf_ci.report.gh_parts import FLAGS_TITLE, list_build
from torchperf_ci.report.model import RunFindings
from torchperf_ci.report.palette import GRID, INK, PALE, PAPER
from torchperf_ci.report.summary import Failure, Flag
from torchperf_ci.report.words import (
    NO_INTERVALS,
    describe_benefit,
    describe_flag,
    describe_means,
    describe_setting,
    format_count,
    format_number,
    format_pass_rate,
    format_value,
    has_intervals,
    list_counted,
    list_own_metrics,
    verdict,
    write_title,
)

_BREAKABLE = re.compile(r"([_/]|[.,](?!\d))(?=\w)")
"""Where a long name may be broken into lines; a number never is."""
LONG = 40
"""Texts of more characters are broken into lines of a width of their own, also on a phone; shorter ones never are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table. columns: their titles, and whether they hold numbers. lines: what stands between `<tr>` and `</tr>`, and
    whether something in it failed."""

    columns: tuple[tuple[str, bool], ...]
    lines: tuple[tuple[Markup, bool], ...]


def grid(titles: Sequence[str], lines: Iterable[tuple[bool, Sequence[str]]]) -> Grid:
    """Make a table without its empty columns.

    Titles that begin with `#` are of numbers; lines say whether something in them failed, then their cells, which the
    functions below make, and escape.
    """
    held = list(lines)
    kept = [place for place in range(len(titles)) if any(cells[place] not in _EMPTY for _, cells in held)]
    return Grid(
        columns=tuple((one_line(titles[place].removeprefix("#")), titles[place].startswith("#")) for place in kept),
        lines=tuple((Markup("".join(cells[place] for place in kept)), failed) for failed, cells in held),  # noqa: S704
    )


def text(value: str) -> str:
    """Write a cell of text."""
    if not value:
        return _EMPTY[0]
    shown = one_line(value)
    kind = ' class="l"' if len(shown) > LONG else ""
    breakable = _BREAKABLE.sub(lambda sign: f"{sign[0]}<wbr>", str(escape(shown)))
    return f"<td{kind}>{breakable}</td>"


def link(path: str, files: Collection[str]) -> str:
    """Write a cell with a link to a file beside the page; with the path of one that is not there."""
    if path not in files:
        return text(path)
    return f'<td><a href="{escape(quote(path))}">{escape(path.rpartition(".")[2] or path)}</a></td>'


def number(value: str, remark: str = "") -> str:
    """Write a cell with a number that is text already, and something smaller behind it."""
    small = f" <small>{escape(remark)}</small>" if remark else ""
    return f'<td class="n">{escape(value)}{small}</td>'


def decimals(value: float | None, digits: int, unit: str = "") -> str:
    return _EMPTY[1] if value is None else number(f"{format_number(value, digits)}{unit}")


def whole(value: int) -> str:
    """Write a cell with a count; with nothing for 0."""
    return number(f"{value:,}") if value else _EMPTY[1]


def bad_word(value: str) -> str:
    """Write a cell with the word for a failure, in a column of numbers."""
    return f'<td class="n"><b>{escape(one_line(value))}</b></td>'


_EMPTY = (f"<td>{ABSENT}</td>", f'<td class="n">{ABSENT}</td>')


TONES = {"✅": ("passed", "✓"), "❌": ("failed", "✗")}
"""The verdict's class and its sign: a letter that every font has, where Markdown has an emoji."""
_UNUSED = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
_SIZE = re.compile(r'width="([0-9.]+)pt" height="[0-9.]+pt"')


def write_page(findings: RunFindings, charts: Charts, *, files: Collection[str] = ()) -> str:
    """Write report.html. files: those beside it that it may link to."""
    sign, sentence = verdict(findings)
    tone, letter = TONES.get(sign, ("unsure", "!"))
    build = dict(list_build(findings))
    flags = build.pop(FLAGS_TITLE)
    several = len(findings.sections) > 1
    page = {
        "sign": letter,
        "verdict": sentence,
        "tone": tone,
        "setting": [one_line(part) for part in describe_setting(findings)],
        "benefits": [
            (
                one_line(findings.name_of(each.compiler) + (f" ({each.section})" if several else "")),
                describe_benefit(each),
            )
            for each in findings.benefits
        ],
        "failed": _failures(findings, files, counts=True),
        "summaries": [
            {
                "title": one_line(str(section)),
                "grid": _summary(findings, findings.lines_of(section)),
                "note": describe_means(findings.lines_of(section)),
                "chart": inline_chart(chart),
            }
            for section, chart in zip(findings.sections, charts.overviews, strict=True)
        ],
        "problems": [one_line(str(problem)) for problem in findings.problems],
        "notes": [one_line(note) for note in findings.notes],
        "remarks": _list_cases(findings, "Remark", ((each, "; ".join(each.texts)) for each in findings.remarks)),
        "warnings": _list_cases(
            findings, "Beyond a limit", ((each, describe_flag(each)) for each in findings.warnings)
        ),
        "samples": [inline_chart(chart) for chart in charts.samples],
        "not_run": _failures(findings, files, counts=False),
        "breaks": _breaks(findings),
        "suites": [
            {
                "name": one_line(tables.suite),
                "section": one_line(str(tables.section)),
                "chart": inline_chart(charts.speedups.get((tables.section, tables.suite))),
                "parameters": inline_chart(charts.parameters.get((tables.section, tables.suite))),
                "title": one_line(write_title(_shown_metric(tables), tables)),
                "note": "95 % intervals" if has_intervals(tables) else NO_INTERVALS,
                "compared": _compared(tables),  # a column per compiler
                "cases": _cases(tables, files),  # every measurement of every case
            }
            for tables in findings.tables
        ],
        "build": list(build.items()),
        "flags": flags,
    }
    return render_page(read_template(__package__, "report.html"), page)


def render_page(template: str, page: Mapping[str, object]) -> str:
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


def _failures(findings: RunFindings, files: Collection[str], *, counts: bool) -> Grid:
    return grid(
        ("Model", "Status", "Reason", "Compiler", "Testing", "Suite", "Section", "Log"),
        (
            (
                counts,
                (
                    *map(text, (item.model, item.status, item.reason)),
                    text(findings.name_of(item.compiler)),
                    text(item.testing.value),
                    *_place(findings, item),
                    link(item.log, files),
                ),
            )
            for item in findings.failures
            if item.counts is counts
        ),
    )


def _list_cases(findings: RunFindings, column: str, items: Iterable[tuple[Flag | summary.Remark, str]]) -> Grid:
    """List single cases with what there is to say about each."""
    lines = (
        (False, (text(item.model), text(findings.name_of(item.compiler)), text(said), *_place(findings, item)))
        for item, said in items
    )
    return grid(("Model", "Compiler", column, "Suite", "Section"), lines)


def _breaks(findings: RunFindings) -> Grid:
    lines = (
        (
            False,
            (
                *map(text, (item.reason, item.place)),
                number(f"{len(item.models):,}", item.models[0] if len(item.models) == 1 else ""),
                text(findings.name_of(item.compiler)),
                *_place(findings, item),
            ),
        )
        for item in findings.breaks
    )
    return grid(("Reason", "Where", "#Models", "Compiler", "Suite", "Section"), lines)


def _place(findings: RunFindings, item: Failure | Flag | summary.Remark | summary.BreakReason) -> tuple[str, str]:
    """Write the cells of suite and section; the latter is blank where there is only one."""
    return text(item.suite), text(str(item.section) if len(findings.sections) > 1 else "")


def _summary(findings: RunFindings, lines: Sequence[summary.CompilerSummary]) -> Grid:
    several = len({line.suite for line in lines}) > 1
    means = ("#Geomean speedup", "#Slowdowns as 1x", "#Mean compile time", "#Peak-memory ratio")
    return grid(
        ("Compiler", "Suite", "#Passed", *means, "#Not compiled", "#Missing", "#Could not run"),
        (
            (
                line.passed < line.total,
                (
                    text(findings.name_of(line.compiler)),
                    text(line.suite if several else ""),
                    number(format_pass_rate(line), f"{line.passed:,}/{line.total:,}"),
                    _mean(line),
                    decimals(line.clipped, 2, "x"),
                    decimals(line.compile_seconds, 1, " s"),
                    decimals(line.compression, 2, "x"),
                    whole(line.not_compiled),
                    whole(line.missing),
                    whole(line.left_out),
                ),
            )
            for line in lines
        ),
    )


def _mean(line: summary.CompilerSummary) -> str:
    if line.geomean is None:
        return _EMPTY[1]
    return number(f"{format_number(line.geomean, 2)}x", _ends(line.interval, 2))


def _ends(interval: summary.Interval | None, digits: int) -> str:
    return f"{format_number(interval[0], digits)} to {format_number(interval[1], digits)}" if interval else ""


def _shown_metric(tables: SuiteTables) -> str:
    """Choose what the table with a column per compiler shows: speedups, or the next best thing that was measured."""
    names = ("speedup", "abs_latency", *list_own_metrics(tables))
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
    compilers = (f"#{summary.name_compiler(name, (tables,))}" for name in tables.compilers)
    return grid(("Model", "#Batch size", *compilers), lines)


def _value(tables: SuiteTables, metric: str, model: str, compiler: str, cell: Cell) -> str:
    """Write a number, a speedup with its interval; in words what else there is to say about a case that failed."""
    if not cell.measured:
        return number(cell.status) if cell.passed or not cell.counted else bad_word(cell.status)
    value = format_number(cell.value, 3) + ("x" if metric == "speedup" else "")
    if cell.counted and not cell.passed:
        accuracy = tables.records.get((Testing.ACCURACY, model, compiler))
        return number(value, accuracy.status.value if accuracy else MISSING)
    return number(value, _ends(summary.read_interval(tables.records[Testing.PERFORMANCE, model, compiler]), 3))


def _cases(tables: SuiteTables, files: Collection[str]) -> Grid:
    titles = ("Model", "Compiler", "#Batch size", "Accuracy", "Performance", "#Speedup", "#Compiled ms", "#Eager ms")
    remarks = {(item.model, item.compiler): item.texts for item in summary.list_remarks(tables)}
    judged = zip(tables.models, tables.counted.to_numpy(), tables.passed.to_numpy(), strict=True)
    lines = (
        (bool(counts and not passes), _case(tables, model, compiler, remarks, files))
        for model, counted, passed in judged
        for compiler, counts, passes in zip(tables.compilers, counted, passed, strict=True)
    )
    own = [f"#{one_line(tables.metrics[name].title)}" for name in list_own_metrics(tables)]
    counted = [f"#{METRICS[name].title}" for name in list_counted(tables)]
    counters = ("#Graph breaks", "#Recompiles")
    columns = (*titles, "#Compile s", "#Peak-memory ratio", *counters, *counted, *own, "Log", "Remarks")
    return grid(columns, lines)


def _case(
    tables: SuiteTables,
    model: str,
    compiler: str,
    remarks: Mapping[tuple[str, str], Sequence[str]],
    files: Collection[str],
) -> tuple[str, ...]:
    records = [tables.records.get((testing, model, compiler)) for testing in Testing]
    words = [record.status.value if record else MISSING for record in records]
    known = [record for record in records if record]
    metrics = {name: value for record in known for name, value in record.metrics.items()}
    counters = {name: value for record in known for name, value in record.counters.items()}
    return (
        text(model),
        text(summary.name_compiler(compiler, (tables,))),
        whole(max((record.batch_size for record in known), default=0)),
        *(text(word if testing in tables.statuses else "") for testing, word in zip(Testing, words, strict=True)),
        decimals(metrics.get("speedup"), 3, "x"),
        decimals(metrics.get("abs_latency"), 3),
        decimals(metrics.get("eager_latency"), 3),
        decimals(metrics.get("compilation_latency"), 1),
        decimals(metrics.get("compression_ratio"), 3, "x"),
        whole(counters.get("graph_breaks", 0)),
        whole(counters.get("recompiles", 0)),
        *(number(format_count(name, metrics.get(name))) for name in list_counted(tables)),
        *(_own_value(name, records) for name in list_own_metrics(tables)),
        link(next((record.log for record in known if record.log), ""), files),
        text("; ".join(remarks.get((model, compiler), ()))),
    )


def _own_value(metric: str, records: Sequence[Record | None]) -> str:
    """Write the cell of a metric that a suite or another tool has named, or of a rate."""
    record = next((each for each in records if each is not None and metric in each.metrics), None)
    if record is None:
        return _EMPTY[1]
    value, _, ends = format_value(metric, record.metrics[metric], record).partition(" (")
    return number(value, ends.removesuffix(")"))


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
