"""Read and write for commands that convert results: files or the standard streams, and results folders."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.safe_files import write_whole
from torchperf_ci.core.text import break_commands

if TYPE_CHECKING:
    from torchperf_ci.core.results import Results

STREAM = Path("-")


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
        sys.stdout.buffer.write(break_commands(text).encode("utf-8", errors="surrogateescape"))
        sys.stdout.buffer.flush()
        return
    try:
        if not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        write_whole(path, content)
    except OSError as error:
        raise UsageProblem(
            f"{path} cannot be written ({error.strerror}); give a file in a folder that is there and can be written"
        ) from error
    click.echo(f"Wrote {path}{f': {holds}' if holds else ''}", err=True)


def results_in(directory: Path) -> Results:
    """Read the results in any folder; what cannot be used is said on stderr. Raises `NothingToJudge` without any."""
    from torchperf_ci.core.frames import CaseSelection
    from torchperf_ci.core.result_files import read_folder
    from torchperf_ci.core.text import one_line

    results = read_folder(directory, CaseSelection())
    for problem in results.problems:
        click.echo(f"Warning: {directory / one_line(str(problem), limit=300)}", err=True)
    if not results.records:
        raise NothingToJudge(
            f"there are no results in {directory}; give a folder that `torchperf-ci run` or `torchperf-ci ingest` wrote"
        )
    return results
