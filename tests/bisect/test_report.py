"""What a report of a bisection says, and that nothing from outside in it comes alive."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bisect_simulation import Simulation, chain
from torchperf_ci.bisect.model import BisectFindings, Outcome, Progress, Question
from torchperf_ci.bisect.report import to_markdown, to_text, write_headline
from torchperf_ci.bisect.session import Bisection
from torchperf_ci.compare.model import ACCURACY, Header, ToleranceRules
from torchperf_ci.compare.report import to_json
from torchperf_ci.core.records import Source

HEADER = Header(
    base="c0",
    head="c12",
    how="Both ran on the same CPUs in turn.",
    machine="AMD EPYC, 2 CPUs",
    tolerances=ToleranceRules(),
    commands=("torchperf-ci bisect a b",),
)
HOSTILE = "`<img>` @team #1 | ![x](//evil) ::error::\x1b[31m\n## no"


def search(steps: dict[int, float], *, broken: tuple[int, ...] = (), subject: str = "") -> BisectFindings:
    """Search a line of a dozen candidates, some of which are slower than the one before."""
    good, candidates = chain(12)
    candidates = [replace(each, subject=subject, author=subject, date="2026-05-04") for each in candidates]
    levels, level = {}, 1.0
    for number in range(13):
        level *= steps.get(number, 1.0)
        levels[str(number)] = level
    engine = Simulation(levels=levels, seed=1, broken={str(n): f"no compiler {subject}" for n in broken})
    progress = Bisection(good, candidates, Question(), engine).run()
    if subject:
        culprits = tuple(replace(each, diffstat=f"{subject} | 2 +-") for each in progress.culprits)
        progress = replace(progress, culprits=culprits)
    return BisectFindings(
        question=Question(), subject="suite/net inductor", good=good, bad=candidates[-1], count=12, progress=progress,
        header=HEADER,
    )  # fmt: skip


def test_the_culprit_comes_first_with_what_it_changed() -> None:
    """Then every step with its interval."""
    findings = search({7: 1.3})
    report = to_markdown(findings)
    assert report.startswith("## ✅ `c7` changed latency of `suite/net inductor`: +")
    assert "like the good end" in report
    assert "torchperf-ci bisect a b" in report
    assert report.count("\n| ") == len(findings.progress.steps) + 2  # and two of its head
    assert to_text(findings).startswith("✅ c7 changed latency of suite/net inductor: +")
    assert json.loads(to_json(findings))["progress"]["culprits"][0]["candidate"]["key"] == "7"


def test_parts_of_a_change_are_listed_with_their_shares() -> None:
    """The larger one first."""
    headline = write_headline(search({3: 1.1, 9: 1.2}))
    assert "spread over more than one commit; 2 commits found: c9 (" in headline
    assert headline.index("c9") < headline.index("c3")


def test_a_range_names_every_suspect_with_its_reason() -> None:
    """And is no success."""
    text = to_text(search({7: 1.3}, broken=(6, 7)))
    assert text.startswith("⚠️ One of 3 commits changed suite/net inductor (+")
    assert "c6" in text
    assert "no compiler" in text


@pytest.mark.parametrize("outcome", Outcome)
def test_every_end_has_a_headline(outcome: Outcome) -> None:
    """Green only where the culprit is known; also when nothing was measured."""
    findings = search({7: 1.3})
    headline = to_text(replace(findings, progress=replace(findings.progress, outcome=outcome)))
    assert headline.startswith("✅" if outcome is Outcome.FOUND else "⚠️")
    if outcome is not Outcome.FOUND:
        nothing = replace(findings, progress=Progress(outcome=outcome))
        assert to_text(nothing)
        assert to_markdown(nothing)


@pytest.mark.parametrize("steps", [{7: 1.3}, {}])
def test_nothing_from_outside_comes_alive(steps: dict[int, float]) -> None:
    """Subjects, authors, files and reasons are shown, not obeyed."""
    report = to_markdown(search(steps, broken=(6,), subject=HOSTILE))
    prose = "".join(part for number, part in enumerate(report.split("```")) if number % 2 == 0)
    for alive in ("<img>", "@team", "![x](", "\x1b", "\n## no"):
        assert alive not in prose
    assert "\x1b" not in to_text(search(steps, subject=HOSTILE))


def test_commits_are_links_where_there_is_a_server() -> None:
    """Of whole SHAs alone."""
    findings = search({7: 1.3})
    sha = "a" * 40
    header = replace(HEADER, server="https://github.com", source=Source(repository="org/project", run_id="5"))
    report = to_markdown(replace(findings, good=replace(findings.good, key=sha, name=sha[:12]), header=header))
    assert f"[`{sha[:12]}`](https://github.com/org/project/commit/{sha})" in report
    assert "actions/runs/5" in report


@pytest.mark.parametrize("outcome", Outcome)
def test_reasons_in_a_headline_are_shown_and_not_obeyed(outcome: Outcome) -> None:
    """What a failing case says stands in headlines, tables and culprits."""
    findings = search({7: 1.3})
    progress = findings.progress
    assert progress.whole is not None
    step = replace(progress.whole, why=HOSTILE)
    culprits = tuple(replace(each, step=step) for each in progress.culprits)
    progress = replace(progress, outcome=outcome, whole=step, steps=(step,), culprits=culprits)
    report = to_markdown(replace(findings, question=Question(metric=ACCURACY), progress=progress))
    prose = "".join(part for number, part in enumerate(report.split("```")) if number % 2 == 0)
    for alive in ("<img>", "@team", "![x](", "\x1b", "\n## no"):
        assert alive not in prose
