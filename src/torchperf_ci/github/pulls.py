"""Pull requests: changed files proposed as one, and the open one of a commit found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from github.Commit import Commit
from github.Issue import Issue

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.github.branch import Branch, commit_files, read_file_sha
from torchperf_ci.github.client import Client, GitHubNotFound, GitHubRefused

WRITES = "pull-requests: write"
READS = "pull-requests: read"

MOST_COMMITS = 100
"""A night has fewer, and each costs a request."""

_DESCRIPTION = """
query($owner: String!, $name: String!, $number: Int!) {
  repository(owner: $owner, name: $name) { pullRequest(number: $number) { body lastEditedAt } }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """A pull request; `opened` is false when it was there before."""

    number: int
    url: str
    opened: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PullHead:
    """The commit of a pull request. repository: where it lies, a fork or the repository itself; blank for a fork that
    has been deleted."""

    sha: str
    branch: str
    repository: str
    is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPull:
    """A pull request that has a label. put, by: when and by whom it was put there the last time; `by` is blank for an
    account that has been deleted. edited: when the description was edited the last time, or None."""

    event: int
    put: datetime
    by: str
    url: str
    description: str
    edited: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Files by their path in the repository, for a branch that begins at `base`."""

    repository: str
    branch: str
    base: str
    files: Mapping[str, bytes]


def read_default_branch(client: Client, repository: str) -> str:
    """Return the name of the repository's default branch."""
    with client.asking(f"read the repository {repository}", needs="metadata: read"):
        return client.repository(repository).default_branch


def prepare_proposal(
    client: Client, repository: str, *, branch: str, base: str, files: Mapping[Path, bytes]
) -> Proposal:
    """Prepare a proposal of `files`, by their path on disk in a checkout, where they still have their old content.

    base: the branch to change; blank: the repository's default branch. Raises `UsageProblem` when the files on disk
    are not those of that branch, since the proposal would then undo what others did to them.
    """
    base = base or read_default_branch(client, repository)
    inside = {path: _find_path(path) for path in files}
    stale = [
        name
        for path, name in inside.items()
        if read_file_sha(client, repository, name, branch=base) != _compute_git_sha(path)
    ]
    if stale:
        raise UsageProblem(
            f"{', '.join(stale)}: the checkout is not that of the branch {base}, and the pull request would undo its "
            f"changes; check out {base}, or name another branch with --base"
        )
    content = {inside[path]: text for path, text in files.items()}
    return Proposal(repository=repository, branch=branch, base=base, files=content)


def open_pull_request(client: Client, proposal: Proposal, *, title: str, body: str) -> PullRequest:
    """Commit the files to a branch of their own, and open its pull request, or bring the open one up to date.

    Nothing of the base is undone. Raises `GitHubRefused`.
    """
    branch = Branch(repository=proposal.repository, name=proposal.branch, start=proposal.base)
    commit_files(client, branch, proposal.files, message=title)
    repository, owner = client.repository(proposal.repository), proposal.repository.partition("/")[0]
    with client.asking(f"list the pull requests from {proposal.branch}", needs=READS):
        pulls = repository.get_pulls(state="open", head=f"{owner}:{proposal.branch}", base=proposal.base)
        pull = next(iter(pulls), None)
    what = "open or update the pull request"
    try:
        if pull is not None:
            with client.asking(what, needs=WRITES, repeatable=True):
                pull.edit(title=title, body=body)
                return PullRequest(number=pull.number, url=pull.html_url, opened=False)
        with client.asking(what, needs=WRITES):
            pull = repository.create_pull(proposal.base, proposal.branch, title=title, body=body)
            return PullRequest(number=pull.number, url=pull.html_url, opened=True)
    except GitHubRefused as error:
        if error.status == 403:
            raise GitHubRefused(
                f"{error}; in a workflow the repository's setting 'Allow GitHub Actions to create and approve pull "
                f"requests' must be on. The commit is on the branch {proposal.branch}",
                status=403,
            ) from error
        raise


def find_pull_request(
    client: Client, repository: str, *, head_repository: str, branch: str, sha: str
) -> tuple[int, str]:
    """Find the open pull request whose head is this commit of this repository, as GitHub's API has it now.

    Returns its number, or 0 and why there is none. One that has got newer commits is not found: results of an older
    commit would be mistaken for theirs. Raises `GitHubRefused`.
    """
    with client.asking("find the pull request", needs=READS):
        pulls = [
            (pull.number, pull.head.sha)
            for pull in client.repository(repository).get_pulls(
                state="open", head=f"{head_repository.partition('/')[0]}:{branch}"
            )
            # A fork that has been deleted is None.
            if getattr(pull.head.repo, "full_name", "") == head_repository and pull.base.repo.full_name == repository
        ]
    exact = [number for number, head in pulls if head == sha]
    if exact:
        return exact[0], ""
    if pulls:
        return 0, f"pull request {pulls[0][0]} has newer commits than {sha[:12]}"
    return 0, f"no open pull request has the head {sha[:12]} of {head_repository}"


def read_head(client: Client, repository: str, number: int) -> PullHead:
    """Read which commit a pull request has now. Raises `GitHubRefused`."""
    with client.asking(f"read pull request {number}", needs=READS):
        pull = client.repository(repository).get_pull(number)
        return PullHead(
            sha=pull.head.sha,
            branch=pull.head.ref,
            repository=getattr(pull.head.repo, "full_name", "") or "",
            is_open=pull.state == "open",
        )


def find_label(client: Client, repository: str, number: int, label: str) -> LabelledPull | None:
    """Find who put a label on a pull request, by GitHub's events, and its description; None where it has no such label.

    Raises `GitHubRefused`.
    """
    with client.asking(f"read the labels of pull request {number}", needs=READS):
        pull = client.repository(repository).get_pull(number)
        if label not in {each.name for each in pull.labels}:
            return None
        events = [
            event
            for event in client.lazy(Issue, f"/repos/{repository}/issues/{number}").get_events()
            if event.event in {"labeled", "unlabeled"} and getattr(event.label, "name", "") == label
        ]
        last = max(events, key=lambda event: (event.created_at, event.id), default=None)
        if last is None or last.event != "labeled":
            return None
    owner, _, name = repository.partition("/")
    # Only GraphQL says when a description was edited.
    with client.asking(f"read the description of pull request {number}", needs=READS, repeatable=True):
        _, answer = client.requester.graphql_query(_DESCRIPTION, {"owner": owner, "name": name, "number": number})
        written = answer["data"]["repository"]["pullRequest"]
        edited = written["lastEditedAt"]
        return LabelledPull(
            event=last.id,
            put=last.created_at,
            by=getattr(last.actor, "login", "") or "",
            url=pull.html_url,
            description=written["body"] or "",
            edited=datetime.fromisoformat(edited.replace("Z", "+00:00")) if edited else None,
        )


def list_merged_pulls(client: Client, repository: str, good: str, bad: str) -> tuple[list[int], bool]:
    """List the merged pull requests that brought the commits after `good` up to `bad`, the newest first.

    Says as well whether all commits were looked at: at most `MOST_COMMITS` are. Raises `GitHubRefused`.
    """
    on_github = client.repository(repository)
    numbers: dict[int, None] = {}
    with client.asking(f"list the commits from {good[:12]} to {bad[:12]}", needs="contents: read"):
        commits = [commit.sha for commit in on_github.compare(good, bad).commits]
    for sha in commits[::-1][:MOST_COMMITS]:
        with client.asking(f"find the pull request of {sha[:12]}", needs=READS):
            pulls = client.lazy(Commit, f"/repos/{repository}/commits/{sha}").get_pulls()
            numbers |= dict.fromkeys(
                pull.number
                for pull in pulls
                if pull.merged_at and pull.base.repo.full_name.lower() == repository.lower()
            )
    return list(numbers), len(commits) <= MOST_COMMITS


def may_write(client: Client, repository: str, login: str) -> bool:
    """Ask GitHub whether somebody may write to a repository. Raises `GitHubRefused`."""
    try:
        with client.asking(f"ask for the permission of {login}", needs="metadata: read"):
            return client.repository(repository).get_collaborator_permission(login) in {"admin", "write"}
    except GitHubNotFound:
        return False


def _find_path(path: Path) -> str:
    """Return the path below the root of the checkout that `path` is in."""
    absolute = path.absolute()
    root = next((folder for folder in absolute.parents if (folder / ".git").exists()), None)
    if root is None:
        raise UsageProblem(f"{path} is in no git checkout; a pull request needs one")
    return absolute.relative_to(root).as_posix()


def _compute_git_sha(path: Path) -> str:
    """Return what git calls the content of the file at `path`; blank when there is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ""
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
