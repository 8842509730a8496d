"""Tables and folds the way PyTorch's dashboard has them: plain text in a fence, which every reader lines up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tabulate import tabulate

from torchperf_ci.core.text import one_line
from torchperf_ci.report.fit import Block, Line, Table

ALL_ROWS = "report.html"


def pretty_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    ranks: Sequence[int] = (),
    where: str = ALL_ROWS,
    left: Collection[str] = (),
) -> Table:
    """A table under a title, which is Markdown already. `ranks`: how soon each row may be hidden; none: all last.
    `left`: the columns that are not centred."""
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    aligned = [("left" if name in left else "center") for name in columns] if left else None
    headers = [one_line(name) for name in columns]
    made = tabulate(cells, headers=headers, tablefmt="pretty", colalign=aligned).splitlines()
    lines = zip(made[3:-1], ranks or [0] * len(rows), strict=True)
    return Table(
        before=f"{title}~~~\n" + "".join(f"{line}\n" for line in made[:3]),
        lines=tuple(Line(text=text, rank=rank) for text, rank in lines),
        after=f"{made[-1]}\n~~~\n",
        where=where,
    )


def folded(title: str, before: str = "", tables: Iterable[Table] = (), *, rank: int = 0, after: str = "") -> Block:
    """A title, and a fold that holds text, tables and more text."""
    return Block(
        before=f"{title}\n<details>\n<summary>see more</summary>\n{before}",
        tables=tuple(tables),
        after=f"{after}\n</details>\n\n",
        rank=rank,
    )
