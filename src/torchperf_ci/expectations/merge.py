"""A run's rows merged into an expectation table, and what that changes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from torchperf_ci.expectations.table import ACCURACY, GRAPH_BREAKS, NAME, REMARK, Table, TableProblem, shown


class ChangeKind(str, Enum):
    """What happened to a row."""

    CHANGED = "changed"
    NEW = "new"
    GONE = "gone"
    KEPT = "kept"
    """The run has no such model; the row stays as it was."""

    __str__ = str.__str__


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
class Merged:
    """The new table. `written` says whether it differs from the old one."""

    table: Table
    changes: tuple[RowChange, ...]
    written: bool

    def of(self, kind: ChangeKind) -> tuple[RowChange, ...]:
        return tuple(change for change in self.changes if change.kind is kind)


def merge(old: Table | None, found: Table, *, metric_columns: Sequence[str] = (), prune: bool = False) -> Merged:
    """`found` (a run's rows) merged into `old` by name.

    The new table has the old one's columns, then `accuracy` where the run tested it, `graph_breaks` and the
    `metric_columns`. Where the run has a value it replaces the old one; columns that it does not fill stay as they
    are. Rows that the run lacks stay, or go with `prune`. New names go where the old table's order has their place,
    or to the end when it has none.
    Raises `TableProblem` when the run lacks a column that must be filled, or an accuracy.
    """
    _refuse_gaps(found, (GRAPH_BREAKS, *metric_columns))
    before = old.by_name() if old is not None else {}
    now = found.by_name()
    columns = _columns(old, found, metric_columns)
    filled = [column for column in columns if column in found.columns]
    rows = {name: {**before.get(name, {}), **_taken(cells, filled)} for name, cells in now.items()}
    names = _order(list(before), [name for name in now if name not in before])
    kept = [name for name in names if name in rows or not prune]
    remarks = {key: lines for key, lines in (old.remarks if old else {}).items() if key in {"", REMARK, *kept}}
    table = Table.of(columns, [rows.get(name) or before[name] for name in kept], remarks=remarks)
    return Merged(table=table, changes=_changes(before, rows, names, columns, prune=prune), written=table != old)


def _refuse_gaps(found: Table, needed: Sequence[str]) -> None:
    if lacking := [column for column in needed if column not in found.columns]:
        raise TableProblem(f"the run has no column {', '.join(lacking)}, only: {', '.join(found.columns)}")
    if ACCURACY in found.columns and (
        blank := [name for name, cells in found.by_name().items() if not cells[ACCURACY]]
    ):
        raise TableProblem(f"no accuracy for {', '.join(shown(name) for name in blank[:5])}")


def _columns(old: Table | None, found: Table, metric_columns: Sequence[str]) -> list[str]:
    accuracy = [ACCURACY] if ACCURACY in found.columns else []
    return list(dict.fromkeys([*(old.columns if old else ()), NAME, *accuracy, GRAPH_BREAKS, *metric_columns]))


def _taken(cells: Mapping[str, str], filled: Sequence[str]) -> dict[str, str]:
    """What a run's row puts into the table; a metric that it did not measure takes nothing away."""
    return {column: cells[column] for column in filled if cells[column]}


def _order(before: list[str], new: list[str]) -> list[str]:
    for key in (_as_is, str.casefold):
        keys = [key(name) for name in before]
        if keys == sorted(keys):
            return _inserted(before, new, key)
    return [*before, *sorted(new)]


def _as_is(name: str) -> str:
    return name


def _inserted(before: list[str], new: list[str], key: Callable[[str], str]) -> list[str]:
    names = list(before)
    for name in sorted(new, key=key):
        names.insert(bisect_left(names, key(name), key=key), name)
    return names


def _changes(
    before: Mapping[str, Mapping[str, str]],
    rows: Mapping[str, Mapping[str, str]],
    names: Sequence[str],
    columns: Sequence[str],
    *,
    prune: bool,
) -> tuple[RowChange, ...]:
    changes = []
    for name in names:
        cells = _cell_changes(before.get(name, {}), rows.get(name, {}), columns)
        if name not in before:
            changes.append(RowChange(name=name, kind=ChangeKind.NEW, cells=cells))
        elif name in rows:
            changes += [RowChange(name=name, kind=ChangeKind.CHANGED, cells=cells)] if cells else []
        elif prune:
            changes.append(RowChange(name=name, kind=ChangeKind.GONE, cells=cells))
        else:
            changes.append(RowChange(name=name, kind=ChangeKind.KEPT))
    return tuple(changes)


def _cell_changes(
    before: Mapping[str, str], after: Mapping[str, str], columns: Sequence[str]
) -> tuple[CellChange, ...]:
    pairs = ((column, before.get(column, ""), after.get(column, "")) for column in columns if column != NAME)
    return tuple(CellChange(column=column, before=was, after=now) for column, was, now in pairs if was != now)
