"""Changes that were accepted on the pull request that brought them: marked as such when nights show them."""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torchperf_ci.compare.acceptance import ChangeAcceptance
from torchperf_ci.compare.model import Rule
from torchperf_ci.core.text import is_full_sha
from torchperf_ci.dashboard.states import SeriesState, State, find_margin, is_judged, judge_series
from torchperf_ci.history.acceptances import Acceptance
from torchperf_ci.history.series import Series

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
    """Judge every series that can be judged, and what is open once more with what was accepted on pull requests.

    rules, acceptances: see `judge`. Without a source it is the same as that.
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
