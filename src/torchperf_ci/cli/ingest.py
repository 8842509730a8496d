"""`torchperf-ci ingest`: results of other benchmark tools as a results folder."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from torchperf_ci.cli.files import STREAM, read_input
from torchperf_ci.cli.import_options import ImportOptions
from torchperf_ci.cli.options import Group, argument, option, takes
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.text import one_line
from torchperf_ci.formats.model import NOT_KNOWN, Clock, ImportFormat, ImportRequest

if TYPE_CHECKING:
    from torchperf_ci.core.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """Say what is taken in, where it goes, and what the files do not say themselves."""

    files: Annotated[
        tuple[Path, ...], argument(metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
    ]
    output_dir: Annotated[
        Path,
        option(
            "--output-dir",
            type=click.Path(path_type=Path),
            default=Path("benchmark_logs"),
            help="The results folder. What was written there earlier is removed first.",
        ),
    ]
    dry_run: Annotated[bool, option("--dry-run", is_flag=True, help="Only read, and say what would be written.")]
    keep_output_dir: Annotated[
        bool, option("--keep-output-dir", is_flag=True, help="Keep what is recorded there, and add to it.")
    ]
    suite: Annotated[
        str,
        option(
            "--suite",
            default="",
            show_default=False,
            help="The suite of all benchmarks.  [default: named after each one's group or file]",
        ),
    ]
    device: Annotated[str, option("--device", default="cpu", help="The device of benchmarks that do not say it.")]
    dtype: Annotated[str, option("--dtype", default="unknown", help="The dtype of benchmarks that do not say it.")]
    mode: Annotated[
        str,
        option("--mode", type=click.Choice(["inference", "training"]), default="inference", help="Likewise the mode."),
    ]
    commit: Annotated[
        str,
        option(
            "--commit",
            default="",
            show_default=False,
            help="The commit that was measured.  [default: as in the file, or else here]",
        ),
    ]
    branch: Annotated[
        str,
        option("--branch", default="", show_default=False, help="Its branch.  [default: as in the file, or else here]"),
    ]

    def request(self, form: ImportFormat) -> ImportRequest:
        """Return how to read files of this format."""
        from torchperf_ci.core.records import Mode
        from torchperf_ci.github.context import source_from

        return ImportRequest(
            form=form,
            source=source_from(os.environ, shard="1-1", folder=Path.cwd()),
            checked_out=os.environ.get("GITHUB_SHA", ""),
            commit=self.commit,
            branch=self.branch,
            suite=self.suite,
            device=self.device or "cpu",
            dtype=self.dtype or NOT_KNOWN,
            mode=Mode(self.mode),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockOptions(IngestOptions):
    """Choose one of Google Benchmark's times, too."""

    clock: Annotated[
        str,
        option(
            "--clock",
            type=click.Choice([each.value for each in Clock]),
            default="real",
            help="Which of its two times to take.",
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignOptions(IngestOptions):
    """Say what files of other formats do not say themselves, too."""

    reading: ImportOptions


@click.group(cls=Group, short_help="Turn results of other benchmark tools into a results folder.")
def ingest() -> None:
    """Turn results of other benchmark tools into a results folder, for reports, history and comparisons.

    FILE may be - for standard input.
    """


def _take(options: IngestOptions, request: ImportRequest) -> None:
    """Read all files, then write all of their records: a file that cannot be used changes nothing."""
    from torchperf_ci.core.records import Build
    from torchperf_ci.core.results import RECORDS, open_folder
    from torchperf_ci.formats.imports import read_content, read_location, runs_of
    from torchperf_ci.formats.inputs import InputProblem

    records: list[Record] = []
    builds: list[Build] = []
    for path in options.files:
        is_stream = path == STREAM
        imported = read_content(*read_input(path), request) if is_stream else read_location(str(path), request)
        for text in imported.left_out:
            click.echo(f"Warning: left out {one_line(text, limit=300)}", err=True)
        newest = imported.records
        runs, _ = runs_of(imported, name="")
        if len(runs) > 1:
            newest = runs[-1].results.records
            click.echo(f"{path} holds {len(runs):,} runs; this is the newest, {runs[-1].key}", err=True)
        records += newest
        for record in newest[:1]:
            time, warnings = record.source.time, imported.warnings
            builds.append(Build(environment=record.environment, warnings=warnings, time=time))
    if not records:
        raise NothingToJudge(f"there are no benchmarks in {', '.join(map(str, options.files))}")
    counts = Counter(record.key for record in records)
    if twice := [f"{case} is there {count} times" for (case, _), count in counts.items() if count > 1]:
        raise InputProblem([*twice, "give them different groups, or ingest the files into different folders"])
    for warning in dict.fromkeys(warning for build in builds for warning in build.warnings):
        click.echo(f"Warning: {warning}", err=True)
    raw = sum(bool(record.samples) for record in records)
    summary = f"{len(records)} benchmarks, {raw} of them with raw rounds,"
    if options.dry_run:
        click.echo(f"{summary} would be written to {options.output_dir / RECORDS}")
        return
    with open_folder(options.output_dir) as folder:
        if not options.keep_output_dir:
            folder.empty()
        folder.append(*builds, *records)
    click.echo(f"{summary} are in {options.output_dir / RECORDS}")


@ingest.command("pytest-benchmark", short_help="Take the JSON of pytest-benchmark.")
@takes(IngestOptions)
def pytest_benchmark(options: IngestOptions) -> None:
    """Take the JSON of `pytest --benchmark-json FILE` or of `--benchmark-save`.

    Parameters named device, dtype, mode and compiler (or backend) go where these belong; the others stay in the
    benchmark's name. Save raw rounds with --benchmark-save-data: comparisons are made of them.
    """
    _take(options, options.request(ImportFormat.PYTEST_BENCHMARK))


@ingest.command("google-benchmark", short_help="Take the JSON of Google Benchmark.")
@takes(ClockOptions)
def google_benchmark(options: ClockOptions) -> None:
    """Take the JSON of `--benchmark_out=FILE --benchmark_out_format=json`.

    Repetitions (`--benchmark_repetitions=N`) are the raw rounds that comparisons are made of.
    """
    _take(options, replace(options.request(ImportFormat.GOOGLE_BENCHMARK), clock=Clock(options.clock)))


def _add_command(form: ImportFormat, writes: str) -> None:
    """Add the command that takes one of the formats without options of their own."""

    @ingest.command(form.value, short_help=f"Take {writes}.", help=f"Take {writes}: of a history the newest run.")
    @takes(ForeignOptions)
    def take_format(options: ForeignOptions) -> None:
        _take(options, options.reading.add_to(options.request(form)))


for _form, _writes in (
    (ImportFormat.GITHUB_ACTION_BENCHMARK, "the data.js of github-action-benchmark, or the list its custom tools take"),
    (ImportFormat.BENCHER, "Bencher Metric Format"),
    (ImportFormat.ASV, "a file or the results folder of asv"),
    (ImportFormat.HUD, "rows of PyTorch's benchmark database, schema v3"),
    (ImportFormat.FASTRNNS, "what fastrnns --print-json oss prints"),
    (ImportFormat.OPENMETRICS, "the OpenMetrics text of export"),
    (ImportFormat.CSV, "a CSV file with named columns, as export writes it, or with --column"),
    (ImportFormat.PARQUET, "a Parquet file with named columns"),
):
    _add_command(_form, _writes)
