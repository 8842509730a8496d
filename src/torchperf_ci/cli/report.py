"""`torchperf-ci report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from torchperf_ci.cli.options import command, option, results_dir_argument
from torchperf_ci.cli.report_options import refuse_to_overwrite, report_options, report_options_from
from torchperf_ci.core.errors import ExitCode
from torchperf_ci.core.text import one_line


@command()
@results_dir_argument
@report_options
@option("--output-dir", type=click.Path(file_okay=False, path_type=Path), help="Write there instead of into DIR.")
@option("--limit", type=click.IntRange(min=1000), default=60_000, help="Largest size of report.md in bytes.")
def report(directory: Path, *, output_dir: Path | None, limit: int, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Make tables, charts and the report from the results in DIR, and print the executive summary.

    DIR is a results folder, or any folder of CSV files named as PyTorch's suite runner names them,
    {compiler}_{suite}_{dtype}_{mode}_{device}_{testing}.csv, with or without a header.

    Exit code 6: something in DIR could not be used, or a model has no result with some compiler; the report says what.
    """
    from torchperf_ci.core.result_files import read_folder
    from torchperf_ci.core.results import open_folder
    from torchperf_ci.report.write import look, write_findings

    wanted = report_options_from(directory, options, limit=limit)
    target = output_dir or directory
    refuse_to_overwrite(target, instead="choose another folder with --output-dir")
    results = read_folder(directory, wanted.selection)
    for name in results.left_out:
        click.echo(f"Not read, since the options ask for others: {one_line(name)}", err=True)
    findings = look(results, wanted)
    with open_folder(target, adopt=True) as folder:
        made = write_findings(folder, findings)
    click.echo(made.summary)
    click.echo(f"The report is in {target / 'report.md'} and {target / 'report.html'}.", err=True)
    for problem in made.problems:
        click.echo(f"Problem: {one_line(str(problem))}", err=True)
    if made.problems or made.missing:
        sys.exit(int(ExitCode.SOME_FAILED))
