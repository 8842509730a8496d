"""A commit's tables merged into the expectation tables of a folder, and what that changes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import Word
from torchperf_ci.expectations.collect import ConfigRun
from torchperf_ci.expectations.table import (
    ACCURACY,
    GRAPH_BREAKS,
    NAME,
    REMARK,
    ExpectationTable,
    TableProblem,
    list_doubles,
    quote,
    read_table,
    write_expectation,
    write_table,
)
from torchperf_ci.shards.uploads import Configuration


class ChangeKind(Word):
    """The changes of a row."""

    CHANGED = "changed"
    NEW = "new"
    GONE = "gone"
    KEPT = "kept"
    """The run has no such model; the row stays as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellChange:
    """One cell of a row; `before` is blank in a new row, `after` in one that is gone."""

    column: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChange:
    """One row, and the cells that the change is about (none for a row that was kept)."""

    name: str
    kind: ChangeKind
    cells: tuple[CellChange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMerge:
    """The new table. `written` says whether it differs from the old one."""

    table: ExpectationTable
    changes: tuple[RowChange, ...]
    written: bool

    def of(self, kind: ChangeKind) -> tuple[RowChange, ...]:
        return tuple(change for change in self.changes if change.kind is kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableUpdate:
    """The change of one table by a run. path: below the expected folder. is_new: there was no such table."""

    path: str
    merged: TableMerge
    is_new: bool

    @property
    def text(self) -> str:
        """Return the file's new content."""
        return write_table(self.merged.table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """The change of a folder of tables by a run.

    gaps: by configuration (blank: beyond a single one) why it is incomplete. untouched: the configurations whose tables
    were left alone for it. unusable: by path why a table cannot be read; it stays as it is. notes: by configuration
    what else to know.
    """

    tables: tuple[TableUpdate, ...]
    gaps: tuple[tuple[str, str], ...] = ()
    untouched: tuple[str, ...] = ()
    unusable: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def written(self) -> tuple[TableUpdate, ...]:
        """Return the tables that differ from what was there."""
        return tuple(table for table in self.tables if table.merged.written)


def plan_update(
    folder: Path,
    runs: Sequence[ConfigRun],
    *,
    gaps: Iterable[str] = (),
    metric_columns: Sequence[str] = (),
    prune: bool = False,
    allow_missing: bool = False,
) -> Update:
    """Plan what the runs change in `folder`. Nothing is written.

    A configuration with gaps changes nothing, unless `allow_missing`; then nothing of it is pruned. `gaps` are those
    beyond single configurations. A table that cannot be read is left as it is, whatever `allow_missing` says. Raises
    `UsageProblem` when two configurations fill the same table, since rows are told apart by model only.
    """
    owner: dict[str, Configuration] = {}
    for run in runs:
        for path in run.tables:
            if path in owner:
                raise UsageProblem(
                    f"the table {path} comes from both {owner[path]} and {run.config}; choose one with --config, "
                    "and give the other an --expected-dir of its own"
                )
            owner[path] = run.config
    tables: list[TableUpdate] = []
    all_gaps = [("", gap) for gap in gaps]
    notes: list[tuple[str, str]] = []
    untouched: list[str] = []
    unusable: dict[str, str] = {}
    for run in runs:
        config = str(run.config)
        changes, problems, remarks = _plan_tables(folder, run, metric_columns, unusable, prune=prune and not run.gaps)
        all_gaps += [(config, gap) for gap in (*run.gaps, *problems)]
        notes += [(config, note) for note in (*run.notes, *remarks)]
        if (run.gaps or problems) and not allow_missing:
            untouched.append(config)
        else:
            tables += changes
    return Update(
        tables=tuple(tables),
        gaps=tuple(all_gaps),
        untouched=tuple(untouched),
        unusable=tuple(unusable.items()),
        notes=tuple(notes),
    )


def _plan_tables(
    folder: Path, run: ConfigRun, metric_columns: Sequence[str], unusable: dict[str, str], *, prune: bool
) -> tuple[list[TableUpdate], list[str], list[str]]:
    """Plan the changes to a run's tables; return what keeps some from being changed, and what else to know, too.

    unusable: takes, by path, why a table cannot be read.
    """
    changes, problems, notes = [], [], []
    for path, rows in sorted(run.tables.items()):
        at_lines: dict[str, list[int]] = {}
        try:
            old = read_table(folder / path, at_lines)
        except TableProblem as error:
            unusable[str(folder / path)] = str(error)
            continue
        try:
            merged = merge(old, rows, metric_columns=metric_columns, prune=prune)
        except TableProblem as error:
            problems.append(f"{path}: {error}")
            continue
        doubles = list_doubles(at_lines)
        merged = replace(merged, written=merged.written or bool(doubles))
        changes.append(TableUpdate(path=path, merged=merged, is_new=old is None))
        notes += [f"{path}: {quote(name)} stood there twice ({at})" for name, at in doubles.items()]
    return changes, problems, notes


def apply_update(folder: Path, update: Update) -> None:
    """Write the tables that change, each at once. Raises `UsageProblem` when one cannot be written."""
    for table in update.written:
        write_expectation(folder / table.path, table.merged.table)


def merge(
    old: ExpectationTable | None, run: ExpectationTable, *, metric_columns: Sequence[str] = (), prune: bool = False
) -> TableMerge:
    """Merge a run's rows into a table by name.

    The new table has the old one's columns, then `accuracy` where the run tested it, `graph_breaks` and the
    `metric_columns`. Where the run has a value it replaces the old one; columns that it does not fill stay as they
    are, and a metric that it did not measure takes nothing away. Rows that the run lacks stay, or go with `prune`.
    Raises `TableProblem` when the run lacks a column that must be filled, or an accuracy.
    """
    if lacking := [column for column in (GRAPH_BREAKS, *metric_columns) if column not in run.columns]:
        raise TableProblem(f"the run has no column {', '.join(lacking)}, only: {', '.join(run.columns)}")
    before, now = old.by_name() if old is not None else {}, run.by_name()
    if blank := [name for name, cells in now.items() if not cells.get(ACCURACY, "untested")]:
        raise TableProblem(f"no accuracy for {', '.join(quote(name) for name in blank[:5])}")
    accuracy = [ACCURACY] if ACCURACY in run.columns else []
    wanted = [*(old.columns if old else ()), NAME, *accuracy, GRAPH_BREAKS, *metric_columns]
    columns = list(dict.fromkeys(wanted))
    rows = {
        name: {**before.get(name, {}), **{column: cell for column, cell in cells.items() if cell and column in columns}}
        for name, cells in now.items()
    }
    names = _order_names(list(before), [name for name in now if name not in before])
    kept = [name for name in names if name in rows or not prune]
    remarks = {key: lines for key, lines in (old.remarks if old else {}).items() if key in {"", REMARK, *kept}}
    table = ExpectationTable.of(columns, [rows.get(name) or before[name] for name in kept], remarks=remarks)
    changes = []
    for name in names:
        cells = _compare_cells(before.get(name, {}), rows.get(name, {}), columns)
        if name not in before:
            changes.append(RowChange(name=name, kind=ChangeKind.NEW, cells=cells))
        elif name in rows and cells:
            changes.append(RowChange(name=name, kind=ChangeKind.CHANGED, cells=cells))
        elif name not in rows:
            kind = ChangeKind.GONE if prune else ChangeKind.KEPT
            changes.append(RowChange(name=name, kind=kind, cells=cells if prune else ()))
    return TableMerge(table=table, changes=tuple(changes), written=table != old)


def _order_names(before: list[str], new: list[str]) -> list[str]:
    """Put new names where the old order has their place: by character, or whatever the case; else to the end."""
    for key in (str, str.casefold):
        names = list(before)
        if sorted(names, key=key) == names:
            for name in sorted(new, key=key):
                names.insert(bisect_left(names, key(name), key=key), name)
            return names
    return [*before, *sorted(new)]


def _compare_cells(
    before: Mapping[str, str], after: Mapping[str, str], columns: Sequence[str]
) -> tuple[CellChange, ...]:
    pairs = ((column, before.get(column, ""), after.get(column, "")) for column in columns if column != NAME)
    return tuple(CellChange(column=column, before=was, after=now) for column, was, now in pairs if was != now)
