"""`torchperf-ci upload`: results to Scribe and to PyTorch's benchmark database."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.files import STREAM, read_input, results_in, write_output
from torchperf_ci.cli.finish import tell_step
from torchperf_ci.cli.options import GITHUB_OUTPUTS, Group, KeyValues, Number, command_options, option, takes
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.file_systems import is_url, shown
from torchperf_ci.core.text import count, one_line

if TYPE_CHECKING:
    from torchperf_ci.pytorch.hud import Identity
    from torchperf_ci.pytorch.scribe import Fields

_RESULTS = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(cls=Group, short_help="Send results to Scribe and to PyTorch's benchmark database.")
def upload() -> None:
    """Send results to Scribe or to PyTorch's benchmark database."""


@command_options
class ScribeOptions:
    pytest_bench_json: Path | None = option(
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Send the benchmarks in this file of pytest-benchmark (--benchmark-json); - for standard input.",
    )
    results: Path | None = option(
        type=_RESULTS, metavar="DIR", help="Send the performance results that passed in this folder."
    )
    fields: tuple[tuple[str, str], ...] = option(
        "--field", type=KeyValues(), metavar="NAME=VALUE", help="Set this field in every message. Repeatable."
    )
    api_url: str = option(
        default="https://graph.facebook.com/scribe_logs",
        envvar="TORCHPERF_SCRIBE_URL",
        help="Endpoint to post to: https, or a server on this machine.",
    )
    journal: Path | None = option(
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Record in this file what was accepted, and do not send that a second time.",
    )
    batch_bytes: int = option(
        type=click.IntRange(min=1000), default=1_000_000, help="Largest body of a request, in bytes."
    )
    timeout_s: float = option(
        "--request-timeout",
        type=Number(min=0, min_open=True),
        default=30.0,
        help="Seconds to wait for an answer.",
    )
    retries: int = option(
        type=click.IntRange(min=0), default=5, help="How often a request is repeated after a server error or no answer."
    )
    dry_run: bool = option(help="Send nothing; print the messages.")
    github_files: bool = GITHUB_OUTPUTS


@upload.command()
@takes(ScribeOptions)
def scribe(options: ScribeOptions) -> None:
    """Send one message per benchmark to Scribe.

    The Graph API is used, with the token in the environment variable SCRIBE_GRAPHQL_ACCESS_TOKEN; inside Meta, with
    SCRIBE_INTERN set, the program scribe_cat. Every message is checked before the first one is sent.

    \b
    Examples:
      torchperf-ci upload scribe --pytest-bench-json bench.json --dry-run
      torchperf-ci upload scribe --pytest-bench-json bench.json --journal sent.jsonl
    """
    from torchperf_ci.pytorch.scribe import (
        DeliveryState,
        endpoint_of,
        entries_of,
        message_of,
        messages_of,
        open_journal,
        read_journal,
        send,
        transport_from,
    )

    overrides = dict(options.fields)
    message_of({"time": 0, **overrides}, where="--field")
    entries = entries_of(messages_of([(where, {**fields, **overrides}) for where, fields in _fields(options)]))
    if options.dry_run:
        known = read_journal(options.journal, endpoint=endpoint_of(os.environ, options.api_url))
        for entry in entries:
            if not known.is_accepted(entry.id):
                click.echo(entry.text)
        return
    transport = transport_from(
        os.environ,
        url=options.api_url,
        batch_bytes=options.batch_bytes,
        timeout_s=options.timeout_s,
        retries=options.retries,
    )
    ids = [entry.id for entry in entries]
    with open_journal(options.journal, endpoint=transport.endpoint) as journal:
        if unclear := journal.count(DeliveryState.SENDING, ids):
            click.echo(
                f"Warning: {count(unclear, 'message')} may have arrived before a crash or a broken connection; "
                "sending again",
                err=True,
            )
        earlier = journal.count(DeliveryState.ACCEPTED, ids)
        accepted, requests = send(entries, transport, journal)
    before = f"; {earlier:,} accepted earlier" if earlier else ""
    click.echo(f"{transport.endpoint} accepted {count(accepted, 'message')} in {count(requests, 'request')}{before}")
    tell_step({"accepted": accepted}, github_files=options.github_files)


def _fields(options: ScribeOptions) -> Sequence[tuple[str, Fields]]:
    """Collect the place and the fields of every message, from the one input that was named."""
    from torchperf_ci.formats.pytest_benchmark import read_pytest_benchmark
    from torchperf_ci.pytorch.scribe import fields_of_benchmarks, fields_of_records, upload_fields

    path, directory = options.pytest_bench_json, options.results
    if (path is None) == (directory is None):
        raise click.UsageError("give either --pytest-bench-json FILE or --results DIR")
    shared = upload_fields(os.environ, time=int(time.time()))
    if path is not None:
        content, name = read_input(path)
        fields = list(fields_of_benchmarks(*read_pytest_benchmark(content, file=name), shared))
    else:
        assert directory is not None
        records = results_in(directory).records
        fields = list(fields_of_records(records, shared))
        click.echo(
            f"{len(fields)} of {count(len(records), 'result')} can be sent: those of performance that passed",
            err=True,
        )
    if not fields:
        raise NothingToJudge(f"there is nothing to send in {path or directory}: no benchmark in it passed with a time")
    return fields


@command_options
class HudOptions:
    results: Path = option(type=_RESULTS, metavar="DIR", required=True, help="The results folder.")
    out: str | None = option(
        metavar="FILE|URL",
        help="A file, gzipped when its name ends in .gz; or the URL of a bucket, for example s3://…, where files go to "
        "v3/REPOSITORY/WORKFLOW_ID/JOB_ID/.  [default: standard output]",
    )
    benchmark: str = option(
        default="TorchInductor", help="Name of the benchmark. HUD's compiler dashboard shows the default."
    )
    repository: str = option(help="Repository, OWNER/NAME.  [default: as recorded]")
    branch: str = option(help="Branch.  [default: as recorded]")
    commit: str = option(help="Commit.  [default: as recorded]")
    job_name: str = option(help="Name of the job.  [default: the workflow's]")
    workflow_id: int | None = option(
        type=click.IntRange(min=1), help="Number of the workflow run.  [default: as recorded]"
    )
    job_id: int | None = option(
        type=click.IntRange(min=1), help="Number of the job: job.check_run_id in a workflow. A bucket needs it."
    )
    runner_type: str = option(help="Type or label of the runner.  [default: its GPU, or else its CPU]")
    dry_run: bool = option(help="Write nothing; check and print the rows, and say where they would go.")
    github_files: bool = GITHUB_OUTPUTS

    def identity(self) -> Identity:
        """Return what the options say of the run, and the time now."""
        from torchperf_ci.pytorch.hud import Identity

        return Identity(
            now=int(time.time()),
            benchmark=self.benchmark,
            repository=self.repository,
            branch=self.branch,
            commit=self.commit,
            name=self.job_name,
            runner_type=self.runner_type,
            workflow_id=self.workflow_id or 0,
            job_id=self.job_id or 0,
        )


@upload.command()
@takes(HudOptions)
def hud(options: HudOptions) -> None:
    """Write results as rows of PyTorch's benchmark database (schema v3), one per metric.

    \b
    Examples:
      torchperf-ci upload hud --results out --out rows.json.gz
      torchperf-ci upload hud --results out --job-id 42 --out s3://my-bucket
    """
    from torchperf_ci.pytorch.hud import bucket_files, check_rows, compress, gpus_here, lines_of, put_files, rows_of

    rows = rows_of(results_in(options.results), options.identity(), gpus=gpus_here())
    if not rows:
        raise NothingToJudge(f"no result in {options.results} has a metric, so there are no rows to write")
    check_rows(rows)
    content, out = lines_of(rows), options.out or str(STREAM)
    files = bucket_files(rows) if is_url(out) else {}
    if options.dry_run:
        write_output(STREAM, content)
        for target in [f"{shown(out)}/{path}" for path in files] or [out]:
            click.echo(one_line(f"Would write {target}"), err=True)
        return
    if files:
        for url in put_files(out, files):
            click.echo(url)
    else:
        write_output(Path(out), compress(content) if out.endswith(".gz") else content, holds=count(len(rows), "row"))
    tell_step({"rows": len(rows)}, github_files=options.github_files)
