"""Results that earlier runs uploaded: the newest of the default branch, or those nearest to a commit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from urllib.parse import quote

from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.result_files import read_files, result_files
from torchperf_ci.core.results import RECORDS, Results
from torchperf_ci.github.artifacts import read_members
from torchperf_ci.github.blob import ArtifactProblem, store_session
from torchperf_ci.github.client import Client, GitHubRefused, Request
from torchperf_ci.github.pulls import default_branch
from torchperf_ci.github.runs import Artifact, artifacts_named

MOST_ARTIFACTS = 2_000
MOST_COMMITS = 1_000
"""How far back a measured commit is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The results of an artifact. `behind`: how many commits lie between it and the commit that was asked for."""

    commit: str
    behind: int
    results: Results


def newest_results(client: Client, repository: str, name: str) -> Results:
    """The results in the newest artifact of this name that a run of the default branch uploaded.

    Raises `NothingToJudge` when there is none, or it holds no results, and `GitHubRefused`.
    """
    branch = default_branch(client, repository)
    artifact = next((each for each in artifacts_named(client, repository, name) if each.branch == branch), None)
    if artifact is None:
        raise NothingToJudge("the default branch has none that has not expired")
    return _results_in(client, repository, artifact)


def nearest_results(client: Client, repository: str, name: str, *, head: str, branch: str) -> Recorded:
    """The results in the newest artifact of this name of the commit where `head` left `branch` (blank: the default
    one), or of the nearest commit before it that has such an artifact.

    Raises `NothingToJudge` when there is none near enough, or it holds no results, `UsageProblem` for a commit or
    branch that GitHub does not know, and `GitHubRefused`.
    """
    branch = branch or default_branch(client, repository)
    base = _merge_base(client, repository, branch, head)
    measured: dict[str, Artifact] = {}
    for artifact in islice(artifacts_named(client, repository, name), MOST_ARTIFACTS):
        measured.setdefault(artifact.commit, artifact)
    if not measured:
        raise NothingToJudge(f"no artifact {name} in {repository} has not expired; does a run of {branch} make it?")
    for behind, commit in enumerate(_ancestors(client, repository, base)):
        if commit in measured:
            results = _results_in(client, repository, measured[commit])
            return Recorded(commit=commit, behind=behind, results=results)
    raise NothingToJudge(f"no artifact {name} belongs to {base[:12]}, where head left {branch}, or a commit before it")


def _merge_base(client: Client, repository: str, branch: str, head: str) -> str:
    request = Request(
        path=f"/repos/{repository}/compare/{quote(branch, safe='')}...{quote(head, safe='')}",
        parameters={"per_page": 1},
        what=f"find where {head[:12]} left {branch}",
        needs="contents: read",
    )
    try:
        found = client.one(request).get("merge_base_commit")
    except GitHubRefused as error:
        if error.status == 404:
            raise UsageProblem(
                f"{repository} does not know the branch {branch} or the commit {head[:12]}, or they have no commit in "
                "common; is it pushed?"
            ) from error
        raise
    sha = found.get("sha") if isinstance(found, dict) else None
    if not isinstance(sha, str):
        raise GitHubRefused("GitHub's answer names no merge base", status=200)
    return sha


def _ancestors(client: Client, repository: str, commit: str) -> Iterator[str]:
    """The commit and those before it, the nearest first."""
    request = Request(
        path=f"/repos/{repository}/commits",
        parameters={"sha": commit},
        what=f"list the commits before {commit[:12]}",
        needs="contents: read",
    )
    return (str(raw.get("sha", "")) for raw in islice(client.every(request), MOST_COMMITS))


def _results_in(client: Client, repository: str, artifact: Artifact) -> Results:
    """Raises `NothingToJudge` when there are none, and `GitHubRefused`."""
    try:
        with store_session(connections=1) as session:
            members = read_members(
                client,
                repository,
                artifact,
                wanted=result_files,
                session=session,
            )
    except ArtifactProblem as error:
        raise NothingToJudge(f"the artifact {artifact.name} {error}") from error
    contents = {PurePosixPath(member.name).name: member.content for member in members}
    results = read_files(contents, contents.__getitem__, CaseSelection())
    if not results.records:
        raise NothingToJudge(f"the artifact {artifact.name} holds neither {RECORDS} nor CSV files with results")
    return results
