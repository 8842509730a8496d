"""`torchperf-ci export`: results in the formats that other dashboards read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.files import STREAM, results_in, write_output
from torchperf_ci.cli.options import RESULTS_DIR, command, command_options, option, takes
from torchperf_ci.core.records import Direction, Record, Testing
from torchperf_ci.core.text import count, one_line
from torchperf_ci.formats.model import ExportFormat

if TYPE_CHECKING:
    from torchperf_ci.core.results import Results

_MOST_FAILURES = 10
"""So many results that did not pass are named."""


@command_options
class ExportOptions:
    directory: Path = RESULTS_DIR
    form: str = option(
        "--format",
        type=click.Choice([each.value for each in ExportFormat]),
        metavar="FORMAT",
        required=True,
        help="github-action-benchmark; bencher; pytest-benchmark, for `pytest-benchmark compare`; openmetrics, for "
        "Prometheus; csv; or parquet.",
    )
    out: Path | None = option(
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="The file to write.  [default: standard output]",
    )
    better: str | None = option(
        type=click.Choice(["bigger", "smaller"]),
        help="Which metrics go into a file for github-action-benchmark, which holds those of one direction. "
        "bigger: speedups, for its tool customBiggerIsBetter; smaller: times and memory, for "
        "customSmallerIsBetter.",
    )


@command(short_help="Write results in the formats that other dashboards read.")
@takes(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write the results in the folder DIR in the format of another tool.

    csv, parquet and openmetrics hold every result with its status. The other formats hold performance results that
    passed; the results that failed are named on stderr.

    \b
    Examples:
      torchperf-ci export out --format csv --out results.csv
      torchperf-ci export out --format github-action-benchmark --better smaller --out latencies.json
    """
    form = ExportFormat(options.form)
    if form is ExportFormat.GITHUB_ACTION_BENCHMARK and options.better is None:
        raise click.UsageError(
            "a file for github-action-benchmark holds metrics of one direction; add --better bigger for speedups, or "
            "--better smaller for times and memory"
        )
    if form is not ExportFormat.GITHUB_ACTION_BENCHMARK and options.better is not None:
        raise click.UsageError("--better belongs to --format github-action-benchmark; leave it out")
    if form is ExportFormat.PARQUET and options.out in {None, STREAM}:
        raise click.UsageError("a Parquet file is not text, so it is not printed; name a file with --out")
    from torchperf_ci.formats.imports import export_records

    direction = Direction.HIGHER if options.better == "bigger" else Direction.LOWER
    results = results_in(options.directory)
    records = results.records
    content = export_records(records, form, direction=direction, run_key=_name_run(results))
    exported: Sequence[Record] = records
    if form not in {ExportFormat.CSV, ExportFormat.PARQUET, ExportFormat.OPENMETRICS}:
        exported = [
            each for each in records if each.testing is Testing.PERFORMANCE and each.status.is_pass and each.metrics
        ]
    _name_failures([each for each in records if not each.status.is_pass], kept=len(exported) == len(records))
    bare = sum("abs_latency" in each.metrics and not each.samples.get("compiled") for each in exported)
    if form is ExportFormat.PYTEST_BENCHMARK and bare:
        click.echo(
            f"{count(bare, 'result')} without raw times: such a benchmark has a median alone. `torchperf-ci ingest` "
            "reads this file; `pytest-benchmark compare` does not load it.",
            err=True,
        )
    write_output(options.out, content, holds=f"{len(exported)} of {count(len(records), 'result')}")


def _name_run(results: Results) -> str:
    """Name the run as the history does; blank for results that say neither a time nor a workflow run."""
    from torchperf_ci.history.runs import make_run

    if not any(record.source.time or record.source.run_id for record in results.records):
        return ""
    return make_run(results, name="", now=datetime.now(tz=timezone.utc)).key


def _name_failures(failed: Sequence[Record], *, kept: bool) -> None:
    """Name the results that did not pass on stderr, each with its status and reason. kept: the file has them too."""
    if not failed:
        return
    place = "; they are exported with their status" if kept else "; this format has no place for them"
    click.echo(f"{count(len(failed), 'result')} did not pass{place}:", err=True)
    for record in failed[:_MOST_FAILURES]:
        reason = f" ({record.reason})" if record.reason else ""
        line = one_line(f"{record.case}, {record.testing}: {record.status}{reason}", limit=200)
        click.echo(f"  {line}", err=True)
    if len(failed) > _MOST_FAILURES:
        click.echo(f"  and {len(failed) - _MOST_FAILURES} more", err=True)
