"""compare.html: the report of a comparison as one page that needs no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from markupsafe import Markup

from torchperf_ci.compare.explanation import write_explanation
from torchperf_ci.compare.model import Comparison, ComparisonFindings
from torchperf_ci.compare.words import (
    LONGEST_NAME,
    METHOD,
    change,
    interval,
    link_to_commit,
    link_to_run,
    list_bisect_commands,
    list_notes,
    metric_name,
    name,
    quantity,
    sign_of,
    split_comparisons,
    verdict_of,
    why,
    write_headline,
)
from torchperf_ci.core.text import one_line
from torchperf_ci.report.charts import Chart
from torchperf_ci.report.html import TONES, Grid, grid, inline_chart, number, read_template, render_page, text


@dataclass(frozen=True, slots=True, kw_only=True)
class SideLine:
    """One side in the list of what was compared. `sha`, `subject` and `link` are of its commit, or blank."""

    name: str
    label: str
    sha: str
    subject: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyLine:
    """An explanation in the page: its case and metric, its sentence, and the link to all of it, or blank."""

    case: str
    metric: str
    sentence: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparePage:
    """All that the template shows. The first four are what every page has."""

    sign: str
    verdict: str
    tone: str
    setting: Sequence[str]
    rest_of_verdict: str
    sides: Sequence[SideLine]
    how: str
    run: str
    warnings: Sequence[str]
    changed: Grid
    reasons: Sequence[WhyLine]
    counted: Grid
    rest: Grid
    overview: Markup
    samples: Sequence[Markup]
    notes: Sequence[str]
    method: str
    commands: Sequence[str]
    bisections: Sequence[str]


def render_comparison(findings: ComparisonFindings, charts: Sequence[Chart]) -> str:
    """Render compare.html; the first chart is the one of all cases."""
    header = findings.header
    tone, sign = TONES.get(findings.sign, ("unsure", "!"))
    headline, rest = write_headline(findings)
    drawn = [inline_chart(chart) for chart in charts]
    changed, counted, rest_of_comparisons = split_comparisons(findings)
    page = ComparePage(
        sign=sign,
        verdict=headline,
        tone=tone,
        setting=[one_line(header.machine)],
        rest_of_verdict=f"{rest}." if rest else "",
        sides=[*_list_sides(findings)],
        how=header.how,
        run=link_to_run(header),
        warnings=[one_line(warning) for warning in header.warnings],
        changed=_make_grid(changed),
        reasons=[
            WhyLine(
                case=name(each.case),
                metric=metric_name(each.metric),
                sentence=write_explanation(each),
                link=quote(f"{each.folder}/index.html") if each.folder else "",
            )
            for each in findings.explanations
        ],
        counted=_make_grid(counted),
        rest=_make_grid(rest_of_comparisons),
        overview=drawn[0] if drawn else Markup(),
        samples=drawn[1:],
        notes=[*list_notes(findings)],
        method=METHOD,
        commands=header.commands,
        bisections=list_bisect_commands(findings),
    )
    return render_page(read_template(__package__, "compare.html"), page)


def _list_sides(findings: ComparisonFindings) -> Iterator[SideLine]:
    header = findings.header
    for side, label, commit in (("Base", header.base, header.base_commit), ("Head", header.head, header.head_commit)):
        yield SideLine(
            name=side,
            label=one_line(label, limit=LONGEST_NAME),
            sha=commit.sha[:12] if commit else "",
            subject=one_line(commit.subject, limit=LONGEST_NAME) if commit else "",
            link=link_to_commit(header, commit.sha) if commit else "",
        )


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
