"""A history of Parquet files, asked through DuckDB.

Every run, shard and attempt is a file of its own, written once under a name nothing else has. So any number of writers
can add at the same time without knowing of each other, adding takes the same time however long the history is, and a
file that is there is never touched again, until a finished month is compacted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torchperf_ci.core.errors import require
from torchperf_ci.history import sql
from torchperf_ci.history.database import database, retried
from torchperf_ci.history.files import Files
from torchperf_ci.history.light import runs_of
from torchperf_ci.history.parts import Part, is_month, part_of, parts_of, whole_runs
from torchperf_ci.history.store import Added, Past, Run, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetHistory:
    """Runs in Parquet files."""

    files: Files

    def add(self, run: Run, folder: Path, *, dry_run: bool = False) -> Added:  # noqa: ARG002 - of the interface
        made = self.encode(run)
        if not dry_run:
            self.files.write(made)
        return Added(where=self.files.where, sizes={path: len(content) for path, content in made.items()})

    def encode(self, run: Run) -> Mapping[str, bytes]:
        """The files that keep `run`, without those that are there already."""
        require("pyarrow", extra="history", purpose="the history of runs")
        made = parts_of(run)
        return {path: made[path] for path in self.files.absent(list(made))}

    def last(self, count: int, wanted: Wanted) -> Past:
        asked = 2 * count
        while (past := self._last(count, wanted, asked)) is None:
            asked *= 4
        return past

    def months(self) -> Iterator[tuple[str, list[Part]]]:
        """The months and their files, newest month first; every month is listed when it is asked for."""
        for month in sorted(filter(is_month, self.files.folders()), reverse=True):
            found = [part_of(month, name) for name in self.files.names(month)]
            yield month, [part for part in found if part is not None]

    def _last(self, count: int, wanted: Wanted, asked: int) -> Past | None:
        """The newest `count` runs that are wanted, if they are among the newest `asked` of all, or these are all."""

        def ask() -> Past | None:
            paths, everything = whole_runs(self.months(), asked)
            with database(self.files.local(paths)) as opened:
                if not opened.files:
                    return Past(problems=opened.problems)
                keys = sql.newest_runs(opened.connection, count, wanted)
                if len(keys) < count and not everything:
                    return None
                sql.choose(opened.connection, keys, wanted)
                runs, problems = runs_of(opened.connection, wanted.name)
                return Past(runs=runs, problems=(*opened.problems, *problems))

        return retried(ask)
