"""Reads the facts about this machine, and measures how small a change it can see."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from torchperf_ci.analysis.compare import effect
from torchperf_ci.analysis.machine import Facts, GpuFacts, smallest_change
from torchperf_ci.analysis.stats import slow_share
from torchperf_ci.analysis.tolerances import Tolerances
from torchperf_ci.analysis.verdicts import Measured
from torchperf_ci.bench.case_worker import Settings
from torchperf_ci.bench.compare import ComparePlan
from torchperf_ci.bench.compare_run import CompareRequest, LiveComparison, SideSpec, running_sides, shared_cpus
from torchperf_ci.bench.gpu import THERMAL, one_reading, parse_processes, smi
from torchperf_ci.bench.host import HostWatch, container_memory_left, read
from torchperf_ci.bench.plan import Selection
from torchperf_ci.errors import NothingToJudge
from torchperf_ci.escape import one_line
from torchperf_ci.records import Mode, Testing
from torchperf_ci.results import open_folder

SECONDS = 30.0
BUDGETS = (10.0, 60.0)
_LAUNCHES = 3
"""A comparison asks for more; what they would gain is computed."""
_STEAL_SECONDS = 0.5
_LIMIT_S = 120


def read_facts(python: str, environ: Mapping[str, str], *, root: Path = Path("/")) -> Facts:
    """Everything about this machine; `root` is where /proc and /sys are."""
    torch, problem = _torch(python, environ)
    return Facts(
        cpu=_cpu_name(root),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        all_cpus=os.cpu_count() or 1,
        virtual="hypervisor" in read(root, "proc/cpuinfo"),
        governor=read(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        turbo=_turbo(root),
        smt={"1": True, "0": False}.get(read(root, "sys/devices/system/cpu/smt/active")),
        steal=_steal(root),
        load=os.getloadavg()[0],
        cpu_limit=_cpu_limit(root),
        memory_free=psutil.virtual_memory().available,
        memory_limit=container_memory_left(root),
        swap_used=psutil.swap_memory().used,
        numa_nodes=max(1, len(list((root / "sys/devices/system/node").glob("node[0-9]*")))),
        disk_free=shutil.disk_usage(tempfile.gettempdir()).free,
        python=python,
        torch=torch,
        torch_problem=problem,
        compiler=_compiler(environ),
        gpus=tuple(_gpus()),
    )


def _cpu_name(root: Path) -> str:
    lines = (line.partition(":") for line in read(root, "proc/cpuinfo").splitlines())
    return next((one_line(value) for key, _, value in lines if key.strip() == "model name"), "")


def _turbo(root: Path) -> bool | None:
    if no_turbo := read(root, "sys/devices/system/cpu/intel_pstate/no_turbo"):
        return no_turbo == "0"
    if boost := read(root, "sys/devices/system/cpu/cpufreq/boost"):
        return boost == "1"
    return None


def _steal(root: Path) -> float | None:
    """The share of CPU time that the host gave to others, over half a second."""
    watch = HostWatch(root)
    time.sleep(_STEAL_SECONDS if root == Path("/") else 0)
    return watch.seen().steal


def _cpu_limit(root: Path) -> float | None:
    """CPUs the container may use, by either version of control groups."""
    quota, _, period = read(root, "sys/fs/cgroup/cpu.max").partition(" ")
    if not quota:
        quota = read(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = read(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _compiler(environ: Mapping[str, str]) -> str:
    """What inductor would start for C++."""
    names = (environ.get("CXX"), "g++", "clang++")
    found = (shutil.which(name, path=environ.get("PATH", os.defpath)) for name in names if name)
    return next((path for path in found if path), "")


def _torch(python: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The version of torch in a Python, and why it cannot be imported."""
    ask = "import torch; print(torch.__version__)"
    try:
        done = subprocess.run(
            [python, "-c", ask], env=dict(environ), capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", one_line(str(error), limit=200)
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return ("", one_line(last, limit=200)) if done.returncode else (done.stdout.strip(), "")


def _gpus() -> Iterator[GpuFacts]:
    fields = "name,persistence_mode,ecc.mode.current,mig.mode.current,uuid,clocks.sm,clocks.max.sm"
    for line in smi("--query-gpu=" + fields).splitlines():
        name, persistence, ecc, mig, uuid, now, most = [*(part.strip() for part in line.split(",")), *[""] * 7][:7]
        reasons = [reading.reasons for reading in one_reading(uuid)]
        yield GpuFacts(
            name=one_line(name),
            clocks=f"{now} of at most {most} MHz" if now.isdigit() and most.isdigit() else "",
            persistence=persistence,
            ecc=ecc,
            mig=mig,
            throttled=", ".join(text for bit, text in THERMAL.items() if any(bit & seen for seen in reasons)),
            processes=tuple(parse_processes(smi("--query-compute-apps=pid,process_name", gpu=uuid))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a comparison of equal code showed: the ratio with its interval, and by seconds per case the smallest change
    that would be found 80 % of the time."""

    ratio: float
    low: float
    high: float
    slow_share: float
    smallest: Mapping[float, float]


def measure(python: str, *, threads: int | None, seconds: float = SECONDS) -> Sight:
    """Compare equal code with itself for `seconds`. Raises `NothingToJudge` when the model does not run."""
    tolerances = Tolerances()
    side = SideSpec(name="base", python=python, label="base")
    request = CompareRequest(
        base=side,
        head=replace(side, name="head", label="head"),
        selection=Selection(
            suites=("tiny",),
            mode=Mode.INFERENCE,
            devices=("cpu",),
            compilers=("eager",),
            filters=(re.compile("^mlp$"),),
        ),
        settings=Settings(testings=(Testing.PERFORMANCE,), threads=threads, cpus=shared_cpus(threads)),
        plan=ComparePlan(tolerances=tolerances, launches=_LAUNCHES, seconds=seconds, stop_early=False),
    )
    with (
        tempfile.TemporaryDirectory(prefix="torchperf-doctor-") as scratch,
        open_folder(Path(scratch) / "out") as folder,
        running_sides(request, Path(scratch)) as (base, head),
    ):
        live = LiveComparison(request, base, head, folder)
        live.run(_silent)
    return _sight(live.measured[0], tolerances.latency.margin)


def _silent(number: int, total: int, measured: Measured, *, again: bool) -> None:
    """Nobody is told."""


def _sight(measured: Measured, margin: float) -> Sight:
    found = effect(measured.launches, between=measured.between)
    if found is None:
        failures = [side.failure for side in (measured.base, measured.head) if side is not None and side.failure]
        raise NothingToJudge(f"equal code could not be compared: {'; '.join(failures) or 'too few samples'}")
    smallest = {
        budget: smallest_change(measured.launches, spent=measured.seconds, budget=budget, margin=margin)
        for budget in BUDGETS
    }
    return Sight(
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        slow_share=slow_share([time for launch in measured.launches for time in launch.probe]),
        smallest={budget: change for budget, change in smallest.items() if change is not None},
    )
