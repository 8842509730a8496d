"""Commits through the git data API, without a checkout: several files in one commit, nobody's work lost."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.github.client import Client, GitHubRefused, Request

WRITES = "contents: write"
READS = "contents: read"

MAX_TRIES = 8
FIRST_WAIT_S = 1.0
INLINE_BYTES = 256 * 1024
"""Text up to this size goes along with the tree; anything else is a request of its own."""

_FILE_MODE = "100644"
_MOVED = frozenset({409, 422})


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A branch of a repository.

    start: where the branch begins when it does not exist yet, the name of another branch; blank: nowhere, it becomes
    an orphan that shares no history with the others.
    """

    repository: str
    name: str
    start: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The head of a branch after `commit_files`; `made` is false when there was nothing to commit."""

    sha: str
    made: bool


def commit_files(client: Client, branch: Branch, files: Mapping[str, bytes | None], *, message: str) -> Commit:
    """Make one commit on `branch` that writes `files`, by path in the repository; None deletes a file.

    Files that others commit in the meantime stay: when the branch has moved, the commit is made again on its new
    head, after growing, jittered waits. When the files are there already, no commit is made. The branch is created
    where there is none.
    Raises `UsageProblem` for paths that lead out of the repository, and `GitHubRefused`.
    """
    for path in files:
        _refuse_path(path)
    blobs = {path: _entry(client, branch, path, content) for path, content in files.items()}
    tries = 0
    while True:
        head = head_of(client, branch.repository, branch.name)
        commit = _commit_on(client, branch, head, list(blobs.values()), message)
        if not commit.made or _move(client, branch, head, commit.sha):
            return commit
        tries += 1
        if tries == MAX_TRIES:
            raise GitHubRefused(
                f"the branch {branch.name} of {branch.repository} moved {tries} times while we committed to it; "
                "nothing was written, repeat the command",
                status=409,
            )
        client.pace.sleep(FIRST_WAIT_S * 2.0 ** (tries - 1) * (0.5 + client.pace.jitter()))


def head_of(client: Client, repository: str, branch: str) -> str:
    """The SHA of a branch's newest commit; blank when there is no such branch."""
    request = Request(
        path=f"/repos/{repository}/git/ref/heads/{quote(branch)}", what=f"read the branch {branch}", needs=READS
    )
    try:
        found = client.one(request)
    except GitHubRefused as error:
        if error.status in {404, 409}:  # 409: the repository has no commit at all
            return ""
        raise
    return _sha(found.get("object"))


def file_sha(client: Client, repository: str, path: str, *, branch: str) -> str:
    """The git SHA of a file's content on a branch; blank when it is not there."""
    request = Request(
        path=f"/repos/{repository}/contents/{quote(path)}",
        parameters={"ref": branch},
        what=f"read {path} on the branch {branch}",
        needs=READS,
    )
    try:
        return _sha(client.one(request))
    except GitHubRefused as error:
        if error.status == 404:
            return ""
        raise


def _entry(client: Client, branch: Branch, path: str, content: bytes | None) -> dict[str, Any]:
    """A file as a tree has it."""
    entry: dict[str, Any] = {"path": path, "mode": _FILE_MODE, "type": "blob"}
    text = _short_text(content)
    if content is None:
        return {**entry, "sha": None}
    if text is not None:
        return {**entry, "content": text}
    body = {"content": base64.b64encode(content).decode("ascii"), "encoding": "base64"}
    return {**entry, "sha": _create(client, branch, "blobs", body, what=f"store {path}")}


def _short_text(content: bytes | None) -> str | None:
    if content is None or len(content) > INLINE_BYTES or b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _commit_on(client: Client, branch: Branch, head: str, entries: list[dict[str, Any]], message: str) -> Commit:
    """A commit on `head`, or where the branch starts. Nothing points to it yet."""
    parent = head or (_start_of(client, branch) if branch.start else "")
    if not parent:
        entries = [entry for entry in entries if entry.get("sha", "") is not None]  # nothing to delete from
        tree = _create(client, branch, "trees", {"tree": entries}, what="store the files")
        commit = _create(client, branch, "commits", {"message": message, "tree": tree, "parents": []}, what="commit")
        return Commit(sha=commit, made=True)
    base = _tree_of(client, branch, parent)
    tree = _create(client, branch, "trees", {"base_tree": base, "tree": entries}, what="store the files")
    if tree == base:
        return Commit(sha=parent, made=False)
    body = {"message": message, "tree": tree, "parents": [parent]}
    return Commit(sha=_create(client, branch, "commits", body, what="commit"), made=True)


def _start_of(client: Client, branch: Branch) -> str:
    start = head_of(client, branch.repository, branch.start)
    if not start:
        raise UsageProblem(f"{branch.repository} has no branch {branch.start} to begin {branch.name} from")
    return start


def _tree_of(client: Client, branch: Branch, commit: str) -> str:
    request = Request(
        path=f"/repos/{branch.repository}/git/commits/{commit}", what=f"read the commit {commit}", needs=READS
    )
    return _sha(client.one(request).get("tree"))


def _move(client: Client, branch: Branch, head: str, commit: str) -> bool:
    """Point the branch to `commit`; false when it has moved away from `head` in the meantime."""
    body: dict[str, Any]
    method: Literal["POST", "PATCH"]
    if head:
        method, path, body = "PATCH", f"refs/heads/{quote(branch.name)}", {"sha": commit, "force": False}
    else:
        method, path, body = "POST", "refs", {"ref": f"refs/heads/{branch.name}", "sha": commit}
    request = Request(
        method=method,
        path=f"/repos/{branch.repository}/git/{path}",
        body=body,
        what=f"move the branch {branch.name}",
        needs=WRITES,
        repeatable=True,  # a second time either moves it, or finds it moved
        urgent=True,
    )
    try:
        client.one(request)
    except GitHubRefused as error:
        if error.status not in _MOVED:
            raise
        now = head_of(client, branch.repository, branch.name)
        if now == head:
            raise  # it stands where it stood: refused for another reason, say a rule for protected branches
        return now == commit
    return True


def _create(client: Client, branch: Branch, kind: str, body: Mapping[str, Any], *, what: str) -> str:
    """Create a git object; the same content has the same SHA, so that doing it twice does no harm."""
    request = Request(
        method="POST",
        path=f"/repos/{branch.repository}/git/{kind}",
        body=body,
        what=f"{what} in {branch.repository}",
        needs=WRITES,
        repeatable=True,
        urgent=kind != "blobs",  # until the branch is moved, others may move it
    )
    return _sha(client.one(request))


def _sha(found: object) -> str:
    sha = found.get("sha") if isinstance(found, dict) else None
    if not isinstance(sha, str) or not sha:
        raise GitHubRefused("GitHub's answer names no object", status=200)
    return sha


def _refuse_path(path: str) -> None:
    parts = path.split("/")
    if not path or "\\" in path or any(part in {"", ".", ".."} or part.lower() == ".git" for part in parts):
        raise UsageProblem(f"{path!r} is no path of a file in a repository")
