"""Two runs recorded at different times: what is compared, and what is not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.model import Rule, ToleranceRules
from torchperf_ci.compare.recorded import compare_runs, list_differences
from torchperf_ci.core.records import Case, Environment, Mode, Record, Status, Testing

CASE = Case(suite="tiny", model="mlp", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor")
HERE = Environment(cpu="AMD EPYC", cpu_count=2, threads=1)
USUAL = ToleranceRules()
THERE = replace(HERE, cpu="Xeon")


def performance(speedup: float = 2.0, *, ms: float = 10.0, samples: bool = True, **rest: Any) -> Record:
    """A record whose samples ripple a little around the speedup."""
    compiled = tuple(ms * 1e-3 * (1 + 0.01 * math.sin(step)) for step in range(60))
    eager = tuple(speedup * time for time in compiled)
    record = Record(
        case=CASE,
        testing=Testing.PERFORMANCE,
        status=Status.PASS,
        batch_size=8,
        metrics={"speedup": speedup, "abs_latency": ms, "dynamo_peak_mem": 1e8, "compilation_latency": 5.0},
        samples={"eager": eager, "compiled": compiled} if samples else {},
        counters={"graph_breaks": 0, "unique_graphs": 1},
        environment=HERE,
    )
    return replace(record, **rest)


def accuracy(status: Status) -> Record:
    return Record(case=CASE, testing=Testing.ACCURACY, status=status, environment=HERE)


def verdicts(base: list[Record], head: list[Record], tolerances: ToleranceRules = USUAL) -> dict[str, Verdict]:
    return {found.metric: found.verdict for found in compare_runs(base, head, tolerances)}


@pytest.mark.parametrize("samples", [True, False])
@pytest.mark.parametrize(
    ("speedup", "verdict"),
    [
        (2.0, Verdict.UNCHANGED),
        (1.9, Verdict.UNCHANGED),
        (1.82, Verdict.INCONCLUSIVE),
        (1.7, Verdict.REGRESSED),
        (2.4, Verdict.IMPROVED),
    ],
)
def test_a_speedup_has_to_fall_by_more_than_runs_differ(speedup: float, verdict: Verdict, samples: bool) -> None:  # noqa: FBT001
    """With or without the samples at hand."""
    base, head = performance(samples=samples), performance(speedup, samples=samples)
    assert verdicts([base], [head])["speedup"] is verdict


def test_a_lower_speedup_is_shown_as_lower() -> None:
    """The ratio is head over base in the metric itself, with its p value for being worse."""
    found = compare_runs([performance()], [performance(1.5)], ToleranceRules())[0]
    assert found.ratio == pytest.approx(0.75)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.75 < found.high < 1
    assert found.p is not None
    assert found.p < 1e-3
    assert found.blocks


def test_times_are_compared_on_the_same_machine_only() -> None:
    """Twice the time on another CPU says nothing, and the reason is at hand."""
    slow, elsewhere = performance(ms=20.0), performance(ms=20.0, environment=THERE)
    assert verdicts([performance()], [slow])["abs_latency"] is Verdict.REGRESSED
    assert "abs_latency" not in verdicts([performance()], [elsewhere])
    assert list_differences([performance()], [elsewhere]) == ["CPU differs: AMD EPYC against Xeon"]
    unknown = performance(environment=Environment())
    assert list_differences([unknown], [unknown]) == ["the machine is not recorded"]


def test_the_limits_between_runs_cannot_be_made_narrower() -> None:
    """A rule that is meant for live comparisons does not make two days comparable; a wider one holds."""
    narrow, wide = (ToleranceRules(rules=(Rule(metric="*", margin=m, threshold=m),)) for m in (0.001, 0.5))
    assert verdicts([performance()], [performance(1.88)], narrow)["speedup"] is not Verdict.REGRESSED
    assert verdicts([performance()], [performance(1.5)], wide)["speedup"] is Verdict.UNCHANGED


def test_statuses_counts_and_memory_are_compared_as_ever() -> None:
    """They do not hang on the machine's mood; compiling was timed once, which is no basis."""
    head = performance(counters={"graph_breaks": 2, "unique_graphs": 1})
    found = verdicts([performance(), accuracy(Status.PASS)], [head, accuracy(Status.FAIL_ACCURACY)])
    assert found == {
        "speedup": Verdict.UNCHANGED,
        "abs_latency": Verdict.UNCHANGED,
        "accuracy": Verdict.FAILED,
        "graph_breaks": Verdict.REGRESSED,
        "unique_graphs": Verdict.UNCHANGED,
        "dynamo_peak_mem": Verdict.UNCHANGED,
        "compilation_latency": Verdict.INCONCLUSIVE,
    }


def test_rows_of_one_side_are_new_or_missing() -> None:
    """None is dropped."""
    assert verdicts([], [performance()]) == {"speedup": Verdict.NEW}
    for reason, told in (("", "head: fail_to_run"), ("no GPU", "head: fail_to_run: no GPU")):
        failed = performance(status=Status.FAIL_TO_RUN, reason=reason, metrics={})
        (new,) = compare_runs([], [failed], USUAL)
        assert new.why.endswith(told)
    assert verdicts([performance()], []) == {"speedup": Verdict.MISSING}


@pytest.mark.parametrize(
    ("base", "head", "verdict", "why"),
    [
        ({}, {"status": Status.TIMEOUT, "reason": "too long"}, Verdict.FAILED, "head: timeout: too long"),
        ({"status": Status.CRASHED}, {}, Verdict.FIXED, "base: crashed"),
        ({}, {"batch_size": 4}, Verdict.REFUSED, "batch size 8 against 4"),
        ({}, {"environment": replace(HERE, world=2)}, Verdict.REFUSED, "1 against 2 processes"),
        ({"status": Status.NOT_RUN, "reason": "budget"}, {}, Verdict.REFUSED, "base: not_run: budget"),
    ],
)
def test_what_cannot_be_compared_says_why(
    base: dict[str, Any], head: dict[str, Any], verdict: Verdict, why: str
) -> None:
    """A row per case, whatever happened."""
    (found,) = compare_runs([performance(**base)], [performance(**head)], ToleranceRules())
    assert (found.verdict, found.why) == (verdict, why)
