"""How a run ends, whichever harness it had: the report, what GitHub is told, the exit code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.core.errors import ExitCode

if TYPE_CHECKING:
    from torchperf_ci.core.results import Results, ResultsFolder
    from torchperf_ci.report.model import ReportOptions


def resume_hint(folder_path: Path) -> str:
    """How to go on after an interruption."""
    return f"What is finished is in {folder_path}; the same command with --keep-output-dir measures the rest."


def announce(folder_path: Path, name: str, shard: str) -> None:
    """Outputs that later steps need also when this one is cancelled: with them what was measured is uploaded."""
    from torchperf_ci.core.text import safe_name
    from torchperf_ci.github.step_files import write_outputs

    attempt = os.environ.get("GITHUB_RUN_ATTEMPT", "1")
    artifact = f"torchperf-{safe_name(name)}-{shard}-{attempt}"
    write_outputs(os.environ, {"results": str(folder_path), "artifact-name": artifact})


def conclude(
    folder: ResultsFolder,
    results: Results,
    report_options: ReportOptions,
    options: Mapping[str, Any],
    environ: Mapping[str, str],
) -> int:
    """Write the report, print its summary, hand outputs to GitHub; the exit code."""
    from torchperf_ci.core.text import one_line
    from torchperf_ci.github.step_files import append_summary, write_outputs
    from torchperf_ci.report.write import write_report

    report = write_report(folder, results, report_options)
    click.echo(report.summary)
    click.echo(f"The report is {folder.path / 'report.md'}", err=True)
    for problem in report.problems:
        click.echo(f"Problem: {one_line(str(problem))}", err=True)
    is_good = report.outcome.is_pass and not (options.get("strict") and report.not_compiled)
    code = ExitCode.OK if is_good else ExitCode.SOME_FAILED
    if options["github_files"]:
        passed, failed = _counts(results)
        write_outputs(environ, {"passed": str(passed), "failed": str(failed)})
        append_summary(environ, (folder.path / "report.md").read_text(encoding="utf-8"))
    told_github(int(code), options)
    return int(ExitCode.OK if options["fail_on"] == "never" else code)


def told_github(code: int, options: Mapping[str, Any]) -> int:
    """`code`, which is now the output `exit-code` of the step."""
    from torchperf_ci.github.step_files import write_outputs

    if options["github_files"]:
        write_outputs(os.environ, {"exit-code": str(code)})
    return code


def _counts(results: Results) -> tuple[int, int]:
    """Cases of which every testing passed, and the others: also those that the report leaves out of its pass rate."""
    cases = {record.case for record in results.records}
    failed = {record.case for record in results.records if not record.status.is_pass}
    return len(cases - failed), len(failed)
