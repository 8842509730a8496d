"""Tables of the HTML page. Cells are put together here, not in the template: there may be a quarter of a million."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from torchperf_ci.core.text import one_line
from torchperf_ci.report.words import ABSENT, fixed

LONG = 40
"""Texts of more characters are broken into lines of a width of their own, also on a phone; shorter ones never are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    title: str
    numeric: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`cells` is what stands between `<tr>` and `</tr>`. `bad`: something in it failed."""

    cells: Markup
    bad: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    columns: tuple[Column, ...]
    lines: tuple[Row, ...]


def grid(titles: Sequence[str], lines: Iterable[tuple[bool, Sequence[str]]]) -> Grid:
    """A table without its empty columns. Titles that begin with `#` are of numbers; lines are `bad` and their cells."""
    held = list(lines)
    kept = [place for place in range(len(titles)) if any(cells[place] not in _EMPTY for _, cells in held)]
    return Grid(
        columns=tuple(_column(titles[place]) for place in kept),
        lines=tuple(_row([cells[place] for place in kept], bad=bad) for bad, cells in held),
    )


def text(value: str) -> str:
    if not value:
        return _EMPTY[0]
    shown = one_line(value)
    kind = ' class="l"' if len(shown) > LONG else ""
    return f"<td{kind}>{escape(shown)}</td>"


def number(value: str, remark: str = "") -> str:
    """A number that is text already, with something smaller behind it."""
    small = f" <small>{escape(remark)}</small>" if remark else ""
    return f'<td class="n">{escape(value)}{small}</td>'


def decimals(value: float | None, digits: int, unit: str = "") -> str:
    return _EMPTY[1] if value is None else number(f"{fixed(value, digits)}{unit}")


def whole(value: int) -> str:
    """A count; nothing for 0."""
    return number(f"{value:,}") if value else _EMPTY[1]


def bad_word(value: str) -> str:
    """The word for a failure, in a column of numbers."""
    return f'<td class="n"><b>{escape(one_line(value))}</b></td>'


def _column(title: str) -> Column:
    return Column(title=one_line(title.removeprefix("#")), numeric=title.startswith("#"))


def _row(cells: Sequence[str], *, bad: bool) -> Row:
    return Row(cells=Markup("".join(cells)), bad=bad)  # noqa: S704 - made by the functions above, which escape


_EMPTY = (f"<td>{ABSENT}</td>", f'<td class="n">{ABSENT}</td>')
