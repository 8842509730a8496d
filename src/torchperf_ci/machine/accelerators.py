"""The accelerators a run should have, and the arithmetic that each can do at most (data/peaks.csv).

A run that quietly falls back to the CPU publishes CPU times as a GPU's, so it is refused.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

from torchperf_ci.core.text import one_line

_LIMIT_S = 20

_TOOLS = (("nvidia-smi", "-L"), ("amd-smi", "list"))
"""The programs of drivers that list their devices."""

_GPU_LABEL = re.compile(
    r"(^|[^a-z0-9])(n?gpus?|multi-?gpu|cuda\d*|nvidia|rocm|amdgpu|xpu|mps|a10g?|a40|a100|h[12]00|b[23]00|l4|l40s?|t4|v100|"
    r"p100|mi\d{3}x?|rtx\w*)([^a-z0-9]|$)",
    re.IGNORECASE,
)

HIDING_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
"""The variables that can hide devices from a process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A device that torch can use: `cuda:1`, its name, its UUID and bus address as far as torch tells them."""

    device: str
    name: str
    uuid: str = ""
    pci: str = ""
    memory_bytes: int = 0

    @property
    def title(self) -> str:
        """Name it as people do: the device with what tells it from others of its kind."""
        return f"{self.device} ({self.name}{', ' + self.uuid if self.uuid else ''})"


def accelerators_from(answers: Sequence[Mapping[str, Any]]) -> tuple[Accelerator, ...]:
    """Make types of a worker's answer; names are from outside."""
    return tuple(
        Accelerator(
            device=str(one["device"]),
            name=one_line(str(one["name"])),
            uuid=one_line(str(one["uuid"])),
            pci=str(one["pci"]),
            memory_bytes=int(one["memory_bytes"]),
        )
        for one in answers
    )


def indexed(device: str) -> str:
    """Return a device with its number: `cuda` is the first one, `cuda:0`."""
    return device if ":" in device else f"{device}:0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """The signs of an accelerator on this machine.

    unusable: what torch says that was built for one. listed: what a driver's tool says, by the kind of device.
    labels: those of the job's runner. hidden: the variables that hide devices, with their values.
    """

    unusable: str = ""
    listed: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[str] = ()
    hidden: Mapping[str, str] = field(default_factory=dict)


def missing_accelerator(devices: Mapping[str, int], torch: str, signs: Signs, *, option: str = "--devices") -> str:
    """Say why measuring on the CPU would be a mistake, with what to do; empty where nothing speaks for an accelerator.

    devices: those torch can use, by type. torch: its version. option: the one that chooses the CPU.
    """
    if any(name != "cpu" for name in devices):
        return ""
    reasons = [signs.unusable] if signs.unusable else []
    reasons += [f"{tool} is here and says: {answer}" for tool, answer in signs.listed.items()]
    if labels := [one_line(label).strip("[]\"'") for label in signs.labels if is_gpu_label(label)]:
        reasons.append(f"the job asked for a runner with {', '.join(labels)}")
    if not reasons:
        return ""
    hidden = [f"{name}={one_line(value)!r} hides devices" for name, value in signs.hidden.items()]
    if hidden:
        advice = "unset it"
    elif signs.unusable:
        advice = "repair the driver or the container's access to it (docker run --gpus all)"
    else:
        advice = f"install a torch that is built for it (torch {torch} sees no accelerator)"
    return (
        f"no accelerator can be used, though one should be there: {'; '.join([*reasons, *hidden])}. "
        f"To measure on it, {advice}; to measure on the CPU, say so with {option} cpu"
    )


def is_gpu_label(label: str) -> bool:
    return _GPU_LABEL.search(label) is not None


def read_signs(unusable: str, environ: Mapping[str, str], *, labels: Sequence[str] = ()) -> Signs:
    """Look for what speaks for an accelerator: the drivers' tools, the variables of the measured processes."""
    listed = {}
    for command in _TOOLS:
        if shutil.which(command[0], path=os.environ.get("PATH", os.defpath)) is None:
            continue
        try:
            result = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            listed[command[0]] = one_line(f"it cannot be run: {error}", limit=200)
            continue
        lines = [line for line in (result.stdout or result.stderr).splitlines() if line.strip()]
        listed[command[0]] = one_line(lines[0] if lines else f"nothing, exit code {result.returncode}", limit=200)
    return Signs(
        unusable=unusable,
        listed=listed,
        labels=tuple(labels),
        hidden={name: environ[name] for name in HIDING_VARIABLES if name in environ},
    )


@lru_cache(maxsize=1)
def read_peaks() -> dict[tuple[str, str], float]:
    """Read floating-point operations per second by device and precision, dense, in the file's order."""
    text = resources.files("torchperf_ci.machine").joinpath("data/peaks.csv").read_text(encoding="utf-8")
    return {
        (row["device"], row["precision"]): float(row["teraflops"]) * 1e12 for row in csv.DictReader(text.splitlines())
    }


def find_peak(gpu: str, dtype: str, *, tf32: bool = False) -> float | None:
    """Return the peak of a GPU by its name, in FLOP/s of a case's precision; None where it is not known.

    tf32: whether products of float32 run as TF32. `amp` computes in float16 on a GPU. A part of a GPU (MIG, or a vGPU
    such as A10-8Q) has a part of its peak, which is not known.
    """
    if "MIG" in gpu or re.search(r"-\d+[ABCQ](ME)?\b", gpu):
        return None
    precision = {"amp": "float16", "float32": "tf32" if tf32 else "float32"}.get(dtype, dtype)
    for (device, has), peak in read_peaks().items():
        words = r"[ -]".join(map(re.escape, re.split(r"[ -]", device)))
        if has == precision and re.search(rf"(?<![0-9A-Za-z]){words}(?![0-9A-Za-z])", gpu, re.IGNORECASE):
            # Relatives have another peak: laptops, and cards whose name has more to it.
            is_relative = re.search(rf"{re.escape(device)} (Ti|SUPER|D|Laptop)\b", gpu) or " NVL" in gpu
            return None if is_relative else peak
    return None
