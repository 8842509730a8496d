"""A DuckDB database with the files of a history in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from torchperf_ci.core.errors import TorchperfError, require
from torchperf_ci.core.results import Problem
from torchperf_ci.core.text import one_line
from torchperf_ci.history import sql
from torchperf_ci.history.columns import ADDED, COLUMNS

if TYPE_CHECKING:
    import duckdb

Answer = TypeVar("Answer")

_TRIES = 4


class HistoryProblem(TorchperfError):
    """The history cannot be read, or keeps changing while it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """`parts` and `history` over `files`; `problems` are the files that cannot be read."""

    connection: duckdb.DuckDBPyConnection = field(repr=False)
    files: tuple[Path, ...]
    problems: tuple[Problem, ...]


@contextmanager
def database(files: Sequence[Path]) -> Iterator[Database]:
    """The files as a database while the block runs."""
    for module in ("duckdb", "pyarrow"):
        require(module, extra="history", purpose="the history of runs")
    import duckdb

    with sql.connect() as connection:
        readable, problems = list(files), []
        try:
            _show(connection, readable)
        except duckdb.Error:
            problems = [problem for path in files if (problem := _problem(path)) is not None]
            broken = {problem.file for problem in problems}
            readable = [path for path in files if path.name not in broken]
            _show(connection, readable)
        yield Database(connection=connection, files=tuple(readable), problems=tuple(problems))


def retried(ask: Callable[[], Answer]) -> Answer:
    """The answer of `ask`, which lists files and reads them: asked again when a file went away in between, because
    somebody compacted its month. Raises `HistoryProblem`."""
    import duckdb

    for _ in range(_TRIES - 1):
        try:
            return ask()
        except (duckdb.IOException, FileNotFoundError):
            continue
        except duckdb.Error as error:
            raise HistoryProblem(f"the history cannot be read: {one_line(str(error), limit=300)}") from error
    try:
        return ask()
    except (duckdb.Error, FileNotFoundError) as error:
        raise HistoryProblem(f"the history cannot be read: {one_line(str(error), limit=300)}") from error


def _show(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    if files:
        sql.show(connection, files)


def _problem(path: Path) -> Problem | None:
    """Why a file cannot be part of a history; None when it can, or is gone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = set(pq.read_schema(path).names)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        return Problem(file=path.name, what=f"cannot be read and was left out: {one_line(str(error), limit=200)}")
    absent = sorted(set(COLUMNS) - names - set(ADDED))
    return Problem(file=path.name, what=f"lacks the columns {', '.join(absent)}; left out") if absent else None
