"""The report of a comparison: whole expected texts, and what outsiders cannot do to it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from compare_builders import HEADER, case, findings, measured
from torchperf_ci.compare.effects import LaunchNoise, Verdict
from torchperf_ci.compare.model import ToleranceRules
from torchperf_ci.compare.report import (
    describe_case,
    judge_cases,
    read_launch_noise,
    to_json,
    to_markdown,
    to_text,
    write_comparison,
)
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.results import open_folder

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(("name", "made"), [("compare.md", to_markdown), ("compare.txt", to_text)])
def test_the_report_reads_as_expected(name: str, made: object) -> None:
    """The verdict sentence, what changed, and the rest, whole."""
    assert callable(made)
    assert made(findings()).rstrip("\n") + "\n" == (GOLDEN / name).read_text(encoding="utf-8")


def test_a_case_is_told_in_one_line() -> None:
    """As it is finished, on stderr."""
    assert describe_case(measured("slow", 1.2), ToleranceRules()) == (
        "tiny/slow inductor: slower +20.0 % (+18.9 % to +21.1 %)"
    )


def test_counts_decide_the_exit_code() -> None:
    """What is new, fixed or refused is not a comparison."""
    found = findings()
    assert (found.blocking, found.inconclusive, found.compared) == (5, 3, 10)
    nothing = judge_cases(HEADER, [replace(measured("other"), refusals=("x",)), replace(measured("added"), base=None)])
    assert (nothing.blocking, nothing.compared, nothing.sign) == (0, 0, "⚠️")


def test_an_interrupt_leaves_no_improvement_that_was_seen_once() -> None:
    """It is open; what is worse is shown as worse all the same."""
    found = judge_cases(HEADER, [measured("fast", 0.7), measured("slow", 1.3)], unmeasured=2)
    assert [c.verdict for c in found.comparisons if c.metric == "abs_latency"] == [
        Verdict.INCONCLUSIVE,
        Verdict.REGRESSED,
    ]


def test_the_json_holds_every_raw_time() -> None:
    """And is strict JSON, also where an interval is infinite."""
    found = json.loads(to_json(findings()))
    assert len(found["measured"]) == 12
    assert len(found["measured"][0]["launches"][0]["base"]) == 48
    assert found["comparisons"][0]["verdict"] == "regressed"
    assert found["comparisons"][0]["blocks"] is True
    assert found["header"]["tolerances"]["latency"] == {"margin": 0.02, "threshold": 0.05}


def test_hostile_names_stay_inside_their_cells() -> None:
    """A model's name cannot close a table cell, mention people, or start a heading."""
    evil = replace(measured("x", 1.5), case=replace(case("x"), model="a | b `c` @org/team\n# big <img src=x>"))
    made = to_markdown(judge_cases(replace(HEADER, base="<b>\n@x", warnings=("@y `z` |",)), [evil]))
    assert "\n# big" not in made
    assert "<img" not in made
    assert "@org" not in made.replace("<code>", "")
    rows = [line for line in made.splitlines() if line.startswith("| ❌")]
    assert [row.replace("\\|", "").count("|") for row in rows] == [8]


def test_a_long_report_keeps_what_failed() -> None:
    """Hundreds of unchanged cases are hidden before one that is slower."""
    many = [measured(f"model_{number}") for number in range(600)]
    made = to_markdown(judge_cases(HEADER, [*many, replace(measured("slow", 1.5), again=measured("slow", 1.5))]))
    assert len(made.encode()) <= 60_000
    assert "tiny/slow inductor" in made
    assert "hidden here for length, see compare.html" in made


def test_the_folder_gets_charts_of_what_changed(tmp_path: Path) -> None:
    """One of all cases, and one per case that is slower, faster or open; as SVG and PNG."""
    with open_folder(tmp_path / "out") as folder:
        write_comparison(folder, findings())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    drawn = ("slow", "slow_once", "fast", "fast_once", "open")
    charts = {"compare", *(f"compare_tiny_{model}_inductor" for model in drawn)}
    assert names == {".torchperf-ci", "compare.md", "compare.json", "compare.html"} | {
        f"{chart}.{ending}" for chart in charts for ending in ("svg", "png")
    }
    assert "Head against base" in (tmp_path / "out/compare.svg").read_text()


def test_launches_of_earlier_comparisons_are_read_again(tmp_path: Path) -> None:
    """Of the machine that this is, with both measurements of a case; another machine's are left out and named."""
    spread = {"abs_latency": LaunchNoise(variance=1e-4, freedom=9), "tokens": LaunchNoise(variance=1e-5, freedom=9)}
    cases = [replace(measured(f"model_{number}"), spread=spread) for number in range(4)]
    cases[0] = replace(cases[0], again=replace(cases[0], spread=spread))
    (tmp_path / "compare.json").write_text(to_json(judge_cases(HEADER, cases)))
    assert read_launch_noise([tmp_path], HEADER.machine) == ([spread] * 5, [])
    spreads, left_out = read_launch_noise([tmp_path], "another machine")
    assert not spreads
    assert str(tmp_path) in left_out[0]


@pytest.mark.parametrize("content", [None, "{", '{"header": 3}', "[]"])
def test_an_earlier_comparison_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    """With what to give instead."""
    if content is not None:
        (tmp_path / "compare.json").write_text(content)
    with pytest.raises(UsageProblem, match=r"--earlier .*--output-dir"):
        read_launch_noise([tmp_path], HEADER.machine)
