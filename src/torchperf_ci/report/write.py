"""Write every file of a report into a results folder."""

from __future__ import annotations

from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.records import Mode
from torchperf_ci.core.results import Results, ResultsFolder
from torchperf_ci.core.safe_files import is_below
from torchperf_ci.report.charts import Charts, draw
from torchperf_ci.report.csv_tables import case_csvs, write_summary_csvs
from torchperf_ci.report.gh_parts import render_parts
from torchperf_ci.report.html import write_page
from torchperf_ci.report.markdown import write_markdown
from torchperf_ci.report.model import Report, ReportOptions, RunFindings, collect_findings
from torchperf_ci.report.terminal import write_terminal
from torchperf_ci.report.words import verdict


def write_report(folder: ResultsFolder, results: Results, options: ReportOptions) -> Report:
    """Write the CSV files, the charts and the report of `results` into `folder`.

    Raises `NothingToJudge` when there is no record, or none that the options select.
    """
    return write_findings(folder, judge_results(results, options))


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


def write_findings(folder: ResultsFolder, findings: RunFindings, charts: Charts | None = None) -> Report:
    """Write all files of a report, and remove those of an earlier one that this one does not have.

    `charts` are those of `findings`, where they were drawn already.
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
    return Report(
        outcome=findings.outcome,
        verdict=" ".join(verdict(findings)),
        summary=write_terminal(findings, logs),
        markdown=write_markdown(findings),
        passed=findings.passed,
        not_compiled=findings.not_compiled,
        failed=findings.total - findings.passed,
        missing=findings.missing,
        left_out=findings.left_out,
        problems=findings.problems,
    )
