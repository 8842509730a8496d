"""Tables of texts for a terminal: what gives way where there is little room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.core.text import draw_table

HEADERS = ("model", "speedup over eager", "remark")
ROWS = (("net", "1.20x (1.10 to 1.30)", "a cold cache"), ("transformer", "0.90x", ""))


def test_a_table_stands_in_columns() -> None:
    """Headers, a rule, rows; nothing at the ends of lines."""
    assert draw_table(HEADERS, ROWS, width=200).splitlines() == [
        "model        speedup over eager    remark",
        "-----------  --------------------  ------------",
        "net          1.20x (1.10 to 1.30)  a cold cache",
        "transformer  0.90x",
    ]


def test_where_there_is_little_room_a_spare_column_goes_and_cells_fold() -> None:
    """At blanks, never inside of a word; the columns that can be spared go first."""
    assert "remark" not in draw_table(HEADERS, ROWS, width=40, spare=(2,))
    assert draw_table(HEADERS, ROWS, width=30, spare=(2,), right=(1,)).splitlines() == [
        "model             speedup over",
        "                         eager",
        "-----------  -----------------",
        "net             1.20x (1.10 to",
        "                         1.30)",
        "transformer              0.90x",
    ]
    assert "transformer" in draw_table(HEADERS, ROWS, width=5)


@given(
    st.lists(st.tuples(*[st.text("ab  ", max_size=30)] * 3), max_size=4),
    st.integers(min_value=40, max_value=90),
)
def test_a_table_is_as_wide_as_it_may_be_and_loses_no_word(rows: list[tuple[str, str, str]], width: int) -> None:
    """Unless a word itself is longer."""
    text = draw_table(("one", "two", "three"), rows, width=width)
    widest = [max((len(word) for row in rows for word in row[place].split()), default=0) for place in range(3)]
    room = max(width, sum(max(size, 5) for size in widest) + 4)
    assert max(map(len, text.splitlines())) <= room
    words = [word for row in rows for cell in row for word in cell.split()]
    assert sorted(words) == sorted(" ".join(text.splitlines()[2:]).split())
