"""What the dashboard of one dtype is made from: a run, the runs before it, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torchperf_ci.core.results import Problem
from torchperf_ci.dashboard.change_points import ChangePoint, find_changes
from torchperf_ci.dashboard.over_time import Look, Point, Trend, look_at, trends
from torchperf_ci.dashboard.regressions import Against, Change, Kind, held_against
from torchperf_ci.report.model import RunFindings

DEFAULT_LAST = 10
DEFAULT_LIMIT = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardOptions:
    """What to show.

    last: how many runs are shown over time, with this one.
    detect: compare with earlier runs; graphs: draw.
    server: the address of GitHub's pages, for links.
    limit: the largest size of the comment in UTF-8 bytes.
    """

    last: int = DEFAULT_LAST
    detect: bool = True
    graphs: bool = True
    server: str = "https://github.com"
    limit: int = DEFAULT_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dashboard:
    """One run with one dtype, and its past.

    alone: does the run have no other dtype?
    looks: the last runs, oldest first, this one last. trends: their numbers.
    against: every compiler that warnings are given for, held against its run before.
    lasting: the levels that changed within the last runs, the largest changes first.
    problems: what of the history could not be read.
    """

    options: DashboardOptions
    dtype: str
    alone: bool
    findings: RunFindings
    looks: tuple[Look, ...]
    trends: tuple[Trend, ...]
    against: tuple[Against, ...]
    lasting: tuple[ChangePoint, ...]
    problems: tuple[Problem, ...] = field(default=())

    @property
    def now(self) -> Point:
        return self.looks[-1].point

    def changes(self, *kinds: Kind) -> tuple[Change, ...]:
        """The changes of these kinds, in the order of the dashboard."""
        return tuple(change for item in self.against for change in item.changes if change.kind in kinds)


def study(
    findings: RunFindings,
    now: Point,
    past: Sequence[Point],
    options: DashboardOptions,
    *,
    alone: bool = True,
    problems: Sequence[Problem] = (),
) -> Dashboard:
    """The dashboard of the run `now`, of which `findings` are about one dtype; `past` is oldest first and may reach
    further back than what is shown."""
    (dtype,) = {section.dtype for section in findings.sections}
    selection = findings.options.selection
    shown = [*past, now][-options.last :]
    looks = tuple(look_at(point, selection) for point in shown)
    lasting = find_changes([*past, now]) if options.detect else ()
    recent = {id(point) for point in shown}
    return Dashboard(
        options=options,
        dtype=dtype,
        alone=alone,
        findings=findings,
        looks=looks,
        trends=trends(looks, include_slowdowns=findings.options.include_slowdowns),
        against=held_against(looks[-1], past, findings.flag_compilers),
        lasting=tuple(
            sorted((item for item in lasting if id(item.first_new) in recent), key=lambda item: -abs(item.change))
        ),
        problems=tuple(problems),
    )
