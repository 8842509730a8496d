"""Reads what a folder on disk holds: our records, or the CSV files of any suite runner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.frames import Selection
from torchperf_ci.core.result_files import LARGEST_CSV, is_result_csv, read_files
from torchperf_ci.core.results import COMMANDS, RECORDS, Results, read_results


def read_folder(path: Path, selection: Selection) -> Results:
    """The results in `path`: of records.jsonl if there is one, else of all CSV files with a suite runner's name.

    Files that `selection` does not take are not read. What cannot be used is among the problems, and so is what
    commands.jsonl, where there is one, says about the commands that wrote the files.
    """
    if (path / RECORDS).is_file():
        return read_results(path)
    names = [item.name for item in (*path.glob("*.csv"), *path.glob(COMMANDS)) if item.is_file()]
    return read_files(names, lambda name: read_file(path / name), selection)


def read_file(path: Path) -> bytes | str:
    """A file's content, or why it has none."""
    try:
        if path.suffix == ".csv" and path.stat().st_size > LARGEST_CSV:
            return f"is larger than {LARGEST_CSV // 1024**2} MiB and is not read"
        return path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def holds_results(path: Path) -> bool:
    """Is there anything in a folder that `read_folder` reads?"""
    return any((path / name).is_file() for name in (RECORDS, COMMANDS)) or any(
        is_result_csv(item.name) and item.is_file() for item in path.glob("*.csv")
    )


def result_folders(given: Sequence[Path]) -> list[Path]:
    """The folders with results among those given and right below them, each once.

    Raises `UsageProblem` for what is no folder, and `NothingToJudge` when there are none.
    """
    folders: dict[Path, Path] = {}
    for folder in given:
        if not folder.is_dir():
            raise UsageProblem(f"there is no folder {folder}")
        below = sorted(path for path in folder.iterdir() if path.is_dir())
        folders |= {each.resolve(): each for each in (folder, *below) if holds_results(each)}
    if not folders:
        raise NothingToJudge(
            f"there is neither {RECORDS} nor a CSV file of results in {', '.join(map(str, given))}, nor in folders "
            "right below"
        )
    return list(folders.values())
