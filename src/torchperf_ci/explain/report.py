"""The files of an explanation: a page, a flame graph, diffs of what the compiler made, traces, and the numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from torchperf_ci.compare.explanation import Cause, Explanation, write_amount, write_cause, write_explanation
from torchperf_ci.compare.report import to_plain
from torchperf_ci.compare.words import metric_name, name, percent
from torchperf_ci.core.results import ResultsFolder
from torchperf_ci.core.text import ABSENT, count, one_line
from torchperf_ci.explain.causes import list_code_diff, list_graph_diff
from torchperf_ci.explain.flame import draw_flames
from torchperf_ci.explain.model import Evidence
from torchperf_ci.report.html import Grid, grid, number, read_template, render_page, text

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedPart:
    """One metric on the page of a case."""

    title: str
    sentence: str
    measured: str
    causes: Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationPage:
    """All that the template shows. The first four are what every page has."""

    sign: str
    verdict: str
    tone: str
    setting: Sequence[str]
    parts: Sequence[ExplainedPart]
    facts: Grid
    lines: str
    executed: Sequence[str]
    flames: Markup
    diffs: Sequence[tuple[str, str]]
    files: Sequence[tuple[str, str]]


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
    there = [(file, what) for file, what in _FILES.items() if f"{at}/{file}" in folder.written]
    page = ExplanationPage(
        sign="?",
        verdict=f"Why {name(first.case)} differs",
        tone="unsure",
        setting=[one_line(f"{first.case.mode}, {first.case.dtype}, {first.case.device}")],
        parts=[_make_part(explanation) for explanation in explanations],
        facts=_make_grid(first, list({fact: None for each in explanations for fact in each.facts})),
        lines=_count_lines(first),
        executed=first.lines,
        flames=Markup(flames),  # noqa: S704 - drawn here, with all names escaped
        diffs=[
            (f"{_FILES[title].capitalize()} ({count(len(lines), 'line')})", "\n".join(lines[:_MOST_DIFF]))
            for title, lines in diffs.items()
            if lines
        ],
        files=there,
    )
    folder.write_text(f"{at}/{PAGE}", render_page(read_template(__package__, "explanation.html"), page))


def _count_lines(explanation: Explanation) -> str:
    if explanation.changed_lines is None:
        return ""
    if not explanation.changed_lines:
        return "No line differs between the commits."
    ran = len(explanation.lines)
    return f"Of {count(explanation.changed_lines, 'changed line')}, an iteration runs {ran or 'none'}."


def _make_part(explanation: Explanation) -> ExplainedPart:
    return ExplainedPart(
        title=metric_name(explanation.metric).capitalize(),
        sentence=write_explanation(explanation),
        measured=write_measured(explanation),
        causes=_make_grid(explanation, explanation.causes),
    )


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
    calls = ABSENT if cause.calls is None else f"{cause.calls[0]:,.4g} → {cause.calls[1]:,.4g}"
    return [
        text(write_cause(cause, explanation)),
        number(ABSENT if cause.share is None else percent(round(cause.share, 2))),
        number(difference, span),
        number(base),
        number(head),
        number(calls),
        text(str(cause.kind)),
    ]
