"""report.md: for a comment, a check and a step summary. Verdict first, then what failed, then numbers; detail folds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from urllib.parse import quote

from torchperf_ci.core.frames import ACCURACY, Cell, SuiteTables, model_rows
from torchperf_ci.core.records import METRICS, Testing
from torchperf_ci.core.text import ABSENT, code, count, html, one_line, sentence
from torchperf_ci.report.document import ALL_ROWS, Block, MarkdownTable, fit, fold, lines_table, markdown_table
from torchperf_ci.report.gh_parts import FLAGS_TITLE, list_build
from torchperf_ci.report.model import RunFindings
from torchperf_ci.report.summary import BreakReason, Failure, Flag, Remark, name_compiler, read_interval
from torchperf_ci.report.words import (
    PLAIN_TITLES,
    describe_benefit,
    describe_flag,
    describe_means,
    describe_setting,
    format_count,
    format_interval,
    format_metric,
    format_pass_rate,
    format_value,
    list_counted,
    list_own_metrics,
    metric_title,
    plain_title,
    ratio,
    seconds,
    verdict,
    whole,
)

HEAD, SUMMARY, FAILING, PROBLEM, WARNING, NOT_RUN, DETAIL = range(7)
"""The order in which parts are hidden when the document gets too long. Detail has two ranks per metric, because a model
that fails stays longer than one that passes."""

COUNTED, BUILD, FLAGS = 99, 100, 101
DETAIL_METRICS = ("compilation_latency", "compression_ratio", "abs_latency", ACCURACY)
REASON_LENGTH = 200
LONGEST_SETTING = 200
OPEN_FAILURES = 25
OPEN_MODELS = 25
"""Speedups of so many models stand open; more of them fold."""
MOST_BREAKS = 50

Files = Collection[str]
"""The files of the results folder that the text may link to; none where the text is shown elsewhere."""


def write_markdown(findings: RunFindings, *, files: Files = ()) -> str:
    """Write the whole document, at most `findings.options.limit` bytes.

    files: those beside it that it may link to. Without any (a comment, a step summary) it is shorter: the flags of
    dynamo are left to the files.
    """
    sign, headline = verdict(findings, code)
    known = " · ".join(code(text, limit=LONGEST_SETTING) for text in describe_setting(findings))
    head = Block(before=f"## {sign} {headline}\n" + (f"\n{known}\n" if known else ""), rank=HEAD)
    return fit([head, *body_blocks(findings, files=files)], findings.options.limit)


def body_blocks(findings: RunFindings, *, files: Files = ()) -> list[Block]:
    """Make everything below the heading, which has the verdict."""
    return [
        *_benefits(findings),
        *_failures(findings, files),
        *_summary(findings),
        *_speedups(findings),
        *_list("Problems with the input", [code(str(problem), limit=300) for problem in findings.problems]),
        *_list("Notes", [sentence(one_line(note, limit=300)) for note in findings.notes]),
        *_not_compiled(findings),
        *_not_run(findings, files),
        *_folded_cases(findings),
        *_measurements(findings),
        *_counted(findings),
        *_breaks(findings),
        *_build(findings, has_files=bool(files)),
    ]


def _benefits(findings: RunFindings) -> Iterator[Block]:
    several = len(findings.sections) > 1
    lines = []
    for benefit in findings.benefits:
        where = f" ({code(str(benefit.section))})" if several else ""
        lines.append(f"- {code(findings.name_of(benefit.compiler))}{where}: {describe_benefit(benefit)}\n")
    if lines:
        yield Block(before="\n" + "".join(lines), rank=HEAD)


def _failures(findings: RunFindings, files: Files) -> Iterator[Block]:
    columns = ("Model", "Status", "Reason", "Compiler", "Testing", "Suite", "Section", "Log")
    rows = [
        (
            code(failure.model),
            code(failure.status),
            code(failure.reason, limit=REASON_LENGTH),
            code(findings.name_of(failure.compiler)),
            failure.testing.value,
            *_place(findings, failure),
            _link(failure.log, files),
        )
        for failure in findings.failures
        if failure.counts
    ]
    if rows:
        table = markdown_table(columns, rows[:OPEN_FAILURES], rank=FAILING)
        yield Block(before=f"\n### Failed ({len(rows):,})\n", tables=(table,), rank=FAILING)
    if len(rows) > OPEN_FAILURES:
        rest = markdown_table(columns, rows[OPEN_FAILURES:], rank=FAILING)
        yield fold(f"{len(rows) - OPEN_FAILURES:,} more that failed", [rest], FAILING)


def _place(findings: RunFindings, item: Failure | Flag | Remark | BreakReason) -> tuple[str, str]:
    """Write suite and section; the latter is blank where there is only one."""
    return code(item.suite), code(str(item.section)) if len(findings.sections) > 1 else ABSENT


def _link(path: str, files: Files) -> str:
    """Link to a file beside the report; its path where it can only be named."""
    return f"[{path.rpartition('.')[2] if '.' in path else 'log'}]({quote(path)})" if path in files else code(path)


def _summary(findings: RunFindings) -> Iterator[Block]:
    several = len({line.suite for line in findings.lines}) > 1
    means = ("Geomean speedup", "Slowdowns as 1x", "Mean compile time", "Peak-memory ratio")
    columns = ("Compiler", "Suite", "Passed", *means, "Not compiled", "Missing", "Could not run")
    for section in findings.sections:
        lines = findings.lines_of(section)
        rows = [
            (
                code(findings.name_of(line.compiler)),
                code(line.suite) if several else ABSENT,
                f"{format_pass_rate(line)} ({line.passed:,}/{line.total:,})",
                f"{ratio(line.geomean)}{format_interval(line.interval)}",
                ratio(line.clipped),
                seconds(line.compile_seconds),
                ratio(line.compression),
                whole(line.not_compiled),
                whole(line.missing),
                whole(line.left_out),
            )
            for line in lines
        ]
        note = f"\n<sub>{describe_means(lines)}</sub>\n" if any(line.geomean is not None for line in lines) else ""
        title = f"\n### Executive summary: {code(str(section))}\n"
        yield Block(before=title, tables=(markdown_table(columns, rows, rank=SUMMARY),), after=note, rank=SUMMARY)


def _list(title: str, items: Sequence[str]) -> Iterator[Block]:
    """List items that are Markdown already under a title, if there are any."""
    if items:
        table = lines_table((f"- {item}" for item in items), rank=PROBLEM)
        yield Block(before=f"\n### {title} ({len(items):,})\n\n", tables=(table,), rank=PROBLEM)


def _not_compiled(findings: RunFindings) -> Iterator[Block]:
    """List the cases of which nothing was compiled, the first ones open."""
    columns = ("Model", "Compiler", "Remark", "Suite", "Section")
    rows = [_remark(findings, remark) for remark in findings.remarks if remark.not_compiled]
    if rows:
        table = markdown_table(columns, rows[:OPEN_FAILURES], rank=PROBLEM)
        yield Block(before=f"\n### Not compiled ({len(rows):,})\n", tables=(table,), rank=PROBLEM)
    if len(rows) > OPEN_FAILURES:
        rest = markdown_table(columns, rows[OPEN_FAILURES:], rank=WARNING)
        yield fold(f"{len(rows) - OPEN_FAILURES:,} more not compiled", [rest], WARNING)


def _not_run(findings: RunFindings, files: Files) -> Iterator[Block]:
    """List what could not run, and leaves the pass rate: the models with the same reason together."""
    groups: dict[tuple[str, ...], list[Failure]] = {}
    for failure in findings.failures:
        if not failure.counts:
            key = (failure.suite, str(failure.section), failure.compiler, failure.status, failure.reason)
            groups.setdefault(key, []).append(failure)
    rows = [
        (
            _models([failure.model for failure in failures]),
            code(status),
            code(reason, limit=REASON_LENGTH),
            code(findings.name_of(compiler)),
            *_place(findings, failures[0]),
            _link(failures[0].log, files),
        )
        for (_, _, compiler, status, reason), failures in groups.items()
    ]
    if rows:
        table = markdown_table(
            ("Models", "Status", "Reason", "Compiler", "Suite", "Section", "Log"), rows, rank=NOT_RUN
        )
        yield fold(f"{count(findings.left_out, 'case')} could not run, outside of the pass rate", [table], NOT_RUN)


def _models(models: Sequence[str]) -> str:
    shown = ", ".join(code(model, limit=60) for model in models[:3])
    return shown if len(models) <= 3 else f"{shown} and {len(models) - 3:,} more"


def _folded_cases(findings: RunFindings) -> Iterator[Block]:
    """List single cases that are beyond a limit, or have remarks."""
    flags = [
        (
            code(flag.model),
            code(findings.name_of(flag.compiler)),
            describe_flag(flag),
            *_place(findings, flag),
        )
        for flag in findings.warnings
    ]
    remarks = [_remark(findings, remark) for remark in findings.remarks if not remark.not_compiled]
    for title, column, rows in (
        (count(len(flags), "warning"), "Beyond a limit", flags),
        (f"{count(len(remarks), 'case')} with remarks", "Remark", remarks),
    ):
        if rows:
            yield fold(
                title, [markdown_table(("Model", "Compiler", column, "Suite", "Section"), rows, rank=WARNING)], WARNING
            )


def _remark(findings: RunFindings, remark: Remark) -> tuple[str, ...]:
    text = code("; ".join(remark.texts), limit=REASON_LENGTH)
    return (code(remark.model), code(findings.name_of(remark.compiler)), text, *_place(findings, remark))


def _speedups(findings: RunFindings) -> Iterator[Block]:
    """Draw the speedups of every suite with their intervals, open where these are few models."""
    is_open = sum(len(tables.models) for tables in findings.tables) <= OPEN_MODELS
    for tables in findings.tables:
        for table in _metric_table(tables, "speedup", DETAIL):
            if is_open:
                title = f"{PLAIN_TITLES['speedup']}: {code(tables.suite)} ({code(str(tables.section))})"
                before = f"\n### {title}\n"
                yield Block(before=before, tables=(table,), rank=DETAIL)
            else:
                title = f"{PLAIN_TITLES['speedup']}: <code>{html(tables.suite)}</code> ({html(str(tables.section))})"
                yield fold(f"{title}, {count(len(tables.models), 'model')}", [table], DETAIL)


def _measurements(findings: RunFindings) -> Iterator[Block]:
    """Draw the other tables of every suite, folded."""
    for tables in findings.tables:
        metric_tables = [
            table
            for place, metric in enumerate((*DETAIL_METRICS, *list_own_metrics(tables)), start=1)
            for table in _metric_table(tables, metric, DETAIL + 2 * place)
        ]
        title = f"<code>{html(tables.suite)}</code> ({html(str(tables.section))}): {count(len(tables.models), 'model')}"
        if metric_tables:
            yield fold(f"Other measurements: {title}", metric_tables, DETAIL)


def _counted(findings: RunFindings) -> Iterator[Block]:
    """Draw what was counted of every case, folded: a column per count, so that compilers stand below each other."""
    for tables in findings.tables:
        names = list_counted(tables)
        timed = [
            record
            for (testing, _, _), record in tables.records.items()
            if testing is Testing.PERFORMANCE and any(name in record.metrics for name in names)
        ]
        rows = [
            (
                code(record.case.model),
                code(record.case.compiler),
                *(format_count(name, record.metrics.get(name)) for name in names),
            )
            for record in timed
        ]
        if rows:
            columns = ("Model", "Compiler", *(METRICS[name].title for name in names))
            title = f"Counted: <code>{html(tables.suite)}</code> ({html(str(tables.section))})"
            yield fold(title, [markdown_table(columns, rows, rank=COUNTED)], COUNTED)


def _metric_table(tables: SuiteTables, metric: str, rank: int) -> Iterator[MarkdownTable]:
    rows = list(model_rows(tables, metric))
    if not any(metric == ACCURACY or cell.measured for row in rows for cell in row.cells):
        return
    lines = [
        (
            code(row.model),
            whole(row.batch_size),
            *(
                _cell(tables, metric, row.model, compiler, cell)
                for compiler, cell in zip(tables.compilers, row.cells, strict=True)
            ),
        )
        for row in rows
    ]
    ranks = [rank + (not row.failed) for row in rows]
    title = plain_title(metric, tables) or sentence(metric_title(metric, tables.metrics))
    columns = ("Model", "Batch size", *(code(name_compiler(name, (tables,))) for name in tables.compilers))
    yield markdown_table(columns, lines, ranks=ranks, before="" if metric == "speedup" else f"\n**{title}**\n")


def _cell(tables: SuiteTables, metric: str, model: str, compiler: str, cell: Cell) -> str:
    if not cell.measured:
        return code(cell.status) if metric == ACCURACY or cell.status != "pass" else ABSENT
    if metric in list_own_metrics(tables):
        return format_value(metric, cell.value, tables.records.get((Testing.PERFORMANCE, model, compiler)))
    text = format_metric(metric, cell)
    if metric != "speedup":
        return text
    text += format_interval(read_interval(tables.records.get((Testing.PERFORMANCE, model, compiler))))
    return f"{text} ❌" if cell.counted and not cell.passed else text


def _breaks(findings: RunFindings) -> Iterator[Block]:
    """List why dynamo left graphs, the reasons that most models have first."""
    shown = findings.breaks[:MOST_BREAKS]
    rows = [
        (
            code(item.reason, limit=REASON_LENGTH),
            code(item.place, limit=REASON_LENGTH),
            _models(item.models),
            code(findings.name_of(item.compiler)),
            *_place(findings, item),
        )
        for item in shown
    ]
    if rows:
        hidden = len(findings.breaks) - len(shown)
        table = markdown_table(("Reason", "Where", "Models", "Compiler", "Suite", "Section"), rows, rank=BUILD)
        title = f"{count(len(findings.breaks), 'reason')} of graph breaks"
        yield fold(title + (f" ({hidden:,} of them in {ALL_ROWS} only)" if hidden else ""), [table], BUILD)


def _build(findings: RunFindings, *, has_files: bool) -> Iterator[Block]:
    """Draw the build summary, and the flags of dynamo, of which there are a hundred, apart."""
    parts = dict(list_build(findings))
    flags = parts.pop(FLAGS_TITLE)
    where = "gh_build_summary.txt"
    tables = [
        lines_table((f"- {code(text)}" for text in lines), rank=BUILD, where=where, before=f"\n**{title}**\n\n")
        for title, lines in parts.items()
    ]
    if not has_files:
        left_to_files = f"\n{count(len(flags), 'flag')} of torch._dynamo.config: see {where}.\n"
        tables.append(lines_table((), where=where, after=left_to_files))
    yield fold("Build summary", tables, BUILD)
    if has_files:
        table = lines_table((f"- {code(one_line(text))}" for text in flags), rank=FLAGS, where=where, before="\n")
        yield fold(f"{FLAGS_TITLE} ({len(flags):,})", [table], FLAGS)
