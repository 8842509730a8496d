"""What every history of runs has in common: a run, what is asked for, and the interface to add and to look back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Record, Source
from torchperf_ci.core.results import Problem, Results

DEFAULT_NAME = "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: what was measured at one time, usually for one commit, all of its shards together.

    name: the series it belongs to; only runs of one series are compared with each other.
    key: what tells it from the other runs of its series. What is added under the same key belongs to the same run.
    time: when it began, in UTC.
    """

    name: str = DEFAULT_NAME
    key: str
    time: datetime
    results: Results

    @property
    def source(self) -> Source:
        """Where its newest record comes from."""
        return newest_source(self.results.records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which runs to look at: of this series, of this branch (blank: any), with something of the selection, not later
    than `until` (None: any time)."""

    name: str = DEFAULT_NAME
    branch: str = ""
    selection: CaseSelection = field(default_factory=CaseSelection)
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Runs, oldest first, and what of the history could not be read.

    Their records have metrics and statuses; samples, counters and graph breaks may be absent.
    """

    runs: tuple[Run, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What adding a run writes: sizes in bytes by path below `where`; nothing when the run is there already."""

    where: str
    sizes: Mapping[str, int]


class History(Protocol):
    """Runs that are kept."""

    def last(self, count: int, wanted: Wanted) -> Past:
        """The newest `count` runs that are wanted; of every case what its newest attempt found."""

    def add(self, run: Run, folder: Path, *, dry_run: bool = False) -> Added:
        """Keep `run`, whose results folder is `folder`. Adding it twice leaves one. A dry run only says what it
        would write."""


def run_of(results: Results, *, name: str, now: datetime) -> Run:
    """The run that a results folder holds.

    On GitHub its key is the workflow run, so that all attempts at it are one run; elsewhere the host and the time.
    A folder without times gets `now`.
    """
    times = [moment for record in results.records if (moment := moment_of(record.source.time)) is not None]
    times += [moment for build in results.builds if (moment := moment_of(build.time)) is not None]
    time = min(times, default=now)
    source = newest_source(results.records)
    host = next((record.environment.host for record in results.records if record.environment.host), "local")
    key = f"{source.repository}/{source.run_id}" if source.run_id else f"{host}@{time:%Y%m%dT%H%M%SZ}"
    return Run(name=name, key=key, time=time, results=results)


def newest_source(records: tuple[Record, ...]) -> Source:
    """The source of the record that was made last."""
    return max((record.source for record in records), key=lambda source: source.time, default=Source())


def moment_of(text: str) -> datetime | None:
    """The time, in UTC, that an ISO 8601 text names. One without an offset is taken as UTC."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
