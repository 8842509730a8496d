"""Changed files proposed as a pull request: one commit on a branch of its own, nothing of the base undone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.github.branch import Branch, commit_files, file_sha
from torchperf_ci.github.client import Client
from torchperf_ci.github.pulls import PullRequest, default_branch, open_pull_request


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Files by their path in the repository, for a branch that begins at `base`."""

    repository: str
    branch: str
    base: str
    files: Mapping[str, bytes]


def prepare(client: Client, repository: str, *, branch: str, base: str, files: Mapping[Path, bytes]) -> Proposal:
    """A proposal of `files`, by their path on disk in a checkout, where they still have their old content.

    base: the branch to change; blank: the repository's default branch. Raises `UsageProblem` when the files on disk
    are not those of that branch, since the proposal would then undo what others did to them.
    """
    base = base or default_branch(client, repository)
    inside = {path: _path_in_repository(path) for path in files}
    stale = [name for path, name in inside.items() if file_sha(client, repository, name, branch=base) != _git_sha(path)]
    if stale:
        raise UsageProblem(
            f"{', '.join(stale)}: the checkout is not that of the branch {base}, and the pull request would undo its "
            f"changes; check out {base}, or name another branch with --base"
        )
    return Proposal(
        repository=repository, branch=branch, base=base, files={inside[path]: text for path, text in files.items()}
    )


def propose(client: Client, proposal: Proposal, *, title: str, body: str) -> PullRequest:
    """Commit the files and open the pull request, or bring the open one up to date. Raises `GitHubRefused`."""
    branch = Branch(repository=proposal.repository, name=proposal.branch, start=proposal.base)
    commit_files(client, branch, proposal.files, message=title)
    return open_pull_request(
        client, proposal.repository, branch=proposal.branch, base=proposal.base, title=title, body=body
    )


def _path_in_repository(path: Path) -> str:
    """The path below the root of the checkout that `path` is in."""
    absolute = path.absolute()
    root = next((folder for folder in absolute.parents if (folder / ".git").exists()), None)
    if root is None:
        raise UsageProblem(f"{path} is in no git checkout; a pull request needs one")
    return absolute.relative_to(root).as_posix()


def _git_sha(path: Path) -> str:
    """What git calls the content of the file at `path`; blank when there is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ""
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
