"""Expectation tables: their layout, and what is refused."""

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.expectations.table import MAX_CELL, MAX_ROWS, ExpectationTable, TableProblem, parse_table, write_table

GOLDEN = Path(__file__).parent.parent / "golden" / "expected"

NAMES = st.text(alphabet=string.ascii_letters + string.digits + "_-./ ,\"'é中", min_size=1, max_size=12).filter(
    lambda text: text == text.strip() and (text[0].isalnum() or text[0] == "_")
)
CELLS = st.text(alphabet="ab1 ,;|\"'=+-@\n\r\t\x00\x1c\u202e\u2028\ufeffé中😀", max_size=8)


def harmless(cell: str) -> bool:
    """May a table hold this cell?"""
    try:
        ExpectationTable(columns=("name", "x"), rows=(("a", cell),))
    except TableProblem:
        return False
    return True


@st.composite
def tables(draw):
    """Tables of any text that a table may hold."""
    others = draw(st.lists(NAMES.filter(lambda text: text != "name"), unique=True, max_size=4))
    columns = tuple(draw(st.permutations(["name", *others])))
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    rows = [tuple(name if column == "name" else draw(CELLS) for column in columns) for name in names]
    kept = tuple(tuple(cell if harmless(cell) else "" for cell in row) for row in rows)
    return ExpectationTable(columns=columns, rows=kept)


@given(tables())
def test_what_is_written_reads_back_as_the_same_table(table: ExpectationTable):
    """Parsing what was written gives the table that was written, for every table that can exist."""
    assert table is not None
    assert parse_table(write_table(table), source="x") == table
    assert parse_table(write_table(table).encode(), source="x") == table


@given(tables())
def test_writing_what_was_read_changes_nothing(table: ExpectationTable):
    """Writing what was parsed gives the same text again."""
    text = write_table(table)
    assert write_table(parse_table(text, source="x")) == text


@pytest.mark.parametrize("name", ["older", "newer"])
def test_tables_of_pytorch_are_read_and_written_byte_for_byte(name: str):
    """A table in the conflict-free layout, with the older and the newer columns, is written as it was read."""
    content = (GOLDEN / f"{name}.csv").read_bytes()
    assert write_table(parse_table(content, source="x")).encode() == content


def test_three_blank_lines_stand_between_rows_and_one_line_end_at_the_end():
    """The layout is the one that keeps concurrent edits apart."""
    table = ExpectationTable(columns=("name", "accuracy"), rows=(("a", "pass"), ("b", "OOM")))
    assert write_table(table) == "name,accuracy\n\n\n\na,pass\n\n\n\nb,OOM\n"


def test_other_layouts_are_read_alike():
    """Blank lines, carriage returns, a byte order mark and spaces around cells make no difference."""
    table = ExpectationTable(columns=("name", "accuracy"), rows=(("a", "pass"),))
    assert parse_table(b"\xef\xbb\xbfname,accuracy\r\n\r\n a , pass\r\n", source="x") == table
    assert parse_table("name,accuracy\na,pass", source="x") == table


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "x.csv: empty, expected a header with the column 'name'"),
        ("model,accuracy\na,pass\n", "x.csv: no column 'name', only: 'model, accuracy'"),
        ("name,accuracy,accuracy\n", "x.csv: column 'accuracy' is there twice"),
        ("name,accuracy,\n", "x.csv: column '' has no name"),
        ("name,accuracy\na,pass\na,OOM\n", "x.csv: the name 'a' is there twice"),
        ("name,accuracy\n\n\na\n", "x.csv: line 4 has 1 cell, the header has 2; is the file truncated?"),
        ("name,accuracy\na,pass,1\n", "x.csv: line 2 has 3 cells, the header has 2; is the file truncated?"),
        ('name,accuracy\n"a,pass\n', "x.csv: line 2: not CSV (unexpected end of data)"),
        ("name,accuracy\n,pass\n", "x.csv: row 1: the name '' does not start with a letter, a digit or _"),
        ("name,accuracy\n=1+1,pass\n", "x.csv: row 1: the name '=1+1' does not start with a letter, a digit or _"),
        ("name,accuracy\n::error::x,pass\n", "the name '::error::x' does not start with a letter"),
        ("name,accuracy\na,=cmd()\n", "x.csv: row 'a': 'accuracy' looks like a formula: '=cmd()'"),
        ("name,accuracy\na\x1b[2J,pass\n", "the name 'a\\x1b[2J' holds control characters"),
        ("name,accuracy\na\u202eb,pass\n", "the name 'a\\u202eb' holds control characters"),
        (f"name,accuracy\na,{'x' * (MAX_CELL + 1)}\n", f"is longer than {MAX_CELL} characters"),
        (b"name,accuracy\na,\xff\n", "x.csv: not UTF-8 text (byte 16)"),
        (b"PK\x03\x04", "x.csv: no column 'name', only: 'PK\\x03\\x04'"),
        ("name\n" + "x" * 60_000, "x.csv: line 2: 60,000 characters long"),
        ("name\n" + "x\n" * (MAX_ROWS + 2), f"more than {MAX_ROWS:,} rows"),
    ],
)
def test_what_is_no_table_is_refused_with_the_place(content, message: str):
    """Formulas, workflow commands, huge fields, wrong columns, duplicate names: the message says what and where."""
    with pytest.raises(TableProblem) as caught:
        parse_table(content, source="x.csv")
    assert message in str(caught.value)


def test_a_huge_file_is_refused_before_it_is_parsed():
    """More than the limit of bytes is no table."""
    with pytest.raises(TableProblem, match=r"x\.csv: larger than 16 MiB"):
        parse_table(b"\n" * (16 * 1024 * 1024 + 1), source="x.csv")


def test_signed_numbers_are_no_formulas():
    """A cell may be a negative number."""
    assert parse_table("name,x\na,-1.5e-3\n", source="x").rows == (("a", "-1.5e-3"),)
