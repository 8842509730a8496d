"""Merging a run into an expectation table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.expectations.table import ExpectationTable, TableProblem
from torchperf_ci.expectations.update import CellChange, ChangeKind, RowChange, merge

COLUMNS = ("name", "accuracy", "graph_breaks")


def table(*rows: str, columns=COLUMNS) -> ExpectationTable:
    return ExpectationTable(columns=columns, rows=tuple(tuple(row.split(",")) for row in rows))


def test_rows_are_merged_by_name_and_every_change_is_told():
    """Changed, new and kept rows: what was, and what is."""
    merged = merge(table("a,fail_accuracy,3", "c,pass,0"), table("b,pass,1", "a,pass,5"))
    assert merged.table == table("a,pass,5", "b,pass,1", "c,pass,0")
    assert merged.written
    assert merged.changes == (
        RowChange(
            name="a",
            kind=ChangeKind.CHANGED,
            cells=(
                CellChange(column="accuracy", before="fail_accuracy", after="pass"),
                CellChange(column="graph_breaks", before="3", after="5"),
            ),
        ),
        RowChange(
            name="b",
            kind=ChangeKind.NEW,
            cells=(
                CellChange(column="accuracy", before="", after="pass"),
                CellChange(column="graph_breaks", before="", after="1"),
            ),
        ),
        RowChange(name="c", kind=ChangeKind.KEPT),
    )


def test_pruning_drops_what_the_run_no_longer_has():
    """A model that the run lacks goes, and that is told."""
    merged = merge(table("a,pass,0", "b,OOM,2"), table("a,pass,0"), prune=True)
    assert merged.table == table("a,pass,0")
    (gone,) = merged.of(ChangeKind.GONE)
    assert (gone.name, [cell.before for cell in gone.cells]) == ("b", ["OOM", "2"])


@pytest.mark.parametrize(
    ("before", "new", "after"),
    [
        (["B", "a", "c"], ["b", "A"], ["A", "B", "a", "b", "c"]),
        (["a", "B", "c"], ["D", "Aa"], ["a", "Aa", "B", "c", "D"]),
        (["c", "a", "b"], ["e", "d"], ["c", "a", "b", "d", "e"]),
        ([], ["b", "a"], ["a", "b"]),
    ],
)
def test_new_names_go_where_the_tables_order_has_their_place(before, new, after):
    """Sorted by character, sorted whatever the case, not sorted, empty: the order there is stays."""
    old = table(*[f"{name},pass,0" for name in before])
    merged = merge(old, table(*[f"{name},pass,0" for name in new]))
    assert list(merged.table.names) == after


def test_columns_of_the_old_table_stay_and_wished_ones_are_added():
    """The run fills the metric columns there are; a note that people wrote stays; a new column is blank elsewhere."""
    old = table("a,pass,0,1,see 12", "b,pass,0,1,", columns=(*COLUMNS, "unique_graphs", "note"))
    found = table("a,pass,0,7,3", columns=(*COLUMNS, "calls_captured", "unique_graphs"))
    merged = merge(old, found, metric_columns=["calls_captured"])
    assert merged.table == table(
        "a,pass,0,3,see 12,7", "b,pass,0,1,,", columns=(*COLUMNS, "unique_graphs", "note", "calls_captured")
    )


def test_a_metric_that_was_not_measured_takes_nothing_away():
    """A blank speedup leaves the expected one."""
    columns = (*COLUMNS, "speedup")
    merged = merge(table("a,pass,0,1.5", columns=columns), table("a,pass,1,", columns=columns))
    assert merged.table == table("a,pass,1,1.5", columns=columns)


def test_a_run_that_tested_no_accuracy_leaves_it_alone():
    """Counters can be updated from a run without accuracy."""
    merged = merge(table("a,pass,0"), table("a,4", columns=("name", "graph_breaks")))
    assert merged.table == table("a,pass,4")


def test_a_run_without_a_needed_column_is_refused():
    """graph_breaks always, and every wished column, must be there; so must every accuracy."""
    with pytest.raises(TableProblem, match="the run has no column graph_breaks, only: name, accuracy"):
        merge(None, table("a,pass", columns=("name", "accuracy")))
    with pytest.raises(TableProblem, match="the run has no column calls_captured"):
        merge(None, table("a,pass,0"), metric_columns=["calls_captured"])
    with pytest.raises(TableProblem, match="no accuracy for 'a'"):
        merge(None, table("a,,0"))


ROWS = st.dictionaries(
    st.text("abcAB1_", min_size=1, max_size=3), st.tuples(st.sampled_from(["pass", "OOM"]), st.integers(0, 3))
)


def made(rows) -> ExpectationTable:
    return table(*[f"{name},{status},{count}" for name, (status, count) in rows.items()])


@given(ROWS, ROWS, st.booleans())
def test_merging_twice_changes_nothing(old, found, prune):
    """The second time there is nothing to write, whatever the tables, and no row of the run is lost."""
    first = merge(made(old), made(found), prune=prune)
    second = merge(first.table, made(found), prune=prune)
    assert not second.written
    assert second.table == first.table
    assert not second.of(ChangeKind.CHANGED)
    assert set(first.table.names) == set(found) | (set() if prune else set(old))
