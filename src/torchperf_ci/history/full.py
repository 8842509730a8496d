"""A whole run out of a Parquet history, samples and all, as it was added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.results import Results
from torchperf_ci.history.columns import Kind
from torchperf_ci.history.database import database, retried
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.parts import Part, named_after
from torchperf_ci.history.rows import Row, build_of, record_of
from torchperf_ci.history.store import Run


def read_run(history: ParquetHistory, *, name: str, key: str) -> Run:
    """The run with this key, of every record the newest attempt. Raises `UsageProblem` when there is none."""

    def ask() -> list[Row]:
        paths = [part.path for _, parts in history.months() for part in parts if _may_hold(part, key)]
        with database(history.files.local(paths)) as opened:
            if not opened.files:
                return []
            found: list[Row] = (
                opened.connection.sql(
                    "SELECT * FROM history WHERE name = ? AND run_key = ? ORDER BY run_time, part, record",
                    params=[name, key],
                )
                .to_arrow_table()
                .to_pylist()
            )
            return found

    rows = retried(ask)
    if not rows:
        raise UsageProblem(
            f"the history {history.files.where} has no run {key} in the series {name}; see `torchperf-ci history list`"
        )
    return Run(name=name, key=key, time=rows[-1]["run_time"], results=_results(rows))


def _may_hold(part: Part, key: str) -> bool:
    return part.is_compacted or part.run == named_after(key)


def _results(rows: Iterable[Row]) -> Results:
    records, builds = [], []
    for group in _records(rows):
        if group[0]["kind"] == Kind.BUILD.value:
            builds.append(build_of(group[0]))
        else:
            records.append(record_of(group))
    return Results(records=tuple(records), builds=tuple(builds))


def _records(rows: Iterable[Row]) -> Iterator[list[Row]]:
    for _, group in groupby(rows, key=lambda row: (row["part"], row["record"])):
        yield list(group)
