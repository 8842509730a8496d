"""Questions in SQL to a whole history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.results import Problem
from torchperf_ci.history.database import database, retried
from torchperf_ci.history.parquet import ParquetHistory


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The columns and rows of an answer, and what of the history could not be read."""

    columns: tuple[str, ...]
    rows: tuple[Sequence[Any], ...]
    problems: tuple[Problem, ...]


def ask(history: ParquetHistory, query: str) -> Answer:
    """The answer to a query over the views `history`, what counts, and `parts`, everything.

    Raises `UsageProblem` with DuckDB's words for a query that it does not understand, and `NothingToJudge` for an
    empty history.
    """
    return retried(lambda: _ask(history, query))


def _ask(history: ParquetHistory, query: str) -> Answer:
    paths = [part.path for _, parts in history.months() for part in parts]
    with database(history.files.local(paths)) as opened:
        import duckdb

        if not opened.files:
            raise NothingToJudge(f"the history {history.files.where} holds no runs")
        try:
            answer: duckdb.DuckDBPyRelation | None = opened.connection.sql(query)  # None: it is no question
            table = answer.to_arrow_table() if answer is not None else None
        except duckdb.IOException:
            raise
        except duckdb.Error as error:
            raise UsageProblem(f"the query cannot be answered: {str(error).strip()}") from error
    if table is None:
        return Answer(columns=(), rows=(), problems=opened.problems)
    columns = [column.to_pylist() for column in table.columns]
    return Answer(columns=tuple(table.column_names), rows=tuple(zip(*columns, strict=True)), problems=opened.problems)
