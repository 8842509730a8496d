"""The sources of a site: a history, and the states of its series after the newest run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from torchperf_ci.compare.model import Rule
from torchperf_ci.core.results import Problem
from torchperf_ci.dashboard.accepted import AcceptanceSource, judge_accepted
from torchperf_ci.dashboard.commits import Ranges, read_ranges
from torchperf_ci.dashboard.states import SeriesState
from torchperf_ci.history.acceptances import read_acceptances
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.runs import RunFilter
from torchperf_ci.history.series import RunInfo

if TYPE_CHECKING:
    from torchperf_ci.github.client import Client


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteSources:
    """A history, the states of its series, the commits in which they became worse as far as they are known, and the
    time of the oldest run that was judged for them."""

    history: ParquetHistory
    states: tuple[SeriesState, ...]
    judged_since: datetime | None
    ranges: Ranges = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def newest(self) -> RunInfo | None:
        """Return the newest run that was judged."""
        return max((state.newest for state in self.states), key=lambda run: (run.time, run.key), default=None)


def read_sources(
    history: ParquetHistory,
    count: int,
    chosen: RunFilter,
    *,
    rules: Sequence[Rule] = (),
    checkout: Path | None = None,
    client: Client | None = None,
    source: AcceptanceSource | None = None,
) -> SiteSources:
    """Judge the newest `count` runs that are chosen; `rules` are margins that were asked for.

    checkout, client: who may know the commits in which something became worse. source: of acceptances.
    """
    collection = history.read_series(count, chosen)
    series = collection.list_series()
    acceptances, problems = read_acceptances(history.files, chosen.name)
    states = tuple(judge_accepted(series, rules=rules, acceptances=acceptances, source=source))
    return SiteSources(
        history=history,
        states=states,
        ranges=read_ranges(states, checkout, client),
        judged_since=min((each.points[0].run.time for each in series), default=None),
        problems=(*collection.problems, *problems),
    )
