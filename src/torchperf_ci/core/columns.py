"""Tables of texts for a terminal, as wide as it is."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence
from itertools import zip_longest

GAP = "  "
COMMON_WIDTH = 80
"""Columns beyond which headers are folded even where there is room, since numbers are compared when they are near."""


def draw_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    right: Collection[int] = (),
    spare: Sequence[int] = (),
) -> str:
    """Lay out texts of one line in columns, under headers and a rule.

    A table that is wider than `width`, by default that of the terminal, loses its `spare` columns one after the other,
    then its cells are folded at blanks. Words are never broken, so a table of long names may still be wider. Columns in
    `right` are flush right. A file or a pipe takes any width, unless COLUMNS says so.
    """
    room = shutil.get_terminal_size((sys.maxsize, 0)).columns if width is None else width
    shown = list(range(len(headers)))
    columns: list[list[str]] = []
    widths: list[int] = []
    for leaving in (None, *spare):
        shown = [number for number in shown if number != leaving]
        columns = [[headers[number], *(row[number] for row in rows)] for number in shown]
        widths = [max(map(len, cells)) for cells in columns]
        if _whole(widths) > min(room, COMMON_WIDTH):
            widths = [max(_longest_word(head), *map(len, cells)) for head, *cells in columns]
        if _whole(widths) <= room:
            break
    widths = _fold(widths, [max(map(_longest_word, cells)) for cells in columns], room)
    folded = [
        [textwrap.wrap(cell, max(size, 1), break_long_words=False, break_on_hyphens=False) or [""] for cell in cells]
        for cells, size in zip(columns, widths, strict=True)
    ]
    lines = []
    for place, cells in enumerate(zip(*folded, strict=True)):
        for texts in zip_longest(*cells, fillvalue=""):
            padded = [
                text.rjust(size) if number in right else text.ljust(size)
                for number, text, size in zip(shown, texts, widths, strict=True)
            ]
            lines.append(GAP.join(padded).rstrip())
        if place == 0:
            lines.append(GAP.join("-" * size for size in widths))
    return "\n".join(lines)


def _whole(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _fold(widths: list[int], least: list[int], room: int) -> list[int]:
    """Make the widest columns that can be folded narrower, until they fit or none can be."""
    while _whole(widths) > room:
        loose = [place for place, size in enumerate(widths) if size > least[place]]
        if not loose:
            break
        widths[max(loose, key=lambda place: widths[place])] -= 1
    return widths
