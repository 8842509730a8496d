"""`torchperf-ci upload`: results to Scribe and to PyTorch's benchmark database."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.files import STREAM, read_input, results_in, write_output
from torchperf_ci.cli.options import Group, KeyValues, option
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.pytorch.scribe_schema import API_URL, BATCH_BYTES

if TYPE_CHECKING:
    from torchperf_ci.pytorch.hud import Identity
    from torchperf_ci.pytorch.scribe_messages import Fields

_RESULTS = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(cls=Group, short_help="Send results to Scribe and to PyTorch's benchmark database.")
def upload() -> None:
    """Send results to Scribe or to PyTorch's benchmark database."""


@upload.command()
@option(
    "--pytest-bench-json",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What pytest-benchmark wrote with --benchmark-json; - for standard input.",
)
@option("--results", type=_RESULTS, metavar="DIR", help="A results folder.")
@option(
    "--field",
    multiple=True,
    type=KeyValues(),
    metavar="NAME=VALUE",
    help="Sets this field of every message. Repeatable.",
)
@option("--api-url", default=API_URL, envvar="TORCHPERF_SCRIBE_URL", help="The endpoint to post to.")
@option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Remembers here what was accepted; that is not sent a second time.",
)
@option("--batch-bytes", type=click.IntRange(min=1000), default=BATCH_BYTES, help="Largest body of a request.")
@option(
    "--request-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    help="Seconds to wait for the server.",
)
@option("--retries", type=click.IntRange(min=0), default=5, help="How often a request is tried again.")
@option("--dry-run", is_flag=True, help="Print the messages that would be sent.")
@option("--github-files", is_flag=True, help="Write step outputs for GitHub Actions.")
def scribe(**options: Any) -> None:  # noqa: ANN401 - click's values
    """Send one message per benchmark to Scribe.

    With SCRIBE_INTERN set, by the program scribe_cat; otherwise by the Graph API with the token in
    SCRIBE_GRAPHQL_ACCESS_TOKEN. Every message is checked before the first one is sent.

    \b
    Example:
      torchperf-ci upload scribe --pytest-bench-json bench.json --journal sent.jsonl
    """
    from torchperf_ci.pytorch.journal import State, open_journal, read_journal
    from torchperf_ci.pytorch.scribe import endpoint_of, entries_of, send, transport_from
    from torchperf_ci.pytorch.scribe_schema import check_all

    overrides = dict(options["field"])
    entries = entries_of(check_all([(where, {**fields, **overrides}) for where, fields in _fields(options)]))
    if options["dry_run"]:
        known = read_journal(options["journal"], endpoint=endpoint_of(os.environ, options["api_url"]))
        for entry in entries:
            if not known.is_accepted(entry.id):
                click.echo(entry.text)
        return
    transport = transport_from(
        os.environ,
        url=options["api_url"],
        batch_bytes=options["batch_bytes"],
        timeout=options["request_timeout"],
        retries=options["retries"],
    )
    with open_journal(options["journal"], endpoint=transport.endpoint) as journal:
        if unclear := journal.count(State.SENDING, [entry.id for entry in entries]):
            click.echo(
                f"Of {unclear} messages it is not known whether they arrived earlier; sending them again", err=True
            )
        sent = send(entries, transport, journal)
    before = f"; {sent.before} were accepted earlier" if sent.before else ""
    click.echo(f"{transport.endpoint} accepted {sent.accepted} messages in {sent.batches} requests{before}")
    _told_github(options, {"accepted": sent.accepted})


def _fields(options: dict[str, Any]) -> Sequence[tuple[str, Fields]]:
    """The place and the fields of every message, from the one input that was named."""
    from torchperf_ci.formats.pytest_benchmark import read_pytest_benchmark
    from torchperf_ci.pytorch.scribe_messages import fields_of_benchmarks, fields_of_records, upload_from

    path, directory = options["pytest_bench_json"], options["results"]
    if (path is None) == (directory is None):
        raise click.UsageError("give exactly one of --pytest-bench-json and --results")
    now = upload_from(os.environ, time=int(time.time()))
    if path is not None:
        content, name = read_input(path)
        found = list(fields_of_benchmarks(*read_pytest_benchmark(content, file=name), now))
    else:
        records = results_in(directory).records
        found = list(fields_of_records(records, now))
        click.echo(f"{len(found)} of {len(records)} results have times to send", err=True)
    if not found:
        raise NothingToJudge(f"there is nothing to send in {path or directory}")
    return found


@upload.command()
@option("--results", type=_RESULTS, metavar="DIR", required=True, help="A results folder.")
@option(
    "--out",
    metavar="FILE|URL",
    help="A file, gzipped when its name ends in .gz; or a URL, say s3://…, below which the files go "
    "by v3/REPOSITORY/WORKFLOW_ID/JOB_ID.  [default: standard output]",
)
@option("--benchmark", default="TorchInductor", help="The benchmark's name; HUD's compiler dashboard shows this one.")
@option("--repository", default="", show_default=False, help="OWNER/NAME.  [default: as recorded]")
@option("--branch", default="", show_default=False, help="The branch.  [default: as recorded]")
@option("--commit", default="", show_default=False, help="The commit.  [default: as recorded]")
@option("--job-name", default="", show_default=False, help="The job's name.  [default: the workflow's]")
@option("--workflow-id", type=click.IntRange(min=1), help="The number of the workflow run.  [default: as recorded]")
@option("--job-id", type=click.IntRange(min=1), help="The number of the job: job.check_run_id in a workflow.")
@option(
    "--runner-type",
    default="",
    show_default=False,
    help="The runner's type or label.  [default: its GPU, or else its CPU]",
)
@option("--dry-run", is_flag=True, help="Check and print the rows, and say where they would go.")
@option("--github-files", is_flag=True, help="Write step outputs for GitHub Actions.")
def hud(**options: Any) -> None:  # noqa: ANN401 - click's values
    """Write results as rows of PyTorch's benchmark database (schema v3), one per metric.

    \b
    Examples:
      torchperf-ci upload hud --results out --out rows.json.gz
      torchperf-ci upload hud --results out --job-id 42 --out s3://my-bucket
    """
    from torchperf_ci.core.file_systems import is_url, shown
    from torchperf_ci.pytorch.hud import bucket_files, check_rows, compressed, lines_of, rows_of
    from torchperf_ci.pytorch.nvml import gpus_here
    from torchperf_ci.pytorch.put import open_bucket

    rows = rows_of(results_in(options["results"]), _identity(options), gpus=gpus_here())
    if not rows:
        raise NothingToJudge(f"no result in {options['results']} has a metric")
    check_rows(rows)
    content, out, dry_run = lines_of(rows), options["out"] or str(STREAM), options["dry_run"]
    files = bucket_files(rows) if is_url(out) else []
    if dry_run:
        write_output(STREAM, content)
        for target in [f"{shown(out)}/{file.path}" for file in files] or [out]:
            click.echo(f"Would write {target}", err=True)
    elif files:
        for url in open_bucket(out).put(files):
            click.echo(url)
    else:
        write_output(Path(out), compressed(content) if out.endswith(".gz") else content)
    if not dry_run:
        _told_github(options, {"rows": len(rows)})


def _told_github(options: dict[str, Any], outputs: dict[str, int]) -> None:
    if options["github_files"]:
        from torchperf_ci.github.step_files import write_outputs

        write_outputs(os.environ, {name: str(number) for name, number in outputs.items()})


def _identity(options: dict[str, Any]) -> Identity:
    from torchperf_ci.pytorch.hud import Identity

    return Identity(
        now=int(time.time()),
        benchmark=options["benchmark"],
        repository=options["repository"],
        branch=options["branch"],
        commit=options["commit"],
        name=options["job_name"],
        runner_type=options["runner_type"],
        workflow_id=options["workflow_id"] or 0,
        job_id=options["job_id"] or 0,
    )
