"""What the doctor makes of facts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from torchperf_ci.compare.effects import LAUNCHES, Launch
from torchperf_ci.doctor.survey import Facts, Finding, GpuFacts, Severity, estimate_smallest_change, list_findings
from torchperf_ci.machine.host import GIB

CALM = Facts(
    cpu="AMD EPYC",
    cpus=8,
    all_cpus=8,
    virtual=False,
    governor="performance",
    turbo=False,
    smt=False,
    steal=0.0,
    load=0.1,
    memory_free=16 * GIB,
    swap_used=0,
    disk_free=100 * GIB,
    python="python3",
    torch="2.13.0",
    compiler="/usr/bin/g++",
)


def remarks(facts: Facts) -> list[Finding]:
    return [finding for finding in list_findings(facts) if finding.level is not Severity.GOOD]


def test_a_calm_machine_has_only_good_findings() -> None:
    """And says of each topic what was found."""
    assert remarks(CALM) == []
    assert {finding.topic for finding in list_findings(CALM)} == {"torch", "compiler", "disk", "CPU", "load", "memory"}


@pytest.mark.parametrize(
    ("change", "topic", "level", "words"),
    [
        (
            {"torch": "", "torch_problem": "No module named 'torch'"},
            "torch",
            Severity.PROBLEM,
            "No module named 'torch'",
        ),
        ({"compiler": ""}, "compiler", Severity.NOTE, "no C++ compiler"),
        ({"disk_free": GIB}, "disk", Severity.PROBLEM, "1.0 GiB free"),
        ({"virtual": True}, "virtual machine", Severity.NOTE, "other guests"),
        ({"governor": "powersave"}, "governor", Severity.NOTE, "powersave"),
        ({"turbo": True}, "turbo", Severity.NOTE, "on"),
        ({"smt": True}, "SMT", Severity.NOTE, "share a core"),
        ({"numa_nodes": 2}, "NUMA", Severity.NOTE, "2 nodes"),
        ({"cpu_limit": 1.5}, "container", Severity.PROBLEM, "1.5 of the 8 CPUs"),
        ({"load": 6.0}, "load", Severity.PROBLEM, "6.0 processes"),
        ({"steal": 0.1}, "steal", Severity.NOTE, "10 % of the time"),
        ({"memory_limit": GIB}, "memory", Severity.PROBLEM, "1.0 GiB"),
        ({"swap_used": GIB}, "swap", Severity.NOTE, "1.00 GiB"),
        ({"gpus": (GpuFacts(name="H200", throttled="power brake"),)}, "GPU 0", Severity.PROBLEM, "power brake"),
        ({"gpus": (GpuFacts(name="H200", processes=("python (1)",)),)}, "GPU 0", Severity.PROBLEM, "python (1)"),
        ({"gpus": (GpuFacts(name="H200", persistence="Disabled"),)}, "GPU 0", Severity.NOTE, "persistence"),
        ({"gpus": (GpuFacts(name="H200", mig="Enabled"),)}, "GPU 0", Severity.NOTE, "MIG"),
    ],
)
def test_each_trouble_is_found_with_advice(change: dict[str, object], topic: str, level: Severity, words: str) -> None:
    """One finding, with what to do."""
    (found,) = remarks(replace(CALM, **change))  # type: ignore[arg-type]  # fields of Facts
    assert (found.topic, found.level) == (topic, level)
    assert words in found.what
    assert found.advice


@pytest.mark.parametrize(
    ("cpus", "all_cpus", "words"),
    [(8, 8, "AMD EPYC, 8 CPUs"), (2, 8, "AMD EPYC, 8 CPUs, of which 2 may be used"), (1, 1, "AMD EPYC, 1 CPU")],
)
def test_cpus_are_counted_once(cpus: int, all_cpus: int, words: str) -> None:
    """How many may be used is said where it is not all of them."""
    (found,) = [f for f in list_findings(replace(CALM, cpus=cpus, all_cpus=all_cpus)) if f.topic == "CPU"]
    assert found.what == words


def test_more_time_sees_smaller_changes() -> None:
    """But never less than the margin and what differs between processes."""
    noise = tuple(0.01 * (1 + 0.1 * math.sin(step * step)) for step in range(200))
    launches = [Launch(base=noise, head=noise[::-1])] * 3
    changes = [estimate_smallest_change(launches, spent=30, budget=budget, margin=0.02) for budget in (1, 10, 60, 1e9)]
    assert all(change is not None for change in changes)
    assert sorted(changes, reverse=True) == changes
    assert changes[-1] == pytest.approx(0.02 + 0.0114 * math.sqrt(3 / LAUNCHES), rel=0.05)
    assert estimate_smallest_change([], spent=1, budget=1, margin=0.02) is None
