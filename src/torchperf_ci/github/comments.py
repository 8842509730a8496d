"""Comments on issues and pull requests that are posted once and found again.

A comment of ours begins with a hidden marker: what the comment is about, and which run it shows. Whoever writes the
same marker under another name is not us, so the author is compared as well.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from torchperf_ci.github.client import Client, GitHubRefused, Request

WRITES = "issues: write"
READS = "issues: read"

MAX_TRIES = 4
FIRST_WAIT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What tells a comment apart from all others: its subject, say the dashboard of a series, and the run it shows.

    time: when the run began; no comment on it is older.
    """

    subject: str
    run: str
    time: datetime

    @property
    def start(self) -> str:
        """How every comment on the subject begins. A hash, so that no text from outside can end the marker early."""
        return f"<!-- torchperf-ci {_digest(self.subject)} "

    @property
    def whole(self) -> str:
        return f"{self.start}{_digest(self.run)} -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A comment that is in place; `was_new` is false when an earlier one was edited, or stood there already."""

    url: str
    was_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Find:
    """How the comment begins, and since when it can be there, in UTC."""

    start: str
    since: datetime | None = None


def post_comment(client: Client, repository: str, issue: int, body: str, marker: Marker, *, sticky: bool) -> Posted:
    """Make sure that there is exactly one comment with this marker, and that it says `body`.

    sticky: edit our newest earlier comment on the same subject, whatever run it shows. Otherwise only one on the same
    run is edited, so that doing it twice posts once. When nobody knows whether a request arrived, it is looked for
    before it is sent again. Raises `GitHubRefused` naming the permission that is missing.
    """
    text = f"{marker.whole}\n{body}"
    find = _Find(start=marker.start) if sticky else _Find(start=marker.whole, since=marker.time - timedelta(days=1))
    for tries in range(1, MAX_TRIES + 1):
        before = _own(client, repository, issue, find)
        try:
            return _write(client, repository, issue, text, before)
        except GitHubRefused as error:
            unclear = error.status == 0 or error.status >= 500
            if not unclear or tries == MAX_TRIES:
                raise
            client.pace.sleep(FIRST_WAIT_S * 2.0 ** (tries - 1) * (1 + client.pace.jitter() / 2))
    raise AssertionError("the last try returns or raises")


def login_of(client: Client) -> str:
    """The name under which the token writes. Tokens of apps and workflows may not ask for it by REST."""
    try:
        return str(client.one(Request(path="/user", what="ask whose token this is", needs="")).get("login", ""))
    except GitHubRefused as error:
        if error.status not in {403, 404}:
            raise
    query = Request(
        method="POST",
        path=_graphql(client.access.api_url),
        body={"query": "query { viewer { login } }"},
        what="ask whose token this is",
        needs=READS,
        repeatable=True,
    )
    found: Any = client.one(query)
    login = (((found.get("data") or {}).get("viewer")) or {}).get("login")
    if not isinstance(login, str) or not login:
        raise GitHubRefused("GitHub does not say whose token this is", status=200)
    return f"{login.removesuffix('[bot]')}[bot]"


def _own(client: Client, repository: str, issue: int, find: _Find) -> dict[str, Any] | None:
    """Our newest comment that is looked for, over all pages."""
    request = Request(
        path=f"/repos/{repository}/issues/{issue}/comments",
        parameters={"since": f"{find.since:%Y-%m-%dT%H:%M:%SZ}"} if find.since else {},
        what=f"read the comments of issue {issue}",
        needs=READS,
    )
    marked = [found for found in client.every(request) if str(found.get("body", "")).startswith(find.start)]
    if not marked:
        return None
    login = login_of(client)
    return next((found for found in reversed(marked) if (found.get("user") or {}).get("login") == login), None)


def _write(client: Client, repository: str, issue: int, text: str, before: dict[str, Any] | None) -> Posted:
    if before is not None and before.get("body") == text:
        return Posted(url=str(before.get("html_url", "")), was_new=False)
    method: Literal["POST", "PATCH"] = "POST" if before is None else "PATCH"
    request = Request(
        method=method,
        path=f"/repos/{repository}/issues/" + (f"{issue}/comments" if before is None else f"comments/{before['id']}"),
        body={"body": text},
        what=f"{'comment' if before is None else 'edit our comment'} on issue {issue} of {repository}",
        needs=WRITES,
        repeatable=before is not None,
    )
    return Posted(url=str(client.one(request).get("html_url", "")), was_new=before is None)


def _graphql(api_url: str) -> str:
    """Where GraphQL is: beside REST on github.com, above its version on GitHub Enterprise."""
    parts = urlsplit(api_url)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v3')}/graphql"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="replace")).hexdigest()[:16]
