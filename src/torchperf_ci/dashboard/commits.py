"""The commits in which a change came: as a checkout knows them, else as GitHub does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchperf_ci.compare.checkouts import GitFailed, ask_git
from torchperf_ci.compare.model import CommitSummary
from torchperf_ci.core.errors import Refused
from torchperf_ci.core.text import cut_subject, is_repository, is_sha
from torchperf_ci.dashboard.states import SeriesState, State

if TYPE_CHECKING:
    from torchperf_ci.github.client import Client

MOST_COMMITS = 50
"""A range of more commits is only counted: nobody reads a longer list, and GitHub's pages have it."""

MOST_RANGES = 20
"""So many ranges GitHub is asked for: each is a request."""

ASKED = frozenset({State.CHANGED, State.FAILING, State.DROPPED})
"""The states of which somebody looks for the cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRange:
    """The commits that the first bad run has and the last good one has not, oldest first; of more than `MOST_COMMITS`
    only their `count`."""

    commits: tuple[CommitSummary, ...]
    count: int


Ranges = Mapping[tuple[str, str], CommitRange]
"""By the commit of the last good run and that of the first bad one."""


def read_ranges(
    states: Iterable[SeriesState], folder: Path | None, client: Client | None
) -> dict[tuple[str, str], CommitRange]:
    """Read the commits of every range in which something became worse.

    folder: in a checkout, which may know them; client: who else is asked. A range that neither knows is left out, and
    so is all that GitHub refuses: the comparison on its pages is one click away.
    """
    ranges: dict[tuple[str, str], CommitRange] = {}
    asked = 0
    for good, since in {
        (state.last_good.commit, state.since.commit): (state.last_good, state.since)
        for state in states
        if state.state in ASKED and state.last_good and state.since
    }.values():
        if not (is_sha(good.commit) and is_sha(since.commit)) or good.commit == since.commit:
            continue
        known = _list_in_checkout(folder, good.commit, since.commit) if folder else None
        if known is None and client and asked < MOST_RANGES and is_repository(since.repository):
            asked += 1
            known = _list_on_github(client, since.repository, good.commit, since.commit)
        if known is not None and known.count:
            ranges[good.commit, since.commit] = known
    return ranges


def _list_on_github(client: Client, repository: str, good: str, bad: str) -> CommitRange | None:
    from torchperf_ci.github.commits import list_commits_between

    try:
        listed, count = list_commits_between(client, repository, good, bad, most=MOST_COMMITS)
    except Refused:
        return None
    commits = tuple(CommitSummary(sha=sha, subject=cut_subject(message)) for sha, message in listed)
    return CommitRange(commits=commits, count=count)


def _list_in_checkout(folder: Path, good: str, bad: str) -> CommitRange | None:
    """List the commits of a range as git has them; None where it lacks one of the ends."""
    try:
        count = int(ask_git(folder, "rev-list", "--count", bad, f"^{good}"))
        if count > MOST_COMMITS:
            return CommitRange(commits=(), count=count)
        listed = ask_git(folder, "log", "-z", "--topo-order", "--reverse", "--format=%H%x00%s", bad, f"^{good}")
    except (GitFailed, ValueError):
        return None
    fields = listed.split("\0")
    pairs = zip(fields[::2], fields[1::2], strict=False)
    commits = tuple(CommitSummary(sha=sha, subject=cut_subject(subject)) for sha, subject in pairs)
    return CommitRange(commits=commits, count=count)
