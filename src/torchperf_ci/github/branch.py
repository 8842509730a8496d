"""Commits through the git data API, without a checkout: several files in one commit, nobody's work lost."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from github.GitRef import GitRef
from github.InputGitTreeElement import InputGitTreeElement

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.github.client import Client, GitHubNotFound, GitHubRefused

WRITES = "contents: write"
READS = "contents: read"

MAX_TRIES = 8
FIRST_WAIT_S = 1.0
INLINE_BYTES = 256 * 1024
"""Text up to this size goes along with the tree; anything else is a request of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A branch of a repository.

    start: where the branch begins when it does not exist yet, the name of another branch; blank: nowhere, it becomes
    an orphan that shares no history with the others.
    """

    repository: str
    name: str
    start: str = ""


def commit_files(client: Client, branch: Branch, files: Mapping[str, bytes | None], *, message: str) -> str:
    """Make one commit on `branch` that writes `files`, by path in the repository; None deletes a file. Return its
    SHA, or a blank when the files are there already and no commit is made.

    Files that others commit in the meantime stay: when the branch has moved, the commit is made again on its new
    head, after growing, jittered waits. The branch is created where there is none.
    Raises `UsageProblem` for paths that lead out of the repository, and `GitHubRefused`.
    """
    for path in files:
        parts = path.split("/")
        if not path or "\\" in path or any(part in {"", ".", ".."} or part.lower() == ".git" for part in parts):
            raise UsageProblem(f"{path!r} is no path of a file in a repository")
    entries = {path: _store(client, branch, path, content) for path, content in files.items()}
    tries = 0
    while True:
        head = read_head(client, branch.repository, branch.name)
        # What is to be deleted is not there when the branch begins from nothing.
        there = [entry for path, entry in entries.items() if head or branch.start or files[path] is not None]
        commit = _commit_on(client, branch, head, there, message)
        if not commit or _move(client, branch, head, commit):
            return commit
        tries += 1
        if tries == MAX_TRIES:
            raise GitHubRefused(
                f"the branch {branch.name} of {branch.repository} moved {tries} times while we committed to it; "
                "nothing was written, repeat the command",
                status=409,
            )
        client.pace.sleep(FIRST_WAIT_S * 2.0 ** (tries - 1) * (0.5 + client.pace.jitter()))


def read_head(client: Client, repository: str, branch: str) -> str:
    """Return the SHA of a branch's newest commit; blank when there is no such branch."""
    try:
        with client.asking(f"read the branch {branch}", needs=READS):
            return client.lazy(GitRef, f"/repos/{repository}/git/ref/heads/{quote(branch)}").object.sha
    except GitHubRefused as error:
        if error.status in {404, 409}:  # 409: the repository has no commit at all
            return ""
        raise


def read_file_sha(client: Client, repository: str, path: str, *, branch: str) -> str:
    """Return the git SHA of a file's content on a branch; blank when it is not there."""
    try:
        with client.asking(f"read {path} on the branch {branch}", needs=READS):
            content = client.repository(repository).get_contents(path, ref=branch)
    except GitHubNotFound:
        return ""
    return "" if isinstance(content, list) else content.sha


def list_folders(client: Client, branch: Branch, path: str) -> dict[str, str]:
    """List the folders in a folder, each with the SHA of its tree; none when it is not there."""
    try:
        with client.asking(f"read the branch {branch.name}", needs=READS):
            entries = client.repository(branch.repository).get_contents(path, ref=branch.name)
    except GitHubNotFound:
        return {}
    return {each.name: each.sha for each in (entries if isinstance(entries, list) else []) if each.type == "dir"}


def list_blobs(client: Client, branch: Branch, tree: str, *, title: str) -> dict[str, str]:
    """List the files of a tree, each with the SHA of its content; none when it is gone. `title` is for messages."""
    try:
        with client.asking(f"read {title} on the branch {branch.name}", needs=READS):
            entries = client.repository(branch.repository).get_git_tree(tree).tree
    except GitHubNotFound:
        return {}
    return {entry.path: entry.sha for entry in entries if entry.type == "blob"}


def read_blob(client: Client, branch: Branch, sha: str, *, title: str) -> bytes:
    """Read the content with this SHA. `title` is for messages."""
    with client.asking(f"read {title} on the branch {branch.name}", needs=READS):
        return base64.b64decode(client.repository(branch.repository).get_git_blob(sha).content)


def _store(client: Client, branch: Branch, path: str, content: bytes | None) -> InputGitTreeElement:
    """Return a file as a tree takes it, stored before if it is large or no text."""
    if content is None:
        return InputGitTreeElement(path, "100644", "blob", sha=None)
    if len(content) <= INLINE_BYTES and b"\0" not in content:
        try:
            return InputGitTreeElement(path, "100644", "blob", content=content.decode("utf-8"))
        except UnicodeDecodeError:
            pass
    # The same content has the same SHA, so that doing it twice does no harm.
    with client.asking(f"store {path} in {branch.repository}", needs=WRITES, repeatable=True):
        blob = client.repository(branch.repository).create_git_blob(base64.b64encode(content).decode("ascii"), "base64")
    return InputGitTreeElement(path, "100644", "blob", sha=blob.sha)


def _commit_on(client: Client, branch: Branch, head: str, entries: Sequence[InputGitTreeElement], message: str) -> str:
    """Make a commit on `head`, or where the branch starts; return a blank where it would change nothing.

    Nothing points to it yet. Its writes are urgent: until the branch is moved, others may move it.
    """
    repository = client.repository(branch.repository)
    parent = head or (read_head(client, branch.repository, branch.start) if branch.start else "")
    if branch.start and not parent:
        raise UsageProblem(f"{branch.repository} has no branch {branch.start} to begin {branch.name} from")
    parents = []
    if parent:
        with client.asking(f"read the commit {parent}", needs=READS):
            parents.append(repository.get_git_commit(parent))
    urgent_write = {"needs": WRITES, "repeatable": True, "urgent": True}
    with client.asking(f"store the files in {branch.repository}", **urgent_write):
        tree = repository.create_git_tree(list(entries), *(commit.tree for commit in parents))
    if parents and tree.sha == parents[0].tree.sha:
        return ""
    with client.asking(f"commit in {branch.repository}", **urgent_write):
        return repository.create_git_commit(message, tree, parents).sha


def _move(client: Client, branch: Branch, head: str, commit: str) -> bool:
    """Point the branch to `commit`; return false when it has moved away from `head` in the meantime."""
    path = f"/repos/{branch.repository}/git/refs/heads/{quote(branch.name)}"
    try:
        # A second time either moves it, or finds it moved.
        with client.asking(f"move the branch {branch.name}", needs=WRITES, repeatable=True, urgent=True):
            if head:
                client.lazy(GitRef, path).edit(commit, force=False)
            else:
                client.repository(branch.repository).create_git_ref(f"refs/heads/{branch.name}", commit)
    except GitHubRefused as error:
        if error.status not in {409, 422}:
            raise
        now = read_head(client, branch.repository, branch.name)
        if now == head:
            raise  # it stands where it stood: refused for another reason, for example a rule for protected branches
        return now == commit
    return True
