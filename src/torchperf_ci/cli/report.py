"""`torchperf-ci report`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from torchperf_ci.cli.files import tell_problems
from torchperf_ci.cli.finish import ContentOptions, echo_report, refuse_to_overwrite
from torchperf_ci.cli.options import RESULTS_DIR, command, command_options, option, takes
from torchperf_ci.core.errors import ExitCode
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.core.results import open_folder
from torchperf_ci.core.text import one_line


@command_options
class ReportCommandOptions:
    directory: Path = RESULTS_DIR
    output_dir: Path | None = option(
        type=click.Path(file_okay=False, path_type=Path), help="Write there instead of into DIR."
    )
    limit: int = option(type=click.IntRange(min=1000), default=60_000, help="Largest size of report.md in bytes.")
    content: ContentOptions


@command()
@takes(ReportCommandOptions)
def report(options: ReportCommandOptions) -> None:
    """Make tables, charts and the report from the results in DIR, and print the executive summary.

    DIR is a results folder, or any folder of CSV files named as PyTorch's suite runner names them,
    {compiler}_{suite}_{dtype}_{mode}_{device}_{testing}.csv, with or without a header.

    Exit code 6: something in DIR could not be used, or a model has no result with some compiler; the report says what.
    Exit code 0: the report is complete, also where its verdict is ❌: for failed cases `run`, `merge` and `check` fail.
    """
    from torchperf_ci.report.write import judge_results, write_findings

    report_options = options.content.report_options(options.directory, limit=options.limit)
    target = options.output_dir or options.directory
    refuse_to_overwrite(target, instead="choose another folder with --output-dir")
    results = read_folder(options.directory, report_options.selection)
    for name in results.left_out:
        click.echo(f"Not read, since the options ask for others: {one_line(name)}", err=True)
    findings = judge_results(results, report_options)
    with open_folder(target, adopt=True) as folder:
        summary = write_findings(folder, findings)
    echo_report(summary, findings.outcome)
    click.echo(one_line(f"The report is in {target / 'report.md'} and {target / 'report.html'}."), err=True)
    tell_problems(findings.problems, word="Problem")
    if findings.problems or findings.missing:
        sys.exit(int(ExitCode.SOME_FAILED))
