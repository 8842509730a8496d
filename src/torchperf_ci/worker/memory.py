"""Peak memory: the allocator's on an accelerator, the resident set's high-water mark on a CPU."""

from __future__ import annotations

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
    """Run `action`; the peak in bytes meanwhile, or None where it cannot be measured.

    On the CPU the mark is reset by writing 5 to /proc/self/clear_refs and read as VmHWM (proc_pid_clear_refs(5)):
    it holds everything resident in the process, and sees nothing under about 1 MB.
    """
    reset, read = _accelerator(device) if device.type != "cpu" else (_reset_resident, _read_resident)
    can_be_reset = reset()
    action()
    return read() if can_be_reset else None


def _accelerator(device: torch.device) -> tuple[Callable[[], bool], Callable[[], int]]:
    module = device_module(device)

    def reset() -> bool:
        if not hasattr(module, "reset_peak_memory_stats"):
            return False
        module.reset_peak_memory_stats(device)
        return True

    return reset, lambda: int(module.max_memory_allocated(device))


def _reset_resident() -> bool:
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def _read_resident() -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
