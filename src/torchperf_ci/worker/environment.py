"""What this Python, this torch and this machine are. Nothing here makes a device context in the preloaded process."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from torchperf_ci.worker.protocol import SECRET

_VARIABLES = re.compile(
    r"^(TORCH|PYTORCH|CUDA|CUBLAS|CUDNN|NCCL|TRITON|OMP|MKL|KMP|GOMP|USE_LLVM|LD_PRELOAD|HF_HUB_OFFLINE|XLA)"
)
_HOLDS_OTHERS = re.compile(r"^TORCHPERF_(ARGS|SETUP|\w*_ENV)$")
"""Our own variables that hold arguments, commands or variables with values of any kind."""
_PACKAGES = ("torch", "triton", "torchvision", "torchaudio", "numpy", "transformers", "timm", "onnxruntime")


def describe_environment() -> dict[str, Any]:
    """The fields of `records.Environment`, as text and integers."""
    gpu = _gpu()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_git": getattr(torch.version, "git_version", None) or "",
        "cuda": torch.version.cuda or "",
        "cudnn": _cudnn(),
        "cpu": _cpu_name(),
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
    """Every boolean flag of torch._dynamo.config."""
    import torch._dynamo.config as config

    values = config.get_config_copy() if hasattr(config, "get_config_copy") else config.to_dict()
    return {name: value for name, value in sorted(values.items()) if isinstance(value, bool)}


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that steer torch and its libraries; never one that looks like a secret or may hold one.

    An action sets a variable for each of its inputs: of our own an empty one is none.
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
    """Versions of the packages that matter to a measurement, those that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def devices() -> dict[str, int]:
    """The device types torch can use here, and how many of each."""
    found = {"cpu": 1}
    for name in ("cuda", "xpu"):
        module = getattr(torch, name, None)
        if module is not None and module.is_available():
            found[name] = module.device_count()
    if torch.backends.mps.is_available():
        found["mps"] = 1
    return found


def cpu_set() -> set[int]:
    """The CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _gpu() -> dict[str, Any]:
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return {
            "gpu": properties.name,
            "gpu_count": torch.cuda.device_count(),
            "gpu_memory_bytes": properties.total_memory,
            "driver": _nvidia_driver(),
        }
    xpu = getattr(torch, "xpu", None)
    if xpu is not None and xpu.is_available():
        properties = xpu.get_device_properties(0)
        return {"gpu": properties.name, "gpu_count": xpu.device_count(), "gpu_memory_bytes": properties.total_memory}
    return {}


def _nvidia_driver() -> str:
    text = _read("/proc/driver/nvidia/version")
    if found := re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", text):
        return found.group(1)
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return out.splitlines()[0].strip() if out.strip() else ""


def _cudnn() -> str:
    version = torch.backends.cudnn.version() if torch.cuda.is_available() else None  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return str(version or "")


def _cpu_name() -> str:
    if found := re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE):
        return found.group(1)
    return platform.processor() or platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
