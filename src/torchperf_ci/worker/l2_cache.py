"""Empty a device's L2 cache before a reading, and see whether that shows.

A call whose weights and inputs still lie in the cache from the call before is quicker than the same call in a program
that has done something else meanwhile.
"""

from __future__ import annotations

from statistics import median

import torch

from torchperf_ci.worker.memory import device_module
from torchperf_ci.worker.protocol import CaseError
from torchperf_ci.worker.timing import Reader

LEAST_BYTES = 2**28
"""Caches behind the L2 cache are as large as this (AMD's Infinity Cache, which torch does not tell)."""

_READINGS = 21
_SLOWER = 1.1
"""A read from memory that is not slower than this, against one from the cache, did not come from memory."""


class CacheEmptier:
    """Writes a buffer larger than the L2 cache, so that nothing else is in it. Raises `CaseError` without one.

    size: bytes of the cache. The buffer has twice as many, and at least `LEAST_BYTES`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.size = _cache_size(device)
        if not self.size:
            raise CaseError(
                "fail_to_run",
                f"torch does not say how large the L2 cache of {device} is, so it cannot be emptied; "
                "leave out --cold-l2",
            )
        self._buffer = torch.empty(max(2 * self.size, LEAST_BYTES), dtype=torch.uint8, device=device)

    def __call__(self) -> None:
        """Start to write it; the device is not waited for."""
        self._buffer.zero_()

    def remarks(self) -> list[str]:
        """Read half a cache of data with and without emptying the cache before; a sentence where that is as quick."""
        data = torch.ones(self.size // 16, dtype=torch.int64, device=self._device)
        warm, cold = (self._nanoseconds(data, Reader(self._device, before=before)) for before in (None, self))
        if cold > _SLOWER * warm:
            return []
        times = f"{cold / 1e3:.3g} µs after emptying it, {warm / 1e3:.3g} µs without"
        return [f"the L2 cache may not have been empty: reading {data.nbytes:,} bytes took {times}"]

    def _nanoseconds(self, data: torch.Tensor, take: Reader) -> float:
        readings = [take(data.max, 1) for _ in range(_READINGS)]
        return median(host if on_device is None else on_device for host, on_device in readings)


def _cache_size(device: torch.device) -> int:
    """Bytes of the cache before the device's memory, by CUDA's and by XPU's name; 0 where torch does not say."""
    module = device_module(device)
    if not hasattr(module, "get_device_properties"):
        return 0
    properties = module.get_device_properties(device)
    return int(getattr(properties, "L2_cache_size", 0) or getattr(properties, "last_level_cache_size", 0))
