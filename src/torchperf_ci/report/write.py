"""Write every file of a report into a results folder, and the report as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.frames import Cell, SuiteTables, model_rows
from torchperf_ci.core.records import Mode, Testing
from torchperf_ci.core.results import Results, ResultsFolder
from torchperf_ci.core.safe_files import is_below
from torchperf_ci.core.text import ABSENT, count, draw_table, one_line
from torchperf_ci.report.charts import Charts, draw
from torchperf_ci.report.gh_parts import case_csvs, render_parts, write_summary_csvs
from torchperf_ci.report.html import write_page
from torchperf_ci.report.markdown import write_markdown
from torchperf_ci.report.model import ReportOptions, RunFindings, collect_findings
from torchperf_ci.report.summary import Failure, name_compiler, read_interval
from torchperf_ci.report.words import (
    CLIPPED,
    LONGEST_REASON,
    describe_benefit,
    describe_latency,
    format_pass_rate,
    format_speedup,
    format_value,
    ratio,
    seconds,
    verdict,
)

COLUMNS = ("compiler", "suite", "passed", "geomean", "slowdowns as 1x", "compile time", "peak-memory ratio")
SPARE = (COLUMNS.index("slowdowns as 1x"),)
SHOWN_CASES = 20
SHOWN_MODELS = 40
LONGEST_FAILURE = 1000


def write_terminal(findings: RunFindings, logs: Mapping[str, Path] = MappingProxyType({})) -> str:
    """Write tables of every section, remarks, failures, a sentence per compiler, and the verdict.

    logs: where the logs are that records name, as far as they are there. The verdict is the last line, where the eye is
    when the text has run through a terminal.
    """
    several = len(findings.sections) > 1
    lines: list[str] = []
    for section in findings.sections:
        rows = [
            (
                one_line(findings.name_of(line.compiler)),
                one_line(line.suite),
                f"{format_pass_rate(line)} ({line.passed:,}/{line.total:,})",
                ratio(line.geomean),
                ratio(line.clipped),
                seconds(line.compile_seconds),
                ratio(line.compression),
            )
            for line in findings.lines_of(section)
        ]
        summary = draw_table(COLUMNS, rows, spare=SPARE)
        lines += [
            one_line(str(section)),
            *_speedups(findings.tables_of(section)),
            *_own_metrics(findings.tables_of(section)),
            summary,
            "",
        ]
    if "slowdowns" in "\n".join(lines) and any(line.clipped != line.geomean for line in findings.lines):
        lines += [CLIPPED, ""]
    remarks = sorted(findings.remarks, key=lambda remark: not remark.not_compiled)
    lines += _first(
        [
            one_line(
                f"{item.suite}/{item.model} {findings.name_of(item.compiler)}: {'; '.join(item.texts)}",
                limit=LONGEST_FAILURE,
            )
            for item in remarks
        ],
        more="more remarks",
    )
    lines += _first(list(_failures(findings, logs)), more="more")
    for benefit in findings.benefits:
        where = f" ({benefit.section})" if several else ""
        lines.append(f"{one_line(findings.name_of(benefit.compiler) + where)}: {describe_benefit(benefit)}")
    return "\n".join([*lines, " ".join(verdict(findings, cut_reasons=False))])


def _speedups(all_tables: Sequence[SuiteTables]) -> Iterator[str]:
    """Write a table of the speedups of all models with their intervals, the best first, and of the latencies of what
    runs as it is; none where there is none."""
    compilers = list(dict.fromkeys(name for tables in all_tables for name in tables.compilers))
    rows = []
    for tables in all_tables:
        if not any(tables.values[name].notna().any(axis=None) for name in ("speedup", "abs_latency_low")):
            continue
        for row in model_rows(tables, "speedup"):
            cells = dict(zip(tables.compilers, row.cells, strict=True))
            texts = [_speedup(tables, row.model, name, cells[name]) if name in cells else ABSENT for name in compilers]
            rows.append([one_line(f"{tables.suite}/{row.model}", limit=60), *texts])
    if not rows:
        return
    has_speedups = any(tables.values["speedup"].notna().any(axis=None) for tables in all_tables)
    headers = ["speedup" if has_speedups else "latency"]
    headers += [one_line(name_compiler(name, all_tables)) for name in compilers]
    yield draw_table(headers, rows[:SHOWN_MODELS])
    if len(rows) > SHOWN_MODELS:
        yield f"… and {count(len(rows) - SHOWN_MODELS, 'more model')}, see report.md"
    yield ""


def _failures(findings: RunFindings, logs: Mapping[str, Path]) -> Iterator[str]:
    """Write each failure with all of its reason and the path of its log; compilers with the same one together.

    A single reason of all failures is left to the verdict, where that names it.
    """
    reasons = {failure.reason for failure in findings.failures}
    is_told = len(reasons) == 1 and len(min(reasons)) <= LONGEST_REASON
    is_told = is_told and not any(failure.counts for failure in findings.failures)
    groups: dict[tuple[object, ...], list[Failure]] = {}
    for failure in sorted(findings.failures, key=lambda failure: not failure.counts):
        key = (failure.section, failure.suite, failure.model, failure.testing, failure.status, failure.reason)
        groups.setdefault(key, []).append(failure)
    for failures in groups.values():
        first = failures[0]
        case = f"{first.suite}/{first.model} {', '.join(findings.name_of(failure.compiler) for failure in failures)}"
        reason = "" if is_told else f" {first.reason}"
        text = one_line(f"{case}: {first.status} ({first.testing}){reason}", limit=LONGEST_FAILURE)
        yield f"{text}\n    log: {one_line(str(logs[first.log]))}" if first.log in logs else text


def _speedup(tables: SuiteTables, model: str, compiler: str, cell: Cell) -> str:
    record = tables.records.get((Testing.PERFORMANCE, model, compiler))
    if cell.measured:
        text = format_speedup(cell.value, read_interval(record))
    elif record is not None and "abs_latency" in record.metrics:
        text = describe_latency(record)
    else:
        return one_line(cell.status)
    return text if cell.passed else f"{text}, failed"


def _own_metrics(all_tables: Sequence[SuiteTables]) -> Iterator[str]:
    """Write a table of the suites' own metrics, with their intervals; none where there is none."""
    rows = [
        [
            one_line(f"{tables.suite}/{record.case.model}", limit=60),
            one_line(name_compiler(compiler, all_tables)),
            one_line(metric.title),
            format_value(name, record.metrics[name], record),
        ]
        for tables in all_tables
        for (_, _, compiler), record in tables.records.items()
        for name, metric in record.own_metrics.items()
        if name in record.metrics
    ]
    if rows:
        headers = ["metric of the suite's own", "compiler", "", ""]
        yield draw_table(headers, rows[:SHOWN_MODELS])
        if len(rows) > SHOWN_MODELS:
            yield f"… and {len(rows) - SHOWN_MODELS:,} more, see report.md"
        yield ""


def _first(texts: Sequence[str], *, more: str) -> list[str]:
    """Show the first few, say how many there are besides, and leave a line blank behind them."""
    shown = [f"  {text}" for text in texts[:SHOWN_CASES]]
    left = len(texts) - len(shown)
    return [*shown, *([f"  … and {left:,} {more}, see report.md"] if left else []), *([""] if shown else [])]


def judge_results(results: Results, options: ReportOptions) -> RunFindings:
    """Collect what there is to report. Raises `NothingToJudge` when that is neither a result nor a problem."""
    findings = collect_findings(results, options)
    if findings.tables or results.problems:
        return findings
    if results.records:
        suites = ", ".join(sorted({record.case.suite for record in results.records}))
        number = len(results.records)
        raise NothingToJudge(f"none of the {number} results is selected by the options; the suites there are: {suites}")
    if results.left_out:
        files = ", ".join(results.left_out[:10])
        raise NothingToJudge(f"the options ask for none of the files that are there: {files}")
    raise NothingToJudge("there are no results to report")


def write_findings(folder: ResultsFolder, findings: RunFindings, charts: Charts | None = None) -> str:
    """Write the CSV files, the charts and the report, and remove what an earlier one has and this one has not.

    Return the report as plain text, the verdict last. `charts` are those of `findings`, where they were drawn already.
    """
    before = folder.written
    charts = charts or draw(findings)
    texts = {
        **(dict(case_csvs(findings.records)) if findings.options.case_csvs else {}),
        **write_summary_csvs(findings),
        **render_parts(findings),
    }
    named = {record.log: folder.path / record.log for record in findings.records if is_below(record.log)}
    logs = {log: path for log, path in named.items() if path.is_file()}
    files = {*texts, "report.html", *logs}
    texts |= {
        "report.md": write_markdown(findings, files=files),
        "report.html": write_page(findings, charts, files=files),
    }
    pictures = dict(charts.files())
    for name, text in texts.items():
        folder.write_text(name, text)
    for name, content in pictures.items():
        folder.write_bytes(name, content)
    # Only these hang on what was found. All others are written every time, or belong to others.
    parts = {name for name in before if name.startswith("samples_")} | {f"gh_{mode}.txt" for mode in Mode}
    folder.forget(sorted(parts - texts.keys() - pictures.keys()))
    return write_terminal(findings, logs)
