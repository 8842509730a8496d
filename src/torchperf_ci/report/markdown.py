"""report.md: for a comment, a check and a step summary. Verdict first, then what failed, then numbers; detail folds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from torchperf_ci.core.frames import ACCURACY, Cell, SuiteTables, model_rows
from torchperf_ci.core.text import code, count, html, sentence
from torchperf_ci.report.document import Block, MarkdownTable, TableLine, fit
from torchperf_ci.report.gh_parts import build_summary
from torchperf_ci.report.model import RunFindings
from torchperf_ci.report.summary import Failure, Flag, Remark
from torchperf_ci.report.words import (
    ABSENT,
    flag_text,
    metric_text,
    metric_title,
    own_names,
    percent,
    ratio,
    seconds,
    setting,
    verdict,
    whole,
)

HEAD, SUMMARY, FAILING, PROBLEM, WARNING, LEFT_OUT, DETAIL = range(7)
"""What is hidden last and what first when the document gets too long. Detail has two ranks per metric, because a model
that fails stays longer than one that passes."""

BUILD = 100
DETAIL_METRICS = ("speedup", "compilation_latency", "compression_ratio", "abs_latency", ACCURACY)
REASON_LENGTH = 200
LONGEST_SETTING = 200
OPEN_FAILURES = 25
ALL_ROWS = "report.html"


def markdown(findings: RunFindings) -> str:
    """The whole document, at most `findings.options.limit` bytes."""
    return fit([_head(findings), *body_blocks(findings)], findings.options.limit)


def body_blocks(findings: RunFindings) -> list[Block]:
    """Make everything below the heading, which has the verdict."""
    return [
        *_failures(findings),
        *_summary(findings),
        *_list("Problems with the input", map(str, findings.problems), PROBLEM),
        *_list("Notes", findings.notes, PROBLEM),
        *_remarks(findings),
        *_warnings(findings),
        *_left_out(findings),
        *_details(findings),
        _build(findings),
    ]


def _head(findings: RunFindings) -> Block:
    sign, sentence = verdict(findings, code)
    known = " · ".join(code(text, limit=LONGEST_SETTING) for text in setting(findings))
    return Block(before=f"## {sign} {sentence}\n" + (f"\n{known}\n" if known else ""), rank=HEAD)


def _failures(findings: RunFindings) -> Iterator[Block]:
    failed = [failure for failure in findings.failures if failure.counts]
    if failed:
        first, rest = failed[:OPEN_FAILURES], failed[OPEN_FAILURES:]
        before = f"\n### Failed ({len(failed):,})\n"
        yield Block(before=before, tables=(_failure_table(findings, first),), rank=FAILING)
        if rest:
            yield fold(f"{len(rest):,} more that failed", [_failure_table(findings, rest)], FAILING)


def _failure_table(findings: RunFindings, failed: Sequence[Failure]) -> MarkdownTable:
    rows = [
        (
            *_where(findings, failure),
            failure.testing.value,
            code(failure.status),
            code(failure.reason, limit=REASON_LENGTH),
        )
        for failure in failed
    ]
    return markdown_table(("Suite", "Model", "Compiler", "Section", "Testing", "Status", "Reason"), rows, FAILING)


def _where(findings: RunFindings, item: Failure | Flag | Remark) -> tuple[str, ...]:
    """Suite, model, compiler and section; the last is blank where there is only one."""
    section = code(str(item.section)) if len(findings.sections) > 1 else ABSENT
    return (code(item.suite), code(item.model), code(item.compiler), section)


def _summary(findings: RunFindings) -> Iterator[Block]:
    several = len({line.suite for line in findings.lines}) > 1
    columns = ("Compiler", "Suite", "Passed", "Not compiled", "Missing", "Left out", "Geomean speedup")
    for section in findings.sections:
        rows = [
            (
                code(line.compiler),
                code(line.suite) if several else ABSENT,
                f"{percent(line)} ({line.passed:,}/{line.total:,})",
                whole(line.not_compiled),
                whole(line.missing),
                whole(line.left_out),
                ratio(line.geomean),
                ratio(line.clipped),
                seconds(line.compile_seconds),
                ratio(line.compression),
            )
            for line in findings.lines_of(section)
        ]
        means = ("Geomean, slowdowns as 1x", "Mean compile time", "Memory compression")
        table = markdown_table((*columns, *means), rows, SUMMARY)
        yield Block(before=f"\n### Executive summary: {code(str(section))}\n", tables=(table,), rank=SUMMARY)


def _list(title: str, items: Iterable[str], rank: int) -> Iterator[Block]:
    lines = tuple(TableLine(text=f"- {code(item, limit=300)}", rank=rank) for item in items)
    if lines:
        table = MarkdownTable(before="", lines=lines, where=ALL_ROWS)
        yield Block(before=f"\n### {title} ({len(lines):,})\n\n", tables=(table,), rank=rank)


def _remarks(findings: RunFindings) -> Iterator[Block]:
    """What is to be known of single cases: first those of which nothing was compiled, then the others, folded."""
    columns = ("Suite", "Model", "Compiler", "Section", "Remark")
    for title, not_compiled in (("Not compiled", True), ("Remarks", False)):
        rows = [
            (*_where(findings, remark), code("; ".join(remark.texts), limit=REASON_LENGTH))
            for remark in findings.remarks
            if remark.not_compiled is not_compiled
        ]
        first, rest = (rows[:OPEN_FAILURES], rows[OPEN_FAILURES:]) if not_compiled else ([], rows)
        if first:
            table = markdown_table(columns, first, PROBLEM)
            yield Block(before=f"\n### {title} ({len(rows):,})\n", tables=(table,), rank=PROBLEM)
        if rest:
            more = f"{len(rest):,} more not compiled" if not_compiled else count(len(rest), "case") + " with remarks"
            yield fold(more, [markdown_table(columns, rest, WARNING)], WARNING)


def _warnings(findings: RunFindings) -> Iterator[Block]:
    rows = [(*_where(findings, flag), flag_text(flag)) for flag in findings.flags if flag.value is not None]
    if rows:
        table = markdown_table(("Suite", "Model", "Compiler", "Section", "What"), rows, WARNING)
        yield fold(count(len(rows), "warning"), [table], WARNING)


def _left_out(findings: RunFindings) -> Iterator[Block]:
    """What leaves the pass rate, the models with the same reason together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for failure in findings.failures:
        if not failure.counts:
            key = (failure.suite, str(failure.section), failure.compiler, failure.status, failure.reason)
            groups.setdefault(key, []).append(failure.model)
    rows = [(*map(code, key[:4]), _models(models), code(key[4], limit=REASON_LENGTH)) for key, models in groups.items()]
    if rows:
        table = markdown_table(("Suite", "Section", "Compiler", "Status", "Models", "Reason"), rows, LEFT_OUT)
        yield fold(f"{findings.left_out:,} left out of the pass rate", [table], LEFT_OUT)


def _models(models: Sequence[str]) -> str:
    shown = ", ".join(code(model, limit=60) for model in models[:3])
    return shown if len(models) <= 3 else f"{shown} and {len(models) - 3:,} more"


def _details(findings: RunFindings) -> Iterator[Block]:
    for tables in findings.tables:
        models = count(len(tables.models), "model")
        title = f"<code>{html(tables.suite)}</code> ({html(str(tables.section))}): {models}"
        made = [
            table
            for place, metric in enumerate((*DETAIL_METRICS, *own_names(tables)))
            for table in _detail(tables, metric, DETAIL + 2 * place)
        ]
        yield fold(title, made, DETAIL)


def _detail(tables: SuiteTables, metric: str, rank: int) -> Iterator[MarkdownTable]:
    found = list(model_rows(tables, metric))
    if any(metric == ACCURACY or cell.measured for row in found for cell in row.cells):
        lines = [
            (code(row.model), whole(row.batch_size), *(_cell(cell, metric) for cell in row.cells)) for row in found
        ]
        ranks = [rank + (not row.failed) for row in found]
        columns = ("Model", "Batch size", *map(code, tables.compilers))
        yield markdown_table(columns, lines, *ranks, title=f"\n**{sentence(metric_title(metric, tables.metrics))}**\n")


def _build(findings: RunFindings) -> Block:
    parts = [
        MarkdownTable(
            before=f"\n**{title}**\n\n",
            lines=tuple(TableLine(text=f"- {code(text)}", rank=BUILD) for text in lines),
            where="gh_build_summary.txt",
        )
        for title, lines in build_summary(findings)
    ]
    return fold("Build summary", parts, BUILD)


def _cell(cell: Cell, metric: str) -> str:
    if not cell.measured:
        return code(cell.status) if metric == ACCURACY or cell.status != "pass" else ABSENT
    text = metric_text(metric, cell)
    return f"{text} ❌" if metric == "speedup" and cell.counted and not cell.passed else text


def fold(title: str, tables: Sequence[MarkdownTable], rank: int) -> Block:
    before = f"\n<details>\n<summary>{title}</summary>\n"
    return Block(before=before, tables=tuple(tables), after="\n</details>\n", rank=rank)


def markdown_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *ranks: int, title: str = ""
) -> MarkdownTable:
    """A table without its empty columns; one rank for all rows, or one for each."""
    kept = [place for place in range(len(columns)) if any(cells[place] != ABSENT for cells in rows)]
    head = [columns[place] for place in kept]
    of_row = ranks if len(ranks) == len(rows) else ranks[:1] * len(rows)
    return MarkdownTable(
        before=f"{title}\n{_row(head)}\n{_row(['---'] * len(head))}\n",
        lines=tuple(
            TableLine(text=_row([cells[place] for place in kept]), rank=rank)
            for cells, rank in zip(rows, of_row, strict=True)
        ),
        where=ALL_ROWS,
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
