"""Nothing from outside comes alive on GitHub: judged on what GitHub's own renderer makes of everything that is posted.

cmark-gfm is the renderer, raw HTML let through; what it leaves as text is then searched for what GitHub makes of text
after that, when character references are decoded: mentions, references to issues and commits, addresses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import given, settings
from hypothesis import strategies as st

from report_builders import BUILD, SOURCE, accuracy, both, case
from run_builders import a_run
from torchperf_ci.compare.effects import ChangeTolerance, Verdict
from torchperf_ci.compare.model import LATENCY, CommitSummary, Comparison, ComparisonFindings, Header, ToleranceRules
from torchperf_ci.compare.report import to_json
from torchperf_ci.compare.report import to_markdown as compare_markdown
from torchperf_ci.compare.words import METHOD
from torchperf_ci.core.records import Source, Status
from torchperf_ci.core.results import Problem, Results
from torchperf_ci.core.text import code, fenced, heading, html, one_line, sentence
from torchperf_ci.dashboard.comment import make_comment
from torchperf_ci.dashboard.model import DashboardOptions, study
from torchperf_ci.expectations.check import CheckOutcome, ModelCheck, TableCheck
from torchperf_ci.expectations.collect import ConfigRun
from torchperf_ci.expectations.report import write_check_markdown, write_update_markdown
from torchperf_ci.expectations.table import CheckKind, ExpectationTable
from torchperf_ci.expectations.update import plan_update
from torchperf_ci.post.stored import COMPARISON, Expected, read_posting, review_problem, review_results
from torchperf_ci.report.charts import Charts
from torchperf_ci.report.gh_parts import render_parts
from torchperf_ci.report.markdown import write_markdown
from torchperf_ci.report.model import ReportOptions, collect_findings
from torchperf_ci.shards.uploads import Configuration

OURS = "https://github.com/octo/project/"
MARKER = "<!-- torchperf-ci 0123456789abcdef 0123456789abcdef -->"
PARTS = (
    "@octocat", "&#64;octocat", "&commat;octocat", "#1", "&#35;1", "octo/repo#1", "GH-1", "gh-22", "octo@0123456",
    "0123456789abcdef0123456789abcdef01234567", "deadbeef", "a@b.example", "mailto:a@b.example",
    "www.evil.example", "https://evil.example", "http&#58;//evil.example", "<https://evil.example>",
    "[x](https://evil.example)", "![i](https://evil.example/x.png)", "<img src=x>", "<b>", "</details>", "</code>",
    "</table>", "<script>", MARKER, "<!--", "-->", "`", "``", "```", "~~~", "|", "\\", "\n", "\n\n", "\n# ", "\n- ",
    "> ", "*", "_", "~", "$", "$`x`$", ":tada:", " ", "a", ":", "(", ")", "\u2060", "\u200b",
)  # fmt: skip
HOSTILE = st.lists(st.sampled_from(PARTS), min_size=1, max_size=6).map("".join)

_ALIVE = re.compile(
    r"""(?<![\w])@[a-z0-9]                      # a mention, also of a team
      | \#\d | \bgh-\d                          # an issue
      | (?<![a-z0-9])[0-9a-f]{7,40}(?![a-z0-9]) # a commit
      | [\w.+-]@[\w-]+                          # an address, or a commit of a repository
      | :// | \bwww\.                           # a link""",
    re.VERBOSE | re.IGNORECASE,
)
_OURS = {"h1", "h2", "h3", "h4", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "details", "summary",
         "ul", "li", "blockquote", "sub", "hr", "em", "strong", "br"}  # fmt: skip


class Reader(HTMLParser):
    """Collects what is alive in rendered Markdown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.alive: list[str] = []
        self.text = ""
        self._code = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._settle()
        self._code += tag in {"code", "pre", "a"}
        harmless = {("align", "left"), ("align", "right"), ("align", "center"), ("class", "language-shell")}
        if tag == "a" and str(dict(attrs).get("href")).startswith((OURS, METHOD)):
            return  # the run and the commit that GitHub names, and our own page
        if tag not in _OURS or not {*attrs} <= harmless:
            self.alive.append(f"<{tag} {attrs}>")

    def handle_endtag(self, tag: str) -> None:
        self._settle()
        self._code -= tag in {"code", "pre", "a"}

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.text += data

    def handle_comment(self, data: str) -> None:
        self.alive.append(f"<!--{data}-->")

    def _settle(self) -> None:
        self.alive += [match[0] for match in _ALIVE.finditer(self.text)]
        self.text = ""


def alive_in(posted: str) -> list[str]:
    rendered = cmarkgfm.markdown_to_html_with_extensions(
        posted, options=Options.CMARK_OPT_UNSAFE, extensions=["table", "autolink", "tagfilter", "strikethrough"]
    )
    reader = Reader()
    reader.feed(rendered)
    reader.close()
    reader._settle()
    return reader.alive


def comparison(evil: str) -> ComparisonFindings:
    header = Header(
        base=evil,
        head=evil,
        how="",
        machine=evil,
        tolerances=ToleranceRules(latency=ChangeTolerance(margin=0.02, threshold=0.05)),
        warnings=(evil,),
        source=Source(repository=evil, run_id=evil),
        base_commit=CommitSummary(sha=evil, subject=evil),
        head_commit=CommitSummary(sha="0123456789" * 4, subject=evil),
        server="https://github.com",
        commands=(evil,),
    )
    of = case(evil, evil, suite=evil)
    return ComparisonFindings(
        header=header,
        comparisons=(
            Comparison(case=of, metric=LATENCY, verdict=Verdict.FAILED, why=evil, blocks=True, listed=True),
            Comparison(case=replace(of, model=f"{evil}2"), metric=LATENCY, verdict=Verdict.REFUSED, why=evil),
        ),
    )


def results(evil: str) -> Results:
    """A run in which all that can be text is hostile."""
    of = case(evil, evil, suite=evil, device=evil, dtype=evil)
    source = replace(SOURCE, repository=evil, commit=evil, branch=evil, workflow=evil, time=evil)
    records = (accuracy(of, Status.CRASHED, reason=evil), *both(replace(of, model=f"{evil}2"), 1.5))
    environment = replace(BUILD.environment, cpu=evil, torch=evil, gpu=evil, gpu_count=1)
    build = replace(BUILD, environment=environment, variables={evil: evil}, packages={evil: evil}, suites={evil: evil})
    problem = Problem(file=evil, what=evil)
    return Results(
        records=tuple(replace(record, source=source) for record in records), builds=(build,), problems=(problem,)
    )


def dashboard_comment(evil: str) -> str:
    now = results(evil)
    made = [a_run(day, now.records) for day in range(3)]
    findings = collect_findings(now, ReportOptions())
    *past, newest = made
    studied = study(findings, newest, past, DashboardOptions(), problems=now.problems)
    charts = Charts(overviews=(), speedups={}, samples=())
    return make_comment(studied, charts, {})


def check(evil: str) -> str:
    lines = (
        ModelCheck(name=evil, outcome=CheckOutcome.FAIL, fails=True, detail=evil),
        ModelCheck(name=f"{evil}2", outcome=CheckOutcome.FAIL_BUT_FLAKY, fails=False, detail=evil),
    )
    return write_check_markdown(
        [TableCheck(kind=CheckKind.ACCURACY, table=evil, lines=lines)], f"torchperf-ci update {evil}"
    )


def update(evil: str) -> str:
    rows = ((f"m{one_line(evil)}", "pass"), ("other", f"x{one_line(evil)}"))
    tables = {
        f"{evil}.csv".replace("/", "-").replace("\0", ""): ExpectationTable(columns=("name", "accuracy"), rows=rows)
    }
    run = ConfigRun(config=Configuration("suite"), tables=tables, gaps=(evil,), notes=(evil,))
    return write_update_markdown(plan_update(Path("/nonexistent"), [run]), sha=evil)


def each_part(evil: str) -> Iterator[str]:
    yield from render_parts(collect_findings(results(evil), ReportOptions())).values()


RENDERERS: dict[str, Callable[[str], str]] = {
    "compare.md": lambda evil: compare_markdown(comparison(evil)),
    "post compare.json": lambda evil: read_posting({COMPARISON: to_json(comparison(evil)).encode()}, Expected()).text,
    "report.md": lambda evil: write_markdown(collect_findings(results(evil), ReportOptions())),
    "post records.jsonl": lambda evil: review_results(results(evil)).text,
    "post what cannot be used": lambda evil: review_problem(evil).text,
    "gh_*.txt": lambda evil: "\n\n".join(each_part(evil)),
    "dashboard": dashboard_comment,
    "check": check,
    "update-expected": update,
    "code": code,
    "heading": lambda evil: f"## {heading(evil)}",
    "sentence": sentence,
    "html": lambda evil: f"a {html(evil)} b",
    "fenced": lambda evil: f"a\n\n{fenced(evil)}\n\nb",
}


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
@given(evil=HOSTILE)
@settings(max_examples=25)
def test_nothing_from_outside_comes_alive(render: Callable[[str], str], evil: str) -> None:
    """No mention, reference, link, picture, element or comment, whichever report it stands in."""
    assert alive_in(render(evil)) == []


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
@pytest.mark.parametrize("evil", [part for part in PARTS if part.strip()])
def test_each_attack_alone_stays_dead(render: Callable[[str], str], evil: str) -> None:
    """Also where a text that means nothing is shown as it is."""
    assert alive_in(render(f"x {evil} y")) == []
    assert alive_in(render(evil)) == []


@pytest.mark.parametrize(
    "text", [part for part in PARTS if re.search(r"@\w|64|\d#|#1|GH|https|<img|<!-- t|dead|0123", part)]
)
def test_the_judge_sees_what_is_alive(text: str) -> None:
    """Else the tests above would prove nothing."""
    assert alive_in(f"x {text} y")
