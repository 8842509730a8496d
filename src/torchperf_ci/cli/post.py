"""`torchperf-ci post`: a stored report as check, comment and step summary, safe for pull requests from forks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.options import GitHubOptions, command, github_options, option
from torchperf_ci.core.errors import ExitCode, NothingToJudge, TorchperfError, UsageProblem

if TYPE_CHECKING:
    from torchperf_ci.github.client import Client
    from torchperf_ci.post.checks import Check
    from torchperf_ci.post.origin import Origin
    from torchperf_ci.post.posting import Posting

DEFAULT_ARTIFACT = "torchperf-report"


@command(short_help="Post a stored report: check, comment and step summary.")
@click.argument("results", metavar="[DIR]", default="", envvar="TORCHPERF_RESULTS")
@github_options
@option("--artifact", default=DEFAULT_ARTIFACT, help="Without DIR: the artifact of the run that has finished.")
@option("--name", default="torchperf", help="Name of the check, and what tells its comment from other ones.")
@option("--start", is_flag=True, help="Only show the check as in progress.")
@option("--check/--no-check", default=True, help="Write a check run.")
@option("--comment/--no-comment", default=True, help="Write one comment on the pull request, and edit it later.")
@option("--github-files", is_flag=True, help="Write step outputs and the step summary for GitHub Actions.")
def post(results: str, github: GitHubOptions, **options: Any) -> int:  # noqa: ANN401 - click's values
    """Post a stored report: a check, one comment on the pull request that is edited later, and the step summary.

    In the job that measured, DIR is its results folder. For pull requests from forks, whose jobs may write nothing,
    a second workflow on `workflow_run` calls `post` without DIR: it reads the artifact of the run that has finished
    as data that anybody may have written, takes commit and repository from GitHub's event, finds the pull request
    through the API, and never runs anything of it.

    What a permission is missing for is said, and the rest is done. Exit code 5: nothing could be posted; but a job of
    a fork or of Dependabot, which may write nothing, leaves that to the second workflow.
    """
    from torchperf_ci.github.context import event
    from torchperf_ci.github.runs import checked_repository
    from torchperf_ci.post.origin import origin_of_job, origin_of_workflow_run

    repository = checked_repository(github.repository)
    happened = event(os.environ)
    local = bool(results) or options["start"]
    origin = origin_of_job(happened, os.environ, repository) if local else origin_of_workflow_run(happened, repository)
    with github.client(os.environ) as client:
        desk = _Desk(client=client, origin=origin, options=options, local=local)
        if options["start"]:
            return desk.start()
        return desk.post(_stored(results, origin) if results else _downloaded(client, origin, options["artifact"]))


@dataclass(slots=True, kw_only=True)
class _Desk:
    """Where a posting goes out. What GitHub refuses is told and remembered; the rest goes on.

    local: from the job that measured.
    """

    client: Client
    origin: Origin
    options: Mapping[str, Any]
    local: bool
    done: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def check(self) -> Check:
        from torchperf_ci.post.checks import Check

        return Check(
            repository=self.origin.repository,
            sha=self.origin.sha,
            name=self.options["name"],
            run=self.origin.run,
            attempt=self.origin.attempt,
            details_url=self._url,
        )

    @property
    def _url(self) -> str:
        return self.origin.url(os.environ.get("GITHUB_SERVER_URL", "https://github.com"))

    def start(self) -> int:
        """Show the check as in progress; a missing permission shows again, and counts, when it is completed."""
        from torchperf_ci.post.checks import start_check

        if self.options["check"]:
            self._try("the check", lambda: start_check(self.client, self.check))
        return int(ExitCode.OK)

    def post(self, posting: Posting) -> int:
        """Everything that is asked for, each on its own; the exit code."""
        from torchperf_ci.post.checks import complete_check
        from torchperf_ci.post.review import unposted, with_origin

        posting = with_origin(posting, self._whence())
        outputs = {"conclusion": posting.conclusion.value, "check-url": "", "comment-url": ""}
        if self.options["check"]:
            outputs["check-url"] = self._try("the check", lambda: complete_check(self.client, self.check, posting))
        if self.options["comment"]:
            outputs["comment-url"] = self._try("the comment", lambda: self._comment(posting))
        is_left = self._is_left_to_another_workflow()
        code = ExitCode.REFUSED if self.refused and not self.done and not is_left else ExitCode.OK
        if code is not ExitCode.OK:
            posting = unposted(posting, self.refused)
        if self.options["github_files"]:
            from torchperf_ci.github.step_files import append_summary, write_outputs

            append_summary(os.environ, posting.text)
            write_outputs(os.environ, outputs)
        click.echo(posting.title)
        if self.refused and not self.done and is_left:
            click.echo("This job may write nothing; a workflow on `workflow_run` can (examples/post.yml).", err=True)
        return int(code)

    def _is_left_to_another_workflow(self) -> bool:
        """Whether this is a job that GitHub gives no right to write: it must not fail for that."""
        is_fork = self.origin.head_repository != self.origin.repository
        return self.local and (is_fork or os.environ.get("GITHUB_ACTOR") == "dependabot[bot]")

    def _comment(self, posting: Posting) -> str:
        from torchperf_ci.github.comments import Marker, post_comment
        from torchperf_ci.post.origin import pull_request_of

        found = pull_request_of(self.client, self.origin)
        if not found.number:
            click.echo(f"No comment: {found.why}", err=True)
            return ""
        marker = Marker(
            subject=f"post {self.options['name']}", run=str(self.origin.run), time=datetime.now(timezone.utc)
        )
        return post_comment(self.client, self.origin.repository, found.number, posting.text, marker, sticky=True).url

    def _try(self, what: str, write: Callable[[], str | None]) -> str:
        """Where it can be seen, or nothing when GitHub refuses."""
        from torchperf_ci.github.client import GitHubRefused

        try:
            url = write()
        except GitHubRefused as error:
            self.refused.append(what)
            click.echo(f"Warning: without {what}: {error}", err=True)
            return ""
        self.done.append(what)
        return url or ""

    def _whence(self) -> str:
        from torchperf_ci.core.text import code

        own = self.origin.head_repository == self.origin.repository
        by = "" if own else f", measured by the code of {code(self.origin.head_repository)} itself"
        return (
            f"Commit {self.origin.sha[:12]}, [run {self.origin.run}, attempt {self.origin.attempt}]({self._url}){by}."
        )


def _stored(results: str, origin: Origin) -> Posting:
    """What a folder of this job says."""
    from torchperf_ci.post.review import unusable
    from torchperf_ci.post.stored import READERS

    folder = Path(results)
    if folder.exists() and not folder.is_dir():
        raise UsageProblem(f"{folder} is a file; name a results folder")
    files = {name: (folder / name).read_bytes() for name in READERS if (folder / name).is_file()}
    if not files:
        return unusable("the step that measures left no result: it failed or was cancelled, and its log says why")
    return _read(files, origin)


def _downloaded(client: Client, origin: Origin, name: str) -> Posting:
    """What the artifact of the run says, or why there is nothing; whatever is wrong with it, the check is completed."""
    from torchperf_ci.github.artifacts import Limits, read_members
    from torchperf_ci.github.blob import ArtifactProblem, store_session
    from torchperf_ci.github.runs import artifacts_of
    from torchperf_ci.post.review import unusable
    from torchperf_ci.post.stored import LARGEST_FILE, READERS

    try:
        artifacts = [each for each in artifacts_of(client, origin.repository, origin.run) if each.name == name]
        if not artifacts:
            return unusable(f"the run left no artifact {name}")
        newest = max(artifacts, key=lambda artifact: artifact.id)
        with store_session(connections=1) as session:
            members = read_members(
                client,
                origin.repository,
                newest,
                wanted=lambda names: [each for each in READERS if each in names],
                session=session,
                limits=Limits(member=LARGEST_FILE),
            )
    except ArtifactProblem as error:
        return unusable(f"the artifact {name} {error}")
    except TorchperfError as error:
        click.echo(f"Warning: {error}", err=True)
        return unusable(str(error))
    return _read({member.name: member.content for member in members}, origin)


def _read(files: Mapping[str, bytes], origin: Origin) -> Posting:
    from torchperf_ci.post.review import unusable
    from torchperf_ci.post.stored import Expected, read_posting

    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    expected = Expected(repository=origin.repository, commit=origin.sha, run=str(origin.run or ""), server=server)
    try:
        return read_posting(files, expected)
    except NothingToJudge as error:
        return unusable(str(error))
