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
from torchperf_ci.history.columns import ADDED
from torchperf_ci.history.database import HistoryProblem
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.parts import Part, compacted_name, month_of
from torchperf_ci.history.rows import ROWS_PER_GROUP, parquet_writer, schema

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """What compacting a month does: the files `replaced` become the one at `path`. Sizes in bytes."""

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
    require("pyarrow", extra="history", purpose="the history of runs")
    for month, parts in history.months():
        if month < month_of(now) and len(parts) > 1:
            yield _compact(history, month, parts, dry_run=dry_run)


def _compact(history: ParquetHistory, month: str, parts: Sequence[Part], *, dry_run: bool) -> Compaction:
    paths = sorted((part.path for part in parts), key=lambda path: path.rpartition("/")[2])
    found = history.files.local(paths)
    if len(found) < len(paths):
        raise HistoryProblem(f"somebody else is compacting {month}; repeat the command when they are done")
    before = sum(file.stat().st_size for file in found)
    content, runs = _joined(found)
    path = f"{month}/{compacted_name(parts, runs)}"
    replaced = tuple(old for old in paths if old != path)
    if not dry_run:
        history.files.write({path: content})
        history.files.delete(replaced)
    return Compaction(month=month, path=path, replaced=replaced, before=before, after=len(content))


def _joined(files: Sequence[Path]) -> tuple[bytes, int]:
    """All rows of the files, but those of a part only once, as one file; and the number of runs in it."""
    import pyarrow as pa

    sink = io.BytesIO()
    seen: set[str] = set()
    runs: set[tuple[str, str]] = set()
    with parquet_writer(sink) as writer:
        waiting: list[pa.Table] = []
        for table in (_unseen(_read(file), seen) for file in files):
            runs.update((row["name"], row["run_key"]) for row in _runs(table))
            waiting.append(table)
            if sum(map(len, waiting)) >= ROWS_PER_GROUP:
                writer.write_table(pa.concat_tables(waiting), row_group_size=ROWS_PER_GROUP)
                waiting.clear()
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=ROWS_PER_GROUP)
    return sink.getvalue(), len(runs)


def _read(file: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, partitioning=None)
        for name in ADDED:
            if name not in table.column_names:  # a file of an earlier version
                kind = schema().field(name).type
                blank = pa.scalar(0 if pa.types.is_integer(kind) else "", kind)
                table = table.append_column(name, pa.repeat(blank, len(table)))
        return table.select(schema().names).cast(schema())
    except (pa.ArrowException, OSError) as error:
        why = one_line(str(error), limit=200)
        raise HistoryProblem(f"{file.name} cannot be read, so its month is left as it is: {why}") from error


def _unseen(table: pa.Table, seen: set[str]) -> pa.Table:
    """The rows of parts that were not seen before; all of the table's have been from now on."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = set(table.column("part").unique().to_pylist())
    known = parts & seen
    seen |= parts
    if not known:
        return table
    return table.filter(pc.invert(pc.is_in(table.column("part"), pa.array(sorted(known), pa.string()))))


def _runs(table: pa.Table) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = table.group_by(["name", "run_key"]).aggregate([]).to_pylist()
    return rows
