"""Issues and comments that are posted once and found again: by a label, their author, and a hidden mark in front.

They are listed, not searched for: GitHub's search learns of an issue only a while after it is there.

Comments begin with a hidden marker too: what the comment is about, and which run it shows. Whoever writes the same
marker under another name is not us, so the author is compared as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from github.AuthenticatedUser import AuthenticatedUser
from github.Issue import Issue
from github.IssueComment import IssueComment

from torchperf_ci.github.client import Client, GitHubNotFound, GitHubRefused

WRITES = "issues: write"
READS = "issues: read"

MAX_TRIES = 4
FIRST_WAIT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """The mark that tells a comment from all others: its subject, e.g. the dashboard of a series, and the run it shows.

    time: when the run began; no comment on it is older.
    """

    subject: str
    run: str
    time: datetime

    @property
    def start(self) -> str:
        """Return how every comment on the subject begins. A hash, so that no text from outside can end it early."""
        return f"<!-- torchperf-ci {_digest(self.subject)} "

    @property
    def whole(self) -> str:
        return f"{self.start}{_digest(self.run)} -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueRemark:
    """A comment of anybody. author: blank for an account that has been deleted."""

    id: int
    author: str
    body: str
    created: datetime
    updated: datetime
    url: str


def post_comment(
    client: Client, repository: str, issue: int, body: str, marker: Marker, *, sticky: bool
) -> tuple[str, bool]:
    """Make sure that there is exactly one comment with this marker, and that it says `body`.

    Return its URL, and whether it is new: not when an earlier one was edited, or stood there already.

    sticky: edit our newest earlier comment on the same subject, whatever run it shows. Otherwise only one on the same
    run is edited, so that doing it twice posts once. When nobody knows whether a request arrived, it is looked for
    before it is sent again. Raises `GitHubRefused` naming the permission that is missing.
    """
    text = f"{marker.whole}\n{body}"
    where = f"on issue {issue} of {repository}"
    on_github = client.lazy(Issue, f"/repos/{repository}/issues/{issue}")
    for tries in range(1, MAX_TRIES + 1):
        before = _find_own(client, on_github, issue, marker, sticky=sticky)
        if before is not None and before.body == text:
            return before.html_url, False
        try:
            if before is not None:
                with client.asking(f"edit our comment {where}", needs=WRITES, repeatable=True):
                    before.edit(text)
                    return before.html_url, False
            with client.asking(f"comment {where}", needs=WRITES):
                return on_github.create_comment(text).html_url, True
        except GitHubRefused as error:
            wait_or_raise(client, error, tries)
    raise AssertionError("the last try returns or raises")


def wait_or_raise(client: Client, error: GitHubRefused, tries: int) -> None:
    """Wait before looking for what may have arrived; raise `error` where it did not, or after `MAX_TRIES` tries."""
    is_unclear = error.status == 0 or error.status >= 500
    if not is_unclear or tries == MAX_TRIES:
        raise error
    client.pace.sleep(FIRST_WAIT_S * 2.0 ** (tries - 1) * (1 + client.pace.jitter() / 2))


def list_comments(client: Client, repository: str, issue: int) -> list[IssueRemark]:
    """List all comments on an issue or a pull request, oldest first. Raises `GitHubRefused`."""
    on_github = client.lazy(Issue, f"/repos/{repository}/issues/{issue}")
    with client.asking(f"read the comments of issue {issue}", needs=READS):
        return [
            IssueRemark(
                id=comment.id,
                author=getattr(comment.user, "login", "") or "",
                body=comment.body or "",
                created=comment.created_at,
                updated=comment.updated_at,
                url=comment.html_url,
            )
            for comment in on_github.get_comments()
        ]


def read_login(client: Client) -> str:
    """Return the name under which the token writes. Tokens of apps and workflows may not ask for it by REST."""
    try:
        with client.asking("ask whose token this is", needs=""):
            return client.lazy(AuthenticatedUser, "/user").login
    except GitHubRefused as error:
        if error.status not in {403, 404}:
            raise
    with client.asking("ask whose token this is", needs=READS, repeatable=True):
        _, answer = client.requester.graphql_query("query { viewer { login } }", {})
        return f"{answer['data']['viewer']['login'].removesuffix('[bot]')}[bot]"


def _find_own(client: Client, on_github: Issue, issue: int, marker: Marker, *, sticky: bool) -> IssueComment | None:
    """Find our newest comment with this marker, over all pages."""
    start = marker.start if sticky else marker.whole
    since = {} if sticky else {"since": marker.time - timedelta(days=1)}
    with client.asking(f"read the comments of issue {issue}", needs=READS):
        marked = [comment for comment in on_github.get_comments(**since) if (comment.body or "").startswith(start)]
    if not marked:
        return None
    login = read_login(client)
    # An account that has been deleted is None.
    return next((comment for comment in reversed(marked) if getattr(comment.user, "login", "") == login), None)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="replace")).hexdigest()[:16]


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
    with suppress(GitHubNotFound), client.asking(f"read the label {label}", needs=READS):
        on_github.get_label(label)
        return
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
        asked = client.asking(f"ask whether {login} may be assigned in {repository}", needs=READS)
        with suppress(GitHubNotFound), asked:
            client.repository(repository).has_in_assignees(login)
            assignable.append(login)
    return assignable[:MOST_ASSIGNEES]


def _describe(issue: Issue) -> OwnIssue:
    return OwnIssue(
        number=issue.number,
        url=issue.html_url,
        body=(issue.body or "").replace("\r\n", "\n"),
        is_open=issue.state == "open",
    )
