"""Commits between two others, as GitHub compares them."""

from __future__ import annotations

from itertools import islice

from torchperf_ci.github.client import Client


def list_commits_between(
    client: Client, repository: str, base: str, head: str, *, most: int
) -> tuple[list[tuple[str, str]], int]:
    """List the commits that `head` has and `base` has not, oldest first, each with its message, and count them.

    More than `most` are only counted. Raises `GitHubRefused`.
    """
    with client.asking(f"list the commits between {base[:12]} and {head[:12]}", needs="contents: read"):
        compared = client.repository(repository).compare(base, head)
        listed = islice(compared.commits, most) if compared.total_commits <= most else ()
        return [(each.sha, each.commit.message) for each in listed], compared.total_commits
