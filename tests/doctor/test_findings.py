"""What the doctor makes of facts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from torchperf_ci.compare.effects import LAUNCHES, Launch
from torchperf_ci.doctor.findings import Facts, Finding, GpuFacts, Level, findings
from torchperf_ci.doctor.survey import smallest_change
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
    return [finding for finding in findings(facts) if finding.level is not Level.GOOD]


def test_a_calm_machine_has_only_good_findings() -> None:
    """And says of each topic what was found."""
    assert remarks(CALM) == []
    assert {finding.topic for finding in findings(CALM)} == {"torch", "compiler", "disk", "CPU", "load", "memory"}


@pytest.mark.parametrize(
    ("change", "topic", "level", "words"),
    [
        ({"torch": "", "torch_problem": "No module named 'torch'"}, "torch", Level.PROBLEM, "No module named 'torch'"),
        ({"compiler": ""}, "compiler", Level.NOTE, "no C++ compiler"),
        ({"disk_free": GIB}, "disk", Level.PROBLEM, "1.0 GiB free"),
        ({"virtual": True}, "virtual machine", Level.NOTE, "other guests"),
        ({"governor": "powersave"}, "governor", Level.NOTE, "powersave"),
        ({"turbo": True}, "turbo", Level.NOTE, "on"),
        ({"smt": True}, "SMT", Level.NOTE, "share a core"),
        ({"numa_nodes": 2}, "NUMA", Level.NOTE, "2 nodes"),
        ({"cpu_limit": 1.5}, "container", Level.PROBLEM, "1.5 CPUs on 8"),
        ({"load": 6.0}, "load", Level.PROBLEM, "6.0 runnable"),
        ({"steal": 0.1}, "steal", Level.NOTE, "10 % of the time"),
        ({"memory_limit": GIB}, "memory", Level.PROBLEM, "1.0 GiB"),
        ({"swap_used": GIB}, "swap", Level.NOTE, "1.00 GiB"),
        ({"gpus": (GpuFacts(name="H200", throttled="power brake"),)}, "GPU 0", Level.PROBLEM, "power brake"),
        ({"gpus": (GpuFacts(name="H200", processes=("python (1)",)),)}, "GPU 0", Level.PROBLEM, "python (1)"),
        ({"gpus": (GpuFacts(name="H200", persistence="Disabled"),)}, "GPU 0", Level.NOTE, "persistence"),
        ({"gpus": (GpuFacts(name="H200", mig="Enabled"),)}, "GPU 0", Level.NOTE, "MIG"),
    ],
)
def test_each_trouble_is_found_with_advice(change: dict[str, object], topic: str, level: Level, words: str) -> None:
    """One finding, with what to do."""
    (found,) = remarks(replace(CALM, **change))  # type: ignore[arg-type]  # fields of Facts
    assert (found.topic, found.level) == (topic, level)
    assert words in found.what
    assert found.advice


def test_more_time_sees_smaller_changes() -> None:
    """But never less than the margin and what differs between processes."""
    noise = tuple(0.01 * (1 + 0.1 * math.sin(step * step)) for step in range(200))
    launches = [Launch(base=noise, head=noise[::-1])] * 3
    changes = [smallest_change(launches, spent=30, budget=budget, margin=0.02) for budget in (1, 10, 60, 1e9)]
    assert all(change is not None for change in changes)
    assert sorted(changes, reverse=True) == changes
    assert changes[-1] == pytest.approx(0.02 + 0.0114 * math.sqrt(3 / LAUNCHES), rel=0.05)
    assert smallest_change([], spent=1, budget=1, margin=0.02) is None
