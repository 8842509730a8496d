"""The facts about a machine, read from canned /proc and /sys, and the command that says what they mean."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from torchperf_ci.doctor.survey import GpuFacts, read_facts

Cli = Callable[..., subprocess.CompletedProcess[str]]

FILES = {
    "proc/cpuinfo": "model name\t: AMD EPYC 9V74\nflags\t\t: fpu hypervisor\n",
    "proc/stat": "cpu  10 0 10 70 0 0 0 10 0 0\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/intel_pstate/no_turbo": "0\n",
    "sys/devices/system/cpu/smt/active": "1\n",
    "sys/devices/system/node/node0/cpulist": "0\n",
    "sys/devices/system/node/node1/cpulist": "1\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/memory.max": "1000\n",
    "sys/fs/cgroup/memory.current": "400\n",
}


def test_facts_are_read_where_linux_keeps_them(tmp_path: Path) -> None:
    """Processor, governor, turbo, SMT, NUMA and the container's limits."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    facts = read_facts(sys.executable, os.environ, root=tmp_path)
    assert (facts.cpu, facts.virtual, facts.governor) == ("AMD EPYC 9V74", True, "powersave")
    assert (facts.turbo, facts.smt, facts.numa_nodes) == (True, True, 2)
    assert (facts.cpu_limit, facts.memory_limit) == (1.5, 600)
    assert facts.torch


def test_what_is_not_there_is_not_made_up(tmp_path: Path) -> None:
    """An empty machine has unknown facts, and a Python without torch says why."""
    (tmp_path / "python").write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    facts = read_facts(str(tmp_path / "python"), {"PATH": str(tmp_path)}, root=tmp_path)
    assert (facts.cpu, facts.turbo, facts.smt, facts.steal, facts.cpu_limit) == ("", None, None, None, None)
    assert (facts.torch, facts.torch_problem) == ("", "ModuleNotFoundError: No module named 'torch'")
    assert facts.compiler == ""
    assert "No such file" in read_facts(str(tmp_path / "none"), {}, root=tmp_path).torch_problem


SMI = """#!/bin/sh
case "$*" in
  *--query-gpu=name*)
    echo "NVIDIA H200, Disabled, Enabled, Disabled, GPU-ab12, 345, 1980, Exclusive_Process"; echo "Tesla, [N/A]";;
  *-i\\ GPU-ab12*query-compute-apps*) echo "4711, python, 400"; echo "7, nvidia-cuda-mps-server, 30";;
  *-i\\ GPU-ab12*memory.used*) echo "2000, Disabled";;
  *-i\\ GPU-ab12*clocks_event_reasons*) echo "345, 0x0000000000000080";;
esac
"""


def test_gpus_are_described_by_their_driver(nvidia_smi: Callable[[str], None]) -> None:
    """Clocks, modes, what throttles and who computes there; what the driver does not say is left open."""
    nvidia_smi(SMI)
    one, two = read_facts("/bin/false", os.environ).gpus
    assert one == GpuFacts(
        name="NVIDIA H200",
        uuid="GPU-ab12",
        clocks="345 of at most 1980 MHz",
        persistence="Disabled",
        ecc="Enabled",
        mig="Disabled",
        compute_mode="Exclusive_Process",
        throttled="power brake",
        processes=("python (4711)",),
        unlisted_mib=1570,
        has_mps=True,
    )
    assert two == GpuFacts(name="Tesla", persistence="[N/A]")


def test_the_doctor_advises_and_is_strict_only_when_asked(cli: Cli) -> None:
    """A Python without torch is a problem: told, with exit code 0, and 3 with --strict; JSON holds the same."""
    done = cli("doctor", "--python", "/bin/false")
    assert done.returncode == 0
    assert "❌ torch: /bin/false cannot import it: no reason given" in done.stdout
    assert "→ install torch there, or name another Python with --python" in done.stdout
    strict = cli("doctor", "--python", "/bin/false", "--strict", "--json")
    assert strict.returncode == 3
    found = json.loads(strict.stdout)
    assert found["facts"]["python"] == "/bin/false"
    assert found["findings"][0]["level"] == "problem"
    assert found["measured"] is None


def test_a_device_that_is_not_there_is_no_reason_to_keep_the_findings_back(cli: Cli) -> None:
    """Exit code 2 with those that are there; what was found stands before it."""
    done = cli("doctor", "--measure", "--device", "cuda", "--threads", "1")
    assert done.returncode == 2
    assert "there is no device 'cuda' here. There are: cpu" in done.stderr
    assert "✅ torch:" in done.stdout


@pytest.mark.slow
def test_the_doctor_measures_how_small_a_change_can_be_seen(cli: Cli) -> None:
    """More time sees smaller changes."""
    done = cli("doctor", "--measure", "--threads", "1", "--seconds", "6", "--json")
    assert done.returncode == 0, done.stderr
    smallest = json.loads(done.stdout)["measured"]["smallest"]
    assert 0.02 < smallest["60.0"] < smallest["10.0"]
