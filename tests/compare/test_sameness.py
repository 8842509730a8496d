"""Whether a case is the same program on both sides, and what becomes of one that is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from compare_builders import HEADER, measured
from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.live import COMPILED, GENERATED_CODE, OPERATORS, TRACED, compare_programs
from torchperf_ci.compare.model import MOST_DIFFERENCES, ComparisonFindings, Measured, Sameness, ToleranceRules
from torchperf_ci.compare.report import judge_cases, to_json, to_markdown, to_text
from torchperf_ci.compare.verdicts import estimate_saved_seconds, is_clear_difference
from torchperf_ci.core.text import duration
from torchperf_ci.post.stored import read_comparison
from torchperf_ci.run.case_worker import ProgramTrace

PARTS = {part: {"name": "aa"} for part in (*TRACED, COMPILED)}
PARTS["functions"] = {"package.forward": ["<tree>/package.py", 7, 3, "aa"]}
DIGESTS = dict.fromkeys(PARTS, "00")
COUNTS = {OPERATORS: "11", GENERATED_CODE: "22"}
SAME = ProgramTrace(digests=DIGESTS, parts=PARTS)


def changed(part: str, name: str, value: object) -> ProgramTrace:
    """The trace of a program with another item."""
    return ProgramTrace(digests={**DIGESTS, part: "ff"}, parts={**PARTS, part: {**PARTS[part], name: value}})


def judge(
    head: ProgramTrace = SAME, *, compiler: str = "inductor", base: ProgramTrace = SAME, **counts: str
) -> Sameness:
    counted = {"base": COUNTS, "head": {**COUNTS, **counts}}
    return compare_programs(base, head, compiler=compiler, counted=counted)


def test_equal_traces_and_counts_are_the_same_program() -> None:
    """Nothing differs, and nobody doubts it."""
    sameness = judge()
    assert sameness == Sameness()
    assert sameness.is_same


def test_what_differs_is_named_with_both_sides() -> None:
    """A function that does something else, one that is new, and one that runs more often."""
    item = ["<tree>/package.py", 9, 4, "aa"]
    (difference,) = judge(changed("functions", "package.forward", item)).differences
    assert (difference.part, difference.name) == ("functions", "package.forward")
    assert (difference.base, difference.head) == (PARTS["functions"]["package.forward"], item)
    (difference,) = judge(changed("files", "<tree>/data.json", "bb")).differences
    assert (difference.base, difference.head) == (None, "bb")


def test_a_function_that_has_only_moved_is_the_same() -> None:
    """Its file and its line are no part of the program."""
    moved = {**PARTS, "functions": {"package.forward": ["<tree>/other.py", 70, 3, "aa"]}}
    assert judge(replace(SAME, parts=moved)).is_same


@pytest.mark.parametrize("part", [OPERATORS, GENERATED_CODE])
def test_other_counts_are_another_program(part: str) -> None:
    """Also where the trace sees no difference."""
    (difference,) = judge(**{part: "33"}).differences
    assert (difference.part, difference.name) == (part, "")
    assert compare_programs(SAME, SAME, compiler="inductor").is_same, "as long as nobody has counted"


@pytest.mark.parametrize(
    ("head", "compiler", "counts", "doubt"),
    [
        (replace(SAME, doubts=("it starts a thread",)), "inductor", {}, "it starts a thread"),
        (ProgramTrace(digests={}, parts={}), "eager", {}, "there is no digest of its functions"),
        (SAME, "inductor", {OPERATORS: ""}, "there is no digest of its operators"),
        (SAME, "inductor", {GENERATED_CODE: ""}, "there is no digest of its generated code"),
        (SAME, "trt", {}, "nobody can trace what the compiler trt does"),
    ],
)
def test_any_doubt_means_that_nothing_is_proved(
    head: ProgramTrace, compiler: str, counts: dict[str, str], doubt: str
) -> None:
    """What is not known, what may run otherwise next time, and compilers that are not torch's."""
    sameness = judge(head, compiler=compiler, **counts)
    assert doubt in sameness.doubts
    assert not sameness.is_same


def test_of_very_many_differences_some_are_kept() -> None:
    """More than anybody reads."""
    head = replace(SAME, parts={**PARTS, "functions": {f"f{number}": ["", 0, 1, "a"] for number in range(1000)}})
    assert len(judge(head).differences) == MOST_DIFFERENCES


def spared(model: str, *, wall: float = 5.0, seconds: float = 1.25, ratio: float = 1.0) -> Measured:
    item = measured(model, ratio)
    side = replace(item.base, compile_seconds=(3.0,)) if item.base else None
    return replace(
        item,
        base=side,
        head=side,
        launches=item.launches[:1],
        look=0,
        seconds=seconds,
        sameness=Sameness(),
        spared=True,
        wall_seconds=wall,
    )


@pytest.fixture
def report() -> ComparisonFindings:
    """Two cases that were spared, and one that is slower."""
    slow = replace(measured("slow", 1.2), wall_seconds=65.0)
    return judge_cases(HEADER, [replace(slow, again=slow), spared("one"), spared("other", wall=15.0)])


def test_a_spared_case_is_unchanged_and_leaves_the_family(report: ComparisonFindings) -> None:
    """It has no p value, its compile time is unchanged as well, and the report says how many there are."""
    own = {c.case.model: c for c in report.comparisons if c.metric == "abs_latency"}
    assert (own["one"].verdict, own["one"].p, own["one"].spared) == (Verdict.UNCHANGED, None, True)
    assert "same program" in own["one"].why
    assert own["slow"].blocks
    assert {c.verdict for c in report.comparisons if c.metric == "compilation_latency"} == {Verdict.UNCHANGED}
    assert report.spared == 2
    assert to_text(report).splitlines()[0].endswith("2 cases are the same program on both sides.")


def test_the_report_says_what_was_saved(report: ComparisonFindings) -> None:
    """Against what the other cases took, in one line; without others, at least the sampling that was not done."""
    assert report.saved_seconds == pytest.approx(60 + 50)
    assert "2 of 3 cases had a short check only" in to_markdown(report)
    assert f"this saved about {duration(110)}" in to_markdown(report)
    assert estimate_saved_seconds([spared("one")]) == pytest.approx(10 - 1.25)
    assert estimate_saved_seconds([measured("one")]) == 0


def test_only_equal_cases_are_green() -> None:
    """A pull request that touches nothing that is measured."""
    found = judge_cases(HEADER, [spared("one"), spared("other")])
    assert to_text(found) == "✅ Both cases are the same program on both sides."
    assert (found.compared, found.is_open) == (2, False)


def test_facts_are_kept_and_read_again(report: ComparisonFindings, tmp_path: Path) -> None:
    """compare.json says what differs per case, and another job tells the same of it."""
    sameness = judge(changed("values", "package.SIZE", "bb"))
    (tmp_path / "compare.json").write_text(
        to_json(replace(report, measured=(replace(report.measured[0], sameness=sameness), *report.measured[1:])))
    )
    stored = json.loads((tmp_path / "compare.json").read_text())
    assert stored["measured"][0]["sameness"]["differences"] == [
        {"part": "values", "name": "package.SIZE", "base": None, "head": "bb"}
    ]
    again = read_comparison((tmp_path / "compare.json").read_bytes())
    assert (again.spared, again.saved_seconds) == (2, report.saved_seconds)
    assert to_text(again) == to_text(report)


@pytest.mark.parametrize(
    ("item", "is_clear"),
    [
        (spared("one"), False),
        (spared("one", ratio=1.3), True),
        (spared("one", ratio=0.7), True),
        (replace(spared("one"), launches=()), False),
    ],
)
def test_a_short_check_sees_what_a_trace_has_missed(item: Measured, *, is_clear: bool) -> None:
    """A clear difference, to either side; a compile time that is far off as well."""
    assert is_clear_difference(item, ToleranceRules()) is is_clear
    assert item.head is not None
    compiled_slower = replace(item, head=replace(item.head, compile_seconds=(4.0,)))
    assert is_clear_difference(compiled_slower, ToleranceRules())
