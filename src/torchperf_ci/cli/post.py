"""`torchperf-ci post`: a stored report as check, comment and step summary, safe for pull requests from forks."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.finish import tell_step
from torchperf_ci.cli.options import (
    ACCEPT_LABEL,
    GITHUB_FILES,
    GitHubOptions,
    argument,
    command,
    command_options,
    option,
    takes,
)
from torchperf_ci.core.errors import ExitCode, UsageProblem
from torchperf_ci.github.job import read_event, read_server

if TYPE_CHECKING:
    from torchperf_ci.github.checks import Posting
    from torchperf_ci.post.stored import Expected

DEFAULT_ARTIFACT = "torchperf-report"


@command_options
class PostOptions:
    results: str = argument(metavar="[DIR]", default="", envvar="TORCHPERF_RESULTS")
    artifact: str = option(default=DEFAULT_ARTIFACT, help="Without DIR: the name of the finished run's artifact.")
    name: str = option(default="torchperf", help="The name of the check. Comments of different names are kept apart.")
    start: bool = option(help="Only show the check as in progress, before measuring.")
    check: bool = option("--check/--no-check", default=True, help="Post a check.")
    comment: bool = option(
        "--comment/--no-comment", default=True, help="Post one comment on the pull request; later runs edit it."
    )
    accept_label: str = ACCEPT_LABEL
    github_files: bool = GITHUB_FILES
    github: GitHubOptions


@command(short_help="Post a stored report: check, comment and step summary.")
@takes(PostOptions)
def post(options: PostOptions) -> int:
    """Post a stored report: as a check, as one comment on the pull request, and in the step summary.

    In the job that measured, DIR is the results folder. A job for a pull request from a fork has a read-only token and
    cannot post. There, a second workflow that `workflow_run` starts calls `post` without DIR. It reads the finished
    run's artifact as untrusted data: commit and repository come from GitHub's event, the pull request from its API, and
    nothing from the artifact is executed.

    When a permission is missing, the message names it and the rest is posted. Exit code 5: nothing could be posted. In
    a job of a fork or of Dependabot that is no error, since the second workflow posts.
    """
    from torchperf_ci.post.desk import PostingDesk, download_posting
    from torchperf_ci.post.origin import read_finished_run, read_own_job

    repository = options.github.require_repository()
    happened = read_event(os.environ)
    is_local = bool(options.results) or options.start
    origin = read_own_job(happened, os.environ, repository) if is_local else read_finished_run(happened, repository)
    with options.github.client(os.environ) as client:
        desk = PostingDesk(
            client=client,
            origin=origin,
            name=options.name,
            server=read_server(os.environ),
            say=partial(click.echo, err=True),
            has_check=options.check,
            has_comment=options.comment,
            is_local=is_local,
            accept_label=options.accept_label,
            is_of_dependabot=os.environ.get("GITHUB_ACTOR") == "dependabot[bot]",
        )
        if options.start:
            desk.start()
            return int(ExitCode.OK)
        expected = desk.expect()
        posting = (
            _read_folder(options.results, expected)
            if is_local
            else download_posting(client, origin, options.artifact, expected, desk.say)
        )
        outcome = desk.post(posting)
    tell_step(outcome.outputs, outcome.shown.text, github_files=options.github_files)
    click.echo(outcome.shown.title)
    if outcome.is_left_to_another_workflow:
        click.echo(
            "This job's token is read-only; post from a workflow that `workflow_run` starts (examples/post.yml)",
            err=True,
        )
    return int(ExitCode.REFUSED if outcome.is_refused else ExitCode.OK)


def _read_folder(results: str, expected: Expected) -> Posting:
    """Read what a folder of this job says."""
    from torchperf_ci.post.desk import read_files
    from torchperf_ci.post.stored import READERS, review_problem

    folder = Path(results)
    if folder.exists() and not folder.is_dir():
        raise UsageProblem(f"{folder} is a file; give a results folder")
    files = {name: (folder / name).read_bytes() for name in READERS if (folder / name).is_file()}
    if not files:
        return review_problem(f"{folder} has no results: the step that measures failed or was cancelled; see its log")
    return read_files(files, expected)
