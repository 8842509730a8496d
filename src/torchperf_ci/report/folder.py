"""Reads what a folder holds to report on: our records, or the CSV files of any suite runner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from torchperf_ci.analysis.csv_records import KNOWN_COMPILERS, KNOWN_SUITES, CsvFile, parse_csv, parse_name
from torchperf_ci.analysis.frames import Selection
from torchperf_ci.command_log import read_command_log
from torchperf_ci.records import Record, Testing
from torchperf_ci.results import RECORDS, Problem, Results, read_results

LARGEST_CSV = 64 * 1024 * 1024
"""Bytes; a table of a million models is smaller."""


def read_folder(path: Path, selection: Selection) -> Results:
    """The results in `path`: of records.jsonl if there is one, else of all CSV files with a suite runner's name.

    Files that `selection` does not take are not read. What cannot be used is among the problems, and so is what
    commands.jsonl, where there is one, says about the commands that wrote the files.
    """
    if (path / RECORDS).is_file():
        return read_results(path)
    files = _csv_files(path, selection)
    records: list[Record] = []
    problems = _unknown_names(path)
    for file in files:
        found, wrong = _read_csv(path / file.name, file)
        records += found
        problems += wrong
    commands = read_command_log(path)
    told = [problem for problem in commands.problems() if _is_taken(problem.file, selection)]
    explained = {problem.file for problem in told}
    absent = [problem for problem in _alone(files, commands.planned) if problem.file not in explained]
    return Results(records=tuple(records), builds=commands.builds, problems=(*told, *problems, *absent))


def _csv_files(path: Path, selection: Selection) -> list[CsvFile]:
    """The files that are taken, in the order of PyTorch's defaults, accuracy first."""
    parsed = (
        parse_name(item.name, compilers=selection.compilers, suites=selection.suites)
        for item in sorted(path.glob("*.csv"))
        if item.is_file()
    )
    files = [file for file in parsed if file is not None and selection.takes(file.case("any"))]
    return sorted(files, key=lambda f: (_rank(f.suite, KNOWN_SUITES), _rank(f.compiler, KNOWN_COMPILERS), f.testing))


def _is_taken(name: str, selection: Selection) -> bool:
    file = parse_name(name, compilers=selection.compilers, suites=selection.suites)
    return file is None or selection.takes(file.case("any"))


def _rank(name: str, known: Sequence[str]) -> tuple[int, str]:
    return (known.index(name), "") if name in known else (len(known), name)


def _read_csv(path: Path, file: CsvFile) -> tuple[list[Record], list[Problem]]:
    try:
        if path.stat().st_size > LARGEST_CSV:
            return [], [Problem(file=file.name, what=f"is larger than {LARGEST_CSV // 1024**2} MiB and is not read")]
        content = path.read_bytes()
    except OSError as error:
        return [], [Problem(file=file.name, what=f"cannot be read: {error.strerror}")]
    return parse_csv(file, content.decode("utf-8-sig", errors="replace"))


def _unknown_names(path: Path) -> list[Problem]:
    """Files that are meant to be read by their ending, but whose name does not say what they hold."""
    return [
        Problem(
            file=item.name, what="is not named {compiler}_{suite}_{dtype}_{mode}_{device}_{testing}.csv; it is not read"
        )
        for testing in Testing
        for item in sorted(path.glob(f"*_{testing}.csv"))
        if parse_name(item.name) is None
    ]


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
