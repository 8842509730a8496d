"""Writes every file of a report into a results folder."""

from __future__ import annotations

from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.records import Mode
from torchperf_ci.core.results import Results, ResultsFolder
from torchperf_ci.report.charts import Charts, draw
from torchperf_ci.report.csv_tables import case_csvs, summary_csvs
from torchperf_ci.report.gh_parts import legacy_parts
from torchperf_ci.report.html import html_page
from torchperf_ci.report.markdown import markdown
from torchperf_ci.report.model import Report, ReportOptions, RunFindings, find
from torchperf_ci.report.terminal import terminal
from torchperf_ci.report.words import verdict


def write_report(folder: ResultsFolder, results: Results, options: ReportOptions) -> Report:
    """Write the CSV files, the charts and the report of `results` into `folder`.

    Raises `NothingToJudge` when there is no record, or none that the options select.
    """
    return write_findings(folder, look(results, options))


def look(results: Results, options: ReportOptions) -> RunFindings:
    """What there is to report. Raises `NothingToJudge` when that is neither a result nor a problem."""
    findings = find(results, options)
    if not findings.tables and not results.problems:
        raise NothingToJudge(_why_nothing(results))
    return findings


def write_findings(folder: ResultsFolder, findings: RunFindings, charts: Charts | None = None) -> Report:
    """Write all files of a report, and remove those of an earlier one that this one does not have.

    `charts` are those of `findings`, where they were drawn already.
    """
    before = folder.written
    charts = charts or draw(findings)
    texts = {
        **(dict(case_csvs(findings.records)) if findings.options.case_csvs else {}),
        **summary_csvs(findings),
        **legacy_parts(findings),
        "report.md": markdown(findings),
        "report.html": html_page(findings, charts),
    }
    for name, text in texts.items():
        folder.write_text(name, text)
    pictures = dict(charts.files())
    for name, content in pictures.items():
        folder.write_bytes(name, content)
    folder.forget([name for name in before if _is_part(name) and name not in texts and name not in pictures])
    return _report(findings)


def _is_part(name: str) -> bool:
    """Is this a file that hangs on what a report finds? All others are written every time, or belong to others."""
    return name.startswith("samples_") or name in {f"gh_{mode}.txt" for mode in Mode}


def _report(findings: RunFindings) -> Report:
    return Report(
        outcome=findings.outcome,
        verdict=" ".join(verdict(findings)),
        summary=terminal(findings),
        passed=findings.passed,
        not_compiled=findings.not_compiled,
        failed=findings.total - findings.passed,
        missing=findings.missing,
        left_out=findings.left_out,
        problems=findings.problems,
    )


def _why_nothing(results: Results) -> str:
    if not results.records and results.left_out:
        return f"the options ask for none of the files that are there: {', '.join(results.left_out[:10])}"
    if not results.records:
        return "there are no results to report"
    suites = ", ".join(sorted({record.case.suite for record in results.records}))
    return f"none of the {len(results.records)} results is selected by the options; the suites there are: {suites}"
