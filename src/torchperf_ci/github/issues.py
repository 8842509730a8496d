"""Issues that are opened once and found again: by a label, their author, and a hidden mark at their beginning.

They are listed, not searched for: GitHub's search learns of an issue only a while after it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from github.Issue import Issue

from torchperf_ci.github.client import Client, GitHubRefused
from torchperf_ci.github.comments import MAX_TRIES, READS, WRITES, read_login, wait_or_raise

LABEL_COLOR = "b60205"
MOST_ASSIGNEES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnIssue:
    """An issue that the account of the token wrote."""

    number: int
    url: str
    body: str
    is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIssue:
    """An issue to open. mark: how its body begins, by which it is found again. labels: the first one is ours."""

    mark: str
    title: str
    body: str
    labels: Sequence[str]
    assignees: Sequence[str] = ()


def list_own_issues(client: Client, repository: str, label: str) -> list[OwnIssue]:
    """List the issues with a label that the token's account wrote, closed ones too, oldest first.

    Raises `GitHubRefused`.
    """
    with client.asking(f"list the issues of {repository}", needs=READS):
        listed = [
            (getattr(issue.user, "login", ""), _describe(issue))
            for issue in client.repository(repository).get_issues(
                state="all", labels=[label], sort="created", direction="asc"
            )
            if "/pull/" not in issue.html_url
        ]
    login = read_login(client) if listed else ""
    return sorted((issue for author, issue in listed if author == login), key=lambda issue: issue.number)


def require_label(client: Client, repository: str, label: str, description: str) -> None:
    """Make a label if it is not there. Raises `GitHubRefused`, also where the token may not: GitHub would open issues
    without it and say nothing."""
    on_github = client.repository(repository)
    try:
        with client.asking(f"read the label {label}", needs=READS):
            on_github.get_label(label)
            return
    except GitHubRefused as error:
        if error.status != 404:
            raise
    try:
        with client.asking(f"make the label {label}", needs=WRITES):
            on_github.create_label(label, LABEL_COLOR, description)
    except GitHubRefused as error:
        if error.status != 422:  # somebody else was quicker
            raise


def open_issue(client: Client, repository: str, issue: NewIssue) -> OwnIssue:
    """Open an issue. When nobody knows whether a request arrived, it is looked for before it is sent again.

    Raises `GitHubRefused`, also where GitHub drops the label: the issue could not be found again.
    """
    for tries in range(1, MAX_TRIES + 1):
        try:
            with client.asking(f"open an issue in {repository}", needs=WRITES):
                opened = client.repository(repository).create_issue(
                    issue.title, issue.body, labels=list(issue.labels), assignees=list(issue.assignees)
                )
                known, labels = _describe(opened), {label.name.lower() for label in opened.labels}
            if issue.labels[0].lower() not in labels:
                raise GitHubRefused(
                    f"GitHub opened {known.url} without the label {issue.labels[0]}, which the token may not set; set "
                    "it by hand, or the next run opens another one",
                    status=403,
                )
            return known
        except GitHubRefused as error:
            wait_or_raise(client, error, tries)
        own = list_own_issues(client, repository, issue.labels[0])
        if arrived := next((each for each in own if each.is_open and each.body.startswith(issue.mark)), None):
            return arrived
    raise AssertionError("the last try returns or raises")


def edit_issue(client: Client, repository: str, number: int, *, body: str, state: str = "", reason: str = "") -> None:
    """Change what an issue says, and whether it is open. reason: `completed`, `not_planned` or `reopened`.

    Raises `GitHubRefused`.
    """
    changes: dict[str, Any] = {"body": body}
    changes |= {"state": state, "state_reason": reason} if state else {}
    with client.asking(f"edit issue {number} of {repository}", needs=WRITES, repeatable=True):
        client.lazy(Issue, f"/repos/{repository}/issues/{number}").edit(**changes)


def list_assignable(client: Client, repository: str, logins: Sequence[str]) -> list[str]:
    """List those of the users to whom an issue can be assigned. Raises `GitHubRefused`."""
    assignable = []
    for login in logins:
        try:
            with client.asking(f"ask whether {login} may be assigned in {repository}", needs=READS):
                client.repository(repository).has_in_assignees(login)
        except GitHubRefused as error:
            if error.status != 404:
                raise
        else:
            assignable.append(login)
    return assignable[:MOST_ASSIGNEES]


def _describe(issue: Issue) -> OwnIssue:
    return OwnIssue(
        number=issue.number,
        url=issue.html_url,
        body=(issue.body or "").replace("\r\n", "\n"),
        is_open=issue.state == "open",
    )
