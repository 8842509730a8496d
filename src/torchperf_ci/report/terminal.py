"""The executive summary as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from torchperf_ci.core.text import one_line
from torchperf_ci.report.csv_tables import passrate
from torchperf_ci.report.model import RunFindings
from torchperf_ci.report.summary import CompilerSummary
from torchperf_ci.report.words import ratio, seconds, verdict

COLUMNS = ("compiler", "suite", "passed", "geomean", "slowdowns as 1x", "compile time", "memory")
SHOWN_FAILURES = 20


def terminal(findings: RunFindings) -> str:
    """Verdict, failures and the summary table of every section."""
    sign, sentence = verdict(findings)
    parts = [f"{sign} {sentence}", *_failures(findings), *_remarks(findings)]
    for section in findings.sections:
        rows = [_cells(line) for line in findings.lines_of(section)]
        parts += ["", one_line(str(section)), tabulate(rows, headers=COLUMNS, tablefmt="simple", disable_numparse=True)]
    return "\n".join(parts)


def _failures(findings: RunFindings) -> list[str]:
    failed = sorted(findings.failures, key=lambda failure: not failure.counts)
    texts = (
        f"{item.suite}/{item.model} {item.compiler}: {item.status} ({item.testing}) {item.reason}" for item in failed
    )
    return _first([*texts], more="more")


def _remarks(findings: RunFindings) -> list[str]:
    """List what is to be known of single cases, those first of which nothing was compiled."""
    remarks = sorted(findings.remarks, key=lambda remark: not remark.not_compiled)
    texts = (f"{item.suite}/{item.model} {item.compiler}: {'; '.join(item.texts)}" for item in remarks)
    return _first([*texts], more="more remarks")


def _first(texts: Sequence[str], *, more: str) -> list[str]:
    """Show the first few, a line each, and say how many there are besides."""
    shown = [f"  {one_line(text, limit=160)}" for text in texts[:SHOWN_FAILURES]]
    left = len(texts) - len(shown)
    return [*shown, *([f"  … and {left:,} {more}, see report.md"] if left else [])]


def _cells(line: CompilerSummary) -> list[str]:
    return [
        one_line(line.compiler),
        one_line(line.suite),
        passrate(line),
        ratio(line.geomean),
        ratio(line.clipped),
        seconds(line.compile_seconds),
        ratio(line.compression),
    ]
