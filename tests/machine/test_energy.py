"""Energy is what NVML counts, and nothing where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from torchperf_ci.machine.energy import EnergyCounter
from torchperf_ci.machine.peaks import find_peak, read_peaks


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


@pytest.mark.parametrize(
    ("gpu", "dtype", "tf32", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", False, 989.4),
        ("NVIDIA H100 PCIe", "float32", True, 378),
        ("NVIDIA H200", "amp", False, 989.4),
        ("NVIDIA A100-SXM4-40GB", "float32", False, 19.5),
        ("NVIDIA A100-SXM4-40GB", "float32", True, 156),
        ("NVIDIA A10G", "float16", False, 70),
        ("Tesla T4", "bfloat16", False, None),
        ("Tesla V100-SXM2-16GB", "float16", False, 125),
        ("NVIDIA L40S", "float32", False, 91.6),
        ("NVIDIA L4", "float32", False, 30.3),
        ("NVIDIA GeForce RTX 4090", "float16", False, 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "float16", False, None),
        ("NVIDIA GeForce RTX 3090 Ti", "float16", False, None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "float16", False, None),
        ("AMD Instinct MI300X", "bfloat16", False, 1307.4),
        ("Some GPU", "float32", False, None),
    ],
)
def test_the_peak_of_a_device_is_that_of_its_name_and_precision(
    gpu: str, dtype: str, *, tf32: bool, teraflops: float | None
) -> None:
    """And unknown for its relatives."""
    peak = find_peak(gpu, dtype, tf32=tf32)
    assert peak == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_every_peak_is_a_number_of_its_own() -> None:
    """Half precision is never slower than single."""
    peaks = read_peaks()
    devices = {device for device, _ in peaks}
    assert all(peaks[device, "float16"] >= peaks[device, "float32"] > 0 for device in devices)
