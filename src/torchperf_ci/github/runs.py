"""Workflow runs of a commit, their jobs and artifacts; and the commits between two others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

import github.Artifact
import github.WorkflowRun

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import is_full_sha, is_repository, is_sha, one_line
from torchperf_ci.github.client import Client, GitHubRefused

READS = "actions: read"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun:
    """A workflow run; `attempt` is its newest one, `updated` when GitHub changed it last: when it finished."""

    id: int
    workflow: str
    event: str
    attempt: int
    finished: bool
    updated: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of one attempt at a run. `conclusion` is blank until it has finished."""

    id: int
    name: str
    attempt: int
    finished: bool
    conclusion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A zip that a run of this commit and branch uploaded; `size` in bytes as GitHub says it."""

    id: int
    name: str
    size: int
    expired: bool
    commit: str
    branch: str


def require_repository(repository: str) -> str:
    """Return `repository`, if it has the form owner/name. Raises `UsageProblem`."""
    if not repository:
        raise UsageProblem("give the repository: --repo OWNER/NAME, or the variable GITHUB_REPOSITORY")
    if not is_repository(repository):
        raise UsageProblem(f"--repo is {repository!r}, expected OWNER/NAME")
    return repository


def complete_sha(client: Client, repository: str, sha: str) -> str:
    """Return all digits of a commit's SHA, which may be given by its first 7 or more. Raises `UsageProblem`."""
    sha = sha.strip().lower()
    if not is_sha(sha):
        raise UsageProblem(f"{sha!r} is no commit SHA, expected 7 to 40 of the digits 0-9 and a-f")
    if is_full_sha(sha):
        return sha
    try:
        with client.asking(f"find the commit {sha} in {repository}", needs="contents: read"):
            return client.repository(repository).get_commit(sha).sha
    except GitHubRefused as error:
        if error.status in {404, 422}:
            raise UsageProblem(f"{repository} has no commit {sha}, or more than one; give all 40 digits") from error
        raise


def list_runs(client: Client, repository: str, sha: str) -> list[WorkflowRun]:
    """List the workflow runs of the commit with this (whole) SHA."""
    with client.asking(f"list the workflow runs of {repository}", needs=READS):
        return [
            WorkflowRun(
                id=run.id,
                workflow=_show(run.name),
                event=_show(run.event),
                attempt=run.run_attempt,
                finished=run.status == "completed",
                updated=run.updated_at,
            )
            for run in client.repository(repository).get_workflow_runs(head_sha=sha)
            if run.head_sha == sha
        ]


def list_jobs(client: Client, repository: str, run: int) -> list[Job]:
    """List the jobs of all attempts at the run of this number."""
    path = f"/repos/{repository}/actions/runs/{run}"
    with client.asking(f"list the jobs of run {run}", needs=READS):
        return [
            Job(
                id=job.id,
                name=_show(job.name),
                attempt=job.run_attempt or 1,
                finished=job.status == "completed",
                conclusion=job.conclusion or "",
            )
            for job in client.lazy(github.WorkflowRun.WorkflowRun, path, jobs_url=f"{path}/jobs").jobs("all")
        ]


def list_artifacts(client: Client, repository: str, run: int) -> list[Artifact]:
    """List the artifacts of all attempts at the run of this number."""
    path = f"/repos/{repository}/actions/runs/{run}"
    with client.asking(f"list the artifacts of run {run}", needs=READS):
        known = client.lazy(github.WorkflowRun.WorkflowRun, path, artifacts_url=f"{path}/artifacts")
        return [_read_artifact(artifact) for artifact in known.get_artifacts()]


def find_artifacts(client: Client, repository: str, name: str) -> Iterator[Artifact]:
    """Yield the artifacts of this name that have not expired, newest first, from runs of the repository's own branches:
    never one of a fork."""
    with client.asking(f"list the artifacts of {repository} named {name}", needs=READS):
        for artifact in client.repository(repository).get_artifacts(name):
            # PyGithub's object of the run does not have these two.
            run = artifact.raw_data.get("workflow_run") or {}
            is_own = run.get("head_repository_id") == run.get("repository_id")
            if is_own and artifact.name == name and artifact.expired is False:
                yield _read_artifact(artifact)


def _read_artifact(artifact: github.Artifact.Artifact) -> Artifact:
    run = artifact.raw_data.get("workflow_run") or {}
    return Artifact(
        id=artifact.id,
        name=_show(artifact.name),
        size=artifact.size_in_bytes,
        expired=artifact.expired,
        commit=_show(run.get("head_sha")),
        branch=_show(run.get("head_branch")),
    )


def _show(name: str | None) -> str:
    """Return a name as messages may show it."""
    return one_line(name or "", limit=300)


def list_commits_between(
    client: Client, repository: str, base: str, head: str, *, most: int
) -> tuple[list[tuple[str, str]], int]:
    """List the commits that `head` has and `base` has not, oldest first, each with its message, and count them.

    More than `most` are only counted. Raises `GitHubRefused`.
    """
    with client.asking(f"list the commits between {base[:12]} and {head[:12]}", needs="contents: read"):
        compared = client.repository(repository).compare(base, head)
        listed = islice(compared.commits, most) if compared.total_commits <= most else ()
        return [(each.sha, each.commit.message) for each in listed], compared.total_commits
