"""Counts of the two sides: told by default, judged where somebody asks, instructions within their tolerance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compare_builders import GOOD, HEADER, case, measured
from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.model import Comparison, Rule, SideResult, ToleranceRules
from torchperf_ci.compare.recorded import compare_runs
from torchperf_ci.compare.report import judge_cases, render_comparison, to_markdown, to_text
from torchperf_ci.compare.verdicts import compare_counted
from torchperf_ci.core.records import Environment, Record, Status, Testing

COUNTED = {"operators": 80, "generated_kernels": 20, "instructions": 100_000_000, "compile_instructions": 5e9}
DIGESTS = {"operators": "aa", "generated_code": "bb"}
USUAL = ToleranceRules()
SIDE = replace(GOOD, counted=COUNTED, digests=DIGESTS)


def compare(head: SideResult, tolerances: ToleranceRules = USUAL) -> dict[str, Comparison]:
    """Those that are not unchanged."""
    sides = [(side.counted, side.digests) for side in (SIDE, head)]
    found = compare_counted(case("m"), *sides, tolerances)
    return {c.metric: c for c in found if c.verdict is not Verdict.UNCHANGED}


def having(**counted: float) -> SideResult:
    return replace(SIDE, counted={**COUNTED, **counted})


def test_equal_counts_are_unchanged() -> None:
    """All of them are compared, and a metric that one side lacks is not."""
    assert compare(SIDE) == {}
    assert compare(replace(SIDE, counted={"flops": 3})) == {}


def test_one_more_is_told_and_judged_where_somebody_asks() -> None:
    """By the option, or by a rule that speaks of it; less is better."""
    more, gated = having(generated_kernels=21), ToleranceRules(gate_counts=True)
    told = compare(more)["generated_kernels"]
    assert (told.verdict, told.base, told.head, told.p) == (Verdict.CHANGED, 20, 21, None)
    assert compare(more, gated)["generated_kernels"].verdict is Verdict.REGRESSED
    assert compare(having(operators=79), gated)["operators"].verdict is Verdict.IMPROVED
    rules = [Rule(metric="generated_kernels", margin=margin) for margin in (0.0, 0.1)]
    assert compare(more, ToleranceRules(rules=rules[:1]))["generated_kernels"].verdict is Verdict.REGRESSED
    assert compare(more, ToleranceRules(rules=rules)) == {}


@pytest.mark.parametrize(
    ("value", "verdict"), [(100_090_000, None), (101_000_000, Verdict.REGRESSED), (99_000_000, Verdict.IMPROVED)]
)
def test_instructions_are_judged_within_their_tolerance(value: float, verdict: Verdict | None) -> None:
    """0.1 % unless a rule says otherwise."""
    assert [c.verdict for c in compare(having(instructions=value)).values()] == ([verdict] if verdict else [])
    assert compare(having(instructions=value), ToleranceRules(rules=[Rule(metric="instr*", margin=0.02)])) == {}
    assert compare(having(compile_instructions=5e9 * value / 1e8)) == {}


def test_other_code_with_as_many_kernels_is_a_fact() -> None:
    """Also where counts are judged: nobody knows which is better."""
    found = compare(replace(SIDE, digests={**DIGESTS, "generated_code": "cc"}), ToleranceRules(gate_counts=True))
    assert found["generated_kernels"].verdict is Verdict.CHANGED
    assert "generated code differs" in found["generated_kernels"].why
    assert "arguments" in compare(replace(SIDE, digests={"operators": "x"}))["operators"].why


def test_what_is_only_told_does_not_turn_a_report_red() -> None:
    """The headline says it, a table of its own has it, and the sign stays; gated it blocks."""
    item = replace(measured("m", head=having(operators=81)), base=SIDE)
    findings = judge_cases(HEADER, [item])
    assert (findings.blocking, findings.sign) == (0, "✅")
    for text in (to_text(findings), to_markdown(findings), render_comparison(findings, [])):
        assert "operators" in text
        assert "81" in text
        assert "1 case has different counts or code" in text
    assert "without a verdict" in to_markdown(findings)
    gated = replace(HEADER, tolerances=ToleranceRules(gate_counts=True))
    assert judge_cases(gated, [replace(item, again=item)]).blocking == 1


@pytest.mark.parametrize(("digest", "words"), [("operators", "arguments"), ("generated_code", "code")])
def test_a_headline_says_what_differs_where_no_number_does(digest: str, words: str) -> None:
    """In words, and not as a change of 0 %."""
    item = replace(measured("m", head=replace(SIDE, digests={**DIGESTS, digest: "x"})), base=SIDE)
    headline = to_text(judge_cases(HEADER, [item])).splitlines()[0]
    assert "0.0 %" not in headline
    assert words in headline.partition("different counts or code")[2]


def test_recorded_counts_are_compared_on_the_same_machine() -> None:
    """On another one the program's own counts alone: code is generated for a machine."""
    here, there = (Environment(cpu=cpu, cpu_count=2) for cpu in ("AMD EPYC 1", "AMD EPYC 2"))
    base = Record(
        case=case("m"),
        testing=Testing.PERFORMANCE,
        status=Status.PASS,
        metrics={**COUNTED, "speedup": 2.0},
        digests=DIGESTS,
        environment=here,
    )
    head = replace(
        base, metrics={**base.metrics, "operators": 81, "instructions": 2e8}, digests={"generated_code": "c"}
    )
    told = {c.metric: c.verdict for c in compare_runs([base], [head], ToleranceRules())}
    assert told["operators"] is Verdict.CHANGED
    assert told["generated_kernels"] is Verdict.CHANGED
    assert told["instructions"] is Verdict.REGRESSED
    moved = replace(head, environment=there)
    elsewhere = {c.metric: c.verdict for c in compare_runs([base], [moved], USUAL)}
    assert elsewhere["operators"] is Verdict.CHANGED
    assert "instructions" not in elsewhere
    assert "generated_kernels" not in elsewhere
