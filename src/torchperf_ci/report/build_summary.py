"""What a run was built from, as its workers saw it: commits, the measured torch and its dynamo flags, the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torchperf_ci.core.records import Build, Environment, Source
from torchperf_ci.core.text import one_line
from torchperf_ci.report.model import Checkout, Findings

NOT_RECORDED = "not recorded"
ALWAYS_SHOWN = ("TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "USE_LLVM")
"""Environment variables that are named even where they are not set."""

Part = tuple[str, Sequence[str]]


def build_summary(findings: Findings) -> list[Part]:
    """Titles, and the lines under each."""
    build = findings.build
    parts: list[Part] = [
        ("Run name", [findings.options.run_name or NOT_RECORDED]),
        (
            "Commit hashes",
            [*_source(findings.source), *(line for item in findings.options.checkouts for line in _checkout(item))],
        ),
        ("TorchDynamo config flags", _flags(build)),
        ("Torch version", _versions(build)),
        ("Environment variables", _variables(build.variables if build else {})),
    ]
    environment = build.environment if build else None
    if environment and environment.gpu:
        parts.append(("GPU details", _gpu(environment)))
    if environment and environment.cpu:
        parts.append(("CPU and memory", _machine(environment)))
    return [(title, [one_line(line) for line in lines]) for title, lines in parts]


def _source(source: Source) -> list[str]:
    name = source.repository or "measured repository"
    return [f"{name} commit: {source.commit}"] if source.commit else []


def _checkout(item: Checkout) -> list[str]:
    if not item.commit:
        return [f"{item.name} Absent"]
    date = [f"{item.name} commit date: {item.date}"] if item.date else []
    return [f"{item.name} commit: {item.commit}", *date]


def _flags(build: Build | None) -> list[str]:
    flags = build.dynamo_flags if build else {}
    return [f"torch._dynamo.config.{name} = {value}" for name, value in sorted(flags.items())] or [NOT_RECORDED]


def _versions(build: Build | None) -> list[str]:
    if build is None or not build.environment.torch:
        return [f"torch: {NOT_RECORDED}"]
    environment = build.environment
    known = {
        "torch": environment.torch,
        "torch commit": environment.torch_git,
        "python": environment.python,
        "cuda": environment.cuda,
        **{name: version for name, version in sorted(build.packages.items()) if name != "torch"},
    }
    return [f"{name}: {version}" for name, version in known.items() if version]


def _variables(variables: Mapping[str, str]) -> list[str]:
    shown = {**dict.fromkeys(ALWAYS_SHOWN, "None"), **variables}
    return [f"{name} = {value}" for name, value in shown.items()]


def _gpu(environment: Environment) -> list[str]:
    return [
        f"CUDNN VERSION: {environment.cudnn or NOT_RECORDED}",
        f"Number CUDA Devices: {environment.gpu_count}",
        f"Device Name: {environment.gpu}",
        f"Device Memory [GB]: {environment.gpu_memory_bytes / 1e9}",
        f"Driver: {environment.driver or NOT_RECORDED}",
    ]


def _machine(environment: Environment) -> list[str]:
    lines = [f"CPU: {environment.cpu}", f"Number of CPUs: {environment.cpu_count}", f"Threads: {environment.threads}"]
    if environment.memory_bytes:
        lines.append(f"Memory [GB]: {environment.memory_bytes / 1e9:.1f}")
    return [*lines, *([f"Kernel: {environment.kernel}"] if environment.kernel else [])]
