"""A site on a branch of a repository, for example the one that GitHub Pages shows. No checkout is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.github.branch import Branch, commit_files, read_blob, read_file_sha
from torchperf_ci.github.client import Client
from torchperf_ci.site.build import SiteUpdate
from torchperf_ci.site.manifest import PATH, Manifest, read_manifest

MOST_BYTES = 4_000_000
"""Of a commit: larger requests take GitHub long, and only a first site is larger."""


def read_branch_site(client: Client, branch: Branch, folder: str) -> Manifest:
    """Read what is known of the site in a folder of a branch; blank is its root.

    Raises `UsageProblem` for pages that are not ours, and `GitHubRefused`.
    """
    path = _below(folder, PATH)
    sha = read_file_sha(client, branch.repository, path, branch=branch.name)
    if sha:
        return read_manifest(read_blob(client, branch, sha, title=path))
    index = _below(folder, "index.html")
    if read_file_sha(client, branch.repository, index, branch=branch.name):
        raise UsageProblem(
            f"the branch {branch.name} of {branch.repository} has a file {index} that torchperf-ci did not make; "
            "choose another folder with --pages-dir, or another branch"
        )
    return Manifest()


def commit_site(client: Client, branch: Branch, folder: str, update: SiteUpdate, *, message: str) -> int:
    """Commit an update to a branch, which is made where there is none; return how many commits it took.

    What the pages are made of comes first, so that they are whole at any time. Raises `GitHubRefused`.
    """
    commits = 0
    for files in _split(update.files):
        below = {_below(folder, path): content for path, content in files.items()}
        commits += commit_files(client, branch, below, message=message).made
    return commits


def _split(files: Mapping[str, bytes | None]) -> Iterator[dict[str, bytes | None]]:
    """Split files, in their order, into parts of at most `MOST_BYTES`; a larger file is a part of its own."""
    part: dict[str, bytes | None] = {}
    size = 0
    for path, content in files.items():
        length = len(content or b"")
        if part and size + length > MOST_BYTES:
            yield part
            part, size = {}, 0
        part[path] = content
        size += length
    if part:
        yield part


def _below(folder: str, path: str) -> str:
    return f"{folder.strip('/')}/{path}" if folder.strip("/") else path
