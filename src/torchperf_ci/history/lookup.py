"""A history of plain folders with an index, `lookup.csv`: what PyTorch's own dashboard keeps.

A line of the index is `day,mode,precision,folder` without a header; the day is that of the year, and the year is in the
folder's name, `day_{%j}_{%d_%m_%y}_performance_{dtype}_{100..999}`, or follows from the order of the lines. Folders
hold the CSV files of a suite runner, and those written here our records as well.
"""

from __future__ import annotations

import csv
import fcntl
import filecmp
import io
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NoReturn

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Testing
from torchperf_ci.core.results import RECORDS, Problem, Results
from torchperf_ci.core.safe_files import open_below
from torchperf_ci.core.text import safe_name
from torchperf_ci.history.store import Added, Past, Run, Wanted, run_of

INDEX = "lookup.csv"
MODE = "performance"

_NAME = re.compile(r"day_\d{1,3}_(?P<date>\d\d_\d\d_\d\d)_")
_ARCHIVE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_NO_TIME = datetime(1970, 1, 1, tzinfo=timezone.utc)

Reader = Callable[[Path, CaseSelection], Results]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
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
class LookupHistory:
    """Runs in folders below `root`. `read` reads such a folder; `archive_name` is what the next one is called, blank:
    a name by the pattern."""

    root: Path
    read: Reader
    archive_name: str = ""

    def last(self, count: int, wanted: Wanted) -> Past:
        entries, problems = self.entries()
        runs: dict[str, Run] = {}
        for entry in reversed(entries):
            if len(runs) == count:
                break
            if wanted.selection.dtypes and not set(entry.dtypes) & set(wanted.selection.dtypes):
                continue
            run, found = self.run(entry, wanted.selection, name=wanted.name)
            problems += found
            if run.results.records and _is_wanted(run, wanted):
                runs.setdefault(run.key, run)
        return Past(runs=tuple(sorted(runs.values(), key=lambda run: run.time)), problems=tuple(problems))

    def add(self, run: Run, folder: Path, *, dry_run: bool = False) -> Added:
        if self.archive_name and not _ARCHIVE_NAME.fullmatch(self.archive_name):
            raise UsageProblem(f"--archive-name {self.archive_name!r}: use letters, digits, '.', '-' and '_'")
        entries, _ = self.entries()
        same_day = [entry for entry in entries if entry.time.date() == run.time.date()]
        if any(_same_results(folder, self.root / entry.path) for entry in same_day):
            return Added(where=str(self.root), sizes={})
        dtypes = list(dict.fromkeys(record.case.dtype for record in run.results.records))
        names = [self.archive_name] if self.archive_name else _archive_names(run.time, dtypes)
        name = names[0] if dry_run else self._copy(folder, names)
        lines = "".join(_line(run.time, dtype, name) for dtype in dtypes)
        if not dry_run:
            self._append(lines)
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return Added(where=str(self.root), sizes={name: sum(sizes), INDEX: len(lines)})

    def entries(self) -> tuple[list[Entry], list[Problem]]:
        """The runs of the index, oldest first, and the lines that cannot be used."""
        found: dict[str, Entry] = {}
        problems: list[Problem] = []
        for number, row in self._rows():
            try:
                entry = self._entry(number, row)
            except ValueError as error:
                problems.append(Problem(file=INDEX, line=number, what=f"{error}; the line was left out"))
                continue
            if entry is not None:
                before = found.get(entry.path, entry)
                found[entry.path] = replace(before, dtypes=tuple(dict.fromkeys((*before.dtypes, *entry.dtypes))))
        return _in_time(self.root, list(found.values())), problems

    def run(self, entry: Entry, selection: CaseSelection, *, name: str) -> tuple[Run, list[Problem]]:
        """The run of an entry, as far as `selection` takes it, and what could not be read of it."""
        folder = self.root / entry.path
        if not folder.is_dir():
            what = f"names the folder {entry.path}, which is not there"
            return Run(name=name, key=entry.path, time=entry.time, results=Results()), [
                Problem(file=INDEX, line=entry.line, what=what)
            ]
        results = self.read(folder, selection)
        records = tuple(record for record in results.records if selection.takes(record.case))
        made = run_of(Results(records=records, builds=results.builds), name=name, now=entry.time)
        key = made.key if (folder / RECORDS).is_file() else entry.path
        problems = [replace(problem, file=f"{entry.path}/{problem.file}") for problem in results.problems]
        return replace(made, key=key), problems

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        try:
            text = (self.root / INDEX).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageProblem(f"{self.root / INDEX} cannot be read ({error.strerror})") from error
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                yield number, next(csv.reader([line]))

    def _entry(self, number: int, row: Sequence[str]) -> Entry | None:
        """Raises `ValueError` saying what is wrong; None for a line of another mode."""
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
        return Entry(line=number, path=path, dtypes=(dtype,), day=int(day))

    def _copy(self, folder: Path, names: Sequence[str]) -> str:
        """Copy the results folder; the copy gets the first free name when it is whole. The name."""
        beside = self.root / f".adding-{os.getpid()}-{random.randrange(10**9)}"  # noqa: S311 - a name, not a secret
        try:
            shutil.copytree(folder, beside, ignore=_links)
            return next((name for name in names if _renamed(beside, self.root / name)), "") or _refuse(self.root, names)
        except OSError as error:
            raise UsageProblem(f"the archive {self.root} cannot be written ({error.strerror or error})") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _append(self, lines: str) -> None:
        """Append to the index with one write, on lines of their own."""
        descriptor = open_below(self.root, INDEX, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            ended = size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
            os.write(descriptor, ("" if ended else "\n").encode() + lines.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_wanted(run: Run, wanted: Wanted) -> bool:
    in_time = wanted.until is None or run.time <= wanted.until
    return in_time and (not wanted.branch or run.source.branch == wanted.branch)


def _in_time(root: Path, entries: Sequence[Entry]) -> list[Entry]:
    """By day, then as they stand in the index; each gets a time of its own.

    A folder's name tells its day. Without one, the index does: it was appended to, so such a folder is from the last
    such day of a year before that of the next line (for the last line: before the folder was changed), and not from
    before the line above. A day 0 says nothing, and is that of the next line.
    """
    times = [_dated(entry.path) for entry in entries]
    changed = [(root / entry.path).stat().st_mtime for entry in entries if (root / entry.path).exists()]
    limit = datetime.fromtimestamp(max(changed, default=0.0), tz=timezone.utc)
    guessed = [number for number, time in enumerate(times) if time is None]
    for number in reversed(range(len(entries))):
        limit = times[number] = times[number] or _last_day(entries[number].day, limit)
    for number in guessed:
        above, below = times[max(number - 1, 0)], times[min(number + 1, len(times) - 1)]
        if above and below and above <= below:
            times[number] = max(times[number] or above, above)
    days: dict[datetime, list[Entry]] = {}
    for entry, day in sorted(zip(entries, times, strict=True), key=lambda pair: (pair[1] or limit, pair[0].line)):
        days.setdefault(day or limit, []).append(entry)
    return [
        replace(entry, time=day + timedelta(seconds=place))
        for day, found in days.items()
        for place, entry in enumerate(found)
    ]


def _dated(path: str) -> datetime | None:
    """The date in a folder's name, if it is one."""
    if not (match := _NAME.search(Path(path).name)):
        return None
    try:
        return datetime.strptime(match["date"], "%d_%m_%y").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def _last_day(day: int, limit: datetime) -> datetime:
    """The last day of this number in a year that is not after `limit`."""
    midnight = limit.replace(hour=0, minute=0, second=0, microsecond=0)
    for year in range(midnight.year, midnight.year - 9, -1):  # a day 366 comes every eight years at the latest
        found = datetime(year, 1, 1, tzinfo=timezone.utc) + timedelta(days=day - 1)
        if day and found.year == year and found <= midnight:
            return found
    return midnight


def _archive_names(time: datetime, dtypes: Sequence[str]) -> list[str]:
    """Every name the pattern allows, in random order."""
    start = f"day_{time:%j}_{time:%d_%m_%y}_{MODE}_{'-'.join(map(safe_name, dtypes))}"
    return [f"{start}_{number}" for number in random.sample(range(100, 1000), 900)]


def _renamed(beside: Path, target: Path) -> bool:
    """Give a folder its name; false when there is one of that name."""
    try:
        beside.rename(target)
    except OSError:
        if not target.exists():
            raise
        return False
    return True


def _refuse(root: Path, names: Sequence[str]) -> NoReturn:
    raise UsageProblem(f"{root} has a folder {names[0]} already; choose another name with --archive-name")


def _line(time: datetime, dtype: str, name: str) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow([f"{time:%j}", MODE, dtype, name])
    return stream.getvalue()


def _same_results(one: Path, other: Path) -> bool:
    """Do two folders hold the same results, whatever else is in them?"""
    names = _result_files(one)
    if not names or names != _result_files(other):
        return False
    _, different, unreadable = filecmp.cmpfiles(one, other, names, shallow=False)
    return not different and not unreadable


def _result_files(folder: Path) -> list[str]:
    if (folder / RECORDS).is_file():
        return [RECORDS]
    return sorted(path.name for testing in Testing for path in folder.glob(f"*_{testing}.csv"))


def _links(folder: str, names: list[str]) -> list[str]:
    """Symbolic links are not followed out of the results folder."""
    return [name for name in names if Path(folder, name).is_symlink()]
