"""`torchperf-ci ingest`: results of other benchmark tools as a results folder."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.files import STREAM, read_input
from torchperf_ci.cli.import_options import import_options, import_request
from torchperf_ci.cli.options import Decorated, Group, option
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.text import one_line

if TYPE_CHECKING:
    from torchperf_ci.formats.foreign import Defaults, Ingested

_OPTIONS = (
    click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)),
    option(
        "--output-dir",
        type=click.Path(path_type=Path),
        default=Path("benchmark_logs"),
        help="The results folder. What was written there earlier is removed first.",
    ),
    option("--dry-run", is_flag=True, help="Only read, and say what would be written."),
    option("--keep-output-dir", is_flag=True, help="Keep what is recorded there, and add to it."),
    option(
        "--suite",
        default="",
        show_default=False,
        help="The suite of all benchmarks.  [default: named after each one's group or file]",
    ),
    option("--device", default="cpu", help="The device of benchmarks that do not say it."),
    option("--dtype", default="unknown", help="The dtype of benchmarks that do not say it."),
    option("--mode", type=click.Choice(["inference", "training"]), default="inference", help="Likewise the mode."),
    option(
        "--commit",
        default="",
        show_default=False,
        help="The commit that was measured.  [default: as in the file, or else here]",
    ),
    option("--branch", default="", show_default=False, help="Its branch.  [default: as in the file, or else here]"),
)


def _shared(function: Decorated) -> Decorated:
    return functools.reduce(lambda decorated, decorate: decorate(decorated), reversed(_OPTIONS), function)


@click.group(cls=Group, short_help="Turn results of other benchmark tools into a results folder.")
def ingest() -> None:
    """Turn results of other benchmark tools into a results folder, for reports, history and comparisons.

    FILE may be - for standard input.
    """


@ingest.command("pytest-benchmark", short_help="Take the JSON of pytest-benchmark.")
@_shared
def pytest_benchmark(files: Sequence[Path], **options: Any) -> None:  # noqa: ANN401 - click's values
    """Take the JSON of `pytest --benchmark-json FILE` or of `--benchmark-save`.

    Parameters named device, dtype, mode and compiler (or backend) go where these belong; the others stay in the
    benchmark's name. Save raw rounds with --benchmark-save-data: comparisons are made of them.
    """
    from torchperf_ci.formats.imports.pytest_benchmark import ingest_pytest_benchmark
    from torchperf_ci.formats.pytest_benchmark import read_pytest_benchmark

    defaults = _defaults(options)

    def take(content: bytes, name: str) -> Ingested:
        return ingest_pytest_benchmark(read_pytest_benchmark(content, file=name, needed=()), defaults)

    _ingest(files, take, options)


@ingest.command("google-benchmark", short_help="Take the JSON of Google Benchmark.")
@_shared
@option("--clock", type=click.Choice(["real", "cpu"]), default="real", help="Which of its two times to take.")
def google_benchmark(files: Sequence[Path], **options: Any) -> None:  # noqa: ANN401 - click's values
    """Take the JSON of `--benchmark_out=FILE --benchmark_out_format=json`.

    Repetitions (`--benchmark_repetitions=N`) are the raw rounds that comparisons are made of.
    """
    from torchperf_ci.formats.imports.google_benchmark import Clock, ingest_google_benchmark

    defaults = _defaults(options)

    def take(content: bytes, name: str) -> Ingested:
        return ingest_google_benchmark(content, defaults, file=name, clock=Clock(options["clock"]))

    _ingest(files, take, options)


def _add(form: str, writes: str) -> None:
    """Add the command that takes one of the formats without options of their own."""

    @ingest.command(form, short_help=f"Take {writes}.", help=f"Take {writes}: of a history the newest run.")
    @_shared
    @import_options
    def take_format(files: Sequence[Path], **options: Any) -> None:  # noqa: ANN401 - click's values
        from torchperf_ci.core.records import Build, Environment
        from torchperf_ci.formats.foreign import Ingested
        from torchperf_ci.formats.imports.read import read_content, read_location, runs_of

        request = import_request(options, _defaults(options), form=form)

        def take(path: Path) -> Ingested:
            imported = read_content(*read_input(path), request) if path == STREAM else read_location(str(path), request)
            for text in imported.left_out:
                click.echo(f"Warning: left out {one_line(text, limit=300)}", err=True)
            records, builds = imported.records, {record.environment for record in imported.records}
            runs, _ = runs_of(imported, name="")
            if len(runs) > 1:
                records = runs[-1].results.records
                builds = {record.environment for record in records}
                click.echo(f"{path} holds {len(runs):,} runs; this is the newest, {runs[-1].key}", err=True)
            environment = next(iter(builds), Environment())
            return Ingested(records=records, build=Build(environment=environment))

        _write([take(path) for path in files], files, options)


for _form, _writes in (
    ("github-action-benchmark", "the data.js of github-action-benchmark, or the list its custom tools take"),
    ("bencher", "Bencher Metric Format"),
    ("asv", "a file or the results folder of asv"),
    ("hud", "rows of PyTorch's benchmark database, schema v3"),
    ("fastrnns", "what fastrnns --print-json oss prints"),
    ("openmetrics", "the OpenMetrics text of export"),
    ("csv", "a CSV file with named columns, as export writes it, or with --column"),
    ("parquet", "a Parquet file with named columns"),
):
    _add(_form, _writes)


def _ingest(files: Sequence[Path], take: Callable[[bytes, str], Ingested], options: dict[str, Any]) -> None:
    """Read all files, then write all of their records: a file that cannot be used changes nothing."""
    _write([take(*read_input(path)) for path in files], files, options)


def _write(found: Sequence[Ingested], files: Sequence[Path], options: dict[str, Any]) -> None:
    from torchperf_ci.core.results import RECORDS, open_folder
    from torchperf_ci.formats.inputs import InputProblem

    records = [record for each in found for record in each.records]
    if not records:
        raise NothingToJudge(f"there are no benchmarks in {', '.join(map(str, files))}")
    counts = Counter(record.case for record in records)
    if twice := [f"{case} is there {count} times" for case, count in counts.items() if count > 1]:
        raise InputProblem([*twice, "give them different groups, or ingest the files into different folders"])
    for warning in dict.fromkeys(warning for each in found for warning in each.build.warnings):
        click.echo(f"Warning: {warning}", err=True)
    raw = sum(bool(record.samples) for record in records)
    told = f"{len(records)} benchmarks, {raw} of them with raw rounds,"
    if options["dry_run"]:
        click.echo(f"{told} would be written to {options['output_dir'] / RECORDS}")
        return
    with open_folder(options["output_dir"]) as folder:
        if not options["keep_output_dir"]:
            folder.empty()
        folder.append(*(each.build for each in found), *records)
    click.echo(f"{told} are in {options['output_dir'] / RECORDS}")


def _defaults(options: dict[str, Any]) -> Defaults:
    from torchperf_ci.core.records import Mode
    from torchperf_ci.formats.foreign import NOT_KNOWN, Defaults
    from torchperf_ci.github.context import source_from

    return Defaults(
        source=source_from(os.environ, shard="1-1", folder=Path.cwd()),
        checked_out=os.environ.get("GITHUB_SHA", ""),
        commit=options["commit"],
        branch=options["branch"],
        suite=options["suite"],
        device=options["device"] or "cpu",
        dtype=options["dtype"] or NOT_KNOWN,
        mode=Mode(options["mode"]),
    )
