"""Energy is what NVML counts, and nothing where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from torchperf_ci.machine.gpu import EnergyCounter


class Nvml:
    """A library that knows one GPU, which uses 5 J between two readings."""

    def __init__(self, *, tells: bool = True) -> None:
        self.tells, self.millijoules, self.asked = tells, 1000, b""

    def nvmlInit_v2(self) -> int:  # noqa: N802 - NVML's name
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, device: Any) -> int:  # noqa: N802
        self.asked = uuid
        device._obj.value = 7
        return 0 if uuid == b"GPU-1-2" else 6

    def nvmlDeviceGetTotalEnergyConsumption(self, device: Any, out: Any) -> int:  # noqa: N802
        self.millijoules += 5000
        out._obj.value = self.millijoules
        return 0 if self.tells and device.value == 7 else 3


def test_a_gpu_that_counts_its_energy_is_read_in_joules() -> None:
    """By its UUID, as torch or nvidia-smi writes it."""
    for uuid in ("1-2", "GPU-1-2"):
        counter = EnergyCounter(uuid, Nvml())
        first, second = counter.read(), counter.read()
        assert first is not None
        assert second is not None
        assert second - first == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("uuid", "library"), [("1-2", Nvml(tells=False)), ("3-4", Nvml()), ("", Nvml()), ("MIG-1-2", Nvml()), ("1-2", None)]
)
def test_what_is_not_counted_is_nothing(uuid: str, library: Nvml | None) -> None:
    """No GPU of that name, a part of one, an old one, no NVML."""
    assert EnergyCounter(uuid, library).read() is None
