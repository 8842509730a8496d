"""Peak memory of one iteration: tensors on a CPU, the allocator's figure on an accelerator; and the process's size."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def device_module(device: torch.device) -> Any:  # noqa: ANN401 - torch.cuda, torch.xpu, …
    """`torch.cuda` and its like; None for the CPU."""
    return None if device.type == "cpu" else getattr(torch, device.type, None)


def peak_while(device: torch.device, action: Callable[[], object]) -> int | None:
    """Run `action` once; the peak in bytes meanwhile, or None where it cannot be measured.

    On an accelerator it is the allocator's peak, with all that lies on the device. On a CPU it is what tensors needed
    beyond those that were there before: every allocation and release as torch's profiler reports it, so that it is the
    same in each process. What libraries allocate for themselves is not in it.
    """
    gc.collect()
    if device.type == "cpu":
        return _tensor_bytes(action)
    module = device_module(device)
    if not hasattr(module, "reset_peak_memory_stats"):
        action()
        return None
    module.reset_peak_memory_stats(device)
    action()
    return int(module.max_memory_allocated(device))


def process_peak_while(action: Callable[[], object]) -> int | None:
    """Run `action`; the process's largest resident set meanwhile in bytes, or None where the system does not tell.

    Freed memory is given back first, or the mark would begin at an earlier peak. It is reset by writing 5 to
    /proc/self/clear_refs and read as VmHWM (proc_pid_clear_refs(5)).
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        action()
        return None
    action()
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def _tensor_bytes(action: Callable[[], object]) -> int | None:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        action()
    results = getattr(profiled.profiler, "kineto_results", None)
    if results is None:
        return None
    changes = [(event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda one: one[0]):
        held += change
        peak = max(peak, held)
    return peak
