"""Default batch sizes that fit: a model's published one, made smaller on a device with less memory."""

from __future__ import annotations

import os
from typing import Any

import torch

from torchperf_ci.suites import SHARING_VARIABLE


def fitting_batch_size(published: int, *, reference_gb: float, memory_gb: float) -> int:
    """`published` where memory is at least `reference_gb`; else the power of two below its share; at least 1.

    Activations, which grow with the batch, take most of the memory; where the weights do, out of memory halves it.
    """
    if memory_gb >= reference_gb:
        return published
    share = int(published * memory_gb / reference_gb)
    return 1 << max(share.bit_length() - 1, 0)


def device_memory_gb(device: str) -> float:
    """Memory of an accelerator, or of the machine for a CPU, in 10⁹ bytes: the share of one process where several hold
    a model at the same time (`SHARING_VARIABLE`)."""
    return _total_memory_gb(device) / max(1, int(os.environ.get(SHARING_VARIABLE) or 1))


def _total_memory_gb(device: str) -> float:
    accelerator: Any = getattr(torch, torch.device(device).type, None)
    if hasattr(accelerator, "get_device_properties") and accelerator.is_available():
        return float(accelerator.get_device_properties(device).total_memory) / 1e9
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
