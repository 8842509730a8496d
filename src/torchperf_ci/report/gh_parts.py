"""The CSV files of PyTorch's suite runner, and the gh_*.txt parts of its dashboard, the build summary among them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from torchperf_ci.core.frames import ACCURACY, MISSING, Cell, ModelRow, Section, model_rows, rank
from torchperf_ci.core.records import COUNTERS, METRICS, Build, Case, Environment, Mode, Record, Testing
from torchperf_ci.core.results import csv_name
from torchperf_ci.core.text import csv_cell, heading, one_line, sentence, unique
from torchperf_ci.report.document import Block, MarkdownTable, folded, pretty_table, whole
from torchperf_ci.report.model import RunFindings
from torchperf_ci.report.summary import (
    COMPILE_SECONDS_ABOVE,
    COMPRESSION_BELOW,
    FLAGGED,
    SPEEDUP_BELOW,
    CompilerSummary,
)
from torchperf_ci.report.words import metric_title

PERFORMANCE_METRICS = (
    "speedup",
    "abs_latency",
    "compilation_latency",
    "compression_ratio",
    "eager_peak_mem",
    "dynamo_peak_mem",
)
COLUMNS: Mapping[Testing, tuple[str, ...]] = {
    Testing.PERFORMANCE: ("dev", "name", "batch_size", *PERFORMANCE_METRICS, *COUNTERS),
    Testing.ACCURACY: ("dev", "name", "batch_size", "accuracy", *COUNTERS, "compilation_latency"),
}
ZERO_ON_ERROR = frozenset({"speedup", "abs_latency"})
"""Where PyTorch's tools expect a number."""
NO_LINE = "0"
"""The cell of a compiler that this suite did not run with."""

SummaryTable = tuple[list[str], list[list[str]]]
"""Columns and rows."""


def case_csvs(records: Iterable[Record]) -> Iterator[tuple[str, str]]:
    """Yield name and text of every file that `records` make, with the graph breaks of each beside it."""
    files: dict[tuple[Case, Testing], list[Record]] = {}
    for record in records:
        files.setdefault((replace(record.case, model=""), record.testing), []).append(record)
    taken: set[str] = set()
    for (case, testing), held in files.items():
        stem = unique(csv_name(case, testing).removesuffix(".csv"), taken)
        rows = [list(COLUMNS[testing]), *map(_case_row, held)]
        if any(record.environment.world > 1 for record in held):  # PyTorch's files have no word for it
            worlds = ("world", *(str(record.environment.world) for record in held))
            rows = [[*row, world] for row, world in zip(rows, worlds, strict=True)]
        yield f"{stem}.csv", _text(rows)
        breaks = [
            (csv_cell(record.case.model), csv_cell(graph_break.reason), csv_cell(graph_break.user_stack))
            for record in held
            for graph_break in record.graph_breaks
        ]
        if breaks:
            yield f"{stem}_graph_breaks.csv", _text([("model", "reason", "user_stack"), *breaks])


def _case_row(record: Record) -> list[str]:
    """Write a record's cells: numbers with six decimals in the CSV's unit, blank for what was not measured."""

    def number(name: str) -> str:
        value = record.metrics.get(name)
        if not record.status.is_pass and name in ZERO_ON_ERROR:
            value = 0.0
        return "" if value is None else f"{value * METRICS[name].csv_scale:.6f}"

    is_accuracy = record.testing is Testing.ACCURACY
    batch_size = record.batch_size if record.status.is_pass or is_accuracy else 0
    head = [csv_cell(record.case.device), csv_cell(record.case.model), str(batch_size)]
    counters = [str(record.counters[name]) if name in record.counters else "" for name in COUNTERS]
    if is_accuracy:
        return [*head, record.status.value, *counters, number("compilation_latency")]
    return [*head, *map(number, PERFORMANCE_METRICS), *counters]


def make_summary_tables(findings: RunFindings, section: Section) -> Mapping[str, SummaryTable]:
    """Make the four tables of a section by name; their cells are text."""
    names = dict.fromkeys(name for tables in findings.tables_of(section) for name in tables.compilers)
    compilers = sorted(names, key=lambda name: rank(name, findings.options.selection.compilers))
    lines = {(line.compiler, line.suite): line for line in findings.lines_of(section)}
    suites = list(dict.fromkeys(suite for _, suite in lines))
    return {
        name: (
            ["Compiler", *suites],
            [
                [one, *(write(lines[one, suite]) if (one, suite) in lines else NO_LINE for suite in suites)]
                for one in compilers
            ],
        )
        for name, write in cells(include_slowdowns=findings.options.include_slowdowns).items()
    }


def write_summary_csvs(findings: RunFindings) -> Mapping[str, str]:
    """Write the four files by name. With more than one section three columns say which one a row belongs to."""
    sections = findings.sections
    parts = ["mode", "dtype", "device"] if len(sections) > 1 else []
    suites = list(dict.fromkeys(tables.suite for section in sections for tables in findings.tables_of(section)))
    texts: dict[str, list[list[str]]] = {}
    for section in sections:
        of_section = [section.mode.value, section.dtype, section.device][: len(parts)]
        for name, (columns, rows) in make_summary_tables(findings, section).items():
            table = texts.setdefault(name, [["", "Compiler", *parts, *map(csv_cell, suites)]])
            for compiler, *values in rows:
                by_suite = dict(zip(columns[1:], values, strict=True))
                own = [by_suite.get(suite, NO_LINE) for suite in suites]
                table.append([csv_cell(compiler), csv_cell(compiler), *map(csv_cell, of_section), *own])
    return {f"{name}.csv": _text(table) for name, table in texts.items()}


def format_passrate(line: CompilerSummary) -> str:
    """Write the pass rate as PyTorch does: `85%, 51/60`."""
    percent = round(100 * line.passed / line.total) if line.total else 0
    return f"{percent}%, {line.passed}/{line.total}"


def cells(*, include_slowdowns: bool) -> Mapping[str, Callable[[CompilerSummary], str]]:
    """List how the four numbers of a line are written, by the names of the files."""

    def ratio(value: float | None) -> str:
        return "0.0x" if value is None else f"{value:.2f}x"

    return {
        "passrate": format_passrate,
        "geomean": lambda line: ratio(line.geomean if include_slowdowns else line.clipped),
        "comp_time": lambda line: "0.0" if line.compile_seconds is None else f"{line.compile_seconds:.2f}",
        "memory": lambda line: ratio(line.compression),
    }


def _text(rows: Iterable[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


NOT_RECORDED = "not recorded"
ALWAYS_SHOWN = ("TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "USE_LLVM")
"""Environment variables that are named even where they are not set."""

FLAGS_TITLE = "TorchDynamo config flags"

Part = tuple[str, Sequence[str]]


def list_build(findings: RunFindings) -> list[Part]:
    """List titles, and the lines under each: what was measured, with what, where."""
    build, source = findings.build or Build(environment=Environment()), findings.source
    environment = build.environment
    commits = [f"{source.repository or 'measured repository'} commit: {source.commit}"] if source.commit else []
    for tree in findings.options.checkouts:
        commits.append(f"{tree.name} commit: {tree.commit}" if tree.commit else f"{tree.name} Absent")
        if tree.date and tree.commit:
            commits.append(f"{tree.name} commit date: {tree.date}")
    flags = [f"torch._dynamo.config.{name} = {value}" for name, value in sorted(build.dynamo_flags.items())]
    versions = {
        "torch": environment.torch,
        "torch commit": environment.torch_git,
        "python": environment.python,
        "cuda": environment.cuda,
        **{name: version for name, version in sorted(build.packages.items()) if name != "torch"},
    }
    known_versions = [f"{name}: {version}" for name, version in versions.items() if version]
    variables = {**dict.fromkeys(ALWAYS_SHOWN, "None"), **build.variables}
    parts = {
        "Run name": [findings.options.run_name or NOT_RECORDED],
        "Commit hashes": commits,
        FLAGS_TITLE: flags or [NOT_RECORDED],
        "Torch version": known_versions if environment.torch else [f"torch: {NOT_RECORDED}"],
        "Environment variables": [f"{name} = {value}" for name, value in variables.items()],
    }
    if environment.gpu:
        parts["GPU details"] = [
            f"CUDNN VERSION: {environment.cudnn or NOT_RECORDED}",
            f"Number CUDA Devices: {environment.gpu_count}",
            f"Device Name: {environment.gpu}",
            f"Device Memory [GB]: {environment.gpu_memory_bytes / 1e9}",
            f"Driver: {environment.driver or NOT_RECORDED}",
        ]
    if environment.cpu:
        parts["CPU and memory"] = [
            f"CPU: {environment.cpu}",
            f"Number of CPUs: {environment.cpu_count}",
            f"Threads: {environment.threads}",
            *([f"Memory [GB]: {environment.memory_bytes / 1e9:.1f}"] if environment.memory_bytes else []),
            *([f"Kernel: {environment.kernel}"] if environment.kernel else []),
        ]
    return [(title, [one_line(line) for line in lines]) for title, lines in parts.items()]


SUITE_METRICS = ("speedup", ACCURACY, "compilation_latency", "compression_ratio", "abs_latency")
CAPTIONS = {
    "passrate": "Passrate\n",
    "geomean": "Geometric mean speedup \n",
    "comp_time": "Mean compilation time (seconds)\n",
    "memory": "Peak memory footprint compression ratio (higher is better)\n",
}
METHOD = (
    "Every model runs compiled and in plain eager mode on the same machine. Accuracy compares outputs, and in training "
    "gradients, with a float64 reference. Speedup is eager time over compiled time for one iteration: the forward pass "
    "in inference, forward and backward in training, without an optimizer step. Compilation time and peak memory are "
    "relative to eager as well.\n\n"
)
METHOD_AFTER = "Speedup, compilation time and memory are taken over the models that pass the accuracy check.\n\n"
LIMITS = (
    "A model is listed here when\n\n"
    " - its accuracy check fails\n"
    f" - its speedup is below {SPEEDUP_BELOW}x (0.0 means that the performance test failed)\n"
    f" - its compilation takes more than {COMPILE_SECONDS_ABOVE:.0f} s\n"
    f" - its compression ratio is below {COMPRESSION_BELOW}\n\n"
)


def render_parts(findings: RunFindings) -> Mapping[str, str]:
    """Write every part that needs no history: text by file name, in the order of the dashboard."""
    modes = dict.fromkeys(section.mode for section in findings.sections)
    dtypes = ", ".join(heading(dtype) for dtype in dict.fromkeys(section.dtype for section in findings.sections))
    method = whole([folded("", METHOD)])
    build = "".join(
        f"\n### {title} ###\n" + "".join(f"{sentence(line)}\n" for line in lines)
        for title, lines in list_build(findings)
    )
    summary = Block(before=f"\n## Executive Summary ##\n{method}{METHOD_AFTER}", tables=tuple(_summaries(findings)))
    parts = {
        "gh_title.txt": [Block(before=f"\n# Performance Dashboard for {dtypes} precision ##\n\n")],
        "gh_executive_summary.txt": [summary],
        "gh_warnings.txt": [folded("## Warnings ##", LIMITS, _warnings(findings))],
        **{f"gh_{mode}.txt": list(_suites(findings, mode)) for mode in modes},
        "gh_build_summary.txt": [folded("## Build Summary", build)],
    }
    return {name: whole(blocks) for name, blocks in parts.items()}


def _summaries(findings: RunFindings) -> Iterator[MarkdownTable]:
    for section in findings.sections:
        title = section_title(findings, section)
        tables = make_summary_tables(findings, section)
        for name, caption in CAPTIONS.items():
            yield pretty_table(title + caption, *tables[name])
            title = ""


def _warnings(findings: RunFindings) -> Iterator[MarkdownTable]:
    """Make a table per section and metric: the models with a flag, with the cells of all flagged compilers."""
    models: dict[tuple[Section, str, str], set[str]] = {}
    for flag in findings.flags:
        models.setdefault((flag.section, flag.metric, flag.suite), set()).add(flag.model)
    for section in findings.sections:
        title = section_title(findings, section)
        for metric in FLAGGED:
            lines = []
            for tables in findings.tables_of(section):
                flagged = models.get((section, metric, tables.suite), set())
                for row in model_rows(tables, metric) if flagged else ():
                    if row.model in flagged:
                        cells = dict(zip(tables.compilers, _texts(row, metric), strict=True))
                        texts = (cells.get(name, MISSING) for name in findings.flag_compilers)
                        lines.append([tables.suite, row.model, *texts])
            if lines:
                columns = ["suite", "name", *findings.flag_compilers]
                caption = f"{title}\n{metric_title(metric)} warnings\n"
                yield pretty_table(caption, columns, lines)
                title = ""


def _suites(findings: RunFindings, mode: Mode) -> Iterator[Block]:
    devices = {section.device for section in findings.sections}
    for tables in findings.tables:
        if tables.section.mode is not mode:
            continue
        where = f" on {heading(tables.section.device)}" if len(devices) > 1 else ""
        title = f"## {heading(tables.suite)} suite with {heading(tables.section.dtype)} precision{where} ##"
        metric_tables = []
        for metric in SUITE_METRICS:
            found = list(model_rows(tables, metric))
            if found:
                lines = [[row.model, row.batch_size, *_texts(row, metric)] for row in found]
                columns = ["name", "bs", *tables.compilers]
                metric_tables.append(pretty_table(f"\n{metric_title(metric)}\n", columns, lines))
        yield folded(title, tables=metric_tables)
    yield Block(before="\n")


def _texts(row: ModelRow, metric: str) -> list[str]:
    return [cell_text(cell, metric) for cell in row.cells]


def cell_text(cell: Cell, metric: str) -> str:
    """Write a number as PyTorch's CSV files hold it: 0.0 for a failure, as there; words where there is no number."""
    if metric == ACCURACY or cell.status == MISSING:
        return cell.status
    if cell.measured:
        return str(round(cell.value, 6))
    return "n/a" if cell.status == "pass" else "0.0"


def section_title(findings: RunFindings, section: Section) -> str:
    """Write what stands over the tables of a section where there are several."""
    return f"### {heading(str(section))} ###\n\n" if len(findings.sections) > 1 else ""
