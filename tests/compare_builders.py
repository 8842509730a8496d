"""Comparisons to make reports of: one with a case of every verdict."""

from __future__ import annotations

import math
from dataclasses import replace

from torchperf_ci.compare.effects import Launch
from torchperf_ci.compare.model import ComparisonFindings, Header, Measured, SideResult, ToleranceRules
from torchperf_ci.compare.report import judge_cases
from torchperf_ci.core.records import Case, Mode

HEADER = Header(
    base="main",
    head="HEAD",
    how="Both ran on the same CPUs in turn, one iteration each, in up to 10 pairs of fresh processes.",
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
