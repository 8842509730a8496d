"""A document under a byte limit."""

from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.report.document import Block, MarkdownTable, TableLine, fit

HEAD = Block(before="## verdict\n", rank=0)


def table(*ranks: int, name: str = "row", before: str = "| a |\n| --- |\n") -> MarkdownTable:
    lines = tuple(TableLine(text=f"| {name} {rank} {number} |", rank=rank) for number, rank in enumerate(ranks))
    return MarkdownTable(before=before, lines=lines, where="report.html")


def test_what_fits_is_shown_whole():
    """No note, no byte more than the parts."""
    block = Block(before="\n### Failed\n", tables=(table(1, 1),), rank=1)
    whole = "## verdict\n\n### Failed\n| a |\n| --- |\n| row 1 0 |\n| row 1 1 |\n"
    assert fit([HEAD, block], len(whole)) == whole


def test_lines_of_high_rank_go_first_and_the_text_says_how_many():
    """The note stands where the lines are missing, and says where they are."""
    failed = Block(before="\n### Failed\n", tables=(table(1, 1),), rank=1)
    detail = Block(before="\n<details>\n", tables=(table(3, 2, *[3] * 40),), after="</details>\n", rank=2)
    assert fit([HEAD, failed, detail], 305) == (
        "## verdict\n\n### Failed\n| a |\n| --- |\n| row 1 0 |\n| row 1 1 |\n"
        "\n<details>\n| a |\n| --- |\n| row 3 0 |\n| row 2 1 |\n"
        "\n_40 rows are hidden here for length, see report.html._\n</details>\n"
    )


def test_whole_parts_go_when_even_their_frames_are_too_long():
    """They go from the end, and the end says how many went."""
    blocks = [
        Block(before=f"\n<details>{'x' * 99}\n", tables=(table(5),), after="</details>\n", rank=5) for _ in range(9)
    ]
    shown = fit([HEAD, *blocks], 320)
    assert shown.startswith("## verdict\n\n<details>xxx")
    assert shown.endswith("</details>\n\n_8 more parts of this report are left out for length, see report.html._\n")


def test_what_failed_is_shown_before_empty_tables_of_detail():
    """A frame costs bytes as well, and they are spent on lower ranks first."""
    failed = Block(before="\n### Failed\n", tables=(table(1, 1, 1),), rank=1)
    detail = [Block(before="\n<details>\n", tables=(table(2, 2),), after="</details>\n", rank=2) for _ in range(3)]
    shown = fit([HEAD, failed, *detail], 250)
    assert "| row 1 2 |" in shown
    assert shown.endswith("\n_3 more parts of this report are left out for length, see report.html._\n")


def test_a_beginning_that_is_too_long_is_not_cut():
    """The first part of inline code would be Markdown."""
    verdict = Block(before=f"## ❌ `{'@everyone <img> ' * 9}` failed\n")
    assert fit([verdict], 99) == "_This report is too long to be shown here, see report.html._\n"
    assert fit([verdict], 59) == ""


ranks = st.integers(min_value=1, max_value=4)
tables = st.builds(
    lambda rows, title: MarkdownTable(
        before=f"\n{title}\n",
        lines=tuple(TableLine(text=f"| {text} |", rank=rank) for rank, text in rows),
        where="report.html",
    ),
    st.lists(st.tuples(ranks, st.text(max_size=20)), max_size=8),
    st.text(max_size=10),
)
blocks = st.builds(
    lambda made, title, rank: Block(before=f"\n### {title}\n", tables=tuple(made), after="\n", rank=rank),
    st.lists(tables, max_size=3),
    st.text(max_size=10),
    ranks,
)


@given(st.lists(blocks, max_size=5), st.integers(min_value=0, max_value=900))
def test_no_document_is_over_its_limit_and_no_line_goes_before_a_less_important_one(made: list[Block], limit: int):
    """Whatever the parts: valid UTF-8 within the limit, and ranks are shown from the lowest up without a gap."""
    numbered = [
        Block(
            before=block.before,
            after=block.after,
            rank=min([line.rank for each in block.tables for line in each.lines], default=block.rank),
            tables=tuple(
                MarkdownTable(
                    before=each.before,
                    where=each.where,
                    lines=tuple(
                        TableLine(text=f"{line.text}\u2063{place}.{inner}.{number}\u2063", rank=line.rank)
                        for number, line in enumerate(each.lines)
                    ),
                )
                for inner, each in enumerate(block.tables)
            ),
        )
        for place, block in enumerate(made)
    ]
    text = fit([HEAD, *numbered], limit)
    assert len(text.encode()) <= limit
    lines = [line for block in numbered for each in block.tables for line in each.lines]
    hidden = [line.rank for line in lines if line.text not in text]
    shown = [line.rank for line in lines if line.text in text]
    assert not hidden or all(rank <= min(hidden) for rank in shown)
