"""Colours of the charts. The HTML page swaps the first four for its own, light or dark."""

from __future__ import annotations

from collections.abc import Iterable

INK = "#1f2329"
GRID = "#d8dde3"
PALE = "#8c959f"
PAPER = "#ffffff"
BAD = "#cf222e"
"""Text and axes, grid, what is only context, the background, what failed."""

PALETTE = ("#4269d0", "#efb118", "#3ca951", "#ff725c", "#a463f2", "#6cc5b0", "#ff8ab7", "#9c6b4e", "#97bbf5", "#9498a0")


def colours(names: Iterable[str]) -> dict[str, str]:
    """Choose a colour for every compiler."""
    return {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(dict.fromkeys(names))}
