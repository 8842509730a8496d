"""The report of a comparison as Markdown, text and JSON: the verdict, what was compared, what changed, the rest."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any

from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.model import (
    Comparison,
    ComparisonFindings,
    Header,
    Measured,
    ToleranceRules,
)
from torchperf_ci.compare.verdicts import (
    compare_case,
    correct_family,
    estimate_saved_seconds,
    open_unconfirmed,
)
from torchperf_ci.compare.words import (
    LONGEST_NAME,
    METHOD,
    SIGNS,
    change,
    change_with_interval,
    interval,
    is_change,
    link_to_commit,
    link_to_run,
    list_notes,
    metric_name,
    name,
    ordered,
    quantity,
    why,
    write_headline,
    write_sentence,
)
from torchperf_ci.core.results import ResultsFolder
from torchperf_ci.core.text import code, count, fenced, html, one_line
from torchperf_ci.report.document import Block, MarkdownTable, TableLine, fit

LIMIT = 60_000
LONGEST_WARNING = 1_000
_NO_BREAK = "\N{NO-BREAK SPACE}"


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
        unmeasured=unmeasured,
        saved_seconds=estimate_saved_seconds(measured),
        not_compiled=sum(any(side is not None and side.not_compiled for side in (i.base, i.head)) for i in measured),
    )


def clear_folder(folder: ResultsFolder) -> None:
    """Remove what an earlier comparison wrote, and keep what this one will write out of commits."""
    folder.empty()
    folder.write_text(".gitignore", "*\n")


def write_comparison(folder: ResultsFolder, findings: ComparisonFindings) -> None:
    """Write compare.json with every raw time, compare.md, compare.html and the charts."""
    from torchperf_ci.compare.charts import draw_charts
    from torchperf_ci.compare.page import render_comparison

    charts = draw_charts(findings)
    folder.write_text("compare.json", to_json(findings))
    folder.write_text("compare.md", to_markdown(findings))
    folder.write_text("compare.html", render_comparison(findings, charts))
    for chart in charts:
        folder.write_bytes(f"{chart.name}.svg", chart.svg)
        folder.write_bytes(f"{chart.name}.png", chart.png)


def to_text(findings: ComparisonFindings) -> str:
    """Write the verdict and what changed, for a terminal."""
    lines = [f"{findings.sign} {write_sentence(findings)}"]
    for c in ordered([c for c in findings.comparisons if is_change(c)]):
        values = f" {quantity(c.metric, c.base)} → {quantity(c.metric, c.head)}," if c.ratio else ""
        numbers = f"{values} {change_with_interval(c)}" if c.ratio else ""
        again = f"; again {change_with_interval(c.again)}" if c.again and c.again.ratio else ""
        reason = f" – {why(c)}{again}" if why(c) else ""
        lines.append(f"  {SIGNS[c.verdict]} {name(c.case)} {metric_name(c.metric)}: {c.verdict}{numbers}{reason}")
    return "\n".join(lines)


def describe_case(measured: Measured, tolerances: ToleranceRules) -> str:
    """Describe a case in one line, as it is finished; before the correction for how many cases there are."""
    first, *others = compare_case(measured, tolerances)
    numbers = f" {change_with_interval(first)}" if first.ratio else ""
    numbers += f", again {change_with_interval(first.again)}" if first.again and first.again.ratio else ""
    changes = [f"{metric_name(c.metric)} {c.verdict}" for c in others if is_change(c)]
    parts = [f"{name(first.case)}: {first.verdict}{numbers}", *changes, first.why]
    return one_line("; ".join(part for part in parts if part))


def to_markdown(findings: ComparisonFindings) -> str:
    """Write compare.md, at most `LIMIT` bytes: what fails is hidden last."""
    changed = ordered([c for c in findings.comparisons if is_change(c)])
    rest = ordered([c for c in findings.comparisons if not is_change(c)])
    blocks = [Block(before=_write_head(findings), rank=0)]
    if changed:
        table = _make_table(changed, rank=1)
        blocks.append(Block(before="\n### What changed\n\n", tables=(table,), rank=1))
    if rest:
        title = f"{count(len(rest), 'other metric')} without a change that counts"
        blocks.append(
            Block(
                before=f"\n<details>\n<summary>{title}</summary>\n\n",
                tables=(_make_table(rest, rank=9),),
                after="\n</details>\n",
                rank=9,
            )
        )
    notes = "".join(f"\n{note}\n" for note in list_notes(findings))
    method = f"\n<sub>[How it is measured and judged]({METHOD})</sub>\n"
    blocks.append(Block(before=f"{notes}{_write_reproduction(findings)}{method}", rank=2))
    return fit(blocks, LIMIT, where="compare.html")


def _write_head(findings: ComparisonFindings) -> str:
    """Write the verdict, the commits and labels of both sides, where and how, and warnings."""
    header = findings.header
    short = partial(code, limit=LONGEST_NAME)
    headline, rest = write_headline(findings, short)
    parts = [f"## {findings.sign} {headline}\n", f"\n{rest}.\n" if rest else ""]
    for side, label, commit in (("Base", header.base, header.base_commit), ("Head", header.head, header.head_commit)):
        line = f"- {side}: {short(label)}"
        if commit is not None:
            link = link_to_commit(header, commit.sha)
            sha = code(commit.sha[:12])
            line += f", commit [{sha}]({link})" if link else f", commit {sha}"
            line += f" {html(one_line(commit.subject, limit=LONGEST_NAME))}" if commit.subject else ""
        parts.append(f"\n{line}")
    run = link_to_run(header)
    place = f"\n- On {short(header.machine)}" + (f", in [this run]({run})" if run else "")
    parts.append(f"{place}\n\n{header.how}\n")
    parts += [f"\n> ⚠️ {html(one_line(warning, limit=LONGEST_WARNING))}\n" for warning in header.warnings]
    return "".join(parts)


def _make_table(comparisons: Sequence[Comparison], *, rank: int) -> MarkdownTable:
    is_twice = any(c.again for c in comparisons)
    columns = ("", "Case", "Metric", "Base", "Head", "Change", *(["Measured again"] if is_twice else []), "Remarks")
    urgency = {verdict: min(place, 7) for place, verdict in enumerate(Verdict)}
    lines = []
    for c in comparisons:
        cells = [
            f"{SIGNS[c.verdict]} {c.verdict}",
            code(name(c.case)),
            html(metric_name(c.metric)),
            quantity(c.metric, c.base).replace(" ", _NO_BREAK),
            quantity(c.metric, c.head).replace(" ", _NO_BREAK),
            _write_change(c),
            *([_write_change(c.again) if c.again else ""] if is_twice else []),
            html(why(c)),
        ]
        lines.append(TableLine(text=f"| {' | '.join(cells)} |", rank=rank + urgency[c.verdict]))
    head = f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}\n"
    return MarkdownTable(before=head, lines=tuple(lines), where="compare.html")


def _write_change(comparison: Comparison) -> str:
    """Write a change, and its interval below it."""
    span = f"<br><sub>{interval(comparison)}</sub>" if comparison.low is not None else ""
    return f"{change(comparison.ratio)}{span}".replace(" %", f"{_NO_BREAK}%")


def _write_reproduction(findings: ComparisonFindings) -> str:
    """Write the commands that measure this again, and where everything else is."""
    header = findings.header
    run = link_to_run(header)
    place = f"the artifact of [this run]({run}#artifacts)" if run else "the folder of this report"
    live = "Charts, logs (`logs/`) and every raw time (`compare.json`)"
    files = f"{live if findings.measured else 'Charts and every number (`compare.json`)'} are in {place}."
    if not header.commands:
        return f"\n{files}\n"
    commands = fenced("\n".join(header.commands), language="shell")
    return f"\n<details>\n<summary>Measure it again</summary>\n\n{commands}\n\n</details>\n\n{files}\n"


def to_json(findings: ComparisonFindings) -> str:
    """Write compare.json: the verdicts and everything they are made of."""
    document = {"v": 1, **{item.name: getattr(findings, item.name) for item in dataclasses.fields(findings)}}
    return json.dumps(_to_plain(document), ensure_ascii=False, allow_nan=False)


def _to_plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    match value:
        case Enum():
            return value.value
        case Mapping():
            return {str(key): _to_plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_to_plain(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
