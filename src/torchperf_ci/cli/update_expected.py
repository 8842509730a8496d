"""`torchperf-ci update-expected`."""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.finish import tell_step
from torchperf_ci.cli.options import (
    GITHUB_FILES,
    SUMMARY_FILE,
    GitHubOptions,
    LineItem,
    append_markdown,
    argument,
    command,
    command_options,
    option,
    takes,
)
from torchperf_ci.core.errors import ExitCode, UsageProblem
from torchperf_ci.core.text import count, one_line

if TYPE_CHECKING:
    from torchperf_ci.expectations.collect import Collected
    from torchperf_ci.expectations.update import Update
    from torchperf_ci.github.client import Client


@command_options("Which results")
class SourceOptions:
    from_dir: Path | None = option(
        "--from",
        type=click.Path(exists=True, path_type=Path),
        metavar="DIR",
        help="Read results from disk, not GitHub: a results folder, a folder of such folders, or one CSV file.",
    )
    layout: str = option(
        type=click.Choice(["pytorch", "torchperf"]),
        default="torchperf",
        help="How jobs and artifacts are named: as by PyTorch's test jobs, or as by torchperf-ci's run action.",
    )
    workflows: tuple[str, ...] = option(
        "--workflow",
        type=LineItem(),
        help="Only runs of this workflow. Repeatable.  [default: all; for pytorch: inductor, inductor-periodic]",
    )
    configs: tuple[str, ...] = option(
        "--config", envvar="TORCHPERF_TABLES", help="Only this configuration. Repeatable.  [default: all]"
    )
    exclude_jobs: tuple[str, ...] = option(
        "--exclude-job", type=LineItem(), help="Ignore jobs whose name matches this regular expression. Repeatable."
    )
    jobs: int = option(type=click.IntRange(1, 32), default=8, help="How many artifacts are read at the same time.")


@command_options("Pull request")
class PullRequestOptions:
    pull_request: bool = option(help="Commit the changes to a branch and open a pull request, or update the open one.")
    branch: str | None = option(help="The branch of the pull request.  [default: torchperf/update-expected-SHA]")
    base: str | None = option(help="The branch to merge into.  [default: the repository's default branch]")


@command_options
class UpdateExpectedOptions:
    sha: str = argument(default="", metavar="[SHA]", envvar="TORCHPERF_SHA")
    expected_dir: Path = option(
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("expected"),
        help="The folder of expectation tables.",
    )
    source: SourceOptions
    counts: Path | None = option(
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="With --from: rewrite this file of expected counts (benchmark,metric,expected,noise, as PyTorch's "
        "pr_time_benchmarks has it) in place of the tables.",
    )
    metric_columns: tuple[str, ...] = option(
        "--metric-column", help="Add this column of the results to every table, for example calls_captured. Repeatable."
    )
    prune: bool = option(help="Remove models that the results no longer have.")
    require_complete: bool = option(
        "--require-complete/--allow-missing",
        default=True,
        help="When a shard is missing, leave its tables as they are, or update them with what there is.",
    )
    dry_run: bool = option(help="Only show what would change; write nothing.")
    summary_file: Path | None = SUMMARY_FILE
    github_files: bool = GITHUB_FILES
    proposal: PullRequestOptions
    github: GitHubOptions

    def __post_init__(self) -> None:
        """Raise `UsageProblem` for what cannot be meant."""
        from torchperf_ci.core.csv_files import is_column_name
        from torchperf_ci.expectations.table import NAME

        if bool(self.commit) == bool(self.source.from_dir):
            raise UsageProblem("give either the SHA of a commit, or --from and a results folder")
        if self.counts is not None and self.source.from_dir is None:
            raise UsageProblem("--counts needs --from: a results folder, or a CSV of rows benchmark,metric,value")
        if wrong := [column for column in self.metric_columns if column == NAME or not is_column_name(column)]:
            raise UsageProblem(
                f"--metric-column {', '.join(wrong)} is no name of a column of numbers, for example calls_captured"
            )
        if wrong := [config for config in self.source.configs if not re.fullmatch(r"[\w./-]+", config)]:
            raise UsageProblem(f"--config {', '.join(wrong)} is no name of a configuration")

    @property
    def commit(self) -> str:
        return self.sha.strip().lower()


@command(short_help="Rewrite expectation tables from a commit's runs on GitHub, or from results on disk.")
@takes(UpdateExpectedOptions)
def update_expected(options: UpdateExpectedOptions) -> None:
    """Rewrite expectation tables from the results of the commit SHA's workflow runs, or from results on disk.

    The newest finished attempt of each shard counts. Only the files that are needed are read from the artifacts. When
    results of a configuration are missing, its tables stay as they are, the others are updated, and the exit code is 4.

    \b
    Examples:
      torchperf-ci update-expected 1a2b3c4 --repo org/project --dry-run
      torchperf-ci update-expected --from benchmark_logs --expected-dir tables
    """
    if options.counts is not None:
        _update_counts(options, options.counts)
        return
    with ExitStack() as opened:
        needs_github = bool(options.commit) or options.proposal.pull_request
        client = opened.enter_context(options.github.client(os.environ)) if needs_github else None
        update = _update(client, options)
    if (update.gaps and options.require_complete) or update.unusable or not update.tables:
        sys.exit(int(ExitCode.NOTHING_TO_JUDGE))


def _update_counts(options: UpdateExpectedOptions, path: Path) -> None:
    """Bring a file of expected counts up to date, and tell what changes."""
    from torchperf_ci.expectations.counts import (
        check_counts,
        describe_count,
        read_counts,
        read_expected_counts,
        save_counts,
        update_counts,
    )

    assert options.source.from_dir is not None
    counts = read_counts(
        options.source.from_dir, warn=lambda text: click.echo(f"Warning: {one_line(text, limit=300)}", err=True)
    )
    before = read_expected_counts(path) if path.exists() else {}
    after = update_counts(counts, before, prune=options.prune)
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    for check in check_counts(counts, before):
        key = (check.benchmark, check.metric)
        if key in changed:
            click.echo(describe_count(check))
        elif check.value is None:
            click.echo(f"{describe_count(check)}; it is kept, unless --prune is given")
    if changed and not options.dry_run:
        save_counts(path, after)
    told = "dry run: nothing was written" if options.dry_run else f"{path} is up to date"
    click.echo(f"{count(len(changed), 'count')} changed; {told}")


def _update(client: Client | None, options: UpdateExpectedOptions) -> Update:
    """Collect, plan, write, tell, propose; in this order, so that what is refused is refused before it is written."""
    from torchperf_ci.expectations.report import write_update_markdown, write_update_text
    from torchperf_ci.expectations.update import apply_update, plan_update
    from torchperf_ci.github.pulls import open_pull_request, prepare_proposal

    folder, sha, wanted = options.expected_dir, options.commit, options.proposal
    collected = _collect(client, options)
    update = plan_update(
        folder,
        collected.configs,
        gaps=collected.gaps,
        metric_columns=options.metric_columns,
        prune=options.prune,
        allow_missing=not options.require_complete,
    )
    proposal = None
    if client is not None and wanted.pull_request and not options.dry_run and update.written:
        proposal = prepare_proposal(
            client,
            options.github.require_repository(),
            branch=wanted.branch or f"torchperf/update-expected-{sha[:12] or 'local'}",
            base=wanted.base or "",
            files={folder / table.path: table.text.encode() for table in update.written},
        )
    if not options.dry_run:
        apply_update(folder, update)
    markdown = write_update_markdown(update, sha=sha)
    append_markdown(options.summary_file, markdown)
    click.echo(write_update_text(update, dry_run=options.dry_run))
    url = ""
    if client is not None and proposal is not None:
        title = f"Update expectations from {sha[:12]}" if sha else "Update expectations"
        pull = open_pull_request(client, proposal, title=title, body=markdown)
        click.echo(f"{'Opened' if pull.opened else 'Updated'} pull request {pull.number}: {pull.url}", err=True)
        url = pull.url
    outputs = {"changed": len(update.written), "pull-request-url": url}
    tell_step(outputs, markdown, github_files=options.github_files)
    return update


def _collect(client: Client | None, options: UpdateExpectedOptions) -> Collected:
    from torchperf_ci.expectations.collect import Collected, Wish, collect, collect_from_disk
    from torchperf_ci.github.runs import complete_sha
    from torchperf_ci.shards.uploads import Layout

    source = options.source
    layout = Layout(source.layout)
    if client is None or source.from_dir is not None:
        assert source.from_dir is not None
        return Collected(configs=collect_from_disk(source.from_dir, layout, source.configs))
    try:
        excluded = tuple(re.compile(pattern) for pattern in source.exclude_jobs)
    except re.error as error:
        raise UsageProblem(f"--exclude-job {error.pattern!r} is no regular expression: {error}") from error
    repository = options.github.require_repository()
    return collect(
        client,
        repository,
        complete_sha(client, repository, options.commit),
        Wish(layout=layout, workflows=source.workflows, configs=source.configs, exclude_jobs=excluded),
        threads=source.jobs,
        say=lambda text: click.echo(text, err=True),
    )
