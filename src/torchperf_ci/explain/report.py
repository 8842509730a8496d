"""The files of an explanation: a page, a flame graph of the difference, diffs of what the compiler made, and traces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from markupsafe import Markup

from torchperf_ci.compare.model import Cause, Explanation, write_amount, write_cause, write_explanation
from torchperf_ci.compare.report import to_plain
from torchperf_ci.compare.words import metric_name, name, percent
from torchperf_ci.core.results import ResultsFolder
from torchperf_ci.core.text import ABSENT, count, format_digits, one_line
from torchperf_ci.explain.causes import list_code_diff, list_graph_diff
from torchperf_ci.explain.model import Evidence
from torchperf_ci.report.html import Grid, grid, number, read_template, render_page, text

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
            for frame_name in stack[:_DEEPEST]:
                frame = frame.children.setdefault(frame_name, Frame(name=frame_name))
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


PAGE = "index.html"
NUMBERS = "explanation.json"
_MOST_DIFF = 4_000
_WHOLE = 1.005
_FILES = {
    "flames.svg": "the flame graph of both sides",
    "graphs.diff": "what differs in the graphs that dynamo captured",
    "code.diff": "what differs in Inductor's generated code",
    "base.trace.json.gz": "an iteration of base, for Perfetto or chrome://tracing",
    "head.trace.json.gz": "an iteration of head, for Perfetto or chrome://tracing",
    NUMBERS: "every number of this page",
}


def write_files(folder: ResultsFolder, at: str, explanations: Sequence[Explanation], evidence: Evidence) -> None:
    """Write everything about a case into the folder `at` of a results folder."""
    first = explanations[0]
    flames = draw_flames(evidence.base.seen.stacks, evidence.head.seen.stacks)
    diffs = {"graphs.diff": list_graph_diff(evidence), "code.diff": list_code_diff(evidence)}
    contents = {
        "flames.svg": flames,
        **{title: "\n".join(lines) for title, lines in diffs.items()},
        NUMBERS: json.dumps(to_plain({"v": 1, "explanations": explanations}), ensure_ascii=False, allow_nan=False),
    }
    for file, content in contents.items():
        if content:
            folder.write_text(f"{at}/{file}", content)
    page = {
        "sign": "?",
        "verdict": f"Why {name(first.case)} differs",
        "tone": "unsure",
        "setting": [one_line(f"{first.case.mode}, {first.case.dtype}, {first.case.device}")],
        "parts": [
            {
                "title": metric_name(explanation.metric).capitalize(),
                "sentence": write_explanation(explanation),
                "measured": write_measured(explanation),
                "causes": _make_grid(explanation, explanation.causes),
            }
            for explanation in explanations
        ],
        "facts": _make_grid(first, list({fact: None for each in explanations for fact in each.facts})),
        "lines": _count_lines(first),
        "executed": first.lines,
        "flames": Markup(flames),  # noqa: S704 - drawn here, with all names escaped
        "diffs": [
            (f"{_FILES[title].capitalize()} ({count(len(lines), 'line')})", "\n".join(lines[:_MOST_DIFF]))
            for title, lines in diffs.items()
            if lines
        ],
        "files": [(file, what) for file, what in _FILES.items() if f"{at}/{file}" in folder.written],
    }
    folder.write_text(f"{at}/{PAGE}", render_page(read_template(__package__, "explanation.html"), page))


def _count_lines(explanation: Explanation) -> str:
    if explanation.changed_lines is None:
        return ""
    if not explanation.changed_lines:
        return "No line differs between the commits."
    ran = len(explanation.lines)
    return f"Of {count(explanation.changed_lines, 'changed line')}, an iteration runs {ran or 'none'}."


def write_measured(explanation: Explanation) -> str:
    """Write what was measured while it was explained, and how much of it the causes make up."""
    unit = explanation.unit
    if explanation.base is None or explanation.head is None or explanation.base == explanation.head:
        return ""
    difference = f"{write_amount(unit, explanation.base)} → {write_amount(unit, explanation.head)}"
    span = ""
    if explanation.low is not None and explanation.high is not None:
        span = f", a difference of {write_amount(unit, explanation.low)} to {write_amount(unit, explanation.high)}"
    share = explanation.explained
    told = (
        f" The causes below make up {percent(round(min(share, 1.0), 2))} of it."
        if share > 0 and not explanation.problem
        else ""
    )
    above = any((cause.share or 0.0) > _WHOLE for cause in explanation.causes)
    offset = " Parts of more than all of it are offset by others, which take less." if above else ""
    return f"Measured anew, to explain it: {difference}{span}.{told}{offset}"


def _make_grid(explanation: Explanation, causes: Sequence[Cause]) -> Grid:
    return grid(
        ("In words", "#Part", "#Difference", "#Base", "#Head", "#Calls", "Kind"),
        ((False, _make_cells(explanation, cause)) for cause in causes),
    )


def _make_cells(explanation: Explanation, cause: Cause) -> Sequence[str]:
    unit, span = explanation.unit, ""
    if cause.low is not None and cause.high is not None:
        span = f"{write_amount(unit, cause.low)} to {write_amount(unit, cause.high)}"
    amounts = (cause.difference, cause.base, cause.head) if cause.share is not None else (None, None, None)
    difference, base, head = (ABSENT if amount is None else write_amount(unit, amount) for amount in amounts)
    calls = (
        ABSENT if cause.calls is None else f"{format_digits(cause.calls[0], 4)} → {format_digits(cause.calls[1], 4)}"
    )
    return [
        text(write_cause(cause, explanation)),
        number(ABSENT if cause.share is None else percent(round(cause.share, 2))),
        number(difference, span),
        number(base),
        number(head),
        number(calls),
        text(str(cause.kind)),
    ]
