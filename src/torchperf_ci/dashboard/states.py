"""The state of every metric of every case over the whole history: one notion for gate, comment and site."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from statistics import median
from typing import Any

from torchperf_ci.compare.model import Rule
from torchperf_ci.core.records import METRICS, Case, Direction, Environment, Metric, Status
from torchperf_ci.core.text import Word
from torchperf_ci.dashboard.levels import NEEDED, Shift, follow_levels
from torchperf_ci.dashboard.regressions import list_differences
from torchperf_ci.history.acceptances import Acceptance
from torchperf_ci.history.series import COUNTED, Point, RunInfo, Series


class State(Word):
    """The states of a metric of a case, the most urgent first."""

    FAILING = "failing"
    CHANGED = "changed"
    """It is worse since a run, which more runs or a second measurement confirmed: open until it is back or accepted."""
    DROPPED = "dropped"
    """Its newest result alone is worse, by more than noise: a second measurement says whether it is so."""
    GONE = "gone"
    NEW = "new"
    UNJUDGED = "unjudged"
    """Too few runs, or too few on this machine."""
    ACCEPTED = "accepted"
    """It is worse since a run, and somebody said that it may be."""
    SKIPPED = "skipped"
    FINE = "fine"


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChange:
    """A lasting change of a level, between two neighbouring runs that have the metric.

    last_good, first_new: these runs: their commits are the range in which it changed.
    opened: the run that showed it, on the same day or later. closed: the run that showed that it is back, or None.
    last_bad, back: of one that is back, the neighbouring runs between which that happened.
    old, new: the levels, in the metric's unit. acceptance: who said that it may be, or None.
    """

    last_good: RunInfo
    first_new: RunInfo
    opened: RunInfo
    closed: RunInfo | None = None
    last_bad: RunInfo | None = None
    back: RunInfo | None = None
    old: float
    new: float
    is_worse: bool
    acceptance: Acceptance | None = None

    @property
    def is_open(self) -> bool:
        return self.is_worse and self.closed is None and self.acceptance is None

    @property
    def change(self) -> float | None:
        """Relative: 0.04 for 4 % more; None from zero."""
        return self.new / self.old - 1 if self.old else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureSpell:
    """A row of runs in which a case failed. first, last: its ends. back: the run after it, None while it lasts.

    last_good: the run before it, or None. second: the run that showed that it lasts, or None. runs: how many it has.
    reason: that of the last one.
    """

    last_good: RunInfo | None
    first: RunInfo
    second: RunInfo | None
    last: RunInfo
    back: RunInfo | None
    runs: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesState:
    """The state of one metric of one case after the newest run of its history.

    newest: the newest run that tried the case.
    since: the first bad run (of a change, a failure, a drop) or None. last_good: the run before it that has the metric.
    known_since: the run that showed it: it is news in that run. cured: the run that showed that it is well again.
    old, new: levels in the metric's unit, where it changed; of a metric that is fine, `new` is its level.
    runs: how many runs have the metric since then, the first bad one counted.
    needs: how many runs on this machine it takes to judge; 0 where it was judged.
    reason: why it fails, is skipped or cannot be judged. log: of a failure.
    changes: every change of level that the history shows, oldest first. failures: every time in which the case failed.
    """

    case: Case
    metric: Metric
    state: State
    newest: RunInfo
    since: RunInfo | None = None
    last_good: RunInfo | None = None
    known_since: RunInfo | None = None
    cured: RunInfo | None = None
    old: float | None = None
    new: float | None = None
    runs: int = 0
    needs: int = 0
    reason: str = ""
    log: str = ""
    acceptance: Acceptance | None = None
    changes: tuple[LevelChange, ...] = ()
    failures: tuple[FailureSpell, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether somebody has to look at it: it fails, or is worse and not accepted."""
        return self.state in {State.FAILING, State.CHANGED}

    @property
    def change(self) -> float | None:
        """Relative: 0.04 for 4 % more; None where no level changed, or from zero."""
        return self.new / self.old - 1 if self.old and self.new is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """The news of one run: what became open or fails since, what is well again, and what became better than before."""

    new: tuple[SeriesState, ...]
    cured: tuple[SeriesState, ...]
    improved: tuple[SeriesState, ...]


MARGINS: Mapping[str, float] = {
    "speedup": 0.03,
    "abs_latency": 0.03,
    "compilation_latency": 0.10,
    "compression_ratio": 0.02,
    "dynamo_peak_mem": 0.02,
    **dict.fromkeys(COUNTED, 0.0),
}
"""The metrics of our own records that are judged, and the least relative change that counts; of a count, any does."""

OTHER_MARGIN = 0.05
"""That of metrics of other tools and of a user, whose direction is known."""

STILL_IN_USE = 20
"""A change on a machine is shown while the machine was among so many of the newest results."""

_SKIPS = frozenset({Status.PASS_DUE_TO_SKIP.value, Status.COMPILER_NOT_AVAILABLE.value})


def is_judged(series: Series) -> bool:
    """Say whether a series is judged: one of statuses, or of a metric that counts and whose direction is known."""
    metric = series.metric
    if series.is_status or metric.name in MARGINS:
        return True
    return metric.name not in METRICS and metric.direction is not Direction.UNKNOWN


def judge_series(series: Series, *, rules: Sequence[Rule] = (), acceptances: Sequence[Acceptance] = ()) -> SeriesState:
    """Judge a series by all of its points. rules: margins that were asked for; later ones win over earlier ones."""
    if series.is_status:
        state = _judge_statuses(series)
    else:
        fitting = [item for item in acceptances if item.fits(series.case, series.metric.name)]
        state = _judge_numbers(series, find_margin(series, rules), fitting)
    if series.absent is None:
        return state
    return SeriesState(
        case=series.case,
        metric=series.metric,
        state=State.GONE,
        newest=state.newest,
        since=series.absent,
        known_since=series.absent,
        last_good=state.newest,
        changes=state.changes,
        failures=state.failures,
    )


def list_events(states: Iterable[SeriesState], key: str) -> Events:
    """List the news of the run `key` among the states after it."""
    known = list(states)
    return Events(
        new=tuple(item for item in known if item.is_open and item.known_since and item.known_since.key == key),
        cured=tuple(item for item in known if item.cured and item.cured.key == key and not item.is_open),
        improved=tuple(
            item for item in known if any(not each.is_worse and each.opened.key == key for each in item.changes[-1:])
        ),
    )


def _judge_statuses(series: Series) -> SeriesState:
    points = [point for point in series.points if not point.is_confirmation] or series.points
    newest = points[-1]
    fails = [not point.value and point.status not in _SKIPS for point in points]
    failures = tuple(_list_failures(points, fails))
    state = SeriesState(
        case=series.case,
        metric=series.metric,
        state=State.FINE,
        newest=newest.run,
        runs=len(points),
        failures=failures,
    )
    if fails[-1]:
        last = failures[-1]
        return replace(
            state,
            state=State.FAILING,
            since=last.first,
            known_since=last.first,
            last_good=last.last_good,
            runs=last.runs,
            reason=last.reason,
            log=newest.log,
        )
    if newest.status in _SKIPS:
        return replace(state, state=State.SKIPPED, reason=newest.reason or newest.status)
    if len(points) == 1 and not series.is_first:
        return replace(state, state=State.NEW)
    return replace(state, cured=newest.run if len(fails) > 1 and fails[-2] else None)


def _list_failures(points: Sequence[Point], fails: Sequence[bool]) -> Iterator[FailureSpell]:
    """List the rows of points that fail, oldest first."""
    place = 0
    for failed, row in groupby(fails):
        first, place = place, place + len(list(row))
        if failed:
            last = points[place - 1]
            yield FailureSpell(
                last_good=points[first - 1].run if first else None,
                first=points[first].run,
                second=points[first + 1].run if place > first + 1 else None,
                last=last.run,
                back=points[place].run if place < len(points) else None,
                runs=place - first,
                reason=f"{last.status}: {last.reason}" if last.reason else last.status,
            )


def _judge_numbers(series: Series, margin: float, acceptances: Sequence[Acceptance]) -> SeriesState:
    """Judge numbers, each machine's by its own. The newest result's machine counts, but for what is open on another one
    that is still in use."""
    numbers = [point for point in series.points if point.value is not None and math.isfinite(point.value)]
    newest = series.points[-1].run
    if not numbers:
        return SeriesState(
            case=series.case,
            metric=series.metric,
            state=State.UNJUDGED,
            newest=newest,
            needs=NEEDED,
            reason=f"0 of {NEEDED} runs",
        )
    of_machines = [numbers] if series.metric.name in COUNTED else _split_by_machine(numbers)
    recent = {id(point) for point in numbers[-STILL_IN_USE:]}
    states = [
        _judge_machine(series, points, margin, acceptances, is_alone=len(of_machines) == 1)
        for points in of_machines
        if id(points[-1]) in recent
    ]
    chosen = next((state for state in states if state.is_open), states[0])
    if len(numbers) == 1 and not series.is_first and chosen.state is State.UNJUDGED:
        chosen = replace(chosen, state=State.NEW)
    return replace(chosen, newest=newest)


def _judge_machine(
    series: Series, points: Sequence[Point], margin: float, acceptances: Sequence[Acceptance], *, is_alone: bool
) -> SeriesState:
    """Judge the numbers of one machine, which are oldest first."""
    scale = _Scale.of(series.metric, points)
    accepted = [(_find_accepted(item, points), item) for item in acceptances]
    values = scale.into([point.value or 0.0 for point in points])
    levels = follow_levels(values, margin=margin, accepted=[span for span, _ in accepted])
    changes = tuple(
        _make_change(shift, points, scale, [item for (_, until), item in accepted if shift.first < until])
        for shift in levels.shifts
    )
    state = SeriesState(
        case=series.case, metric=series.metric, state=State.FINE, newest=points[-1].run, changes=changes
    )
    last = changes[-1] if changes else None
    if levels.off is not None:
        run = points[levels.off].run
        assert levels.level is not None
        return replace(
            state,
            state=State.DROPPED,
            since=run,
            known_since=run,
            last_good=points[levels.off - 1].run,
            old=scale.back(levels.level),
            new=points[levels.off].value,
            runs=1,
        )
    if last and last.is_worse and last.closed is None:
        return replace(
            state,
            state=State.ACCEPTED if last.acceptance else State.CHANGED,
            since=last.first_new,
            known_since=last.opened,
            last_good=last.last_good,
            old=last.old,
            new=last.new,
            runs=len({point.run.key for point in points[levels.shifts[-1].first :]}),
            acceptance=last.acceptance,
        )
    if levels.level is None:
        reason = f"{'' if is_alone else 'another machine: '}{levels.runs} of {NEEDED} runs"
        return replace(state, state=State.UNJUDGED, needs=NEEDED, reason=reason)
    return replace(
        state, new=scale.back(levels.level), runs=levels.runs, cured=last.closed if last and last.is_worse else None
    )


def _find_accepted(acceptance: Acceptance, points: Sequence[Point]) -> tuple[int, int]:
    """Find from which point on an acceptance holds, and the end of those at which changes began that it accepts."""
    limit = acceptance.until or acceptance.time
    places = [place for place, point in enumerate(points) if point.run.time > limit]
    until = places[0] if places else len(points)
    # It may have been given for a commit before a run of it was made.
    of_commit = [
        place for place, point in enumerate(points) if acceptance.commit and point.run.commit == acceptance.commit
    ]
    return until, max([until, *(place + 1 for place in of_commit)])


def _make_change(
    shift: Shift, points: Sequence[Point], scale: _Scale, acceptances: Sequence[Acceptance]
) -> LevelChange:
    return LevelChange(
        last_good=points[max(0, shift.first - 1)].run,
        first_new=points[shift.first].run,
        opened=points[shift.shown].run,
        closed=None if shift.returned is None else points[shift.returned].run,
        last_bad=None if shift.back is None else points[shift.back - 1].run,
        back=None if shift.back is None else points[shift.back].run,
        old=scale.back(shift.old),
        new=scale.back(shift.new),
        is_worse=shift.is_worse,
        acceptance=acceptances[0] if shift.is_accepted and acceptances else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """The scale on which more is worse and a difference is a relative change: logarithms, or for counts and what can be
    zero, parts of the usual size (`unit`)."""

    sign: int
    unit: float | None

    @classmethod
    def of(cls, metric: Metric, points: Sequence[Point]) -> _Scale:
        sign = 1 if metric.direction is Direction.LOWER else -1
        if metric.name in COUNTED:
            return cls(sign=sign, unit=1.0)
        values = [point.value or 0.0 for point in points]
        if min(values) > 0:
            return cls(sign=sign, unit=None)
        return cls(sign=sign, unit=median(map(abs, values)) or max(map(abs, values)) or 1.0)

    def into(self, values: Sequence[float]) -> Any:  # noqa: ANN401 - an array
        import numpy as np

        numbers = np.asarray(values, dtype=float)
        return self.sign * (np.log(numbers) if self.unit is None else numbers / self.unit)

    def back(self, level: float) -> float:
        return math.exp(self.sign * level) if self.unit is None else self.sign * level * self.unit


def find_margin(series: Series, rules: Sequence[Rule]) -> float:
    """Find the least change that counts, as a difference of logarithms."""
    margin = MARGINS.get(series.metric.name, OTHER_MARGIN)
    for rule in rules:
        if rule.margin is not None and rule.fits(series.case, series.metric.name):
            margin = rule.margin
    return math.log1p(margin)


def _split_by_machine(points: Sequence[Point]) -> list[list[Point]]:
    """Split points by machine, that of the newest point first. A machine that is not known may be any."""
    # By identity first: readers share the objects, and to hash one takes long.
    objects = {id(point.run.environment): point.run.environment for point in reversed(points)}
    environments = list(dict.fromkeys(objects.values()))
    if len(environments) == 1:
        return [list(points)]
    machines: list[Environment] = []
    machine_of: dict[Environment, int] = {}
    for environment in sorted(environments, key=lambda each: each == Environment()):
        for place, machine in enumerate(machines):
            if _is_same_machine(machine, environment):
                machine_of[environment] = place
                break
        else:
            machine_of[environment] = len(machines)
            machines.append(environment)
    place_of = {identity: machine_of[environment] for identity, environment in objects.items()}
    split: list[list[Point]] = [[] for _ in machines]
    for point in points:
        split[place_of[id(point.run.environment)]].append(point)
    return sorted(split, key=lambda of_machine: of_machine[-1] is not points[-1])


@lru_cache(maxsize=10_000)
def _is_same_machine(one: Environment, other: Environment) -> bool:
    return not list_differences(one, other)
