"""What a comparison says: one verdict sentence, what changed, and the rest folded. As Markdown, JSON and text."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any

from torchperf_ci.compare.model import LATENCY, Comparison, ComparisonFindings, Header, Measured, ToleranceRules
from torchperf_ci.compare.verdicts import compare_case, correct_family, open_unconfirmed
from torchperf_ci.compare.words import (
    ORDER,
    SIGNS,
    change,
    interval,
    is_change,
    name,
    ordered,
    percent,
    quantity,
    sentence,
    sparkline,
    why,
)
from torchperf_ci.core.results import ResultsFolder
from torchperf_ci.core.statistics import slow_share
from torchperf_ci.core.text import code, count, html, one_line
from torchperf_ci.report.document import Block, MarkdownTable, TableLine, fit

LIMIT = 60_000
LONGEST_NAME = 200
LONGEST_WARNING = 1_000


def judge_cases(header: Header, measured: Sequence[Measured], *, unmeasured: int = 0) -> ComparisonFindings:
    """Judge the cases that were measured live; the verdicts are corrected for how many there are."""
    comparisons = [
        comparison if item.again else open_unconfirmed(comparison)
        for item in measured
        for comparison in compare_case(item, header.tolerances)
    ]
    return ComparisonFindings(
        header=header,
        comparisons=tuple(correct_family(comparisons)),
        measured=tuple(measured),
        courses={str(item.case): course for item in measured if (course := sparkline(item.launches))},
        unmeasured=unmeasured,
        not_compiled=sum(any(side is not None and side.not_compiled for side in (i.base, i.head)) for i in measured),
    )


def write_comparison(folder: ResultsFolder, findings: ComparisonFindings) -> None:
    """Write compare.json with every raw time, compare.md and the charts."""
    from torchperf_ci.compare.charts import comparison_charts

    folder.write_text("compare.json", comparison_json(findings))
    folder.write_text("compare.md", markdown(findings))
    for file, content in comparison_charts(findings):
        folder.write_bytes(file, content)


def text(findings: ComparisonFindings) -> str:
    """The verdict and what changed, for a terminal."""
    lines = [
        f"  {SIGNS[c.verdict]} {name(c.case)} {c.metric}: {c.verdict}{_numbers(c)}{' – ' * bool(why(c))}{why(c)}"
        for c in ordered([c for c in findings.comparisons if is_change(c)])
    ]
    said = sentence(
        findings.comparisons,
        findings.header.tolerances,
        unmeasured=findings.unmeasured,
        not_compiled=findings.not_compiled,
    )
    return "\n".join([f"{findings.sign} {said}", *lines])


def describe_case(measured: Measured, tolerances: ToleranceRules) -> str:
    """A case in one line, as it is finished; before the correction for the size of the family."""
    first, *others = compare_case(measured, tolerances)
    changed = [f"{c.metric} {c.verdict}" for c in others if is_change(c)]
    parts = [f"{name(first.case)}: {first.verdict}{_numbers(first)}", *changed, first.why]
    return one_line("; ".join(part for part in parts if part))


def _numbers(comparison: Comparison) -> str:
    if not comparison.ratio:
        return ""
    span = f" ({interval(comparison)})" if comparison.low is not None else ""
    return f" {change(comparison.ratio)}{span}"


def markdown(findings: ComparisonFindings) -> str:
    """compare.md, at most `LIMIT` bytes: what fails is hidden last."""
    changed = ordered([c for c in findings.comparisons if is_change(c)])
    rest = ordered([c for c in findings.comparisons if not is_change(c)])
    blocks = [Block(before=_head(findings), rank=0)]
    if changed:
        blocks.append(
            Block(before="\n### What changed\n\n", tables=(_table(changed, findings.courses, rank=1),), rank=1)
        )
    if rest:
        title = f"{count(len(rest), 'other metric')} without a change that counts"
        blocks.append(
            Block(
                before=f"\n<details>\n<summary>{title}</summary>\n\n",
                tables=(_table(rest, findings.courses, rank=9),),
                after="\n</details>\n",
                rank=9,
            )
        )
    blocks.append(Block(before="\n".join(_foot(findings)) + "\n", rank=2))
    return fit(blocks, LIMIT)


def _head(findings: ComparisonFindings) -> str:
    header = findings.header
    short = partial(code, limit=LONGEST_NAME)
    said = sentence(
        findings.comparisons,
        header.tolerances,
        short,
        unmeasured=findings.unmeasured,
        not_compiled=findings.not_compiled,
    )
    where = f"Base {short(header.base)}, head {short(header.head)}, on {short(header.machine)}. {header.how}"
    warnings = "".join(f"\n> ⚠️ {html(one_line(warning, limit=LONGEST_WARNING))}\n" for warning in header.warnings)
    return f"## {findings.sign} {said}\n\n{where}\n{warnings}"


def _table(comparisons: Sequence[Comparison], courses: Mapping[str, str], *, rank: int) -> MarkdownTable:
    rounds = ["Rounds"] if courses else []  # runs that were recorded have none
    columns = ("", "Case", "Metric", "Base", "Head", "Change", "Interval", *rounds, "Why")
    head = "| " + " | ".join(columns) + " |\n" + "|" + " --- |" * len(columns) + "\n"
    lines = tuple(
        TableLine(text="| " + " | ".join(_cells(c, courses)) + " |", rank=rank + min(ORDER.index(c.verdict), 7))
        for c in comparisons
    )
    return MarkdownTable(before=head, lines=lines, where="compare.json")


def _cells(comparison: Comparison, courses: Mapping[str, str]) -> Iterator[str]:
    yield f"{SIGNS[comparison.verdict]} {comparison.verdict}"
    yield code(name(comparison.case))
    yield comparison.metric
    yield quantity(comparison.metric, comparison.base)
    yield quantity(comparison.metric, comparison.head)
    yield change(comparison.ratio)
    yield interval(comparison)
    if courses:
        yield courses.get(str(comparison.case), "") if comparison.metric == LATENCY else ""
    yield html(why(comparison))


def _foot(findings: ComparisonFindings) -> Iterator[str]:
    header = findings.header
    family = sum(c.p is not None for c in findings.comparisons)
    if family:
        yield _rule(header.tolerances, family)
    probes = [time for item in findings.measured for launch in item.launches for time in launch.probe]
    if probes:
        yield f"The machine was in its slow state for {percent(round(slow_share(probes), 2))} of the probes."


def _rule(tolerances: ToleranceRules, family: int) -> str:
    """How verdicts with an error probability were made."""
    tolerance = tolerances.latency
    rules = " Some cases or metrics have limits of their own." if tolerances.rules else ""
    return (
        f"\nA case is slower when its interval lies above +{percent(tolerance.margin)}, unchanged when it lies within "
        f"±{percent(tolerance.threshold)}.{rules} {count(family, 'comparison')} of time in this family: what is listed "
        "is corrected after Benjamini and Hochberg (5 %), what blocks after Holm (5 %)."
    )


def comparison_json(findings: ComparisonFindings) -> str:
    """compare.json: the verdicts and everything they are made of."""
    document = {"v": 1, **{item.name: getattr(findings, item.name) for item in dataclasses.fields(findings)}}
    return json.dumps(_plain(document), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    match value:
        case Enum():
            return value.value
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
