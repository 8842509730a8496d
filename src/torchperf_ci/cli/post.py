"""`torchperf-ci post`: a stored report as check, comment and step summary, safe for pull requests from forks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.options import GITHUB_FILES, GitHubOptions, argument, command, command_options, option, takes
from torchperf_ci.core.errors import ExitCode, NothingToJudge, TorchperfError, UsageProblem

if TYPE_CHECKING:
    from torchperf_ci.github.checks import Check, Posting
    from torchperf_ci.github.client import Client
    from torchperf_ci.post.origin import Origin

DEFAULT_ARTIFACT = "torchperf-report"


@command_options
class PostOptions:
    """Say what is posted, and where."""

    results: str = argument(metavar="[DIR]", default="", envvar="TORCHPERF_RESULTS")
    artifact: str = option(
        "--artifact", default=DEFAULT_ARTIFACT, help="Without DIR: the name of the finished run's artifact."
    )
    name: str = option(
        "--name", default="torchperf", help="The name of the check. Comments of different names are kept apart."
    )
    start: bool = option("--start", is_flag=True, help="Only show the check as in progress, before measuring.")
    check: bool = option("--check/--no-check", default=True, help="Post a check.")
    comment: bool = option(
        "--comment/--no-comment", default=True, help="Post one comment on the pull request; later runs edit it."
    )
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
    from torchperf_ci.github.job import read_event
    from torchperf_ci.github.runs import require_repository
    from torchperf_ci.post.origin import read_finished_run, read_own_job

    repository = require_repository(options.github.repository)
    happened = read_event(os.environ)
    is_local = bool(options.results) or options.start
    origin = read_own_job(happened, os.environ, repository) if is_local else read_finished_run(happened, repository)
    with options.github.client(os.environ) as client:
        desk = _Desk(client=client, origin=origin, options=options, is_local=is_local)
        if options.start:
            return desk.start()
        return desk.post(_read_folder(options.results, origin) if is_local else _download(client, origin, options))


@dataclass(slots=True, kw_only=True)
class _Desk:
    """Where a posting goes out. What GitHub refuses is told and remembered; the rest goes on.

    is_local: it goes out from the job that measured.
    """

    client: Client
    origin: Origin
    options: PostOptions
    is_local: bool
    done: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def check(self) -> Check:
        from torchperf_ci.github.checks import Check

        return Check(
            repository=self.origin.repository,
            sha=self.origin.sha,
            name=self.options.name,
            run=self.origin.run,
            attempt=self.origin.attempt,
            details_url=self.run_url,
        )

    @property
    def run_url(self) -> str:
        return self.origin.url(os.environ.get("GITHUB_SERVER_URL", "https://github.com"))

    @property
    def is_left_to_another_workflow(self) -> bool:
        """Say whether this is a job that GitHub gives no right to write: it must not fail for that."""
        is_fork = self.origin.head_repository != self.origin.repository
        return self.is_local and (is_fork or os.environ.get("GITHUB_ACTOR") == "dependabot[bot]")

    def start(self) -> int:
        """Show the check as in progress; a missing permission shows again, and counts, when it is completed."""
        from torchperf_ci.github.checks import start_check

        if self.options.check:
            self._try("the check", lambda: start_check(self.client, self.check))
        return int(ExitCode.OK)

    def post(self, posting: Posting) -> int:
        """Post everything that is asked for, each on its own; return the exit code."""
        from torchperf_ci.core.text import code as inline_code
        from torchperf_ci.github.checks import complete_check
        from torchperf_ci.github.job import append_summary, write_outputs
        from torchperf_ci.post.review import add_origin, explain_refusal

        is_own = self.origin.head_repository == self.origin.repository
        fork = inline_code(self.origin.head_repository)
        whose = "" if is_own else f" These results come from code of {fork}, not of this repository."
        run = f"[run {self.origin.run}, attempt {self.origin.attempt}]({self.run_url})"
        posting = add_origin(posting, f"Commit {self.origin.sha[:12]}, {run}.{whose}")
        outputs = {"conclusion": posting.conclusion.value, "check-url": "", "comment-url": ""}
        if self.options.check:
            outputs["check-url"] = self._try("the check", lambda: complete_check(self.client, self.check, posting))
        if self.options.comment:
            outputs["comment-url"] = self._try("the comment", lambda: self._comment(posting.text))
        is_nothing_posted = bool(self.refused) and not self.done
        code = ExitCode.OK
        shown = posting
        if is_nothing_posted and not self.is_left_to_another_workflow:
            code, shown = ExitCode.REFUSED, explain_refusal(posting, self.refused)
        if self.options.github_files:
            append_summary(os.environ, shown.text)
            write_outputs(os.environ, outputs)
        click.echo(shown.title)
        if is_nothing_posted and self.is_left_to_another_workflow:
            click.echo(
                "This job's token is read-only; post from a workflow that `workflow_run` starts (examples/post.yml)",
                err=True,
            )
        return int(code)

    def _comment(self, text: str) -> str:
        from torchperf_ci.github.comments import Marker, post_comment
        from torchperf_ci.github.pulls import find_pull_request

        origin = self.origin
        number, reason = find_pull_request(
            self.client,
            origin.repository,
            head_repository=origin.head_repository,
            branch=origin.head_branch,
            sha=origin.sha,
        )
        if not number:
            click.echo(f"No comment was posted: {reason}", err=True)
            return ""
        marker = Marker(subject=f"post {self.options.name}", run=str(origin.run), time=datetime.now(timezone.utc))
        return post_comment(self.client, origin.repository, number, text, marker, sticky=True).url

    def _try(self, what: str, write: Callable[[], str | None]) -> str:
        """Write; return where it can be seen, or nothing when GitHub refuses."""
        from torchperf_ci.github.client import GitHubRefused

        try:
            url = write()
        except GitHubRefused as error:
            self.refused[what] = str(error)
            click.echo(f"Warning: {what} was not posted: {error}", err=True)
            return ""
        self.done.append(what)
        return url or ""


def _read_folder(results: str, origin: Origin) -> Posting:
    """Read what a folder of this job says."""
    from torchperf_ci.post.review import review_problem
    from torchperf_ci.post.stored import READERS

    folder = Path(results)
    if folder.exists() and not folder.is_dir():
        raise UsageProblem(f"{folder} is a file; give a results folder")
    files = {name: (folder / name).read_bytes() for name in READERS if (folder / name).is_file()}
    if not files:
        return review_problem(f"{folder} has no results: the step that measures failed or was cancelled; see its log")
    return _read_files(files, origin)


def _download(client: Client, origin: Origin, options: PostOptions) -> Posting:
    """Read what the artifact of the run says, or why there is nothing; whatever is wrong with it, the check is to be
    completed."""
    from torchperf_ci.github.artifacts import ArtifactProblem, Limits, open_store, read_members
    from torchperf_ci.github.runs import list_artifacts
    from torchperf_ci.post.review import review_problem
    from torchperf_ci.post.stored import LARGEST_FILE, READERS

    name = options.artifact
    try:
        artifacts = [each for each in list_artifacts(client, origin.repository, origin.run) if each.name == name]
        if not artifacts:
            return review_problem(
                f"the run has no artifact {name}: its job failed, or uploads it under another name; see its log"
            )
        newest = max(artifacts, key=lambda artifact: artifact.id)
        with open_store(connections=1) as session:
            files = read_members(
                client,
                origin.repository,
                newest,
                wanted=lambda names: [each for each in READERS if each in names],
                session=session,
                limits=Limits(member=LARGEST_FILE),
            )
    except ArtifactProblem as error:
        return review_problem(f"the artifact {name} {error}")
    except TorchperfError as error:
        click.echo(f"Warning: {error}", err=True)
        return review_problem(str(error))
    return _read_files(files, origin)


def _read_files(files: Mapping[str, bytes], origin: Origin) -> Posting:
    from torchperf_ci.post.review import review_problem
    from torchperf_ci.post.stored import Expected, read_posting

    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    expected = Expected(repository=origin.repository, commit=origin.sha, run=str(origin.run or ""), server=server)
    try:
        return read_posting(files, expected)
    except NothingToJudge as error:
        return review_problem(str(error))
