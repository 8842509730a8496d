"""The peaks of devices by name and precision, and the share of them that a case reaches."""

from __future__ import annotations

import pytest

from torchperf_ci.machine.accelerators import find_peak, read_peaks
from torchperf_ci.run.case_worker import Counted, Work
from torchperf_ci.run.runner import measure_rates


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
        ("NVIDIA GeForce RTX 4090 D", "float16", False, None),
        ("NVIDIA GeForce RTX 3090", "bfloat16", False, 71),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "float16", False, None),
        ("NVIDIA A100 80GB PCIe", "bfloat16", False, 312),
        ("NVIDIA A100-PCIE-40GB", "float16", False, 312),
        ("NVIDIA A10", "float16", False, 125),
        ("NVIDIA A10-8Q", "float16", False, None),
        ("GRID A100-4-20C", "float16", False, None),
        ("NVIDIA A30", "float16", False, None),
        ("NVIDIA L40", "float16", False, None),
        ("NVIDIA H100 NVL", "float16", False, None),
        ("NVIDIA H200 NVL", "float16", False, None),
        ("NVIDIA H800", "float16", False, None),
        ("NVIDIA GH200 480GB", "float16", False, None),
        ("Tesla T4", "float32", True, None),
        ("Tesla V100-PCIE-32GB", "float16", False, 112),
        ("Tesla V100S-PCIE-32GB", "float16", False, None),
        ("AMD Instinct MI300X", "bfloat16", False, 1307.4),
        ("AMD Instinct MI300A", "bfloat16", False, None),
        ("NVIDIA H200", "float64", False, None),
        ("NVIDIA H200", "unknown", False, None),
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


@pytest.mark.parametrize(
    ("convolutions", "work", "share"),
    [
        (0, Work(), 1 / 19.5),
        (0, Work(tf32=True, tf32_convolutions=True), 1 / 156),
        (0, Work(tf32_convolutions=True), 1 / 19.5),
        (1, Work(tf32_convolutions=True), 1 / 156),
        (0.5, Work(tf32_convolutions=True), 0.5 / 156 + 0.5 / 19.5),
    ],
)
def test_the_share_of_the_peak_is_the_least_time_over_the_time(convolutions: float, work: Work, share: float) -> None:
    """Of convolutions, which torch runs in TF32 unless it is told not to, and of all else, by their own peaks."""
    counted = Counted(metrics={"flops": 1e12}, convolution_flops=convolutions * 1e12)
    rates = measure_rates(work, 2.0, counted=counted, gpu="NVIDIA A100-SXM4-40GB", dtype="float32")
    assert rates["peak_share"] == pytest.approx(share / 2)
    assert rates["flops_per_second"] == 5e11


def test_no_share_is_claimed_of_a_peak_that_is_not_known() -> None:
    """Nor of the part of the arithmetic whose peak is known."""
    counted = Counted(metrics={"flops": 1e12}, convolution_flops=5e11)
    for gpu in ("", "Some GPU"):
        assert "peak_share" not in measure_rates(Work(), 1.0, counted=counted, gpu=gpu, dtype="float32")
    mixed = measure_rates(Work(tf32_convolutions=True), 1.0, counted=counted, gpu="Tesla T4", dtype="float32")
    assert "peak_share" not in mixed
