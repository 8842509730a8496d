"""`torchperf-ci update-expected`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.options import (
    SUMMARY_FILE,
    GitHubOptions,
    LineItem,
    append_markdown,
    command,
    github_options,
    option,
)
from torchperf_ci.core.errors import ExitCode, UsageProblem

if TYPE_CHECKING:
    from torchperf_ci.expectations.update import Update
    from torchperf_ci.expectations.uploads import Collected, Wish
    from torchperf_ci.github.client import Client
    from torchperf_ci.github.propose import Proposal
    from torchperf_ci.github.pulls import PullRequest

Options = Mapping[str, Any]


@command(short_help="Rewrite expectation tables from a commit's runs on GitHub.")
@click.argument("sha", default="", metavar="[SHA]", envvar="TORCHPERF_SHA")
@github_options
@option(
    "--expected-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("expected"),
    help="The folder of expectation tables.",
)
@option(
    "--from",
    "from_dir",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="Read results on disk, not GitHub: the folder DIR, or the folders in it, or one CSV file of a run.",
)
@option(
    "--layout",
    type=click.Choice(["pytorch", "torchperf"]),
    default="torchperf",
    help="Whose names jobs and artifacts have: those of PyTorch's test jobs, or of torchperf-ci's run action.",
)
@option(
    "--workflow",
    "workflows",
    multiple=True,
    type=LineItem(),
    help="Only runs of this workflow. Repeatable.  [default: all; pytorch: inductor, inductor-periodic]",
)
@option(
    "--config",
    "configs",
    multiple=True,
    envvar="TORCHPERF_TABLES",
    help="Only this configuration. Repeatable.  [default: all that are found]",
)
@option(
    "--exclude-job",
    "exclude_jobs",
    multiple=True,
    type=LineItem(),
    help="Leave out jobs whose name matches this regular expression. Repeatable.",
)
@option(
    "--metric-column",
    "metric_columns",
    multiple=True,
    help="A column besides graph_breaks for every table, any that the run has, say calls_captured. Repeatable.",
)
@option("--prune", is_flag=True, help="Drop models that the run no longer has.")
@option(
    "--require-complete/--allow-missing",
    "require_complete",
    default=True,
    help="Leave a table alone when a shard of it is missing, or merge what there is.",
)
@option("--dry-run", is_flag=True, help="Only say what would change.")
@SUMMARY_FILE
@option("--pull-request", is_flag=True, help="Commit the changes to a branch and open a pull request.")
@option("--branch", help="The branch of the pull request.  [default: torchperf/update-expected-SHA]")
@option("--base", help="The branch that the pull request is for.  [default: the repository's default]")
@option("--github-files", is_flag=True, help="Write step outputs and the step summary for GitHub Actions.")
@option("--jobs", type=click.IntRange(1, 32), default=8, help="How many artifacts are read at a time.")
def update_expected(sha: str, *, github: GitHubOptions, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Rewrite expectation tables from what the runs of the commit SHA found.

    Of every shard the newest attempt that finished counts. Only the files that are needed are read out of the
    artifacts. A configuration that is not complete leaves its tables as they are; the others are updated, and the
    exit code is 4.

    \b
    Examples:
      torchperf-ci update-expected 1a2b3c4 --repo org/project --expected-dir ci/expected
      torchperf-ci update-expected --from benchmark_logs --expected-dir ci/expected
    """
    sha = sha.strip().lower()
    _refuse_nonsense(sha, options)
    with ExitStack() as opened:
        client = opened.enter_context(github.client(os.environ)) if sha or options["pull_request"] else None
        update = _update(client, github, sha, options)
    if (update.gaps and options["require_complete"]) or not update.tables:
        sys.exit(int(ExitCode.NOTHING_TO_JUDGE))


def _update(client: Client | None, github: GitHubOptions, sha: str, options: Options) -> Update:
    """Collect, plan, write, tell, propose; in this order, so that what is refused is refused before it is written."""
    from torchperf_ci.expectations.report import update_markdown, update_text
    from torchperf_ci.expectations.update import apply_update, plan_update

    folder: Path = options["expected_dir"]
    found = _collect(client, github, sha, options)
    update = plan_update(
        folder,
        found.configs,
        gaps=found.gaps,
        metric_columns=options["metric_columns"],
        prune=options["prune"],
        allow_missing=not options["require_complete"],
    )
    markdown = update_markdown(update, sha=sha)
    proposal = _proposal(client, github, sha, update, options)
    if not options["dry_run"]:
        apply_update(folder, update)
    click.echo(update_text(update, dry_run=options["dry_run"]))
    append_markdown(options["summary_file"], markdown)
    pull = _propose(client, proposal, markdown, sha) if proposal is not None and client is not None else None
    if options["github_files"]:
        from torchperf_ci.github.step_files import append_summary, write_outputs

        append_summary(os.environ, markdown)
        write_outputs(os.environ, {"changed": str(len(update.written)), "pull-request-url": pull.url if pull else ""})
    return update


def _refuse_nonsense(sha: str, options: Options) -> None:
    from torchperf_ci.core.csv_files import is_column_name
    from torchperf_ci.expectations.table import NAME

    if bool(sha) == bool(options["from_dir"]):
        raise UsageProblem("give either the SHA of a commit, or --from with a folder of results")
    if wrong := [column for column in options["metric_columns"] if column == NAME or not is_column_name(column)]:
        raise UsageProblem(f"--metric-column {', '.join(wrong)} is no name of a column of numbers, say calls_captured")
    if wrong := [config for config in options["configs"] if not re.fullmatch(r"[\w./-]+", config)]:
        raise UsageProblem(f"--config {', '.join(wrong)} is no name of a configuration")


def _collect(client: Client | None, github: GitHubOptions, sha: str, options: Options) -> Collected:
    from torchperf_ci.expectations.update import runs_on_disk
    from torchperf_ci.expectations.uploads import Collected, collect
    from torchperf_ci.github.runs import checked_repository, full_sha
    from torchperf_ci.shards.uploads import Layout

    layout = Layout(options["layout"])
    if client is None or options["from_dir"]:
        return Collected(configs=runs_on_disk(options["from_dir"], layout, options["configs"]))
    repository = checked_repository(github.repository)
    return collect(
        client,
        repository,
        full_sha(client, repository, sha),
        _wish(options),
        threads=options["jobs"],
        say=lambda text: click.echo(text, err=True),
    )


def _wish(options: Options) -> Wish:
    from torchperf_ci.expectations.uploads import Wish
    from torchperf_ci.shards.uploads import Layout

    try:
        excluded = tuple(re.compile(pattern) for pattern in options["exclude_jobs"])
    except re.error as error:
        raise UsageProblem(f"--exclude-job {error.pattern!r} is no regular expression: {error}") from error
    return Wish(
        layout=Layout(options["layout"]),
        workflows=options["workflows"],
        configs=options["configs"],
        exclude_jobs=excluded,
    )


def _proposal(
    client: Client | None, github: GitHubOptions, sha: str, update: Update, options: Options
) -> Proposal | None:
    """The pull request that is to be opened, checked before anything is written."""
    from torchperf_ci.github.propose import prepare
    from torchperf_ci.github.runs import checked_repository

    if client is None or not options["pull_request"] or options["dry_run"] or not update.written:
        return None
    return prepare(
        client,
        checked_repository(github.repository),
        branch=options["branch"] or f"torchperf/update-expected-{sha[:12] or 'local'}",
        base=options["base"] or "",
        files={options["expected_dir"] / table.path: table.text.encode() for table in update.written},
    )


def _propose(client: Client, proposal: Proposal, markdown: str, sha: str) -> PullRequest:
    from torchperf_ci.github.propose import propose

    title = f"Update expectations from {sha[:12]}" if sha else "Update expectations"
    pull = propose(client, proposal, title=title, body=markdown)
    click.echo(f"{'Opened' if pull.opened else 'Updated'} pull request {pull.number}: {pull.url}", err=True)
    return pull
