"""Judge from facts how noisy and how ready a machine is for measuring. docs/compare.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from torchperf_ci.core.text import count
from torchperf_ci.machine.host import GIB, LEAST_MEMORY

LEAST_DISK = 5 * GIB
MUCH_STEAL = 0.02


class Severity(str, Enum):
    """The weight of a finding."""

    GOOD = "good"
    NOTE = "note"
    """It adds noise, or cannot be known; measuring is possible."""
    PROBLEM = "problem"
    """Something will not work, or times will mean little."""

    __str__ = str.__str__


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
