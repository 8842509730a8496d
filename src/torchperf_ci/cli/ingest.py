"""`torchperf-ci ingest`: results of other benchmark tools as a results folder."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from torchperf_ci.cli.files import STREAM, ImportOptions, read_input
from torchperf_ci.cli.options import Group, argument, command_options, option, takes
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.records import NOT_KNOWN, Build, Mode, Record
from torchperf_ci.core.results import RECORDS, open_folder
from torchperf_ci.core.text import count, one_line
from torchperf_ci.formats.model import Clock, ImportFormat, ImportRequest
from torchperf_ci.github.job import read_source

_MOST_LEFT_OUT = 20
"""So many of the things left out of a file are named."""


@command_options
class IngestOptions:
    files: tuple[Path, ...] = argument(metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
    output_dir: Path = option(
        type=click.Path(path_type=Path),
        default=Path("benchmark_logs"),
        help="Results folder. What was written there earlier is removed first.",
    )
    dry_run: bool = option(help="Write nothing; say what would be written.")
    keep_output_dir: bool = option(help="Keep what is recorded there, and add to it.")
    suite: str = option(help="Suite of all benchmarks.  [default: each one's group, or its file]")
    device: str = option(default="cpu", help="Device of benchmarks whose file does not name one.")
    dtype: str = option(default="unknown", help="Dtype of benchmarks whose file does not name one.")
    mode: str = option(
        type=click.Choice(["inference", "training"]),
        default="inference",
        help="Mode of benchmarks whose file does not name one.",
    )
    commit: str = option(help="Commit that was measured.  [default: the file's, or else the one checked out here]")
    branch: str = option(help="Branch of that commit.  [default: the file's, or else the one here]")

    def request(self, form: ImportFormat) -> ImportRequest:
        """Return how to read files of this format."""
        return ImportRequest(
            form=form,
            source=read_source(os.environ, shard="1-1", folder=Path.cwd()),
            checked_out=os.environ.get("GITHUB_SHA", ""),
            commit=self.commit,
            branch=self.branch,
            suite=self.suite,
            device=self.device or "cpu",
            dtype=self.dtype or NOT_KNOWN,
            mode=Mode(self.mode),
        )


@command_options
class ClockOptions(IngestOptions):
    """Choose one of Google Benchmark's times, too."""

    clock: str = option(
        type=click.Choice([each.value for each in Clock]),
        default="real",
        help="Time to take: real (wall clock) or CPU time.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignOptions(IngestOptions):
    """Say what files of other formats do not say themselves, too."""

    reading: ImportOptions


@click.group(cls=Group, short_help="Turn results of other benchmark tools into a results folder.")
def ingest() -> None:
    """Turn results of other benchmark tools into a results folder, for reports, history and comparisons.

    FILE is a file, a folder of files, or - for standard input. Of a history the newest run is taken; `torchperf-ci
    history import` takes all of it.

    \b
    Example:
      torchperf-ci ingest pytest-benchmark bench.json --output-dir out
      torchperf-ci report out
    """


def _take(options: IngestOptions, request: ImportRequest) -> None:
    """Read all files, then write all of their records: a file that cannot be used changes nothing."""
    from torchperf_ci.formats.model import InputProblem

    records: list[Record] = []
    builds: list[Build] = []
    for path in options.files:
        newest, warnings = _read_newest(path, request)
        records += newest
        builds.append(Build(environment=newest[0].environment, warnings=warnings, time=newest[0].source.time))
    counts = Counter(record.key for record in records)
    if twice := [f"{case} is there {number} times" for (case, _), number in counts.items() if number > 1]:
        raise InputProblem([*twice, "give them different groups, or ingest the files into different folders"])
    for warning in dict.fromkeys(warning for build in builds for warning in build.warnings):
        click.echo(f"Warning: {warning}", err=True)
    raw, target = sum(bool(record.samples) for record in records), options.output_dir / RECORDS
    summary = f"{count(len(records), 'result')}, {raw:,} with raw rounds"
    if options.dry_run:
        click.echo(one_line(f"Would write {target}: {summary}"))
        return
    with open_folder(options.output_dir) as folder:
        if not options.keep_output_dir:
            folder.empty()
        folder.append(*builds, *records)
    click.echo(one_line(f"Wrote {target}: {summary}"))
    click.echo(f"Next: torchperf-ci report {shlex.quote(str(options.output_dir))}", err=True)


def _read_newest(path: Path, request: ImportRequest) -> tuple[Sequence[Record], tuple[str, ...]]:
    """Read the newest run of a file or folder, and what to warn of; say what is left out.

    Raises `InputProblem` for a file that cannot be used, and `NothingToJudge` for one without benchmarks; both say
    which command would take it, if another one would.
    """
    from torchperf_ci.formats.imports import read_content, read_location, runs_of
    from torchperf_ci.formats.model import InputProblem

    content, name = read_input(path) if path == STREAM else (None, str(path))
    try:
        imported = read_location(name, request) if content is None else read_content(content, name, request)
    except InputProblem as error:
        hint = _other_format(path, content, request)
        raise InputProblem([*error.problems, hint]) if hint else error from None
    if not imported.records and imported.left_out and (hint := _other_format(path, content, request)):
        raise NothingToJudge(f"there are no benchmarks in {name}; {hint}")
    for text in imported.left_out[:_MOST_LEFT_OUT]:
        click.echo(f"Warning: left out {one_line(text, limit=300)}", err=True)
    if (more := len(imported.left_out) - _MOST_LEFT_OUT) > 0:
        click.echo(f"Warning: left out {more:,} more", err=True)
    if not imported.records:
        raise NothingToJudge(
            f"there are no benchmarks in {name}, read as {request.form}; nothing was written. For other formats see "
            "torchperf-ci ingest --help"
        )
    runs, _ = runs_of(imported, name="")
    if len(runs) < 2:
        return imported.records, imported.warnings
    click.echo(f"{name} holds {len(runs):,} runs; this is the newest, {runs[-1].key}", err=True)
    return runs[-1].results.records, imported.warnings


def _other_format(path: Path, content: bytes | None, request: ImportRequest) -> str:
    """Say which command takes a file that looks like one of another format; blank when it does not."""
    from torchperf_ci.formats.imports import detect, unpack
    from torchperf_ci.formats.model import InputProblem

    if (path / RECORDS).is_file() or path.name == RECORDS:
        return f"{path} is from torchperf-ci itself: use the results folder directly"
    try:
        form = detect(unpack(path.read_bytes() if content is None else content, str(path)), file=str(path))
    except (InputProblem, OSError):
        return ""
    if form is request.form:
        return ""
    return f"it looks like a file of another format: torchperf-ci ingest {form} {shlex.quote(str(path))}"


@ingest.command("pytest-benchmark", short_help="Take the JSON of pytest-benchmark.")
@takes(IngestOptions)
def pytest_benchmark(options: IngestOptions) -> None:
    """Take the JSON that `pytest --benchmark-json FILE` or `--benchmark-save` writes.

    Parameters named device, dtype, mode, and compiler or backend become that part of the case; the others stay in the
    benchmark's name. With --benchmark-save use --benchmark-save-data too: comparisons need the raw rounds.

    \b
    Example:
      pytest --benchmark-json bench.json
      torchperf-ci ingest pytest-benchmark bench.json --output-dir out
    """
    _take(options, options.request(ImportFormat.PYTEST_BENCHMARK))


@ingest.command("google-benchmark", short_help="Take the JSON of Google Benchmark.")
@takes(ClockOptions)
def google_benchmark(options: ClockOptions) -> None:
    """Take the JSON that a Google Benchmark program writes.

    Comparisons need raw rounds: run it with --benchmark_repetitions=N.

    \b
    Example:
      ./bench --benchmark_repetitions=10 --benchmark_out=bench.json --benchmark_out_format=json
      torchperf-ci ingest google-benchmark bench.json --output-dir out
    """
    _take(options, replace(options.request(ImportFormat.GOOGLE_BENCHMARK), clock=Clock(options.clock)))


def _add_command(form: ImportFormat, content: str, example: str) -> None:
    """Add the command that takes one of the formats without options of their own."""
    text = f"Take {content}.\n\n\b\nExample:\n  torchperf-ci ingest {form} {example} --output-dir out"

    @ingest.command(form.value, short_help=f"Take {content}.", help=text)
    @takes(ForeignOptions)
    def take_format(options: ForeignOptions) -> None:
        _take(options, options.reading.add_to(options.request(form)))


for _form, _content, _example in (
    (
        ImportFormat.GITHUB_ACTION_BENCHMARK,
        "the data.js of github-action-benchmark, or the list of its custom tools",
        "data.js",
    ),
    (ImportFormat.BENCHER, "Bencher Metric Format", "bmf.json"),
    (ImportFormat.ASV, "a results folder of asv, or one of its files", ".asv/results"),
    (ImportFormat.HUD, "rows of PyTorch's benchmark database, schema v3", "rows.json.gz"),
    (ImportFormat.FASTRNNS, "the JSON of fastrnns --print-json oss", "new.json"),
    (ImportFormat.OPENMETRICS, "the OpenMetrics text that export writes", "metrics.txt"),
    (
        ImportFormat.CSV,
        "a CSV file, a row per value, with the columns of export or with --column",
        "times.csv --column model=name --column value=seconds",
    ),
    (
        ImportFormat.PARQUET,
        "a Parquet file, a row per value, with the columns of export or with --column",
        "times.parquet --column model=name --column value=seconds",
    ),
):
    _add_command(_form, _content, _example)
