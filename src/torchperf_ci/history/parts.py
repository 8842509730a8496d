"""The files of a Parquet history: what they are called, and which of them one run is written to.

    month=2026-11/20261107T031500Z_owner-name-4711_1-8_2_0123456789abcdef.parquet    a shard of an attempt at a run
    month=2026-10/compacted_312_0123456789abcdef.parquet                             all of a month: 312 runs

The names sort by time. Their last part is made of the content, so that the same results always have the same name and
different ones never do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from torchperf_ci.core.records import Build, Record, to_line
from torchperf_ci.core.text import safe_name
from torchperf_ci.history.rows import parquet_bytes, rows_of
from torchperf_ci.history.store import Run

_TIME = "%Y%m%dT%H%M%SZ"
_PART = re.compile(r"(?P<time>\d{8}T\d{6}Z)_(?P<run>[A-Za-z0-9.-]+)_[A-Za-z0-9.-]+_\d+_[0-9a-f]{16}\.parquet")
_COMPACTED = re.compile(r"compacted_(?P<runs>\d+)_[0-9a-f]{16}\.parquet")
_MONTH = re.compile(r"month=\d{4}-\d{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file of the history: the run in it, or how many runs when it is compacted. `path` is below the root."""

    path: str
    time: str = ""
    run: str = ""
    runs: int = 1

    @property
    def is_compacted(self) -> bool:
        return not self.run


def part_of(month: str, name: str) -> Part | None:
    """What a file's name says; None for a file that is not of the history."""
    path = f"{month}/{name}"
    if found := _PART.fullmatch(name):
        return Part(path=path, time=found["time"], run=found["run"])
    if found := _COMPACTED.fullmatch(name):
        return Part(path=path, runs=int(found["runs"]))
    return None


def is_month(name: str) -> bool:
    return _MONTH.fullmatch(name) is not None


def named_after(key: str) -> str:
    """A run's key as part of a file name."""
    return safe_name(key).replace("_", "-")


def month_of(time: datetime) -> str:
    return f"month={time.astimezone(timezone.utc):%Y-%m}"


def compacted_name(parts: Sequence[Part], runs: int) -> str:
    """The name of the file that holds all of `parts`."""
    return f"compacted_{runs}_{_digest(sorted(part.path for part in parts))}.parquet"


def parts_of(run: Run) -> Mapping[str, bytes]:
    """The files that keep a run, by path: one for every shard and attempt in it."""
    groups: dict[tuple[str, int], list[Record]] = {}
    for record in run.results.records:
        groups.setdefault((record.source.shard, record.source.attempt), []).append(record)
    builds = _builds(run, list(groups.values()))
    return dict(
        _file(run, shard, attempt, records, builds[place])
        for place, ((shard, attempt), records) in enumerate(groups.items())
    )


def _file(run: Run, shard: str, attempt: int, records: Sequence[Record], builds: Sequence[Build]) -> tuple[str, bytes]:
    digest = _digest([run.name, run.key, *map(to_line, builds), *map(to_line, records)])
    part = f"{run.time:{_TIME}}_{named_after(run.key)}_{safe_name(shard).replace('_', '-')[:20]}_{attempt}_{digest}"
    shared = {"name": run.name, "run_key": run.key, "run_time": run.time, "part": part}
    return f"{month_of(run.time)}/{part}.parquet", parquet_bytes(rows_of(records, builds, shared))


def _builds(run: Run, groups: Sequence[Sequence[Record]]) -> list[list[Build]]:
    """Every build with the first records that were measured in its environment, else with the first ones."""
    homes: list[list[Build]] = [[] for _ in groups]
    environments = [{record.environment for record in records} for records in groups]
    for build in run.results.builds:
        home = next((place for place, known in enumerate(environments) if build.environment in known), 0)
        homes[home].append(build)
    return homes


def _digest(lines: Sequence[str]) -> str:
    joined = hashlib.sha256()
    for line in lines:
        joined.update(line.encode("utf-8", errors="replace") + b"\n")
    return joined.hexdigest()[:16]


def whole_runs(parts: Iterator[tuple[str, Sequence[Part]]], runs: int) -> tuple[list[str], bool]:
    """Paths of the files that hold at least the newest `runs` runs, those whole, and whether that is everything.

    parts: of every month, newest month first, taken only as far as needed. The shards of a run may have started on
    both sides of a month's end, so one more month is looked through for the rest of the runs that were taken.
    """
    paths: list[str] = []
    taken: set[str] = set()
    counted = 0
    for _, found in parts:
        enough = counted >= runs
        for part in sorted(found, key=lambda part: part.time, reverse=True):
            if part.is_compacted:
                counted += part.runs
            elif part.run not in taken:
                if counted >= runs:
                    continue
                taken.add(part.run)
                counted += 1
            paths.append(part.path)
        if enough:
            return paths, False
    return paths, counted < runs
