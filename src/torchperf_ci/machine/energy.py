"""The energy that an NVIDIA GPU has used, as NVML counts it; nothing where there is no NVML."""

from __future__ import annotations

import ctypes
import re
from typing import Any

_SUCCESS = 0


class EnergyCounter:
    """Reads nvmlDeviceGetTotalEnergyConsumption: millijoules since the driver was loaded, from Volta on.

    The counter moves in steps of up to 100 ms, so what is measured should take a second.
    """

    def __init__(self, uuid: str, library: Any = None) -> None:  # noqa: ANN401 - a library of ctypes
        """uuid: of the whole GPU, with or without `GPU-`. library: NVML; None: the installed one."""
        self._device: ctypes.c_void_p | None = None
        try:
            self._nvml = library or ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        device = ctypes.c_void_p()
        name = f"GPU-{re.sub('^GPU-', '', uuid)}".encode()
        is_there = bool(uuid) and not uuid.startswith("MIG") and self._nvml.nvmlInit_v2() == _SUCCESS
        if is_there and self._nvml.nvmlDeviceGetHandleByUUID(name, ctypes.byref(device)) == _SUCCESS:
            self._device = device

    def read(self) -> float | None:
        """Return joules; None where the GPU does not tell."""
        if self._device is None:
            return None
        millijoules = ctypes.c_ulonglong()
        if self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device, ctypes.byref(millijoules)) != _SUCCESS:
            return None
        return millijoules.value / 1e3
