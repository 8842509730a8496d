"""Read and judge the facts about this machine, and measure how small a change it can see. docs/compare.md."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from torchperf_ci.compare.effects import BETWEEN_FLOOR, LAUNCHES, LOOKS, Launch, estimate_effect, find_floor
from torchperf_ci.compare.live import ComparePlan
from torchperf_ci.compare.model import ToleranceRules
from torchperf_ci.compare.session import CompareRequest, LiveComparison, SideSpec, running_sides, shared_cpus
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.records import Mode, Testing
from torchperf_ci.core.results import open_folder
from torchperf_ci.core.statistics import slow_share, student_t
from torchperf_ci.core.text import Word, count, one_line
from torchperf_ci.machine.accelerators import Signs, accelerators_from, missing_accelerator, read_signs
from torchperf_ci.machine.gpu import THERMAL, UNLISTED_MIB, ListedGpu, one_reading, read_occupancy, smi
from torchperf_ci.machine.host import GIB, LEAST_MEMORY, HostWatch, container_memory_left, read
from torchperf_ci.run.case_worker import CaseSettings
from torchperf_ci.run.plan import Selection
from torchperf_ci.run.session import package_path

LEAST_DISK = 5 * GIB
MUCH_STEAL = 0.02


class Severity(Word):
    """The weight of a finding."""

    GOOD = "good"
    NOTE = "note"
    """It adds noise, or cannot be known; measuring is possible."""
    PROBLEM = "problem"
    """Something will not work, or times will mean little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing about the machine, and what to do about it (empty: nothing)."""

    level: Severity
    topic: str
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """A GPU as nvidia-smi describes it; empty text where it does not. clocks: now and at most, of its processors.

    unlisted_mib: memory that is in use by no process it lists, where that is much. has_mps: an MPS server runs on it.
    """

    name: str
    uuid: str = ""
    clocks: str = ""
    persistence: str = ""
    ecc: str = ""
    mig: str = ""
    compute_mode: str = ""
    throttled: str = ""
    processes: tuple[str, ...] = ()
    unlisted_mib: int = 0
    has_mps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts that could be read about a machine; None where they could not.

    cpus: those this process may use, of `all_cpus`. cpu_limit: of the container, in CPUs. steal: share of the time the
    host gave to others. load: runnable processes, averaged over a minute. Sizes in bytes.
    torch: the version in the Python under test, or empty with the reason in `torch_problem`.
    accelerators: the devices that torch can use. accelerator_problem: why it can use none, though one should be there.
    broken: what does not work on a device, with the error.
    compiler: the C++ compiler torch.compile would use, empty for none.
    """

    cpu: str = ""
    cpus: int = 1
    all_cpus: int = 1
    virtual: bool = False
    governor: str = ""
    turbo: bool | None = None
    smt: bool | None = None
    steal: float | None = None
    load: float | None = None
    cpu_limit: float | None = None
    memory_free: int | None = None
    memory_limit: int | None = None
    swap_used: int | None = None
    numa_nodes: int = 1
    disk_free: int | None = None
    python: str = ""
    torch: str = ""
    torch_problem: str = ""
    accelerators: tuple[str, ...] = ()
    accelerator_problem: str = ""
    broken: tuple[str, ...] = ()
    compiler: str = ""
    gpus: tuple[GpuFacts, ...] = ()


def list_findings(facts: Facts) -> list[Finding]:
    """List what the facts mean, by topic."""
    return [
        *_judge_software(facts),
        *_judge_cpu(facts),
        *_judge_neighbours(facts),
        *_judge_memory(facts),
        *_judge_gpus(facts),
    ]


def _judge_software(facts: Facts) -> Iterator[Finding]:
    if facts.torch:
        yield _good("torch", f"{facts.torch} in {facts.python}")
    else:
        advice = "install torch there, or name another Python with --python"
        yield _problem("torch", f"{facts.python} cannot import it: {facts.torch_problem}", advice)
    if facts.accelerators:
        yield _good("accelerators", ", ".join(facts.accelerators))
    if facts.accelerator_problem:
        what, _, advice = facts.accelerator_problem.partition(". To measure on it, ")
        yield _problem("accelerators", what, advice)
    for what in facts.broken:
        advice = "install versions that belong together (driver, torch, and what LD_LIBRARY_PATH names)"
        yield _problem("accelerators", what, advice)
    if facts.compiler:
        yield _good("compiler", facts.compiler)
    else:
        yield _note("compiler", "there is no C++ compiler", "install g++: inductor compiles for CPUs with it")
    if facts.disk_free is not None:
        what = f"{facts.disk_free / GIB:.1f} GiB free for temporary files"
        low = facts.disk_free < LEAST_DISK
        advice = "free some, or point TMPDIR elsewhere: compiler caches and environments are made there"
        yield _problem("disk", what, advice) if low else _good("disk", what)


def _judge_cpu(facts: Facts) -> Iterator[Finding]:
    usable = "" if facts.cpus == facts.all_cpus else f", of which {facts.cpus} may be used"
    yield _good("CPU", f"{facts.cpu or 'unknown model'}, {count(facts.all_cpus, 'CPU')}{usable}")
    if facts.virtual:
        yield _note(
            "virtual machine",
            "other guests may share the processor, and nothing here shows them",
            "compare base and head in one job, never across jobs; expect slow stretches",
        )
    if facts.governor and facts.governor != "performance":
        yield _note("governor", facts.governor, "sudo cpupower frequency-set -g performance")
    if facts.turbo:
        yield _note(
            "turbo", "on: the clock follows the temperature", "switch it off for absolute times; comparisons bear it"
        )
    if facts.smt:
        yield _note(
            "SMT",
            "on: two threads share a core",
            "leave the sibling of a measured CPU idle (taskset), or switch it off",
        )
    if facts.numa_nodes > 1:
        yield _note(
            "NUMA",
            f"{facts.numa_nodes} nodes",
            "start it on one node: numactl --cpunodebind=0 --membind=0 torchperf-ci …",
        )
    if facts.cpu_limit is not None and facts.cpu_limit < facts.cpus:
        yield _problem(
            "container",
            f"it may use {facts.cpu_limit:g} of the {count(facts.cpus, 'CPU')} it sees: threads are paused at work",
            f"use --threads {max(1, int(facts.cpu_limit))}, or give the container whole CPUs (--cpuset-cpus)",
        )


def _judge_neighbours(facts: Facts) -> Iterator[Finding]:
    if facts.load is not None:
        what = f"{facts.load:.1f} processes want to run, on {count(facts.cpus, 'CPU')}"
        busy = facts.load > 0.5 * facts.cpus
        yield (
            _problem("load", what, "wait until the machine is idle, or end what runs") if busy else _good("load", what)
        )
    if facts.steal is not None and facts.steal > MUCH_STEAL:
        what = f"the host gave {facts.steal:.0%} of the time to other guests".replace("%", " %")
        yield _note("steal", what, "take a dedicated machine if comparisons stay inconclusive")


def _judge_memory(facts: Facts) -> Iterator[Finding]:
    if facts.memory_free is not None:
        free = min(facts.memory_free, facts.memory_limit or facts.memory_free)
        what = f"{free / GIB:.1f} GiB free"
        advice = "two processes with torch and a model have to fit"
        yield _problem("memory", what, advice) if free < LEAST_MEMORY else _good("memory", what)
    if facts.swap_used:
        yield _note(
            "swap",
            f"{facts.swap_used / GIB:.2f} GiB in use",
            "memory that was moved there is slow at its first use; sudo swapoff -a",
        )


def _judge_gpus(facts: Facts) -> Iterator[Finding]:
    for number, gpu in enumerate(facts.gpus):
        topic = f"GPU {number}"
        yield _good(topic, f"{gpu.name}, {gpu.clocks}" if gpu.clocks else gpu.name)
        if gpu.throttled:
            yield _problem(topic, f"throttled: {gpu.throttled}", "cool it, or lower its clock: sudo nvidia-smi -lgc …")
        if gpu.processes:
            yield _problem(topic, f"in use by {', '.join(gpu.processes)}", "end them, or choose another GPU")
        if gpu.unlisted_mib:
            what = f"{gpu.unlisted_mib} MiB in use by something that is not listed here, for example another container"
            yield _problem(topic, what, "end it, or choose another GPU")
        if gpu.has_mps:
            yield _note(topic, "an MPS server runs: work of its other clients may not show", "stop it for comparisons")
        if gpu.compute_mode.startswith("Exclusive"):
            advice = "compare takes whole launches in turn there; sudo nvidia-smi -c 0 lets the sides take turns"
            yield _note(topic, f"its compute mode is {gpu.compute_mode}: one process at a time", advice)
        if gpu.persistence == "Disabled":
            yield _note(topic, "persistence mode is off", "sudo nvidia-smi -pm 1: no start-up cost at first use")
        if gpu.mig == "Enabled":
            yield _note(topic, "MIG is on: other slices share memory bandwidth", "use a whole GPU for comparisons")
        if gpu.ecc == "Disabled":
            yield _note(topic, "ECC is off", "compare only with machines where it is off as well")


def _good(topic: str, what: str) -> Finding:
    return Finding(level=Severity.GOOD, topic=topic, what=what)


def _note(topic: str, what: str, advice: str) -> Finding:
    return Finding(level=Severity.NOTE, topic=topic, what=what, advice=advice)


def _problem(topic: str, what: str, advice: str) -> Finding:
    return Finding(level=Severity.PROBLEM, topic=topic, what=what, advice=advice)


POWER = 0.8
"""The share of slowdowns that shall be found, for the smallest one that a machine can see."""

BUDGETS = (10.0, 60.0)
_LAUNCHES = 3
"""A comparison asks for more; what they would gain is computed."""
_STEAL_SECONDS = 0.5
_LIMIT_S = 120


def read_facts(python: str, environ: Mapping[str, str], *, root: Path = Path("/")) -> Facts:
    """Read everything about this machine; `root` is where /proc and /sys are."""
    cpu_lines = (line.partition(":") for line in read(root, "proc/cpuinfo").splitlines())
    return replace(
        _ask_torch(python, environ),
        cpu=next((one_line(value) for key, _, value in cpu_lines if key.strip() == "model name"), ""),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        all_cpus=os.cpu_count() or 1,
        virtual="hypervisor" in read(root, "proc/cpuinfo"),
        governor=read(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        turbo=_read_turbo(root),
        smt={"1": True, "0": False}.get(read(root, "sys/devices/system/cpu/smt/active")),
        steal=_watch_steal(root),
        load=os.getloadavg()[0],
        cpu_limit=_read_cpu_limit(root),
        memory_free=psutil.virtual_memory().available,
        memory_limit=container_memory_left(root),
        swap_used=psutil.swap_memory().used,
        numa_nodes=max(1, len(list((root / "sys/devices/system/node").glob("node[0-9]*")))),
        disk_free=shutil.disk_usage(tempfile.gettempdir()).free,
        compiler=_find_compiler(environ),
        gpus=tuple(_read_gpus()),
    )


def _read_turbo(root: Path) -> bool | None:
    if no_turbo := read(root, "sys/devices/system/cpu/intel_pstate/no_turbo"):
        return no_turbo == "0"
    if boost := read(root, "sys/devices/system/cpu/cpufreq/boost"):
        return boost == "1"
    return None


def _watch_steal(root: Path) -> float | None:
    """Measure the share of CPU time that the host gave to others, over half a second."""
    watch = HostWatch(root)
    time.sleep(_STEAL_SECONDS if root == Path("/") else 0)
    return watch.seen().steal


def _read_cpu_limit(root: Path) -> float | None:
    """Read how many CPUs the container may use, by either version of control groups."""
    quota, _, period = read(root, "sys/fs/cgroup/cpu.max").partition(" ")
    if not quota:
        quota = read(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = read(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _find_compiler(environ: Mapping[str, str]) -> str:
    """Find what inductor would start for C++."""
    names = (environ.get("CXX"), "g++", "clang++")
    paths = (shutil.which(name, path=environ.get("PATH", os.defpath)) for name in names if name)
    return next((path for path in paths if path), "")


def _ask_torch(python: str, environ: Mapping[str, str]) -> Facts:
    """Ask a Python for its torch, in a process that may use the devices: the facts that concern it."""
    command = [python, "-m", "torchperf_ci.worker.accelerators"]
    with package_path(environ) as path:
        try:
            done = subprocess.run(command, env=path, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return Facts(python=python, torch_problem=one_line(str(error), limit=200))
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Facts(python=python, torch_problem=one_line(last, limit=200))
    reply = json.loads(done.stdout.splitlines()[-1])  # a torch may say something before
    signs = Signs() if reply["accelerators"] else read_signs(reply["unusable"], environ)
    return Facts(
        python=python,
        torch=reply["torch"],
        accelerators=tuple(one.title for one in accelerators_from(reply["accelerators"])),
        accelerator_problem=missing_accelerator(reply["devices"], reply["torch"], signs),
        broken=tuple(
            one_line(f"{name} on {device}: {error}", limit=300)
            for device, libraries in reply["broken"].items()
            for name, error in libraries.items()
        ),
    )


def _read_gpus() -> Iterator[GpuFacts]:
    fields = "name,persistence_mode,ecc.mode.current,mig.mode.current,uuid,clocks.sm,clocks.max.sm,compute_mode"
    for line in smi("--query-gpu=" + fields).splitlines():
        values = [*(part.strip() for part in line.split(",")), *[""] * 8][:8]
        name, persistence, ecc, mig, uuid, now, most, compute_mode = values
        reasons = [reading.reasons for reading in one_reading(uuid)]
        on_it = read_occupancy(ListedGpu(index=0, model=name, name=uuid, uuid=uuid))
        yield GpuFacts(
            name=one_line(name),
            uuid=one_line(uuid),
            clocks=f"{now} of at most {most} MHz" if now.isdigit() and most.isdigit() else "",
            persistence=persistence,
            ecc=ecc,
            mig=mig,
            compute_mode=one_line(compute_mode),
            throttled=", ".join(text for bit, text in THERMAL.items() if any(bit & seen for seen in reasons)),
            processes=on_it.processes,
            unlisted_mib=round(on_it.unlisted_mib) if on_it.unlisted_mib > UNLISTED_MIB else 0,
            has_mps=on_it.has_mps,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """The smallest change that a comparison on a device sees, found with equal code: its ratio with its interval.

    smallest: by seconds per case, the smallest slowdown that would be found 80 % of the time. refusals: why such a
    comparison would be refused.
    """

    device: str
    ratio: float
    low: float
    high: float
    slow_share: float
    smallest: Mapping[float, float]
    refusals: tuple[str, ...] = ()


def measure_sensitivity(python: str, *, device: str | None, threads: int | None, seconds: float) -> Sensitivity:
    """Compare equal code with itself for `seconds` on a device, by default the first accelerator, else the CPU.

    Raises `NothingToJudge` when the model does not run, `UsageProblem` when there is no such device.
    """
    tolerances = ToleranceRules()
    side = SideSpec(name="base", python=python, label="base")
    request = CompareRequest(
        base=side,
        head=replace(side, name="head", label="head"),
        selection=Selection(
            suites=("tiny",),
            mode=Mode.INFERENCE,
            devices=() if device is None else (device,),
            compilers=("eager",),
            filters=(re.compile("^mlp$"),),
            device_option="--device",
        ),
        settings=CaseSettings(
            testings=(Testing.PERFORMANCE,), threads=threads, cpus=shared_cpus(threads), counts=False
        ),
        plan=ComparePlan(tolerances=tolerances, launches=_LAUNCHES, seconds=seconds, stop_early=False),
    )
    with (
        tempfile.TemporaryDirectory(prefix="torchperf-doctor-") as scratch,
        open_folder(Path(scratch) / "out") as folder,
        running_sides(request, Path(scratch)) as (base, head),
    ):
        live = LiveComparison(request, base, head, folder)
        live.run(lambda *_: None)
    measured = live.measured[0]
    effect = estimate_effect(measured.launches, between=find_floor(measured.launches, measured.between))
    if effect is None:
        failures = [side.failure for side in (measured.base, measured.head) if side is not None and side.failure]
        reasons = dict.fromkeys([*failures, *measured.refusals]) or ["too few samples"]
        raise NothingToJudge(f"equal code could not be compared: {'; '.join(reasons)}")
    margin = tolerances.latency.margin
    smallest = {
        budget: estimate_smallest_change(measured.launches, spent=measured.seconds, budget=budget, margin=margin)
        for budget in BUDGETS
    }
    return Sensitivity(
        device=measured.case.device,
        refusals=measured.refusals,
        ratio=effect.ratio,
        low=effect.low,
        high=effect.high,
        slow_share=slow_share([time for launch in measured.launches for time in launch.probe]),
        smallest={budget: change for budget, change in smallest.items() if change is not None},
    )


def estimate_smallest_change(
    launches: Sequence[Launch], *, spent: float, budget: float, margin: float, between: float = BETWEEN_FLOOR
) -> float | None:
    """Estimate the slowdown that `budget` seconds per case would call one 80 % of the time, as a share, from a
    measurement of equal code that took `spent` seconds; None when that has too few samples.

    The error within launches shrinks with the root of the time, that between launches with the root of their number,
    which is `LAUNCHES` there.
    """
    whole, inside = (estimate_effect(launches, between=floor) for floor in (find_floor(launches, between), 0.0))
    if whole is None or inside is None:
        return None
    apart = max(0.0, whole.error**2 - inside.error**2) * whole.launches / LAUNCHES
    error = math.sqrt(inside.error**2 * spent / budget + apart)
    needed = student_t(1 - LOOKS[-1][1], whole.freedom) + student_t(POWER, whole.freedom)
    return math.expm1(math.log1p(margin) + needed * error)
