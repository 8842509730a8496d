"""Workflow runs of a commit, their jobs and their artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import one_line
from torchperf_ci.github.client import Client, GitHubRefused, Request
from torchperf_ci.github.names import FULL_SHA_DIGITS, is_repository, is_sha

READS = "actions: read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A workflow run; `attempt` is its newest one, `number` counts the runs of its workflow."""

    id: int
    workflow: str
    event: str
    number: int
    attempt: int
    created: str
    finished: bool


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


def checked_repository(repository: str) -> str:
    """`repository`, if it has the form owner/name. Raises `UsageProblem`."""
    if not repository:
        raise UsageProblem("which repository? use --repo owner/name, or set GITHUB_REPOSITORY")
    if not is_repository(repository):
        raise UsageProblem(f"--repo is {repository!r}, expected owner/name")
    return repository


def full_sha(client: Client, repository: str, sha: str) -> str:
    """The whole of a commit's SHA, which may be given by its first 7 digits or more. Raises `UsageProblem`."""
    sha = sha.strip().lower()
    if not is_sha(sha):
        raise UsageProblem(f"{sha!r} is no commit SHA, expected 7 to 40 of the digits 0-9 and a-f")
    if len(sha) == FULL_SHA_DIGITS:
        return sha
    what = f"find the commit {sha} in {repository}"
    try:
        found = client.one(Request(path=f"/repos/{repository}/commits/{sha}", what=what, needs="contents: read"))
    except GitHubRefused as error:
        if error.status in {404, 422}:
            raise UsageProblem(f"{repository} has no commit {sha}, or more than one; give all 40 digits") from error
        raise
    return str(found.get("sha", ""))


def runs_of(client: Client, repository: str, sha: str) -> Iterator[Run]:
    """The workflow runs of the commit with this (whole) SHA."""
    request = Request(
        path=f"/repos/{repository}/actions/runs",
        parameters={"head_sha": sha},
        what=f"list the workflow runs of {repository}",
        needs=READS,
    )
    for raw in client.every(request, key="workflow_runs"):
        if raw.get("head_sha") == sha:
            yield Run(
                id=_integer(raw, "id"),
                workflow=_text(raw, "name"),
                event=_text(raw, "event"),
                number=_integer(raw, "run_number"),
                attempt=_integer(raw, "run_attempt"),
                created=_text(raw, "created_at"),
                finished=raw.get("status") == "completed",
            )


def jobs_of(client: Client, repository: str, run: Run) -> Iterator[Job]:
    """The jobs of all attempts at a run."""
    request = Request(
        path=f"/repos/{repository}/actions/runs/{run.id}/jobs",
        parameters={"filter": "all"},
        what=f"list the jobs of run {run.id}",
        needs=READS,
    )
    for raw in client.every(request, key="jobs"):
        yield Job(
            id=_integer(raw, "id"),
            name=_text(raw, "name"),
            attempt=_integer(raw, "run_attempt") or 1,
            finished=raw.get("status") == "completed",
            conclusion=_text(raw, "conclusion"),
        )


def artifacts_of(client: Client, repository: str, run: int) -> Iterator[Artifact]:
    """The artifacts of all attempts at the run of this number."""
    request = Request(
        path=f"/repos/{repository}/actions/runs/{run}/artifacts",
        what=f"list the artifacts of run {run}",
        needs=READS,
    )
    for raw in client.every(request, key="artifacts"):
        yield _artifact(raw)


def artifacts_named(client: Client, repository: str, name: str) -> Iterator[Artifact]:
    """The artifacts of this name that have not expired, newest first, from runs of the repository's own branches: never
    one of a fork."""
    request = Request(
        path=f"/repos/{repository}/actions/artifacts",
        parameters={"name": name},
        what=f"list the artifacts of {repository} named {name}",
        needs=READS,
    )
    for raw in client.every(request, key="artifacts"):
        run = _origin(raw)
        own = run.get("head_repository_id") == run.get("repository_id")
        if own and raw.get("name") == name and raw.get("expired") is False:
            yield _artifact(raw)


def _origin(raw: dict[str, Any]) -> dict[str, Any]:
    """What an artifact says about the run that made it."""
    run = raw.get("workflow_run")
    return run if isinstance(run, dict) else {}


def _artifact(raw: dict[str, Any]) -> Artifact:
    run = _origin(raw)
    return Artifact(
        id=_integer(raw, "id"),
        name=_text(raw, "name"),
        size=_integer(raw, "size_in_bytes"),
        expired=raw.get("expired") is True,
        commit=_text(run, "head_sha"),
        branch=_text(run, "head_branch"),
    )


def _integer(raw: dict[str, Any], name: str) -> int:
    value = raw.get(name)
    return value if isinstance(value, int) else 0


def _text(raw: dict[str, Any], name: str) -> str:
    """A name as messages may show it."""
    value = raw.get(name)
    return one_line(value, limit=300) if isinstance(value, str) else ""
