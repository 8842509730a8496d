"""Describe this Python, this torch, this machine, and the suites there are.

Nothing here makes a device context in the preloaded process.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
import subprocess
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from torchperf_ci.suites.asv_benchmarks import collect_benchmarks
from torchperf_ci.suites.problems import short_path
from torchperf_ci.suites.pytest_tests import PRELOAD, collect_tests
from torchperf_ci.suites.registry import ExistingBenchmark, Skip, Suite, SuiteError, known, resolve
from torchperf_ci.worker.accelerators import accelerators
from torchperf_ci.worker.protocol import (
    ASV_SPEC,
    EXISTING_SPECS,
    MISSING_MODULE,
    PYTEST_SPEC,
    SECRET,
    CaseError,
    describe,
    hint_at,
)

_VARIABLES = re.compile(
    r"^(TORCH|PYTORCH|CUDA|CUBLAS|CUDNN|NCCL|HIP|ROCR|HSA|GPU_DEVICE_ORDINAL|ZE|ONEAPI|SYCL|TRITON|OMP|MKL|KMP|GOMP|USE_LLVM|LD_PRELOAD|HF_HUB_OFFLINE|XLA)"
)
_HOLDS_OTHERS = re.compile(r"^TORCHPERF_(ARGS|SETUP|\w*_ENV)$")
"""Our own variables that hold arguments, commands or variables with values of any kind."""
_PACKAGES = ("torch", "triton", "torchvision", "torchaudio", "numpy", "transformers", "timm", "onnxruntime")


def describe_environment() -> dict[str, Any]:
    """Return the fields of `records.Environment`, as text and integers."""
    gpu = _gpu()
    cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None  # type: ignore[no-untyped-call]  # torch leaves it untyped
    brand = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_git": getattr(torch.version, "git_version", None) or "",
        "cuda": torch.version.cuda or "",
        "hip": torch.version.hip or "",
        "cudnn": str(cudnn or ""),
        "cpu": brand[1] if brand else platform.processor() or platform.machine(),
        "cpu_count": len(cpu_set()),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.platform(),
        "host": socket.gethostname(),
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        **gpu,
    }


def dynamo_flags() -> dict[str, bool]:
    """List every boolean flag of torch._dynamo.config."""
    import torch._dynamo.config as config

    values = config.get_config_copy() if hasattr(config, "get_config_copy") else config.to_dict()
    return {name: value for name, value in sorted(values.items()) if isinstance(value, bool)}


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that steer torch and its libraries.

    Never one that looks like a secret or may hold one. An action sets a variable for each of its inputs: of our own an
    empty one is none.
    """
    return {
        name: value
        for name, value in sorted(environ.items())
        if _VARIABLES.match(name)
        and not SECRET.search(name)
        and not _HOLDS_OTHERS.match(name)
        and (value or not name.startswith("TORCHPERF_"))
    }


def packages() -> dict[str, str]:
    """Return the versions of the packages that matter to a measurement, and of out-of-tree backends."""
    versions = {}
    points = metadata.entry_points(group="torch.backends")  # the packages that bring torch a device of their own
    for name in (*_PACKAGES, *sorted({point.dist.name for point in points if point.dist is not None})):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def cpu_set() -> set[int]:
    """Return the CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _gpu() -> dict[str, Any]:
    """Return the first accelerator; a record on another one says which it was."""
    seen = accelerators()
    if not seen:
        return {}
    first = seen[0]
    kind = first["device"].partition(":")[0]
    driver = ""
    if kind == "cuda":
        driver = _read("/sys/module/amdgpu/version") if torch.version.hip else _nvidia_driver()
    return {
        "gpu": first["name"],
        "gpu_uuid": first["uuid"],
        "gpu_count": sum(other["device"].startswith(f"{kind}:") for other in seen),
        "gpu_memory_bytes": first["memory_bytes"],
        "driver": driver,
    }


def _nvidia_driver() -> str:
    text = _read("/proc/driver/nvidia/version")
    if version := re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", text):
        return version.group(1)
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return out.splitlines()[0].strip() if out.strip() else ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def known_suites() -> Mapping[str, Any]:
    """List the suites that have a name here: the built-in ones and those that installed packages registered."""
    return {"suites": list(known())}


def describe_suite(spec: str) -> Mapping[str, Any]:
    """Describe a suite and its models: their descriptions, why one cannot run here, when the suite leaves one out."""
    suite = find_suite(spec)
    missing = suite.missing()
    quick = [re.compile(pattern) for pattern in suite.quick]
    return {
        "name": suite.name,
        "missing": missing,
        "models": [
            {
                "name": model,
                "description": suite.describe(model),
                "missing": None if missing else suite.missing(model),
                "quick": any(pattern.search(model) for pattern in quick),
                "skips": [
                    {"device": skip.device, "mode": skip.mode, "reason": skip.reason}
                    for skip in suite.skips
                    if skip.model == model
                ],
            }
            for model in suite.models
        ],
    }


def list_suites(spec: str) -> Mapping[str, Any]:
    """List the suite of a name, a file or a module, or those that another tool's benchmarks at a path are.

    Each has the fields of `run.plan.SuiteListing` and `missing`, as far as it has them. Raises `CaseError` for what is
    none.
    """
    return {"suites": _list_existing(spec) if spec.startswith(EXISTING_SPECS) else [_list_suite(find_suite(spec))]}


def _list_suite(suite: Suite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "missing": suite.missing(),
        "models": list(suite.models),
        "quick": list(suite.quick),
        "groups": {name: list(models) for name, models in suite.groups.items()},
        "preload": list(getattr(suite.module, "PRELOAD", ())),
        "params": {model: dict(given) for model in suite.models if (given := suite.parameters(model))},
        "metrics": {name: dict(metric) for name, metric in suite.metrics.items()},
        "worlds": {model: suite.world(model) for model in suite.models if suite.world(model) > 1},
        "skips": [asdict(skip) for skip in suite.skips],
    }


def _list_existing(spec: str) -> list[dict[str, Any]]:
    is_pytest = spec.startswith(PYTEST_SPEC)
    try:
        if is_pytest:
            found = collect_tests(spec.removeprefix(PYTEST_SPEC))
        else:
            found = collect_benchmarks(spec.removeprefix(ASV_SPEC))
    except SuiteError as error:
        raise CaseError("unknown_suite", str(error)) from error
    suites: dict[str, list[ExistingBenchmark]] = {}
    for benchmark in found:
        suites.setdefault(benchmark.suite, []).append(benchmark)
    return [
        {
            "name": name,
            "models": list(dict.fromkeys(benchmark.model for benchmark in benchmarks)),
            "specs": {benchmark.model: benchmark.spec for benchmark in benchmarks},
            "metrics_by_model": {benchmark.model: benchmark.metrics for benchmark in benchmarks if benchmark.metrics},
            "skips": [asdict(Skip(model=each.model, reason=each.skip)) for each in benchmarks if each.skip],
            "broken": {benchmark.model: benchmark.broken for benchmark in benchmarks if benchmark.broken},
            "preload": PRELOAD if is_pytest else (),
        }
        for name, benchmarks in suites.items()
    ]


def find_suite(spec: str) -> Suite:
    """Find the suite of a name, a file or a module. Raises `CaseError` with the reason where there is none."""
    try:
        return resolve(spec)
    except SuiteError as error:
        raise CaseError("unknown_suite", str(error)) from error
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
        file, line = frames[-1].filename, frames[-1].lineno
        if isinstance(error, SyntaxError) and error.filename:
            file, line = error.filename, error.lineno
            error = SyntaxError(error.msg)  # without the place, which stands before it
        place = "" if "torchperf_ci" in Path(file).parts else f"{short_path(file)}:{line}: "
        is_missing = isinstance(error, ModuleNotFoundError) and error.name and not hint_at(error)
        raise CaseError(
            MISSING_MODULE if is_missing else "unknown_suite",
            f"suite {short_path(spec)} cannot be imported: {place}{describe(error)}",
        ) from error
