"""A history of Parquet files, asked through DuckDB.

Every run, shard and attempt is a file of its own, written once under a name nothing else has. So any number of writers
can add at the same time without knowing of each other, adding takes the same time however long the history is, and a
file that is there is never touched again, until a finished month is compacted.

    month=2026-11/20261107T031500Z_owner-name-4711_1-8_2_0123456789abcdef.parquet    a shard of an attempt at a run
    month=2026-10/compacted_312_0123456789abcdef.parquet                             all of a month: 312 runs

The names sort by time. Their last part is made of the content, so that the same results always have the same name and
different ones never do.

Compaction makes one file of a finished month. Nothing is lost: superseded attempts are kept as well.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torchperf_ci.core.errors import NothingToJudge, UsageProblem, require
from torchperf_ci.core.records import Build, Record, to_line
from torchperf_ci.core.text import one_line, safe_name
from torchperf_ci.history.database import HistoryProblem, QueryResult, open_database, retry
from torchperf_ci.history.rows import (
    LATER_COLUMNS,
    ROWS_PER_GROUP,
    encode_rows,
    make_rows,
    make_schema,
    open_parquet_writer,
)
from torchperf_ci.history.runs import Addition, HistoryRun, Past, RunFilter
from torchperf_ci.history.series import SeriesCollection
from torchperf_ci.history.storage import Files

if TYPE_CHECKING:
    import pyarrow as pa


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetHistory:
    """Runs in Parquet files."""

    files: Files

    def add(self, run: HistoryRun, folder: Path, *, dry_run: bool = False) -> Addition:  # noqa: ARG002 - of the interface
        contents = self.encode(run)
        if not dry_run:
            self.files.write(contents)
        return Addition(where=self.files.where, sizes={path: len(content) for path, content in contents.items()})

    def encode(self, run: HistoryRun) -> Mapping[str, bytes]:
        """Encode the files that keep `run`, without those that are there already."""
        require("pyarrow", purpose="the history of runs")
        contents = encode_run(run)
        return {path: contents[path] for path in self.files.list_absent(list(contents))}

    def read_last(self, count: int, chosen: RunFilter) -> Past:
        # So many of the newest runs are opened, of which too few may be chosen; then many more are.
        opened = 2 * count
        while (past := retry(partial(self._read_last, count, chosen, opened))) is None:
            opened *= 4
        return past

    def read_series(self, count: int, chosen: RunFilter) -> SeriesCollection:
        opened = 2 * count
        while (collection := retry(partial(self._read_series, count, chosen, opened))) is None:
            opened *= 4
        return collection

    def read_run(self, *, name: str, key: str) -> HistoryRun:
        """Read one run with samples, of every record the newest attempt. Raises `UsageProblem` when it is not there."""

        def read() -> HistoryRun | None:
            parts = [part for _, of_month in self.list_months() for part in of_month]
            paths = [part.path for part in parts if part.is_compacted or part.run == name_run(key)]
            with open_database(self.files.fetch(paths)) as database:
                return database.read_full_run(name=name, key=key) if database.files else None

        if (run := retry(read)) is None:
            raise UsageProblem(
                f"the history {self.files.where} has no run {key} in the series {name}; "
                "`torchperf-ci history list` with the same options has its runs"
            )
        return run

    def ask(self, query: str) -> QueryResult:
        """Answer a query over the views `history`, what counts, and `parts`, everything.

        Raises `UsageProblem` with DuckDB's words for a query that it does not understand, and `NothingToJudge` for an
        empty history.
        """

        def answer() -> QueryResult:
            paths = [part.path for _, parts in self.list_months() for part in parts]
            with open_database(self.files.fetch(paths)) as database:
                if not database.files:
                    raise NothingToJudge(describe_empty(self.files.where))
                return database.answer(query)

        return retry(answer)

    def list_months(self) -> Iterator[tuple[str, list[Part]]]:
        """List the months and their files, newest month first; every month is listed when it is asked for."""
        for month in sorted(filter(_MONTH.fullmatch, self.files.list_folders()), reverse=True):
            parts = [parse_part(month, name) for name in self.files.list_files(month)]
            yield month, [part for part in parts if part is not None]

    def _read_series(self, count: int, chosen: RunFilter, opened: int) -> SeriesCollection | None:
        """Read the series of the newest `count` runs, if they are among the newest `opened`, or these are all."""
        paths, are_all = choose_parts(self.list_months(), opened)
        with open_database(self.files.fetch(paths)) as database:
            if not database.files:
                return SeriesCollection(problems=list(database.problems))
            keys = database.find_newest_keys(count, chosen)
            return database.read_series(keys, chosen) if are_all or len(keys) == count else None

    def _read_last(self, count: int, chosen: RunFilter, opened: int) -> Past | None:
        """Read the newest `count` runs that are chosen, if they are among the newest `opened`, or these are all."""
        paths, are_all = choose_parts(self.list_months(), opened)
        with open_database(self.files.fetch(paths)) as database:
            if not database.files:
                return Past(problems=database.problems)
            keys = database.find_newest_keys(count, chosen)
            return database.read_runs(keys, chosen) if are_all or len(keys) == count else None


def describe_empty(where: str, name: str = "") -> str:
    """Say that a history, or its series `name`, has no runs, and how it gets one."""
    series = f" of the series {name}" if name else ""
    return (
        f"the history {where} holds no runs{series}. `torchperf-ci dashboard DIR` adds one, `torchperf-ci history "
        "import PATH` those of other places; --name, --history and --data-branch look elsewhere"
    )


def parse_part(month: str, name: str) -> Part | None:
    """Parse a file's name; None for a file that is not of the history."""
    path = f"{month}/{name}"
    if match := _PART.fullmatch(name):
        return Part(path=path, time=match["time"], run=match["run"])
    if match := _COMPACTED.fullmatch(name):
        return Part(path=path, runs=int(match["runs"]))
    return None


def name_run(key: str) -> str:
    """Write a run's key as part of a file name."""
    return safe_name(key).replace("_", "-")


def name_month(time: datetime) -> str:
    """Name the folder of a month."""
    return f"month={time.astimezone(timezone.utc):%Y-%m}"


def name_compacted(parts: Sequence[Part], runs: int) -> str:
    """Name the file that holds all of `parts`."""
    return f"compacted_{runs}_{_digest(sorted(part.path for part in parts))}.parquet"


def encode_run(run: HistoryRun) -> Mapping[str, bytes]:
    """Encode the files that keep a run, by path: one for every shard and attempt in it, and one for what confirms it.

    A build goes with the first records that were measured in its environment, else with the first ones.
    """
    groups: dict[tuple[str, int], list[Record]] = {}
    for record in run.results.records:
        groups.setdefault((record.source.shard, record.source.attempt), []).append(record)
    environments = [{record.environment for record in records} for records in groups.values()]
    builds: list[list[Build]] = [[] for _ in groups]
    for build in run.results.builds:
        home = next((place for place, known in enumerate(environments) if build.environment in known), 0)
        builds[home].append(build)
    confirming: dict[tuple[str, int], list[Record]] = {}
    for record in run.results.confirmations:
        confirming.setdefault((record.source.shard, record.source.attempt), []).append(record)
    turns = [(1, *group, own) for group, own in zip(groups.items(), builds, strict=True)]
    turns += [(2, *group, []) for group in confirming.items()]
    contents = {}
    for turn, (shard, attempt), records, own in turns:
        again = [] if turn == 1 else [str(turn)]
        digest = _digest([run.name, run.key, *again, *map(to_line, own), *map(to_line, records)])
        part = f"{run.time:{_TIME}}_{name_run(run.key)}_{safe_name(shard).replace('_', '-')[:20]}_{attempt}_{digest}"
        shared = {"name": run.name, "run_key": run.key, "run_time": run.time, "part": part, "turn": turn}
        contents[f"{name_month(run.time)}/{part}.parquet"] = encode_rows(make_rows(records, own, shared))
    return contents


def choose_parts(months: Iterator[tuple[str, Sequence[Part]]], runs: int) -> tuple[list[str], bool]:
    """Choose the files that hold at least the newest `runs` runs, those whole; and say whether that is everything.

    months: newest first, taken only as far as needed. The shards of a run may have started on both sides of a month's
    end, so one more month is looked through for the rest of the runs that were taken.
    """
    paths: list[str] = []
    taken: set[str] = set()
    counted = 0
    for _, parts in months:
        is_enough = counted >= runs
        for part in sorted(parts, key=lambda part: part.time, reverse=True):
            if part.is_compacted:
                counted += part.runs
            elif part.run not in taken:
                if counted >= runs:
                    continue
                taken.add(part.run)
                counted += 1
            paths.append(part.path)
        if is_enough:
            return paths, False
    return paths, counted < runs


def _digest(lines: Sequence[str]) -> str:
    joined = hashlib.sha256()
    for line in lines:
        joined.update(line.encode("utf-8", errors="replace") + b"\n")
    return joined.hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """Say what compacting a month does: the files `replaced` become the one at `path`. Sizes in bytes."""

    month: str
    path: str
    replaced: tuple[str, ...]
    before: int
    after: int


def compact(history: ParquetHistory, *, now: datetime, dry_run: bool = False) -> Iterator[Compaction]:
    """Compact every month before that of `now` that has more than one file.

    The new file is in its place, whole, before the first old one goes. Whoever reads in between, or after a crash, sees
    rows twice and counts them once; the next compaction clears up.
    Raises `HistoryProblem` when a file cannot be read; its month then stays as it is.
    """
    require("pyarrow", purpose="the history of runs")
    for month, parts in history.list_months():
        if month < name_month(now) and len(parts) > 1:
            yield _compact_month(history, month, parts, dry_run=dry_run)


def _compact_month(history: ParquetHistory, month: str, parts: Sequence[Part], *, dry_run: bool) -> Compaction:
    paths = sorted((part.path for part in parts), key=lambda path: path.rpartition("/")[2])
    files = history.files.fetch(paths)
    if len(files) < len(paths):
        raise HistoryProblem(f"somebody else is compacting {month}; repeat the command when they are done")
    before = sum(file.stat().st_size for file in files)
    content, runs = _join_files(files)
    path = f"{month}/{name_compacted(parts, runs)}"
    replaced = tuple(old for old in paths if old != path)
    if not dry_run:
        history.files.write({path: content})
        history.files.delete(replaced)
    return Compaction(month=month, path=path, replaced=replaced, before=before, after=len(content))


def _join_files(files: Sequence[Path]) -> tuple[bytes, int]:
    """Join all rows of the files, but those of a part only once, into one file; and count the runs in it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sink = io.BytesIO()
    seen: set[str] = set()
    runs: set[tuple[str, str]] = set()
    with open_parquet_writer(sink) as writer:
        waiting: list[pa.Table] = []
        for file in files:
            table = _read_table(file)
            parts = set(table.column("part").unique().to_pylist())
            if again := sorted(parts & seen):  # a compaction before this one was broken off
                table = table.filter(pc.invert(pc.is_in(table.column("part"), pa.array(again, pa.string()))))
            seen |= parts
            runs.update(
                (row["name"], row["run_key"]) for row in table.group_by(["name", "run_key"]).aggregate([]).to_pylist()
            )
            waiting.append(table)
            if sum(map(len, waiting)) >= ROWS_PER_GROUP:
                writer.write_table(pa.concat_tables(waiting), row_group_size=ROWS_PER_GROUP)
                waiting.clear()
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=ROWS_PER_GROUP)
    return sink.getvalue(), len(runs)


def _read_table(file: Path) -> pa.Table:
    """Read a file with the columns of today. Raises `HistoryProblem`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, partitioning=None)
        for name, value in LATER_COLUMNS.items():
            if name not in table.column_names:
                kind = make_schema().field(name).type
                blank = pa.scalar(int(value) if pa.types.is_integer(kind) else "", kind)
                table = table.append_column(name, pa.repeat(blank, len(table)))
        return table.select(make_schema().names).cast(make_schema())
    except (pa.ArrowException, OSError) as error:
        why = one_line(str(error), limit=200)
        raise HistoryProblem(
            f"{file.name} cannot be read, so its month is not compacted; move it out of the history: {why}"
        ) from error
