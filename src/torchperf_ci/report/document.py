"""A Markdown document under a byte limit, and its tables.

What matters least is hidden first, and the text says how much and where. Tables and folds can be drawn the way
PyTorch's dashboard has them: plain text in a fence, which every reader lines up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from torchperf_ci.core.text import ABSENT, one_line


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLine:
    """A row of a table, without its line end. Lower ranks are kept longer, over the whole document."""

    text: str
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkdownTable:
    """A table: the text before its lines, the lines, the text after them, and where those are that are hidden here."""

    before: str
    lines: tuple[TableLine, ...]
    where: str
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A piece of the document that is shown or left out as one, though lines of its tables may be hidden.

    rank: what its frame, all but the lines, ranks. No line in it ranks lower.
    """

    before: str
    tables: tuple[MarkdownTable, ...] = ()
    after: str = ""
    rank: int = 0


def whole(blocks: Iterable[Block]) -> str:
    """Join all blocks to one text, however long."""
    return "".join(_rendered(block, None) for block in blocks)


def fit(blocks: Sequence[Block], limit: int, *, where: str = "report.html") -> str:
    """Join the blocks to one text of at most `limit` UTF-8 bytes. `where`: where blocks can be found that are left out.

    Frames and lines are taken from the lowest rank up, frames before lines of the same rank, up to the first that does
    not fit: while a line of some rank is hidden, no line of a higher rank is shown. A block is never cut inside: a
    piece of Markdown may mean something else than the whole of it.
    """
    everything = whole(blocks)
    if _size(everything) <= limit:
        return everything
    kept, shown = _taken(blocks, limit - _size(_left_out_note(len(blocks), where)))
    if not kept:
        said = f"_This report is too long to be shown here, see {where}._\n"
        return said if _size(said) <= limit else ""
    parts = [_rendered(block, shown) for block in blocks if id(block) in kept]
    return "".join(parts) + _left_out_note(len(blocks) - len(parts), where)


def _taken(blocks: Sequence[Block], left: int) -> tuple[set[int], set[int]]:
    """Choose the blocks and lines that fit into `left` bytes, by identity. Nothing, if the first block does not."""
    frames = [(block.rank, 0, block, _size(_rendered(block, set()))) for block in blocks]
    lines = [
        (line.rank, 1, line, _size(line.text) + 1) for block in blocks for table in block.tables for line in table.lines
    ]
    taken: tuple[set[int], set[int]] = (set(), set())
    for _, kind, item, size in sorted((*frames, *lines), key=lambda entry: entry[:2]):
        left -= size
        if left < 0:
            break
        taken[kind].add(id(item))
    return taken


def _rendered(block: Block, shown: set[int] | None) -> str:
    """Write the block with the lines in `shown` (None: all of them)."""
    return "".join((block.before, *(_table(table, shown) for table in block.tables), block.after))


def _table(table: MarkdownTable, shown: set[int] | None) -> str:
    lines = [line.text for line in table.lines if shown is None or id(line) in shown]
    hidden = len(table.lines) - len(lines)
    rows = "1 row is" if hidden == 1 else f"{hidden:,} rows are"
    note = f"\n_{rows} hidden here for length, see {table.where}._\n" if hidden else ""
    return "".join((table.before, *(f"{line}\n" for line in lines), table.after, note))


def _left_out_note(blocks: int, where: str) -> str:
    if not blocks:
        return ""
    parts = "1 more part of this report is" if blocks == 1 else f"{blocks:,} more parts of this report are"
    return f"\n_{parts} left out for length, see {where}._\n"


def _size(text: str) -> int:
    return len(text.encode())


ALL_ROWS = "report.html"


def pretty_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    where: str = ALL_ROWS,
    left: Collection[str] = (),
) -> MarkdownTable:
    """Make a table of plain text under a title, which is Markdown already. `left`: columns that are not centred."""
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    aligned = [("left" if name in left else "center") for name in columns] if left else None
    headers = [one_line(name) for name in columns]
    head, names, rule, *lines, end = tabulate(cells, headers=headers, tablefmt="pretty", colalign=aligned).splitlines()
    return MarkdownTable(
        before=f"{title}~~~\n{head}\n{names}\n{rule}\n",
        lines=tuple(TableLine(text=text, rank=0) for text in lines),
        after=f"{end}\n~~~\n",
        where=where,
    )


def folded(title: str, before: str = "", tables: Iterable[MarkdownTable] = ()) -> Block:
    """Make a title, and a fold that holds text and tables, as PyTorch's dashboard has them."""
    before = f"{title}\n<details>\n<summary>see more</summary>\n{before}"
    return Block(before=before, tables=tuple(tables), after="\n</details>\n\n")


def markdown_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    rank: int = 0,
    ranks: Sequence[int] = (),
    where: str = ALL_ROWS,
    before: str = "",
    keep_empty: bool = False,
) -> MarkdownTable:
    """Make a table of cells that are Markdown already, without its empty columns, if they are not to be kept.

    rank: of all rows; ranks: of each, where they differ. `before` stands above it.
    """
    kept = [place for place in range(len(columns)) if keep_empty or any(cells[place] != ABSENT for cells in rows)]
    head, rule, *lines = (
        f"| {' | '.join(cells[place] for place in kept)} |" for cells in (columns, ["---"] * len(columns), *rows)
    )
    of_rows = ranks or [rank] * len(rows)
    return MarkdownTable(
        before=f"{before}\n{head}\n{rule}\n",
        lines=tuple(TableLine(text=line, rank=of_row) for line, of_row in zip(lines, of_rows, strict=True)),
        where=where,
    )


def lines_table(
    lines: Iterable[str], *, rank: int = 0, where: str = ALL_ROWS, before: str = "", after: str = ""
) -> MarkdownTable:
    """Make lines of Markdown, say of a list, into what is hidden line by line when there is no room."""
    of_rank = tuple(TableLine(text=line, rank=rank) for line in lines)
    return MarkdownTable(before=before, lines=of_rank, where=where, after=after)


def fold(title: str, tables: Sequence[MarkdownTable], rank: int) -> Block:
    """Fold tables under a title, which is Markdown already."""
    before = f"\n<details>\n<summary>{title}</summary>\n"
    return Block(before=before, tables=tuple(tables), after="\n</details>\n", rank=rank)
