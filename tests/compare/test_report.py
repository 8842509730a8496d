"""The report of a comparison: whole expected texts, and what outsiders cannot do to it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from torchperf_ci.compare.effects import Launch, Verdict
from torchperf_ci.compare.model import ComparisonFindings, Header, Measured, SideResult, ToleranceRules
from torchperf_ci.compare.report import comparison_json, describe_case, judge_cases, markdown, text, write_comparison
from torchperf_ci.compare.words import sparkline
from torchperf_ci.core.records import Case, Mode
from torchperf_ci.core.results import open_folder

GOLDEN = Path(__file__).parents[1] / "golden"
HEADER = Header(
    base="main",
    head="HEAD",
    how="Two processes on the same CPUs or GPU, in turn by iteration, in up to 10 launches.",
    machine="AMD EPYC, 2 CPUs, torch 2.13.0",
    tolerances=ToleranceRules(),
    warnings=("torch differs: 2.12.0 against 2.13.0",),
)
GOOD = SideResult(accuracy="pass", batch_size=8, parameters=100, memory_bytes=100_000_000)


def case(model: str) -> Case:
    return Case(suite="tiny", model=model, mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor")


def measured(model: str, ratio: float = 1.0, *, wobble: float = 0.001, head: SideResult | None = GOOD) -> Measured:
    base = tuple(0.004 * (1 + wobble * math.sin(7 * step)) for step in range(48))
    launch = Launch(
        base=base,
        head=tuple(ratio * 0.004 * (1 + wobble * math.cos(5 * step)) for step in range(48)),
        probe=(1e-4,) * 48,
    )
    return Measured(case=case(model), base=GOOD, head=head, launches=(launch, launch), seconds=10.0)


def everything() -> list[Measured]:
    """A case of every verdict."""
    slow, fast = measured("slow", 1.2), measured("fast", 0.8)
    return [
        replace(slow, again=slow),
        replace(measured("slow_once", 1.3), again=measured("slow_once")),
        measured("same"),
        replace(fast, again=fast),
        replace(measured("fast_once", 0.7), again=measured("fast_once")),
        replace(measured("open", 1.03), between=0.05),
        measured("broken", head=SideResult(failure="crashed: ended by signal 11 (SIGSEGV)")),
        measured("wrong", head=replace(GOOD, accuracy="fail_accuracy: output 0 differs")),
        measured("heavy", head=replace(GOOD, memory_bytes=120_000_000)),
        measured("gone", head=None),
        replace(measured("added"), base=None),
        replace(measured("other"), refusals=("batch size 8 against 4",)),
    ]


def findings() -> ComparisonFindings:
    return judge_cases(HEADER, everything())


@pytest.mark.parametrize(("name", "made"), [("compare.md", markdown), ("compare.txt", text)])
def test_the_report_reads_as_expected(name: str, made: object) -> None:
    """The verdict sentence, what changed, and the rest, whole."""
    assert callable(made)
    assert made(findings()).rstrip("\n") + "\n" == (GOLDEN / name).read_text(encoding="utf-8")


def test_a_case_is_told_in_one_line() -> None:
    """As it is finished, on stderr."""
    assert describe_case(measured("slow", 1.2), ToleranceRules()) == (
        "tiny/slow inductor: regressed +20.0 % (+18.9 % to +21.1 %)"
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
    found = json.loads(comparison_json(findings()))
    assert len(found["measured"]) == 12
    assert len(found["measured"][0]["launches"][0]["base"]) == 48
    assert found["comparisons"][0]["verdict"] == "regressed"
    assert found["comparisons"][0]["blocks"] is True
    assert found["header"]["tolerances"]["latency"] == {"margin": 0.02, "threshold": 0.05}


def test_hostile_names_stay_inside_their_cells() -> None:
    """A model's name cannot close a table cell, mention people, or start a heading."""
    evil = replace(measured("x", 1.5), case=replace(case("x"), model="a | b `c` @org/team\n# big <img src=x>"))
    made = markdown(judge_cases(replace(HEADER, base="<b>\n@x", warnings=("@y `z` |",)), [evil]))
    assert "\n# big" not in made
    assert "<img" not in made
    assert "@org" not in made.replace("<code>", "")
    rows = [line for line in made.splitlines() if line.startswith("| ❌")]
    assert [row.replace("\\|", "").count("|") for row in rows] == [10]


def test_a_long_report_keeps_what_failed() -> None:
    """Hundreds of unchanged cases are hidden before one that is slower."""
    many = [measured(f"model_{number}") for number in range(400)]
    made = markdown(judge_cases(HEADER, [*many, replace(measured("slow", 1.5), again=measured("slow", 1.5))]))
    assert len(made.encode()) <= 60_000
    assert "tiny/slow inductor" in made
    assert "hidden here for length, see compare.json" in made


def test_the_folder_gets_charts_of_what_changed(tmp_path: Path) -> None:
    """One of all cases, and one per case that is slower, faster or open; as SVG and PNG."""
    with open_folder(tmp_path / "out") as folder:
        write_comparison(folder, findings())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    drawn = ("slow", "slow_once", "fast", "fast_once", "open")
    charts = {"compare", *(f"compare_tiny_{model}_inductor" for model in drawn)}
    assert names == {".torchperf-ci", "compare.md", "compare.json"} | {
        f"{chart}.{ending}" for chart in charts for ending in ("svg", "png")
    }
    assert "Head against base" in (tmp_path / "out/compare.svg").read_text()


def test_rounds_are_drawn_over_time() -> None:
    """A group of blocks per launch, low where head was fast, high where it was slow."""
    early = Launch(base=(1.0,) * 24, head=(0.9,) * 12 + (1.1,) * 12)
    assert sparkline([early, early]) == "▁▁▁▁▁▁██████ ▁▁▁▁▁▁██████"
    assert sparkline([]) == ""
