"""A history of plain folders with an index, `lookup.csv`: what PyTorch's own dashboard keeps.

A line of the index is `day,mode,precision,folder` without a header; the day is that of the year, and the year is in the
folder's name, `day_{%j}_{%d_%m_%y}_performance_{dtype}_{100..999}`, or follows from the order of the lines. Folders
hold the CSV files of a suite runner, and those written here our records as well.
"""

from __future__ import annotations

import csv
import fcntl
import filecmp
import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Testing
from torchperf_ci.core.results import RECORDS, Problem, Results
from torchperf_ci.core.safe_files import open_below
from torchperf_ci.core.text import safe_name, write_csv
from torchperf_ci.history.runs import Addition, HistoryRun, Past, RunFilter, make_run
from torchperf_ci.history.series import SeriesCollection

INDEX = "lookup.csv"
MODE = "performance"

_DATED_NAME = re.compile(r"day_\d{1,3}_(?P<date>\d\d_\d\d_\d\d)_")
_ARCHIVE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NO_TIME = datetime(1970, 1, 1, tzinfo=timezone.utc)

Reader = Callable[[Path, CaseSelection], Results]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveEntry:
    """A folder of the index, with the first line that names it and the dtypes of all of these.

    day: that of the year, as the line says; 0 is none. time: the day with its year, and within a day as many seconds
        later as folders were before.
    """

    line: int
    path: str
    dtypes: tuple[str, ...]
    day: int = 0
    time: datetime = _NO_TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveHistory:
    """Runs in folders below `root`. `read` reads such a folder; `archive_name` is what the next one is called, blank:
    a name by the pattern."""

    root: Path
    read: Reader
    archive_name: str = ""

    def read_last(self, count: int, chosen: RunFilter) -> Past:
        entries, problems = self.list_entries()
        runs: dict[str, HistoryRun] = {}
        for entry in reversed(entries):
            if len(runs) == count:
                break
            if chosen.selection.dtypes and not set(entry.dtypes) & set(chosen.selection.dtypes):
                continue
            run, run_problems = self.read_run(entry, chosen.selection, name=chosen.name)
            problems += run_problems
            in_time = chosen.until is None or run.time <= chosen.until
            if run.results.records and in_time and chosen.branch in {"", run.source.branch}:
                runs.setdefault(run.key, run)
        return Past(runs=tuple(sorted(runs.values(), key=lambda run: run.time)), problems=tuple(problems))

    def read_series(self, count: int, chosen: RunFilter) -> SeriesCollection:
        past = self.read_last(count, chosen)
        collection = SeriesCollection(problems=list(past.problems))
        for run in past.runs:
            collection.add_run(run)
        return collection

    def add(self, run: HistoryRun, folder: Path, *, dry_run: bool = False) -> Addition:
        if self.archive_name and not _ARCHIVE_NAME.fullmatch(self.archive_name):
            raise UsageProblem(f"--archive-name {self.archive_name!r}: use letters, digits, '.', '-' and '_'")
        entries, _ = self.list_entries()
        same_day = [entry for entry in entries if entry.time.date() == run.time.date()]
        if any(_hold_same_results(folder, self.root / entry.path) for entry in same_day):
            return Addition(where=str(self.root), sizes={})
        dtypes = list(dict.fromkeys(record.case.dtype for record in run.results.records))
        start = f"day_{run.time:%j}_{run.time:%d_%m_%y}_{MODE}_{'-'.join(map(safe_name, dtypes))}"
        # Every name that the pattern of PyTorch's scripts allows, in random order.
        names = (
            [self.archive_name] if self.archive_name else [f"{start}_{n}" for n in random.sample(range(100, 1000), 900)]
        )
        name = names[0] if dry_run else self._copy(folder, names)
        lines = write_csv([f"{run.time:%j}", MODE, dtype, name] for dtype in dtypes)
        if not dry_run:
            self._append(lines)
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return Addition(where=str(self.root), sizes={name: sum(sizes), INDEX: len(lines)})

    def list_entries(self) -> tuple[list[ArchiveEntry], list[Problem]]:
        """List the runs of the index, oldest first, and the lines that cannot be used."""
        try:
            lines = (self.root / INDEX).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return [], []
        except OSError as error:
            raise UsageProblem(
                f"{self.root / INDEX} cannot be read ({error.strerror}); make it readable, or name another archive"
            ) from error
        entries: dict[str, ArchiveEntry] = {}
        problems: list[Problem] = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                entry = self._parse_line(number, line)
            except ValueError as error:
                problems.append(Problem(file=INDEX, line=number, what=f"{error}; the line was left out"))
                continue
            if entry is not None:
                first = entries.get(entry.path, entry)
                entries[entry.path] = replace(first, dtypes=tuple(dict.fromkeys((*first.dtypes, *entry.dtypes))))
        return _date_entries(self.root, list(entries.values())), problems

    def read_run(self, entry: ArchiveEntry, selection: CaseSelection, *, name: str) -> tuple[HistoryRun, list[Problem]]:
        """Read the run of an entry, as far as `selection` takes it, and name what could not be read of it."""
        folder = self.root / entry.path
        if not folder.is_dir():
            what = f"names the folder {entry.path}, which is not there"
            missing = HistoryRun(name=name, key=entry.path, time=entry.time, results=Results())
            return missing, [Problem(file=INDEX, line=entry.line, what=what)]
        results = self.read(folder, selection)
        records = tuple(record for record in results.records if selection.takes(record.case))
        run = make_run(Results(records=records, builds=results.builds), name=name, now=entry.time)
        key = run.key if (folder / RECORDS).is_file() else entry.path
        problems = [replace(problem, file=f"{entry.path}/{problem.file}") for problem in results.problems]
        return replace(run, key=key), problems

    def _parse_line(self, number: int, line: str) -> ArchiveEntry | None:
        """Parse a line of the index; None for one of another mode. Raises `ValueError` saying what is wrong."""
        row = next(csv.reader([line]))
        if len(row) != 4:
            raise ValueError(f"has {len(row)} columns, expected day,mode,precision,folder")
        day, mode, dtype, path = (cell.strip() for cell in row)
        if mode != MODE:
            return None
        if not (day.isascii() and day.isdigit()) or int(day) > 366:
            raise ValueError(f"the day is {day[:20]!r}, expected 0 to 366")
        if not dtype or not path:
            raise ValueError("the precision or the folder is blank")
        if not (self.root / path).resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"the folder {path[:80]!r} is not below {self.root}")
        return ArchiveEntry(line=number, path=path, dtypes=(dtype,), day=int(day))

    def _copy(self, folder: Path, names: Sequence[str]) -> str:
        """Copy the results folder, links aside; the copy gets the first free name when it is whole. Return the name."""
        beside = self.root / f".adding-{os.getpid()}-{random.randrange(10**9)}"  # noqa: S311 - a name, not a secret
        try:
            shutil.copytree(folder, beside, ignore=_list_links)
            for name in names:
                try:
                    beside.rename(self.root / name)
                except OSError:
                    if not (self.root / name).exists():
                        raise
                else:
                    return name
        except OSError as error:
            raise UsageProblem(
                f"the archive {self.root} cannot be written ({error.strerror or error}); "
                "choose another with --dashboard-archive-path"
            ) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        raise UsageProblem(f"{self.root} has a folder {names[0]} already; choose another name with --archive-name")

    def _append(self, lines: str) -> None:
        """Append to the index with one write, on lines of their own."""
        descriptor = open_below(self.root, INDEX, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            is_ended = size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
            os.write(descriptor, ("" if is_ended else "\n").encode() + lines.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _date_entries(root: Path, entries: Sequence[ArchiveEntry]) -> list[ArchiveEntry]:
    """Sort by day, then as they stand in the index, and give each a time of its own.

    A folder's name has its day. Without one, the index does: it was appended to, so such a folder is from the last
    such day of a year before that of the next line (for the last line: before the folder was changed), and not from
    before the line above. A day 0 says nothing, and is that of the next line.
    """
    changed = [(root / entry.path).stat().st_mtime for entry in entries if (root / entry.path).exists()]
    limit = datetime.fromtimestamp(max(changed, default=0.0), tz=timezone.utc)
    named = [_date_in_name(entry.path) for entry in entries]
    days: list[datetime] = []
    for entry, date in zip(reversed(entries), reversed(named), strict=True):
        limit = date or _last_day(entry.day, limit)
        days.insert(0, limit)
    for number, date in enumerate(named):
        above, below = days[max(number - 1, 0)], days[min(number + 1, len(days) - 1)]
        if date is None and above <= below:
            days[number] = max(days[number], above)
    earlier: Counter[datetime] = Counter()
    dated = []
    for entry, day in sorted(zip(entries, days, strict=True), key=lambda pair: (pair[1], pair[0].line)):
        dated.append(replace(entry, time=day + timedelta(seconds=earlier[day])))
        earlier[day] += 1
    return dated


def _date_in_name(path: str) -> datetime | None:
    """Parse the date in a folder's name, if it is one."""
    if not (match := _DATED_NAME.search(Path(path).name)):
        return None
    try:
        return datetime.strptime(match["date"], "%d_%m_%y").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def _last_day(day: int, limit: datetime) -> datetime:
    """Find the last day of this number in a year that is not after `limit`; that of `limit` for a day 0."""
    midnight = limit.replace(hour=0, minute=0, second=0, microsecond=0)
    for year in range(midnight.year, midnight.year - 9, -1):  # a day 366 comes every eight years at the latest
        date = datetime(year, 1, 1, tzinfo=timezone.utc) + timedelta(days=day - 1)
        if day and date.year == year and date <= midnight:
            return date
    return midnight


def _hold_same_results(one: Path, other: Path) -> bool:
    """Say whether two folders hold the same results, whatever else is in them."""
    names = _list_result_files(one)
    if not names or names != _list_result_files(other):
        return False
    _, different, unreadable = filecmp.cmpfiles(one, other, names, shallow=False)
    return not different and not unreadable


def _list_result_files(folder: Path) -> list[str]:
    if (folder / RECORDS).is_file():
        return [RECORDS]
    return sorted(path.name for testing in Testing for path in folder.glob(f"*_{testing}.csv"))


def _list_links(folder: str, names: list[str]) -> list[str]:
    """List symbolic links, which are not followed out of the results folder."""
    return [name for name in names if Path(folder, name).is_symlink()]
