"""Many small files of a finished month into one. Nothing is lost: superseded attempts are kept as well."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from torchperf_ci.core.errors import require
from torchperf_ci.core.text import one_line
from torchperf_ci.history.database import HistoryProblem
from torchperf_ci.history.parquet import ParquetHistory, Part, name_compacted, name_month
from torchperf_ci.history.rows import LATER_COLUMNS, ROWS_PER_GROUP, make_schema, open_parquet_writer

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """Say what compacting a month does: the files `replaced` become the one at `path`. Sizes in bytes."""

    month: str
    path: str
    replaced: tuple[str, ...]
    before: int
    after: int


def compact(history: ParquetHistory, *, now: datetime, dry_run: bool = False) -> Iterator[Compaction]:
    """Compact every month before that of `now` that has more than one file.

    The new file is in its place, whole, before the first old one goes. Whoever reads in between, or after a crash, sees
    rows twice and counts them once; the next compaction clears up.
    Raises `HistoryProblem` when a file cannot be read; its month then stays as it is.
    """
    require("pyarrow", purpose="the history of runs")
    for month, parts in history.list_months():
        if month < name_month(now) and len(parts) > 1:
            yield _compact_month(history, month, parts, dry_run=dry_run)


def _compact_month(history: ParquetHistory, month: str, parts: Sequence[Part], *, dry_run: bool) -> Compaction:
    paths = sorted((part.path for part in parts), key=lambda path: path.rpartition("/")[2])
    files = history.files.fetch(paths)
    if len(files) < len(paths):
        raise HistoryProblem(f"somebody else is compacting {month}; repeat the command when they are done")
    before = sum(file.stat().st_size for file in files)
    content, runs = _join_files(files)
    path = f"{month}/{name_compacted(parts, runs)}"
    replaced = tuple(old for old in paths if old != path)
    if not dry_run:
        history.files.write({path: content})
        history.files.delete(replaced)
    return Compaction(month=month, path=path, replaced=replaced, before=before, after=len(content))


def _join_files(files: Sequence[Path]) -> tuple[bytes, int]:
    """Join all rows of the files, but those of a part only once, into one file; and count the runs in it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sink = io.BytesIO()
    seen: set[str] = set()
    runs: set[tuple[str, str]] = set()
    with open_parquet_writer(sink) as writer:
        waiting: list[pa.Table] = []
        for file in files:
            table = _read_table(file)
            parts = set(table.column("part").unique().to_pylist())
            if again := sorted(parts & seen):  # a compaction before this one was broken off
                table = table.filter(pc.invert(pc.is_in(table.column("part"), pa.array(again, pa.string()))))
            seen |= parts
            runs.update(
                (row["name"], row["run_key"]) for row in table.group_by(["name", "run_key"]).aggregate([]).to_pylist()
            )
            waiting.append(table)
            if sum(map(len, waiting)) >= ROWS_PER_GROUP:
                writer.write_table(pa.concat_tables(waiting), row_group_size=ROWS_PER_GROUP)
                waiting.clear()
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=ROWS_PER_GROUP)
    return sink.getvalue(), len(runs)


def _read_table(file: Path) -> pa.Table:
    """Read a file with the columns of today. Raises `HistoryProblem`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, partitioning=None)
        for name, value in LATER_COLUMNS.items():
            if name not in table.column_names:
                kind = make_schema().field(name).type
                blank = pa.scalar(int(value) if pa.types.is_integer(kind) else "", kind)
                table = table.append_column(name, pa.repeat(blank, len(table)))
        return table.select(make_schema().names).cast(make_schema())
    except (pa.ArrowException, OSError) as error:
        why = one_line(str(error), limit=200)
        raise HistoryProblem(
            f"{file.name} cannot be read, so its month is not compacted; move it out of the history: {why}"
        ) from error
