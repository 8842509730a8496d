"""A run as histories keep it, and what may be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Record, Source
from torchperf_ci.core.results import RECORDS, Problem, Results

DEFAULT_NAME = "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRun:
    """Hold one run: what was measured at one time, usually for one commit, all of its shards together.

    name: the series it belongs to; only runs of one series are compared with each other.
    key: its name in the series. What is added under the same key belongs to the same run.
    time: when it began, in UTC.
    """

    name: str = DEFAULT_NAME
    key: str
    time: datetime
    results: Results

    @property
    def source(self) -> Source:
        """Return the source of its newest record."""
        return newest_source(self.results.records)

    def __str__(self) -> str:
        commit = self.source.commit
        return f"{self.time:%Y-%m-%d %H:%M}{f' {commit[:12]}' if commit else ''} ({self.key})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Choose the runs to look at: of this series, of this branch (blank: any), with something of the selection, not
    later than `until` (None: any time)."""

    name: str = DEFAULT_NAME
    branch: str = ""
    selection: CaseSelection = field(default_factory=CaseSelection)
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Hold runs, oldest first, and what of the history could not be read.

    Their records have metrics and statuses; samples, counters and graph breaks may be absent.
    """

    runs: tuple[HistoryRun, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """List the files that adding a run writes: sizes in bytes by path below `where`; none when it is there already."""

    where: str
    sizes: Mapping[str, int]


def make_run(results: Results, *, name: str, now: datetime) -> HistoryRun:
    """Make a run of the results of one folder.

    On GitHub its key is the workflow run, so that all attempts at it are one run; elsewhere the host and the time.
    Results without times get `now`.
    """
    texts = [*(record.source.time for record in results.records), *(build.time for build in results.builds)]
    time = min((moment for text in texts if (moment := parse_time(text))), default=now)
    source = newest_source(results.records)
    host = next((record.environment.host for record in results.records if record.environment.host), "local")
    key = f"{source.repository}/{source.run_id}".lstrip("/") if source.run_id else f"{host}@{time:%Y%m%dT%H%M%SZ}"
    return HistoryRun(name=name, key=key, time=time, results=results)


def make_folder_run(directory: Path, results: Results, *, name: str, source: Source) -> HistoryRun:
    """Make a run of a results folder that may know neither commit nor time, as folders of CSV files do not.

    Records without a source get `source`, with the time at which the newest file of results was written.
    """
    records = directory / RECORDS
    files = [records] if records.is_file() else [path for path in directory.glob("*.csv") if path.is_file()]
    newest = max((path.stat().st_mtime for path in files), default=0.0)
    now = datetime.fromtimestamp(int(newest), tz=timezone.utc)
    stamped = replace(source, time=now.isoformat())
    known = tuple(
        replace(record, source=stamped) if record.source == Source() else record for record in results.records
    )
    return make_run(replace(results, records=known), name=name, now=now)


def newest_source(records: tuple[Record, ...]) -> Source:
    """Find the source of the record that was made last."""
    return max((record.source for record in records), key=lambda source: source.time, default=Source())


def parse_time(text: str) -> datetime | None:
    """Parse an ISO 8601 time into UTC; one without an offset is taken as UTC. None for anything else.

    A time before 1970 is none: programs write such where they know none, as Go does with the year 1.
    """
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        when = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
    return when if when.year >= 1970 else None
