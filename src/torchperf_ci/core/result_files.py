"""The files of a results folder, on a disk or in an artifact: our records, or else the CSV files of any suite runner.

Beside the CSV files that a foreign harness wrote lies commands.jsonl: what was planned, and how each command ended. A
CSV file cannot say that its writer crashed half-way, or was never started; with these lines a folder can, also to those
who read it later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from torchperf_ci.core.csv_files import (
    KNOWN_COMPILERS,
    KNOWN_SUITES,
    CsvFile,
    csv_name_problem,
    parse_csv,
    parse_name,
)
from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Build, Record, RecordProblem, Status, Testing, decode_line, encode_line
from torchperf_ci.core.results import (
    COMMANDS,
    CONFIRMATION,
    RECORDS,
    Problem,
    Results,
    lines_of,
    parse_results,
    read_lines,
    read_results,
)
from torchperf_ci.core.text import count, duration

LARGEST_CSV = 64 * 1024 * 1024
"""Bytes; a table of a million models is smaller."""
TOO_LARGE = f"is larger than {LARGEST_CSV // 1024**2} MiB and is not read"

Read = Callable[[str], bytes | str]
"""Reads a file by its name; a text in place of its content says why there is none."""

_SHOWN_MODELS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """The end of a command: `pass` when it exited with 0 and wrote rows, else with a one-line reason.

    csv, log: its files, below the results folder. seconds: wall time. rows: rows of results in its CSV file.
    lost: models that it began and that have no row, as happens to one whose process is killed.
    """

    csv: str
    log: str
    argv: tuple[str, ...]
    status: Status
    reason: str = ""
    seconds: float = 0.0
    rows: int = 0
    lost: tuple[str, ...] = ()

    @property
    def trouble(self) -> str:
        """The trouble it had, in one line; empty when it had none."""
        models = ", ".join(self.lost[:_SHOWN_MODELS])
        more = f" and {len(self.lost) - _SHOWN_MODELS} more" if len(self.lost) > _SHOWN_MODELS else ""
        return "; ".join(part for part in (self.reason, f"no row for {models}{more}" if self.lost else "") if part)

    @property
    def summary(self) -> str:
        """The amount that it wrote, and where to read more."""
        see = f", see {self.log}" if self.log and self.trouble else ""
        return f"{count(self.rows, 'row')} in {duration(self.seconds)}{see}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFiles:
    """The CSV files that a run's commands are going to write."""

    csvs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLog:
    """commands.jsonl: the CSV files that were planned, the newest result of each, lines that are neither."""

    builds: tuple[Build, ...] = ()
    planned: tuple[str, ...] = ()
    results: Mapping[str, CommandResult]
    unreadable: tuple[Problem, ...] = ()

    def problems(self) -> Iterator[Problem]:
        """List everything that went wrong, commands that were planned and not run included."""
        yield from self.unreadable
        for csv in dict.fromkeys([*self.planned, *self.results]):
            result = self.results.get(csv)
            if result is None:
                yield Problem(
                    file=csv,
                    what="its command was not run to its end; the same `run` with --keep-output-dir does what is left",
                )
            elif result.trouble:
                yield Problem(file=csv, what=f"its command: {result.trouble} ({result.summary})")


def plan_line(csvs: Sequence[str]) -> str:
    return encode_line("plan", PlannedFiles(csvs=tuple(csvs)))


def result_line(result: CommandResult) -> str:
    return encode_line("command", result)


def read_command_log(folder: Path) -> CommandLog:
    """Read commands.jsonl in a results folder; empty where no commands were run."""
    return parse_command_log(read_lines(folder / COMMANDS))


def parse_command_log(lines: Iterable[tuple[int, str]]) -> CommandLog:
    """Read the lines of a commands.jsonl, each with its number from 1."""
    builds: list[Build] = []
    planned: dict[str, None] = {}
    results: dict[str, CommandResult] = {}
    unreadable: list[Problem] = []
    for number, line in lines:
        try:
            item = decode_line(line, {"build": Build, "plan": PlannedFiles, "command": CommandResult})
        except RecordProblem as error:
            unreadable.append(Problem(file=COMMANDS, line=number, what=f"cannot be used: {error}"))
            continue
        match item:
            case Build():
                builds.append(item)
            case CommandResult():
                results[item.csv] = item
            case _:
                planned.update(dict.fromkeys(item.csvs))
    return CommandLog(builds=tuple(builds), planned=tuple(planned), results=results, unreadable=tuple(unreadable))


def read_folder(path: Path, selection: CaseSelection) -> Results:
    """Read the results in `path`: of records.jsonl if there is one, else of all CSV files with a suite runner's name.

    Files that `selection` does not take are not read. What cannot be used is among the problems, and so is what
    commands.jsonl, where there is one, says about the commands that wrote the files.
    """
    if (path / RECORDS).is_file():
        return _add_confirmations(read_results(path), path / CONFIRMATION)
    if os.path.lexists(path / RECORDS):
        kind = "a folder" if (path / RECORDS).is_dir() else "a link to what is not there"
        kind = kind if (path / RECORDS).is_dir() or (path / RECORDS).is_symlink() else "no plain file"
        return Results(problems=(Problem(file=RECORDS, what=f"is {kind}, so there are no results to read"),))
    names = [item.name for item in (*path.glob("*.csv"), *path.glob(COMMANDS)) if item.is_file()]
    return read_files(names, lambda name: read_file(path / name), selection)


def _add_confirmations(results: Results, folder: Path) -> Results:
    """Add what was measured once more. What is older than the result that it would confirm is of an earlier run."""
    if not (folder / RECORDS).is_file():
        return results
    again = read_results(folder)
    times = {record.key: record.source.time for record in results.records}
    confirmations = tuple(
        record for record in again.records if record.key in times and record.source.time >= times[record.key]
    )
    problems = (replace(problem, file=f"{CONFIRMATION}/{problem.file}") for problem in again.problems)
    return replace(results, confirmations=confirmations, problems=(*results.problems, *problems))


def read_file(path: Path) -> bytes | str:
    """Read a file; where that fails, say why."""
    try:
        if path.suffix == ".csv" and path.stat().st_size > LARGEST_CSV:
            return TOO_LARGE
        return path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def holds_results(path: Path) -> bool:
    """Say whether a folder holds anything that `read_folder` reads."""
    return any((path / name).is_file() for name in (RECORDS, COMMANDS)) or any(
        is_result_csv(item.name) and item.is_file() for item in path.glob("*.csv")
    )


def result_folders(given: Sequence[Path]) -> list[Path]:
    """List the folders with results among those given and right below them, each once.

    Raises `UsageProblem` for what is no folder, and `NothingToJudge` when there are none.
    """
    folders: dict[Path, Path] = {}
    for folder in given:
        if not folder.is_dir():
            raise UsageProblem(f"there is no folder {folder}")
        below = sorted(path for path in folder.iterdir() if path.is_dir() and path.name != CONFIRMATION)
        folders |= {each.resolve(): each for each in (folder, *below) if holds_results(each)}
    if not folders:
        raise NothingToJudge(
            f"there is neither {RECORDS} nor a CSV file of results in {', '.join(map(str, given))}, nor in folders "
            "right below"
        )
    return list(folders.values())


def result_files(names: Sequence[str]) -> list[str]:
    """Choose the paths that hold results among those of an archive.

    That is its topmost records.jsonl; without one, the topmost folder's result CSV files and its commands.jsonl.
    """
    paths = sorted((PurePosixPath(name) for name in names), key=lambda path: (len(path.parts), path))
    if records := [path for path in paths if path.name == RECORDS]:
        return [str(records[0])]
    csvs = [path for path in paths if is_result_csv(path.name)]
    beside = [path for path in paths if path.name == COMMANDS and csvs and path.parent == csvs[0].parent]
    return [str(path) for path in (*csvs, *beside) if path.parent == csvs[0].parent]


def is_result_csv(name: str) -> bool:
    """Say whether a file's name ends like that of a suite runner's results."""
    return any(name.endswith(f"_{testing}.csv") for testing in Testing)


def read_files(names: Iterable[str], read: Read, selection: CaseSelection) -> Results:
    """Read the results in the files with these names, all of one folder.

    Files that `selection` does not take are not read, but named. What cannot be used is among the problems, and so is
    what commands.jsonl says went wrong.
    """
    there = sorted(names)
    if RECORDS in there:
        content = read(RECORDS)
        if isinstance(content, str):
            return Results(problems=(Problem(file=RECORDS, what=content),))
        return parse_results(lines_of(content))
    log = _command_log(there, read)
    parsed = [file for name in there if name.endswith(".csv") and (file := parse_name(name, selection)) is not None]
    taken = [file for file in parsed if selection.takes(file.case("any"))]
    taken.sort(key=lambda f: (_rank(f.suite, KNOWN_SUITES), _rank(f.compiler, KNOWN_COMPILERS), f.testing))
    records: list[Record] = []
    problems = [
        Problem(file=name, what=what)
        for testing in Testing
        for name in there
        if name.endswith(f"_{testing}.csv") and (what := csv_name_problem(name, selection))
    ]
    for csv_file in taken:
        content = read(csv_file.name)
        if isinstance(content, bytes) and len(content) > LARGEST_CSV:
            content = TOO_LARGE
        if isinstance(content, str):
            problems.append(Problem(file=csv_file.name, what=content))
            continue
        rows, unusable = parse_csv(csv_file, content.decode("utf-8-sig", errors="replace"))
        records += [_of_harness(record, log) for record in rows] if COMMANDS in there else rows
        problems += unusable
    of_commands = [
        problem
        for problem in log.problems()
        if (file := parse_name(problem.file, selection)) is None or selection.takes(file.case("any"))
    ]
    explained = {problem.file for problem in of_commands}
    absent = [problem for problem in _absent_counterparts(taken, log.planned) if problem.file not in explained]
    return Results(
        records=tuple(records),
        builds=log.builds,
        problems=(*of_commands, *problems, *absent),
        left_out=tuple(file.name for file in parsed if file not in taken),
    )


def log_problems(names: Iterable[str], read: Read) -> list[Problem]:
    """List what commands.jsonl, where there is one, says went wrong with the commands that wrote a folder's files."""
    return list(_command_log(list(names), read).problems())


def _command_log(names: Sequence[str], read: Read) -> CommandLog:
    content = read(COMMANDS) if COMMANDS in names else b""
    if isinstance(content, str):
        return CommandLog(results={}, unreadable=(Problem(file=COMMANDS, what=content),))
    return parse_command_log(lines_of(content))


def _of_harness(record: Record, log: CommandLog) -> Record:
    """Add the machine that the harness ran on, and drop a CPU's memory.

    PyTorch's scripts write what a process has at the end, 100 times too large, where a peak is meant.
    """
    metrics = record.metrics
    if record.case.device.startswith("cpu"):
        metrics = {name: value for name, value in metrics.items() if not name.endswith("_peak_mem")}
    environment = log.builds[-1].environment if log.builds else record.environment
    return replace(record, metrics=metrics, environment=environment)


def _rank(name: str, known: Sequence[str]) -> tuple[int, str]:
    return (known.index(name), "") if name in known else (len(known), name)


def _absent_counterparts(files: Iterable[CsvFile], planned: Sequence[str]) -> list[Problem]:
    """Name the files that are absent though their counterpart is there: a compiler's accuracy beside its performance.

    Not where it is known that only one of the two was `planned`.
    """
    names = {file.name for file in files}
    return [
        Problem(file=file.other_name, what=f"is absent, though {file.name} is there")
        for file in files
        if file.other_name not in names and (file.name not in planned or file.other_name in planned)
    ]
