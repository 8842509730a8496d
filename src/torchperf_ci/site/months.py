"""The months of a history as a site shows them: which files hold their runs, the runs themselves, and the manifest.

A site is made month by month. A month whose files are the same as the last time is not read again.

The manifest says what a site was made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import msgspec

from torchperf_ci.core.records import Case, Mode
from torchperf_ci.core.results import Problem
from torchperf_ci.history.database import Database, open_database, retry
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.rows import CASE_COLUMNS, RowKind
from torchperf_ci.history.runs import HistoryRun, RunFilter
from torchperf_ci.history.series import Series

DAYS_OF_A_THINNED_RUN = 7
"""Of a month that is thinned, so many days have one run: the newest in them."""

ARMS = {"abs_latency": "compiled", "eager_latency": "eager"}
"""The metrics that keep the raw times of both ways to run a model, and the names of these."""

Samples = dict[str, dict[Case, dict[str, tuple[float, ...]]]]
"""Raw times in seconds: by a run's key, case and arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A month of a history. paths: of all files that may hold a run of it; name: year and month, as in 2026-11."""

    name: str
    paths: tuple[str, ...]

    @property
    def start(self) -> datetime:
        return datetime.strptime(self.name, "%Y-%m").replace(tzinfo=timezone.utc)

    @property
    def end(self) -> datetime:
        return (self.start + timedelta(days=32)).replace(day=1)

    def sign(self, *about: str) -> str:
        """Write what the pages of the month are made of as a few digits: its files, and `about`."""
        return digest("\0".join((*about, *self.paths)).encode())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MonthRuns:
    """The runs of a month that are shown, oldest first, as series too, and the samples of some of them.

    counted: how many runs there are, those that are left out counted.
    """

    runs: tuple[HistoryRun, ...] = ()
    series: tuple[Series, ...] = ()
    samples: Samples = field(default_factory=dict)
    counted: int = 0
    problems: tuple[Problem, ...] = ()


def list_months(history: ParquetHistory) -> Iterator[Month]:
    """List the months of a history, newest first.

    A run belongs to the month of its newest part; the others may lie in other months, as when it ran over a month's
    end, or was run again.
    """
    months = list(history.list_months())
    for place, (folder, parts) in enumerate(months):
        own = {part.run for part in parts if not part.is_compacted}
        beside = {at for at in (place - 1, place + 1) if 0 <= at < len(months)}
        others = (
            part.path
            for at, (_, of_other) in enumerate(months)
            for part in of_other
            if at != place and (at in beside if part.is_compacted else part.run in own)
        )
        paths = (*(part.path for part in parts), *others)
        yield Month(name=folder.removeprefix("month="), paths=tuple(sorted(paths)))


def read_month(history: ParquetHistory, month: Month, name: str, *, is_thinned: bool, sampled: int) -> MonthRuns:
    """Read the runs of a month of the series `name`: all of them, or the newest one of every week; with the samples of
    the newest `sampled`."""
    return retry(partial(_read_month, history, month, name, is_thinned=is_thinned, sampled=sampled))


def _read_month(history: ParquetHistory, month: Month, name: str, *, is_thinned: bool, sampled: int) -> MonthRuns:
    with open_database(history.files.fetch(month.paths)) as database:
        if not database.files:
            return MonthRuns(problems=database.problems)
        times = _list_times(database, name, month)
        keys = list(times)
        if is_thinned:  # the newest of every week
            keys = list({(time.day - 1) // DAYS_OF_A_THINNED_RUN: key for key, time in times.items()}.values())
        past = database.read_runs(keys, RunFilter(name=name))
        return MonthRuns(
            runs=past.runs,
            series=tuple(database.read_series(keys, RunFilter(name=name)).list_series()),
            samples=_read_samples(database, name, keys[-sampled:] if sampled else []),
            counted=len(times),
            problems=past.problems,
        )


def _list_times(database: Database, name: str, month: Month) -> dict[str, datetime]:
    """List the runs of a month by key, oldest first, with the time of their newest part."""
    query = (
        f"SELECT run_key, epoch(max(run_time)) AS time FROM parts WHERE kind = '{RowKind.STATUS}' AND name = ? "  # noqa: S608 - our own names
        "GROUP BY run_key HAVING time >= ? AND time < ? ORDER BY time, run_key"
    )
    bounds = [month.start.timestamp(), month.end.timestamp()]
    rows = database.connection.execute(query, [name, *bounds]).fetchall()
    return {key: datetime.fromtimestamp(time, tz=timezone.utc) for key, time in rows}


def _read_samples(database: Database, name: str, keys: Sequence[str]) -> Samples:
    columns = [column for column in CASE_COLUMNS if column != "testing"]
    query = (
        f"SELECT run_key, metric, samples, {', '.join(columns)} FROM history WHERE name = ? "  # noqa: S608 - our own names
        "AND run_key IN (SELECT unnest(?)) AND metric IN (SELECT unnest(?)) AND len(samples) > 0"
    )
    samples: Samples = {}
    for key, metric, times, *cells in database.connection.execute(query, [name, list(keys), list(ARMS)]).fetchall():
        fields = dict(zip(columns, cells, strict=True))
        with suppress(ValueError):  # a mode that only a later version knows
            case = Case(**{**fields, "mode": Mode(fields["mode"])})
            samples.setdefault(key, {}).setdefault(case, {})[ARMS[metric]] = tuple(times)
    return samples


PATH = "data/manifest.json"
"""The manifest below the site; a folder without one is no site of ours."""

FORMAT = 1
"""The version of the files of data; months that another one made are made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestMonth:
    """The pages of a month as they were made.

    signature: of the files of the history that they are made of. files: the digests of all of them, by path.
    runs: the ids of the runs that are shown, oldest first; counted: how many there are in the history.
    cases, metrics, branches: those that the month has; cases and metrics as the pages describe them.
    """

    signature: str
    files: Mapping[str, str]
    runs: tuple[str, ...]
    counted: int
    cases: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, str]]
    branches: tuple[str, ...]

    @property
    def version(self) -> str:
        """Name this version of the month's files, so that browsers keep no older ones."""
        return digest("\0".join(f"{path}\0{self.files[path]}" for path in sorted(self.files)).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A site as it was made. months: by name. cases: as the pages describe them, by id. files: the digests of the
    files that belong to no month. changes: every change that was listed, newest first."""

    months: Mapping[str, ManifestMonth] = field(default_factory=dict)
    cases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[Mapping[str, Any], ...] = ()
    format: int = FORMAT

    def list_files(self) -> dict[str, str]:
        """List the digests of all files of the site, by path, the manifest's left aside."""
        return {**self.files, **{path: each for month in self.months.values() for path, each in month.files.items()}}


def read_manifest(content: bytes | None) -> Manifest:
    """Read a manifest; one that is absent, damaged or of another version knows nothing."""
    try:
        manifest = msgspec.json.decode(content or b"", type=Manifest)
    except (msgspec.MsgspecError, UnicodeError):
        return Manifest()
    return manifest if manifest.format == FORMAT else Manifest()


def encode_manifest(manifest: Manifest) -> bytes:
    """Encode a manifest: the same bytes for the same site."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1) + b"\n"


def digest(content: bytes) -> str:
    """Compute sixteen hexadecimal digits that tell contents apart."""
    return hashlib.sha256(content).hexdigest()[:16]
