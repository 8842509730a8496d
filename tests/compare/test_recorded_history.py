"""A run against the runs before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.model import Comparison, Rule, ToleranceRules
from torchperf_ci.compare.recorded import compare_with_history
from torchperf_ci.core.records import Case, Environment, Mode, Record, Status, Testing

HERE = Environment(cpu="AMD EPYC", cpu_count=2, torch="2.13.0")
ELSEWHERE = replace(HERE, cpu="Xeon", cpu_count=8)


def record(model: str = "mlp", speedup: float = 2.0, **rest: object) -> Record:
    case = Case(suite="tiny", model=model, mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor")
    made = Record(
        case=case,
        testing=Testing.PERFORMANCE,
        status=Status.PASS,
        batch_size=8,
        metrics={"speedup": speedup, "abs_latency": 4.0},
        environment=HERE,
    )
    return replace(made, **rest)  # type: ignore[arg-type]  # fields of Record


def steady(count: int = 30, **rest: object) -> list[list[Record]]:
    """Runs whose speedups differ by 1 %."""
    return [[record(speedup=2.0 + 0.02 * (number % 3), **rest)] for number in range(count)]


def verdicts(head: Sequence[Record], past: Sequence[Sequence[Record]], *rules: Rule) -> dict[str, Verdict]:
    return {item.metric: item.verdict for item in compare_with_history(head, past, ToleranceRules(rules=rules))}


def test_what_lies_outside_of_the_band_is_listed_and_blocks() -> None:
    """By metric; a time that has not moved beside a speedup that has."""
    (speedup, latency) = compare_with_history([record(speedup=1.5)], steady(), ToleranceRules())
    assert (speedup.verdict, speedup.listed, speedup.blocks) == (Verdict.REGRESSED, True, True)
    assert speedup.why == "against the median of 30 runs"
    assert (latency.metric, latency.verdict) == ("abs_latency", Verdict.UNCHANGED)


@pytest.mark.parametrize("other", [{"environment": ELSEWHERE}, {"batch_size": 16}, {"status": Status.NOT_RUN}])
def test_only_comparable_runs_make_a_band(other: dict[str, object]) -> None:
    """Of another machine, another batch size, or not measured at all: as if they were not there."""
    past = [*steady(9), *steady(30, **other), *steady(1)]
    found = compare_with_history([record(speedup=1.5)], past, ToleranceRules())
    assert [item.why for item in found] == ["against the median of 10 runs"] * 2
    few = compare_with_history([record(speedup=1.5)], past[1:], ToleranceRules())
    assert {item.verdict for item in few} == {Verdict.SKIPPED}


def test_a_change_of_status_needs_no_band() -> None:
    """One run before is enough to see that head fails, or that it does no longer."""
    broken = record(status=Status.CRASHED, reason="ended by signal 11", metrics={})
    assert verdicts([broken], [[record()]]) == {"speedup": Verdict.FAILED}
    assert verdicts([record()], [[broken]]) == {"speedup": Verdict.FIXED}
    assert verdicts([broken], [[broken]]) == {"speedup": Verdict.REFUSED}
    assert verdicts([broken], []) == {"speedup": Verdict.NEW}


def test_accuracy_is_held_against_the_run_before() -> None:
    """Not against an older one that failed."""
    right, wrong = (record(testing=Testing.ACCURACY, status=status) for status in (Status.PASS, Status.FAIL_ACCURACY))
    assert verdicts([wrong], [[wrong], [right]]) == {"accuracy": Verdict.FAILED}
    assert verdicts([right], [[right], [wrong]]) == {"accuracy": Verdict.FIXED}


def test_a_model_that_went_missing_is_named() -> None:
    """If the newest run had it; an older one may have lost it on purpose."""
    lost = record("lstm")
    found: list[Comparison] = compare_with_history([record()], [[record(), lost]], ToleranceRules())
    assert [(item.case.model, item.verdict) for item in found if item.verdict is Verdict.MISSING] == [
        ("lstm", Verdict.MISSING)
    ]
    assert Verdict.MISSING not in verdicts([record()], [[record(), lost], [record()]]).values()


def test_rules_widen_the_limits() -> None:
    """A speedup that may fall by half."""
    wide = Rule(metric="speedup", margin=0.5, threshold=0.6)
    assert verdicts([record(speedup=1.5)], steady(), wide)["speedup"] is Verdict.INCONCLUSIVE
