"""The files of a results folder, wherever it lies (on a disk, in an artifact), into results: our records, or else the
CSV files of any suite runner with what commands.jsonl says about the commands that wrote them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from torchperf_ci.core.command_log import CommandLog, parse_command_log
from torchperf_ci.core.csv_names import (
    KNOWN_COMPILERS,
    KNOWN_SUITES,
    AskedNames,
    CsvFile,
    name_problem,
    parse_name,
)
from torchperf_ci.core.csv_records import parse_csv
from torchperf_ci.core.frames import Selection
from torchperf_ci.core.records import Record, Testing
from torchperf_ci.core.results import COMMANDS, RECORDS, Problem, Results, lines_of, parse_results

LARGEST_CSV = 64 * 1024 * 1024
"""Bytes; a table of a million models is smaller."""

Read = Callable[[str], bytes | str]
"""Reads a file by its name; a text in place of its content says why there is none."""


def result_files(names: Sequence[str]) -> list[str]:
    """The paths that hold results among those of an archive: its topmost records.jsonl; without one, the topmost
    folder's result CSV files and its commands.jsonl."""
    paths = sorted((PurePosixPath(name) for name in names), key=lambda path: (len(path.parts), path))
    if records := [path for path in paths if path.name == RECORDS]:
        return [str(records[0])]
    csvs = [path for path in paths if is_result_csv(path.name)]
    beside = [path for path in paths if path.name == COMMANDS and csvs and path.parent == csvs[0].parent]
    return [str(path) for path in (*csvs, *beside) if path.parent == csvs[0].parent]


def is_result_csv(name: str) -> bool:
    """Does a file's name end like that of a suite runner's results?"""
    return any(name.endswith(f"_{testing}.csv") for testing in Testing)


def read_files(names: Iterable[str], read: Read, selection: Selection) -> Results:
    """The results in the files with these names, all of one folder.

    Files that `selection` does not take are not read, but named. What cannot be used is among the problems, and so is
    what commands.jsonl says went wrong.
    """
    there = sorted(names)
    if RECORDS in there:
        content = read(RECORDS)
        if isinstance(content, str):
            return Results(problems=(Problem(file=RECORDS, what=content),))
        return parse_results(content)
    asked = AskedNames(compilers=selection.compilers, suites=selection.suites, dtypes=selection.dtypes)
    parsed = [file for name in there if name.endswith(".csv") and (file := parse_name(name, asked)) is not None]
    taken = [file for file in parsed if selection.takes(file.case("any"))]
    taken.sort(key=lambda f: (_rank(f.suite, KNOWN_SUITES), _rank(f.compiler, KNOWN_COMPILERS), f.testing))
    records: list[Record] = []
    problems = [
        Problem(file=name, what=what)
        for testing in Testing
        for name in there
        if name.endswith(f"_{testing}.csv") and (what := name_problem(name, asked))
    ]
    for file in taken:
        found, wrong = _read_csv(file, read)
        records += found
        problems += wrong
    log = _command_log(there, read)
    if COMMANDS in there:
        records = [_of_harness(record, log) for record in records]
    told = [problem for problem in log.problems() if _is_taken(problem.file, selection, asked)]
    explained = {problem.file for problem in told}
    absent = [problem for problem in _alone(taken, log.planned) if problem.file not in explained]
    return Results(
        records=tuple(records),
        builds=log.builds,
        problems=(*told, *problems, *absent),
        left_out=tuple(file.name for file in parsed if file not in taken),
    )


def log_problems(names: Iterable[str], read: Read) -> list[Problem]:
    """What commands.jsonl, where there is one, says about the commands that wrote a folder's files."""
    return list(_command_log(list(names), read).problems())


def _read_csv(file: CsvFile, read: Read) -> tuple[list[Record], list[Problem]]:
    content = read(file.name)
    if isinstance(content, str):
        return [], [Problem(file=file.name, what=content)]
    if len(content) > LARGEST_CSV:
        return [], [Problem(file=file.name, what=f"is larger than {LARGEST_CSV // 1024**2} MiB and is not read")]
    return parse_csv(file, content.decode("utf-8-sig", errors="replace"))


def _command_log(there: Sequence[str], read: Read) -> CommandLog:
    content = read(COMMANDS) if COMMANDS in there else b""
    if isinstance(content, str):
        return CommandLog(results={}, unreadable=(Problem(file=COMMANDS, what=content),))
    return parse_command_log(lines_of(content))


def _of_harness(record: Record, log: CommandLog) -> Record:
    """The record with the machine that the harness ran on, and without a CPU's memory: PyTorch's scripts write what a
    process has at the end, 100 times too large, where a peak is meant."""
    metrics = record.metrics
    if record.case.device.startswith("cpu"):
        metrics = {name: value for name, value in metrics.items() if not name.endswith("_peak_mem")}
    environment = log.builds[-1].environment if log.builds else record.environment
    return replace(record, metrics=metrics, environment=environment)


def _is_taken(name: str, selection: Selection, asked: AskedNames) -> bool:
    file = parse_name(name, asked)
    return file is None or selection.takes(file.case("any"))


def _rank(name: str, known: Sequence[str]) -> tuple[int, str]:
    return (known.index(name), "") if name in known else (len(known), name)


def _alone(files: Iterable[CsvFile], planned: Sequence[str]) -> list[Problem]:
    """Files whose counterpart is absent: a compiler's performance without its accuracy, or the other way round.

    Not where it is known that only one of the two was `planned`.
    """
    names = {file.name for file in files}
    return [
        Problem(file=file.other_name, what=f"is absent, though {file.name} is there")
        for file in files
        if file.other_name not in names and (file.name not in planned or file.other_name in planned)
    ]
