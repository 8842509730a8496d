"""The report of a comparison as Markdown, text, JSON and one page of HTML: the verdict, what changed, the rest."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from torchperf_ci.compare.acceptance import write_suggestion
from torchperf_ci.compare.effects import BETWEEN_FLOOR, LaunchNoise, Verdict
from torchperf_ci.compare.model import (
    Comparison,
    ComparisonFindings,
    Explanation,
    Header,
    Measured,
    ToleranceRules,
    write_amount,
    write_cause,
    write_explanation,
)
from torchperf_ci.compare.verdicts import (
    compare_case,
    correct_family,
    estimate_saved_seconds,
    open_unconfirmed,
    share_launch_noise,
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
    list_bisect_commands,
    list_notes,
    metric_name,
    name,
    percent,
    quantity,
    sign_of,
    split_comparisons,
    verdict_of,
    why,
    write_headline,
    write_sentence,
)
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.results import ResultsFolder
from torchperf_ci.core.text import code, count, fenced, html, one_line
from torchperf_ci.report.charts import Chart
from torchperf_ci.report.document import Block, MarkdownTable, fit, fold, lines_table, markdown_table
from torchperf_ci.report.html import TONES, Grid, grid, inline_chart, number, read_template, render_page, text


def render_comparison(findings: ComparisonFindings, charts: Sequence[Chart]) -> str:
    """Render compare.html; the first chart is the one of all cases."""
    header = findings.header
    tone, sign = TONES.get(findings.sign, ("unsure", "!"))
    headline, rest = write_headline(findings)
    drawn = [inline_chart(chart) for chart in charts]
    changed, counted, rest_of_comparisons = split_comparisons(findings)
    sides = (("Base", header.base, header.base_commit), ("Head", header.head, header.head_commit))
    page = {
        "sign": sign,
        "verdict": headline,
        "tone": tone,
        "setting": [one_line(header.machine)],
        "rest_of_verdict": f"{rest}." if rest else "",
        "sides": [
            {
                "name": side,
                "label": one_line(label, limit=LONGEST_NAME),
                "sha": commit.sha[:12] if commit else "",
                "subject": one_line(commit.subject, limit=LONGEST_NAME) if commit else "",
                "link": link_to_commit(header, commit.sha) if commit else "",
            }
            for side, label, commit in sides
        ],
        "how": header.how,
        "run": link_to_run(header),
        "warnings": [one_line(warning) for warning in header.warnings],
        "changed": _make_grid(changed),
        "reasons": [
            {
                "case": name(each.case),
                "metric": metric_name(each.metric),
                "sentence": write_explanation(each),
                "link": quote(f"{each.folder}/index.html") if each.folder else "",
            }
            for each in findings.explanations
        ],
        "counted": _make_grid(counted),
        "rest": _make_grid(rest_of_comparisons),
        "overview": drawn[0] if drawn else "",
        "samples": drawn[1:],
        "notes": [*list_notes(findings)],
        "method": METHOD,
        "commands": header.commands,
        "bisections": list_bisect_commands(findings),
    }
    return render_page(read_template(__package__, "compare.html"), page)


def _make_grid(comparisons: Sequence[Comparison]) -> Grid:
    return grid(
        ("Verdict", "Case", "Metric", "#Change", "#Base", "#Head", "#Measured again", "Remarks"),
        (
            (
                sign_of(c) == "❌",
                (
                    text(verdict_of(c)),
                    text(name(c.case)),
                    text(metric_name(c.metric)),
                    number(change(c.ratio), "" if c.low is None else interval(c)),
                    number(quantity(c, c.base)),
                    number(quantity(c, c.head)),
                    number(change(c.again.ratio), "" if c.again.low is None else interval(c.again))
                    if c.again
                    else text(""),
                    text(why(c)),
                ),
            )
            for c in comparisons
        ),
    )


LIMIT = 60_000
MOST_COUNTS = 20
"""Counts that differ, without a verdict, in the text for a terminal."""
MOST_CAUSES = 8
"""Causes of an explanation in compare.md; its page has them all."""
LONGEST_WARNING = 1_000
_NO_BREAK = "\N{NO-BREAK SPACE}"


def judge_cases(
    header: Header,
    measured: Sequence[Measured],
    *,
    unmeasured: int = 0,
    earlier: Sequence[Mapping[str, LaunchNoise]] = (),
) -> ComparisonFindings:
    """Judge the cases that were measured live; the verdicts are corrected for how many there are.

    earlier: what launches differed by in earlier comparisons on this machine.
    """
    measured = share_launch_noise(measured, earlier)
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
    changed, counted, _ = split_comparisons(findings)
    for c in (*changed, *counted[:MOST_COUNTS]):
        values = f" {quantity(c, c.base)} → {quantity(c, c.head)}," if c.ratio else ""
        numbers = f"{values} {change_with_interval(c)}" if c.ratio else ""
        again = f"; again {change_with_interval(c.again)}" if c.again and c.again.ratio else ""
        reason = f" – {why(c)}{again}" if why(c) else ""
        lines.append(f"  {sign_of(c)} {name(c.case)} {metric_name(c.metric)}: {verdict_of(c)}{numbers}{reason}")
        lines += [f"     why: {write_explanation(e)}" for e in _find_explanations(findings, c)]
    if (more := len(counted) - MOST_COUNTS) > 0:
        lines.append(f"  {SIGNS[Verdict.CHANGED]} and {count(more, 'more difference')} in counts or code")
    if findings.inconclusive and findings.is_recorded:
        lines.append("  Runs from different times decide little. `compare --base-ref …` measures both sides in turn.")
    return "\n".join(lines)


def _find_explanations(findings: ComparisonFindings, comparison: Comparison) -> list[Explanation]:
    key = comparison.case, comparison.metric
    return [explanation for explanation in findings.explanations if (explanation.case, explanation.metric) == key]


def describe_case(measured: Measured, tolerances: ToleranceRules) -> str:
    """Describe a case in one line, as it is finished; before the correction for how many cases there are."""
    first, *others = compare_case(measured, tolerances)
    numbers = f" {change_with_interval(first)}" if first.ratio else ""
    numbers += f", again {change_with_interval(first.again)}" if first.again and first.again.ratio else ""
    changes = [f"{metric_name(c.metric)} {verdict_of(c)}" for c in others if is_change(c)]
    parts = [f"{name(first.case)}: {verdict_of(first)}{numbers}", *changes, first.why]
    return one_line("; ".join(part for part in parts if part))


def to_markdown(findings: ComparisonFindings) -> str:
    """Write compare.md, at most `LIMIT` bytes: what fails is hidden last."""
    changed, counted, rest = split_comparisons(findings)
    blocks = [Block(before=_write_head(findings), rank=0)]
    if changed:
        blocks.append(Block(before="\n### What changed\n", tables=(_make_table(changed, rank=1),), rank=1))
        blocks += [_fold_explanation(e) for c in changed for e in _find_explanations(findings, c)]
    for comparisons, title, rank in (
        (counted, f"{count(len(counted), 'difference')} in counts or code, without a verdict", 8),
        (rest, f"{count(len(rest), 'other metric')} without a change that counts", 9),
    ):
        if comparisons:
            blocks.append(fold(title, [_make_table(comparisons, rank=rank)], rank))
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


def _fold_explanation(explanation: Explanation) -> Block:
    """Fold an explanation under its sentence: its first causes, and where all of it is."""
    short = partial(code, limit=LONGEST_NAME)
    lines = []
    for cause in (*explanation.causes, *explanation.facts)[:MOST_CAUSES]:
        share = "" if cause.share is None else percent(round(cause.share, 2))
        change = "" if cause.share is None else write_amount(explanation.unit, cause.difference)
        lines.append(f"| {share} | {change} | {write_cause(cause, explanation, short, html)} |")
    head = "| Part | Difference | Cause |\n| ---: | ---: | --- |\n"
    table = lines_table(lines, rank=4, where=f"{explanation.folder}/index.html", before=head)
    has_page = bool(lines and explanation.folder)
    where = f"\nThe page, a flame graph, diffs and traces are in {code(explanation.folder)}.\n" if has_page else ""
    title = f"Why {html(metric_name(explanation.metric))} of {html(name(explanation.case))} differs"
    sentence = write_explanation(explanation, short, html)
    before = f"\n<details>\n<summary>{title}</summary>\n\n{sentence}\n\n"
    return Block(before=before, tables=(table,) if lines else (), after=f"{where}\n</details>\n", rank=3)


def _make_table(comparisons: Sequence[Comparison], *, rank: int) -> MarkdownTable:
    is_twice = any(c.again for c in comparisons)
    columns = ("", "Case", "Metric", "Change", "Base", "Head", *(["Measured again"] if is_twice else []), "Remarks")
    urgency = {verdict: min(place, 7) for place, verdict in enumerate(Verdict)}
    rows = [
        (
            f"{sign_of(c)} {verdict_of(c)}",
            code(name(c.case)),
            html(metric_name(c.metric)),
            _write_change(c),  # before the sides' numbers: a phone shows the first columns
            quantity(c, c.base).replace(" ", _NO_BREAK),
            quantity(c, c.head).replace(" ", _NO_BREAK),
            *([_write_change(c.again) if c.again else ""] if is_twice else []),
            html(why(c)),
        )
        for c in comparisons
    ]
    ranks = [rank + urgency[c.verdict] for c in comparisons]
    return markdown_table(columns, rows, ranks=ranks, where="compare.html", keep_empty=True)


def _write_change(comparison: Comparison) -> str:
    """Write a change, and its interval below it."""
    span = f"<br><sub>{interval(comparison)}</sub>" if comparison.low is not None else ""
    return f"{change(comparison.ratio)}{span}".replace(" %", f"{_NO_BREAK}%")


def _write_reproduction(findings: ComparisonFindings) -> str:
    """Write the commands that measure this again, how to accept what fails, and where everything else is."""
    header = findings.header
    run = link_to_run(header)
    place = f"the artifact of [this run]({run}#artifacts)" if run else "the folder of this report"
    live = "Charts, logs (`logs/`) and every raw time (`compare.json`)"
    files = f"{live if findings.measured else 'Charts and every number (`compare.json`)'} are in {place}."
    folds = []
    if header.commands:
        folds.append(("Measure it again", fenced("\n".join(header.commands), language="shell")))
    if commands := list_bisect_commands(findings):
        folds.append(("Find the commit that did it", fenced("\n".join(commands), language="shell")))
    if run and (suggestion := write_suggestion(findings)):
        said = f"Somebody with write access comments on the pull request:\n\n{fenced(suggestion)}"
        folds.append(("It is intended", said))
    shown = "".join(f"\n<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>\n" for title, text in folds)
    return f"{shown}\n{files}\n"


def to_json(findings: object) -> str:
    """Write all of the findings, as compare.json and bisect.json have them: verdicts and what they are made of."""
    return json.dumps({"v": 1, **to_plain(findings)}, ensure_ascii=False, allow_nan=False)


class KeptMeasurement(msgspec.Struct):
    """One measurement of a case in an earlier compare.json: the spread of its launches, by metric."""

    between: float = 0.0
    spread: dict[str, LaunchNoise] = {}
    again: KeptMeasurement | None = None


class KeptHeader(msgspec.Struct):
    """The machine of an earlier compare.json."""

    machine: str


class KeptComparison(msgspec.Struct):
    """An earlier compare.json, as far as later comparisons learn from it."""

    header: KeptHeader
    measured: list[KeptMeasurement] = []


def read_launch_noise(folders: Sequence[Path], machine: str) -> tuple[list[Mapping[str, LaunchNoise]], list[str]]:
    """Read what the launches of cases differed by, by metric, in earlier comparisons whose sides ran in turn on
    `machine`, a header's text; and why a folder has none.

    Raises `UsageProblem` for a folder without a compare.json that can be read.
    """
    spreads: list[Mapping[str, LaunchNoise]] = []
    left_out = []
    for folder in folders:
        path = folder / "compare.json"
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=KeptComparison)
        except (OSError, ValueError) as error:
            why = "there is none" if isinstance(error, FileNotFoundError) else one_line(str(error), limit=200)
            raise UsageProblem(
                f"--earlier {folder}: {path.name} cannot be read: {why}; name the --output-dir of a comparison"
            ) from error
        if kept.header.machine != machine:
            left_out.append(f"{folder}: it was measured on {kept.header.machine}, this is {machine}")
            continue
        rounds = [one for case in kept.measured for one in (case, case.again) if one is not None]
        spreads += [one.spread for one in rounds if one.spread and one.between == BETWEEN_FLOOR]
    return spreads, left_out


def to_plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Make JSON of dataclasses, enums and mappings; what is not finite becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    match value:
        case Enum():
            return value.value
        case Mapping():
            return {str(key): to_plain(item) for key, item in value.items()}
        case list() | tuple():
            return [to_plain(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
