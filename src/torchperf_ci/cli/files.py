"""Read and write for commands that convert results: files of other tools, the standard streams, and results folders."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.options import KeyValues, command_options, option
from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.results import Results
from torchperf_ci.core.safe_files import write_whole
from torchperf_ci.core.text import break_commands, count, nearest, one_line, terminal

if TYPE_CHECKING:
    from torchperf_ci.formats.model import ImportRequest


STREAM = Path("-")

MOST_PROBLEMS = 20
"""So many of the things that could not be used are told one by one."""


def read_input(path: Path) -> tuple[bytes, str]:
    """Read a file, or standard input for `-`; return the content, and a name for messages."""
    if path == STREAM:
        return sys.stdin.buffer.read(), "standard input"
    try:
        return path.read_bytes(), str(path)
    except OSError as error:
        raise UsageProblem(f"{path} cannot be read ({error.strerror}); give a file, or - for standard input") from error


def write_output(path: Path | None, content: bytes, *, holds: str = "") -> None:
    """Write a whole file at once, and say so, and what it `holds`; to standard output for None and `-`.

    There it is text, and byte by byte the same unless it holds a workflow command: it may be a job's log.
    """
    if path is None or path == STREAM:
        sys.stdout.flush()
        text = content.decode("utf-8", errors="surrogateescape")
        text = terminal(text) if sys.stdout.isatty() else text
        sys.stdout.buffer.write(break_commands(text).encode("utf-8", errors="surrogateescape"))
        sys.stdout.buffer.flush()
        return
    if path.is_dir():  # as "", the value of a variable that is not set, is too
        raise UsageProblem(f"the folder {path} cannot be written as a file; give the name of a file in it")
    try:
        if not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        write_whole(path, content)
    except OSError as error:
        raise UsageProblem(
            f"{path} cannot be written ({error.strerror}); give a file in a folder that is there and can be written"
        ) from error
    click.echo(one_line(f"Wrote {path}{f': {holds}' if holds else ''}"), err=True)


@dataclass(slots=True)
class ProblemTeller:
    """Tells problems on stderr as they come, the first ones in full; the end of its block counts the rest."""

    word: str = "Warning"
    folder: Path | None = None
    _told: int = 0

    def __enter__(self) -> ProblemTeller:
        return self

    def __exit__(self, *_: object) -> None:
        if (more := self._told - MOST_PROBLEMS) > 0:
            click.echo(f"{self.word}: {count(more, 'more problem')} of this kind", err=True)

    def tell(self, problems: Iterable[object]) -> None:
        for problem in problems:
            self._told += 1
            if self._told <= MOST_PROBLEMS:
                place = self.folder / str(problem) if self.folder else problem
                click.echo(one_line(f"{self.word}: {place}", limit=1000), err=True)


def tell_problems(problems: Iterable[object], *, word: str = "Warning", folder: Path | None = None) -> None:
    """Tell problems on stderr, those beyond the first ones as a number. folder: where they are, for their beginning."""
    with ProblemTeller(word=word, folder=folder) as teller:
        teller.tell(problems)


def results_in(directory: Path) -> Results:
    """Read the results in any folder; what cannot be used is said on stderr. Raises `NothingToJudge` without any."""
    from torchperf_ci.core.result_files import read_folder  # reads CSV files, of which a run needs nothing

    results = read_folder(directory, CaseSelection())
    tell_problems(results.problems, folder=directory)
    if not results.records:
        raise NothingToJudge(
            f"there are no results in {directory}; give a folder that `torchperf-ci run` or `torchperf-ci ingest` wrote"
        )
    return results


@command_options("Other tools' files")
class ImportOptions:
    time: str = option(
        metavar="TIME", help="When it was measured, ISO 8601, for formats that do not say it; without an offset in UTC."
    )
    better: str | None = option(
        type=click.Choice(["bigger", "smaller"]),
        help="Which values are better, for lists of github-action-benchmark's custom tools.",
    )
    column: tuple[tuple[str, str], ...] = option(
        type=KeyValues(),
        metavar="FIELD=COLUMN",
        help="The column of a CSV or Parquet table that holds a field: model, value, metric, unit, direction, "
        "time, commit, branch, suite, device, … value= may be given several times.  [default: columns of "
        "these names]",
    )

    def moment(self) -> datetime | None:
        """Return the time of --time in UTC, if it is given. Raises `UsageProblem` for a time that there is not."""
        from torchperf_ci.history.runs import parse_time

        moment = parse_time(self.time) if self.time else None
        if self.time and moment is None:
            raise UsageProblem(
                f"--time {self.time!r}: expected ISO 8601 from 1970 on, for example 2026-11-28T13:00:00+00:00"
            )
        return moment

    def add_to(self, request: ImportRequest) -> ImportRequest:
        """Add how to read the files to a request. Raises `UsageProblem` for a time or a field that there is not."""
        from torchperf_ci.formats.tables import COLUMNS

        moment = self.moment()
        columns: dict[str, list[str]] = {}
        for name, column in self.column:
            if name not in COLUMNS:
                hint = f"{nearest(name, COLUMNS)} There are: {', '.join(COLUMNS)}."
                raise UsageProblem(f"--column {name}={column}: {name!r} is no field.{hint}")
            if name != "value" and name in columns:
                raise UsageProblem(f"--column {name}={column}: {name} has the column {columns[name][0]} already")
            columns.setdefault(name, []).append(column)
        tools = {"bigger": "customBiggerIsBetter", "smaller": "customSmallerIsBetter", None: ""}
        return replace(
            request,
            time=moment.isoformat() if moment else "",
            tool=tools[self.better],
            columns=columns,
        )
