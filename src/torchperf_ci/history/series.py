"""The interface of every kind of history, and its runs as series: every metric of every case over time, oldest first.

A series has a point for every run that tried its case. A run that did not try it has none: one of other models, or of
some of them. `absent` says where a case was not there though its whole group was run. Runs of several machines are in
one series; whoever compares numbers tells them apart by `RunInfo.environment`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from torchperf_ci.core.records import Build, Case, Direction, Environment, Metric, Mode, Record, Source, Status, Testing
from torchperf_ci.core.results import Problem
from torchperf_ci.history.runs import Addition, HistoryRun, Past, RunFilter

STATUS_METRICS: Mapping[Testing, Metric] = {
    Testing.ACCURACY: Metric(name="accuracy_status", title="Accuracy check"),
    Testing.PERFORMANCE: Metric(name="performance_status", title="Performance run"),
}
"""The series of how a testing ended: their values are 1 for a pass, else 0."""

COUNTED: Mapping[str, Metric] = {
    name: Metric(name=name, unit="count", direction=Direction.LOWER, title=title)
    for name, title in (
        ("graph_breaks", "Graph breaks"),
        ("unique_graphs", "Graphs"),
        ("recompiles", "Recompiles"),
    )
}
"""The counters that are followed, as metrics."""

ENDS = {"speedup": ("speedup_low", "speedup_high")}
"""The metrics that are the ends of another one's interval."""

_ARE_ENDS = frozenset(name for ends in ENDS.values() for name in ends)

RUNS_UNTIL_GONE = 3
"""So many runs in a row, of which it is not known whether they tried everything, must lack a case that is gone."""

MOST_OF_A_GROUP = 0.5
"""A run of which nothing else is known tried a whole group when it has more than this share of the group's cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The run that a point is of: when and where, and on which machine.

    key: its name in the series of runs; the same for all machines and attempts.
    subject: the first line of the commit's message, where it is known.
    """

    key: str
    time: datetime
    commit: str = ""
    branch: str = ""
    subject: str = ""
    repository: str = ""
    workflow: str = ""
    run_id: str = ""
    attempt: int = 1
    shard: str = ""
    environment: Environment = Environment()  # noqa: RUF009 - frozen

    def __str__(self) -> str:
        return f"{self.time:%Y-%m-%d %H:%M}{f' {self.commit[:12]}' if self.commit else ''} ({self.key})"


class Point(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A metric in a run: its value in the metric's unit, None where the case failed before there was one.

    low, high: its interval, None where it has none. status: of the testing; reason and log: of one that did not pass.
    is_confirmation: measured once more in the same run, since the first measurement was off.

    A struct, since a history has millions of them, and a dataclass takes ten times as long to make.
    """

    run: RunInfo
    value: float | None
    low: float | None = None
    high: float | None = None
    status: str = Status.PASS.value
    reason: str = ""
    log: str = ""
    is_confirmation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A metric of a case over time; `points` are oldest first, and there is at least one.

    absent: the first run after its last point that tried all of its group and has not this case: it is gone.
    is_first: no earlier run of the history tried its group before its first point, so that it is not new.
    """

    case: Case
    metric: Metric
    points: tuple[Point, ...]
    absent: RunInfo | None = None
    is_first: bool = True

    @property
    def is_status(self) -> bool:
        """Tell a series of how a testing ended from one of numbers."""
        return self.metric in STATUS_METRICS.values()

    def __str__(self) -> str:
        return f"{self.case} {self.metric.name}"


class ModelGroup(NamedTuple):
    """The part of a case that a run tries as a whole: all but the model."""

    suite: str
    mode: Mode
    device: str
    dtype: str
    compiler: str


@dataclass(slots=True, kw_only=True)
class _Trial:
    """A run that tried something of a group, and the models of it."""

    run: RunInfo
    models: set[str] = field(default_factory=set)


@dataclass(slots=True)
class SeriesCollection:
    """Collects the points of runs, in any order, into series. problems: what could not be read."""

    problems: list[Problem] = field(default_factory=list)
    _points: dict[Case, dict[Metric, list[Point]]] = field(default_factory=dict, repr=False)
    _trials: dict[ModelGroup, dict[str, _Trial]] = field(default_factory=dict, repr=False)
    _scopes: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)

    def note_build(self, key: str, build: Build) -> None:
        """Note what narrowed the run. What one of its parts left out, the run did."""
        self._scopes[key] = self._scopes.get(key, frozenset()) | {*build.narrowed_by, *build.gaps}

    def drop_run(self, key: str) -> None:
        """Forget a run."""
        for of_case in self._points.values():
            for metric, points in of_case.items():
                of_case[metric] = [point for point in points if point.run.key != key]
        for trials in self._trials.values():
            trials.pop(key, None)
        self._scopes.pop(key, None)

    def note_trial(self, case: Case, run: RunInfo) -> None:
        """Note that the run tried the case."""
        group = ModelGroup(case.suite, case.mode, case.device, case.dtype, case.compiler)
        trials = self._trials.setdefault(group, {})
        if run.key not in trials:
            trials[run.key] = _Trial(run=run)
        trials[run.key].models.add(case.model)

    def add_points(self, case: Case, metric: Metric, points: Iterable[Point]) -> None:
        """Add points of one metric of one case."""
        self._points.setdefault(case, {}).setdefault(metric, []).extend(points)

    def add_run(self, run: HistoryRun) -> None:
        """Add the records of a run, and those that confirm them."""
        for build in run.results.builds:
            self.note_build(run.key, build)
        infos: dict[tuple[Source, Environment], RunInfo] = {}
        for is_confirmation, records in ((False, run.results.records), (True, run.results.confirmations)):
            for record in records:
                if record.status is Status.NOT_RUN:
                    continue
                origin = (record.source, record.environment)
                if origin not in infos:
                    infos[origin] = make_run_info(run.key, run.time, *origin)
                if not is_confirmation:
                    self.note_trial(record.case, infos[origin])
                for metric, point in _list_points(record, infos[origin], is_confirmation=is_confirmation):
                    self.add_points(record.case, metric, [point])

    def list_series(self) -> list[Series]:
        """Make the series, sorted by case and metric; failures stand in those of numbers as well, without a value."""
        series = []
        for case in sorted(self._points):
            of_case = self._points[case]
            failures = [point for point in of_case.get(STATUS_METRICS[Testing.PERFORMANCE], ()) if not point.value]
            group = ModelGroup(case.suite, case.mode, case.device, case.dtype, case.compiler)
            trials = sorted(self._trials.get(group, {}).values(), key=lambda trial: (trial.run.time, trial.run.key))
            absent = self._find_absence(case.model, trials)
            first = next((trial for trial in trials if case.model in trial.models), None)
            is_first = first is None or first is trials[0]
            for metric, numbers in sorted(of_case.items(), key=lambda item: item[0].name):
                if not numbers:
                    continue
                points = numbers
                if failures and metric not in STATUS_METRICS.values():
                    measured = {(point.run.key, point.is_confirmation) for point in numbers}
                    gaps = (p for p in failures if (p.run.key, p.is_confirmation) not in measured)
                    points = [*numbers, *(msgspec.structs.replace(point, value=None) for point in gaps)]
                places = [_place(point) for point in points]
                if places != sorted(places):  # they nearly always are in order
                    points = sorted(points, key=_place)
                series.append(
                    Series(
                        case=case,
                        metric=metric,
                        points=tuple(points),
                        absent=absent,
                        is_first=is_first,
                    )
                )
        return series

    def _find_absence(self, model: str, trials: Sequence[_Trial]) -> RunInfo | None:
        """Find the first run after the last one with the model that tried the whole group without it."""
        since: RunInfo | None = None
        scope: frozenset[str] | None = None
        runs = size = 0
        for trial in trials:
            own = self._scopes.get(trial.run.key)
            if model in trial.models:
                since, runs, size, scope = None, 0, len(trial.models), own
            elif not size or (own and own != scope):
                continue  # it was not there yet, or not asked for
            elif own is not None or len(trial.models) > MOST_OF_A_GROUP * (size - 1):
                since = since or trial.run
                runs += 1 if own is None else RUNS_UNTIL_GONE
        return since if runs >= RUNS_UNTIL_GONE else None


def _place(point: Point) -> tuple[datetime, str, bool]:
    return point.run.time, point.run.key, point.is_confirmation


def make_run_info(key: str, time: datetime, source: Source, environment: Environment) -> RunInfo:
    """Make the run of the points of a record."""
    return RunInfo(
        key=key,
        time=time,
        commit=source.commit,
        branch=source.branch,
        subject=source.subject,
        repository=source.repository,
        workflow=source.workflow,
        run_id=source.run_id,
        attempt=source.attempt,
        shard=source.shard,
        environment=environment,
    )


def _list_points(record: Record, run: RunInfo, *, is_confirmation: bool) -> Iterator[tuple[Metric, Point]]:
    """List the points of a record: how it ended, and its numbers where it passed."""
    make_point = partial(Point, run=run, status=record.status.value, is_confirmation=is_confirmation)
    if not record.status.is_pass:
        yield STATUS_METRICS[record.testing], make_point(value=0.0, reason=record.reason, log=record.log)
        return
    yield STATUS_METRICS[record.testing], make_point(value=1.0)
    if record.testing is not Testing.PERFORMANCE:
        return
    numbers = record.metrics
    for metric in record.defined_metrics():
        if metric.name not in _ARE_ENDS:
            low, high = ENDS.get(metric.name, ("", ""))
            yield metric, make_point(value=numbers[metric.name], low=numbers.get(low), high=numbers.get(high))
    for name, metric in COUNTED.items():
        if name in record.counters:
            yield metric, make_point(value=float(record.counters[name]))


class History(Protocol):
    """Runs that are kept."""

    def read_last(self, count: int, chosen: RunFilter) -> Past:
        """Read the newest `count` runs that are chosen; of every case the result of its newest attempt."""

    def read_series(self, count: int, chosen: RunFilter) -> SeriesCollection:
        """Read the series of the newest `count` runs that are chosen, without making records of them."""

    def add(self, run: HistoryRun, folder: Path, *, dry_run: bool = False) -> Addition:
        """Keep `run`, whose results folder is `folder`. Adding it twice leaves one. A dry run writes nothing."""


def find_earlier_runs(history: History, run: HistoryRun, count: int, chosen: RunFilter) -> Past:
    """Read the newest `count` runs before `run`."""
    past = history.read_last(count + 1, replace(chosen, until=run.time))
    earlier = [item for item in past.runs if item.key != run.key]
    return replace(past, runs=tuple(earlier[-count:] if count else ()))


def find_earlier_series(history: History, run: HistoryRun, count: int, chosen: RunFilter) -> SeriesCollection:
    """Read the series of the newest `count` runs before `run`."""
    collection = history.read_series(count + 1, replace(chosen, until=run.time))
    collection.drop_run(run.key)
    return collection
