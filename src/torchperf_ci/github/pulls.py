"""Pull requests from one branch of a repository to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from torchperf_ci.github.client import Client, GitHubRefused, Request

WRITES = "pull-requests: write"
READS = "pull-requests: read"


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """A pull request; `opened` is false when it was there before."""

    number: int
    url: str
    opened: bool


def default_branch(client: Client, repository: str) -> str:
    """The name of the repository's default branch."""
    request = Request(path=f"/repos/{repository}", what=f"read the repository {repository}", needs="metadata: read")
    return str(client.one(request).get("default_branch", ""))


def open_pull_request(client: Client, repository: str, *, branch: str, base: str, title: str, body: str) -> PullRequest:
    """A pull request from `branch` to `base` with this title and body: a new one, or the open one, brought up to date.

    Raises `GitHubRefused`.
    """
    existing = _open_from(client, repository, branch, base)
    if existing is not None:
        number = _number(existing)
        _send(client, repository, f"/{number}", "PATCH", {"title": title, "body": body})
        return PullRequest(number=number, url=str(existing.get("html_url", "")), opened=False)
    try:
        made = _send(client, repository, "", "POST", {"title": title, "body": body, "head": branch, "base": base})
    except GitHubRefused as error:
        if error.status == 403:
            raise GitHubRefused(
                f"{error}; in a workflow the repository's setting 'Allow GitHub Actions to create and approve pull "
                f"requests' must be on. The commit is on the branch {branch}",
                status=403,
            ) from error
        raise
    return PullRequest(number=_number(made), url=str(made.get("html_url", "")), opened=True)


def _open_from(client: Client, repository: str, branch: str, base: str) -> dict[str, Any] | None:
    owner = repository.partition("/")[0]
    request = Request(
        path=f"/repos/{repository}/pulls",
        parameters={"state": "open", "head": f"{owner}:{branch}", "base": base},
        what=f"list the pull requests from {quote(branch)}",
        needs=READS,
    )
    return next(client.every(request), None)


def _send(client: Client, repository: str, path: str, method: Any, body: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - a literal
    request = Request(
        method=method,
        path=f"/repos/{repository}/pulls{path}",
        body=body,
        what="open or update the pull request",
        needs=WRITES,
        repeatable=method == "PATCH",
    )
    return client.one(request)


def _number(pull: dict[str, Any]) -> int:
    number = pull.get("number")
    if not isinstance(number, int):
        raise GitHubRefused("GitHub's answer names no pull request", status=200)
    return number
