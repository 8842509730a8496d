"""`torchperf-ci export`: results in the formats that other dashboards read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click

from torchperf_ci.cli.files import STREAM, results_in, write_output
from torchperf_ci.cli.options import RESULTS_DIR, command, option, takes
from torchperf_ci.formats.model import ExportFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Say what is exported, and where to."""

    directory: Annotated[Path, RESULTS_DIR]
    form: Annotated[
        str,
        option(
            "--format",
            type=click.Choice([each.value for each in ExportFormat]),
            required=True,
            help="The format.",
        ),
    ]
    out: Annotated[
        Path | None,
        option(
            "--out",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="The file.  [default: standard output]",
        ),
    ]
    better: Annotated[
        str | None,
        option(
            "--better",
            type=click.Choice(["bigger", "smaller"]),
            help="For github-action-benchmark, whose files hold metrics of one direction: those of "
            "customBiggerIsBetter, or those of customSmallerIsBetter.",
        ),
    ]


@command(short_help="Write results in the formats that other dashboards read.")
@takes(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write the results in the folder DIR in the format of another tool.

    csv, parquet and openmetrics hold every result; the others have no words for one that failed.

    \b
    Example:
      torchperf-ci export out --format github-action-benchmark --better smaller --out latencies.json
    """
    form = ExportFormat(options.form)
    if (form is ExportFormat.GITHUB_ACTION_BENCHMARK) != (options.better is not None):
        raise click.UsageError(
            "--better bigger or --better smaller belongs to github-action-benchmark, and it needs one"
        )
    if form is ExportFormat.PARQUET and options.out in {None, STREAM}:
        raise click.UsageError("a Parquet file is not text; name it with --out")
    from torchperf_ci.core.records import Direction
    from torchperf_ci.formats.exports import export_records

    direction = Direction.HIGHER if options.better == "bigger" else Direction.LOWER
    records = results_in(options.directory).records
    failed = sum(not record.status.is_pass for record in records)
    if failed:
        click.echo(f"{failed} of {len(records)} results did not pass", err=True)
    timed = [record for record in records if record.status.is_pass and "abs_latency" in record.metrics]
    bare = sum(not record.samples.get("compiled") for record in timed)
    if form is ExportFormat.PYTEST_BENCHMARK and bare:
        click.echo(
            f"{bare} of {len(timed)} results have no raw times, so their medians stand alone; `ingest` reads that, "
            "`pytest-benchmark compare` does not load such a file",
            err=True,
        )
    write_output(options.out, export_records(records, form, direction=direction))
