"""The commits in which a change came, as a checkout or GitHub knows them; and the changes accepted with them."""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchperf_ci.compare.acceptance import ChangeAcceptance
from torchperf_ci.compare.checkouts import GitFailed, ask_git
from torchperf_ci.compare.model import CommitSummary, Rule
from torchperf_ci.core.errors import Refused
from torchperf_ci.core.text import cut_subject, is_full_sha, is_repository, is_sha
from torchperf_ci.dashboard.states import SeriesState, State, find_margin, is_judged, judge_series
from torchperf_ci.history.acceptances import Acceptance
from torchperf_ci.history.series import Series

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
    from torchperf_ci.github.runs import list_commits_between

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


MOST_STEPS = 10
"""So many accepted changes may follow one another in a series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptanceSource:
    """A repository's pull requests as a source of acceptances. ask: lists those of the commits between two."""

    repository: str
    ask: Callable[[str, str], Sequence[ChangeAcceptance]]


def judge_accepted(
    series: Iterable[Series],
    *,
    rules: Sequence[Rule] = (),
    acceptances: Sequence[Acceptance] = (),
    source: AcceptanceSource | None = None,
) -> list[SeriesState]:
    """Judge every series that can be judged, in their order, and what is open once more with what was accepted on pull
    requests, where there is a source of that.

    rules, acceptances: see `judge_series`.
    """
    states = []
    for each in (each for each in series if is_judged(each)):
        state = judge_series(each, rules=rules, acceptances=acceptances)
        states.append(_accept(each, state, rules, list(acceptances), source) if source else state)
    return states


def _accept(
    series: Series,
    state: SeriesState,
    rules: Sequence[Rule],
    known: list[Acceptance],
    source: AcceptanceSource,
) -> SeriesState:
    """Accept the open change of a series, and then the next one, as far as pull requests say so.

    A change may be larger by its margin than what was accepted: nights do not measure as closely as a comparison does.
    """
    margin = math.exp(find_margin(series, rules))
    for _ in range(MOST_STEPS):
        since, good = state.since, state.last_good
        if state.state is not State.CHANGED or since is None or good is None:
            break
        if since.repository.lower() != source.repository.lower() or good.commit == since.commit:
            break
        if not (is_full_sha(good.commit) and is_full_sha(since.commit)):
            break
        for accepted in source.ask(good.commit, since.commit):
            limit = accepted.limit_in_history(series.case, series.metric.name)
            if limit is None:
                continue
            acceptance = Acceptance(
                case=glob.escape(str(series.case)),
                metric=glob.escape(series.metric.name),
                name="",
                commit=since.commit,
                time=accepted.time or since.time,
                until=since.time,
                by=accepted.by,
                reason=accepted.command.reason,
                url=accepted.url,
            )
            after = judge_series(series, rules=rules, acceptances=[*known, acceptance])
            change = next((each for each in after.changes if each.acceptance is acceptance), None)
            # As large as it was at first: what came on top of it later is a change of its own.
            sizes = [_find_size(state.old, state.new), _find_size(change.old, change.new)] if change else []
            if sizes and min(sizes) <= limit * margin:
                known.append(acceptance)
                state = after
                break
        else:
            break
    return state


def _find_size(old: float | None, new: float | None) -> float:
    """Return how many times worse a level is than the one before, whichever way is worse; infinite from zero."""
    if old is None or new is None or old <= 0 or new <= 0:
        return math.inf
    return max(new / old, old / new)
