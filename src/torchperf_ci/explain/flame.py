"""A differential flame graph as SVG: a frame is as wide as its time; its colour says on which side it takes more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from torchperf_ci.compare.explanation import write_amount
from torchperf_ci.core.text import one_line

WIDTH = 1180
_ROW = 17
_LEAST_WIDTH = 1.0
_LETTER = 6.4
_DEEPEST = 60
_MOST_NAME = 160

Stacks = Sequence[tuple[list[str], int]]


@dataclass(slots=True)
class Frame:
    """A frame of a call tree, with the nanoseconds of both sides in it and below it."""

    name: str
    base: int = 0
    head: int = 0
    children: dict[str, Frame] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Return what its width stands for: the larger of both times, and at least what its children need."""
        return max(self.base, self.head, sum(child.size for child in self.children.values()))


def make_tree(base: Stacks, head: Stacks) -> Frame:
    """Join the stacks of both sides, outermost frame first, into one tree."""
    root = Frame(name="all")
    for is_head, stacks in ((False, base), (True, head)):
        for stack, nanoseconds in stacks:
            frame = root
            _add(frame, nanoseconds, is_head=is_head)
            for name in stack[:_DEEPEST]:
                frame = frame.children.setdefault(name, Frame(name=name))
                _add(frame, nanoseconds, is_head=is_head)
    return root


def _add(frame: Frame, nanoseconds: int, *, is_head: bool) -> None:
    if is_head:
        frame.head += nanoseconds
    else:
        frame.base += nanoseconds


def draw_flames(base: Stacks, head: Stacks) -> str:
    """Draw the flame graph of both sides; blank where nothing was seen.

    Frames that take more time on head are red, those that take less blue; the darker, the larger the difference.
    """
    root = make_tree(base, head)
    if not root.size:
        return ""
    placed = list(_place(root, 0.0, float(WIDTH), 0))
    depth = max(level for _, _, _, level in placed) + 1
    whole = max(1, *(abs(frame.head - frame.base) for frame, *_ in placed))
    size = f'width="{WIDTH}" height="{depth * _ROW}" viewBox="0 0 {WIDTH} {depth * _ROW}"'
    label = 'role="img" aria-label="Differential flame graph"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {label} {size} font-family="monospace" font-size="11">']
    for frame, left, width, level in placed:
        change = frame.head - frame.base
        title = (
            f"{frame.name}: {write_amount('s', frame.base / 1e9) or '0 s'} → {write_amount('s', frame.head / 1e9)}, "
            f"{'+' if change >= 0 else '-'}{write_amount('s', abs(change) / 1e9)}"
        )
        room = int(width / _LETTER) - 1
        name = one_line(frame.name)
        shown = (name if len(name) <= room else f"{name[: room - 1]}…") if room >= 3 else ""
        lines.append(
            f'<g><title>{escape(one_line(title, limit=_MOST_NAME))}</title><rect x="{left:.2f}" y="{level * _ROW}" '
            f'width="{width:.2f}" height="{_ROW - 1}" fill="{_colour(change / whole)}"/>'
            f'<text x="{left + 3:.2f}" y="{level * _ROW + 12}" fill="#111">{escape(shown)}</text></g>'
        )
    return "\n".join([*lines, "</svg>"])


def _place(frame: Frame, left: float, width: float, level: int) -> Iterator[tuple[Frame, float, float, int]]:
    """Place a frame and those below it that are wide enough to be seen: left edge, width and level."""
    yield frame, left, width, level
    scale = width / frame.size
    for child in sorted(frame.children.values(), key=lambda one: -one.size):
        if child.size * scale >= _LEAST_WIDTH:
            yield from _place(child, left, child.size * scale, level + 1)
            left += child.size * scale


def _colour(share: float) -> str:
    """Choose red for more time, blue for less, pale grey for about the same."""
    strength = min(1.0, abs(share)) ** 0.5
    if strength < 0.15:
        return "#e4e4e4"
    fade = round(225 - 120 * strength)
    return f"#ff{fade:02x}{fade:02x}" if share > 0 else f"#{fade:02x}{fade:02x}ff"
