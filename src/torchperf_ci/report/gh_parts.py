"""The gh_*.txt parts of PyTorch's dashboard, the build summary among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torchperf_ci.core.frames import ACCURACY, MISSING, Cell, ModelRow, Section, SuiteTables, rows
from torchperf_ci.core.records import Build, Environment, Mode, Source
from torchperf_ci.core.text import heading, one_line, sentence
from torchperf_ci.report.csv_tables import summary_tables
from torchperf_ci.report.document import Block, MarkdownTable, folded, pretty_table, whole
from torchperf_ci.report.model import RunFindings, SourceTree
from torchperf_ci.report.summary import COMPILE_SECONDS_ABOVE, COMPRESSION_BELOW, FLAGGED, SPEEDUP_BELOW
from torchperf_ci.report.words import metric_title

NOT_RECORDED = "not recorded"
ALWAYS_SHOWN = ("TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "USE_LLVM")
"""Environment variables that are named even where they are not set."""

Part = tuple[str, Sequence[str]]


def build_summary(findings: RunFindings) -> list[Part]:
    """Titles, and the lines under each."""
    build = findings.build
    parts: list[Part] = [
        ("Run name", [findings.options.run_name or NOT_RECORDED]),
        (
            "Commit hashes",
            [*_source(findings.source), *(line for item in findings.options.checkouts for line in _checkout(item))],
        ),
        ("TorchDynamo config flags", _flags(build)),
        ("Torch version", _versions(build)),
        ("Environment variables", _variables(build.variables if build else {})),
    ]
    environment = build.environment if build else None
    if environment and environment.gpu:
        parts.append(("GPU details", _gpu(environment)))
    if environment and environment.cpu:
        parts.append(("CPU and memory", _machine(environment)))
    return [(title, [one_line(line) for line in lines]) for title, lines in parts]


def _source(source: Source) -> list[str]:
    name = source.repository or "measured repository"
    return [f"{name} commit: {source.commit}"] if source.commit else []


def _checkout(item: SourceTree) -> list[str]:
    if not item.commit:
        return [f"{item.name} Absent"]
    date = [f"{item.name} commit date: {item.date}"] if item.date else []
    return [f"{item.name} commit: {item.commit}", *date]


def _flags(build: Build | None) -> list[str]:
    flags = build.dynamo_flags if build else {}
    return [f"torch._dynamo.config.{name} = {value}" for name, value in sorted(flags.items())] or [NOT_RECORDED]


def _versions(build: Build | None) -> list[str]:
    if build is None or not build.environment.torch:
        return [f"torch: {NOT_RECORDED}"]
    environment = build.environment
    known = {
        "torch": environment.torch,
        "torch commit": environment.torch_git,
        "python": environment.python,
        "cuda": environment.cuda,
        **{name: version for name, version in sorted(build.packages.items()) if name != "torch"},
    }
    return [f"{name}: {version}" for name, version in known.items() if version]


def _variables(variables: Mapping[str, str]) -> list[str]:
    shown = {**dict.fromkeys(ALWAYS_SHOWN, "None"), **variables}
    return [f"{name} = {value}" for name, value in shown.items()]


def _gpu(environment: Environment) -> list[str]:
    return [
        f"CUDNN VERSION: {environment.cudnn or NOT_RECORDED}",
        f"Number CUDA Devices: {environment.gpu_count}",
        f"Device Name: {environment.gpu}",
        f"Device Memory [GB]: {environment.gpu_memory_bytes / 1e9}",
        f"Driver: {environment.driver or NOT_RECORDED}",
    ]


def _machine(environment: Environment) -> list[str]:
    lines = [f"CPU: {environment.cpu}", f"Number of CPUs: {environment.cpu_count}", f"Threads: {environment.threads}"]
    if environment.memory_bytes:
        lines.append(f"Memory [GB]: {environment.memory_bytes / 1e9:.1f}")
    return [*lines, *([f"Kernel: {environment.kernel}"] if environment.kernel else [])]


WARNING, BUILD, DETAIL = 10, 20, 30
"""What of a comment that gets too long is hidden later and what sooner. Every metric of the details has two ranks of
its own, because a model that fails stays longer than one that passes."""

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


def legacy_parts(findings: RunFindings) -> Mapping[str, str]:
    """File name and text of every part that needs no history."""
    return {name: whole(blocks) for name, blocks in legacy_blocks(findings).items()}


def legacy_blocks(findings: RunFindings) -> Mapping[str, Sequence[Block]]:
    """The same parts as they can be shortened: by file name, in the order of the dashboard."""
    modes = dict.fromkeys(section.mode for section in findings.sections)
    return {
        "gh_title.txt": [_title(findings)],
        "gh_executive_summary.txt": [_executive_summary(findings)],
        "gh_warnings.txt": [folded("## Warnings ##", LIMITS, _warnings(findings), rank=WARNING)],
        **{f"gh_{mode}.txt": list(_suites(findings, mode)) for mode in modes},
        "gh_build_summary.txt": [folded("## Build Summary", _build(findings), rank=BUILD)],
    }


def _title(findings: RunFindings) -> Block:
    dtypes = dict.fromkeys(section.dtype for section in findings.sections)
    return Block(before=f"\n# Performance Dashboard for {', '.join(map(heading, dtypes))} precision ##\n\n")


def _executive_summary(findings: RunFindings) -> Block:
    before = "\n## Executive Summary ##\n" + whole([folded("", METHOD)]) + METHOD_AFTER
    return Block(before=before, tables=tuple(_summaries(findings)))


def _summaries(findings: RunFindings) -> Iterator[MarkdownTable]:
    for section in findings.sections:
        title = section_title(findings, section)
        tables = summary_tables(findings, section)
        for name, caption in CAPTIONS.items():
            table = tables[name].fillna("0")
            yield pretty_table(title + caption, list(table.columns), table.to_numpy().tolist())
            title = ""


def _warnings(findings: RunFindings) -> Iterator[MarkdownTable]:
    for section in findings.sections:
        title = section_title(findings, section)
        for metric in FLAGGED:
            rows = [row for tables in findings.tables_of(section) for row in _flagged(findings, tables, metric)]
            if rows:
                columns = ["suite", "name", *findings.flag_compilers]
                caption = f"{title}\n{metric_title(metric)} warnings\n"
                yield pretty_table(caption, columns, rows, ranks=[WARNING] * len(rows))
                title = ""


def _flagged(findings: RunFindings, tables: SuiteTables, metric: str) -> Iterator[list[str]]:
    models = {
        flag.model
        for flag in findings.flags
        if (flag.metric, flag.suite, flag.section) == (metric, tables.suite, tables.section)
    }
    for row in rows(tables, metric) if models else ():
        if row.model in models:
            cells = dict(zip(tables.compilers, _texts(row, metric), strict=True))
            yield [tables.suite, row.model, *(cells.get(name, MISSING) for name in findings.flag_compilers)]


def _suites(findings: RunFindings, mode: Mode) -> Iterator[Block]:
    devices = {section.device for section in findings.sections}
    for tables in findings.tables:
        if tables.section.mode is mode:
            where = f" on {heading(tables.section.device)}" if len(devices) > 1 else ""
            title = f"## {heading(tables.suite)} suite with {heading(tables.section.dtype)} precision{where} ##"
            yield folded(title, tables=_metric_tables(tables), rank=DETAIL)
    yield Block(before="\n", rank=DETAIL)


def _metric_tables(tables: SuiteTables) -> Iterator[MarkdownTable]:
    for place, metric in enumerate(SUITE_METRICS):
        found = list(rows(tables, metric))
        if found:
            lines = [[row.model, row.batch_size, *_texts(row, metric)] for row in found]
            ranks = [DETAIL + 2 * place + (not row.failed) for row in found]
            yield pretty_table(f"\n{metric_title(metric)}\n", ["name", "bs", *tables.compilers], lines, ranks=ranks)


def _texts(row: ModelRow, metric: str) -> list[str]:
    return [cell_text(cell, metric) for cell in row.cells]


def cell_text(cell: Cell, metric: str) -> str:
    """A number as PyTorch's CSV files hold it; 0.0 for a failure, as there; words where there is nothing to show."""
    if metric == ACCURACY or cell.status == MISSING:
        return cell.status
    if cell.measured:
        return str(round(cell.value, 6))
    return "n/a" if cell.status == "pass" else "0.0"


def section_title(findings: RunFindings, section: Section) -> str:
    """What stands over the tables of a section where there are several."""
    return f"### {heading(str(section))} ###\n\n" if len(findings.sections) > 1 else ""


def _build(findings: RunFindings) -> str:
    return "".join(
        f"\n### {title} ###\n" + "".join(f"{sentence(line)}\n" for line in lines)
        for title, lines in build_summary(findings)
    )
