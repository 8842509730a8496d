"""Which errors are a device's or a library's, and after which a process can do nothing more with its device."""

from __future__ import annotations

import pytest

from torchperf_ci.worker.accelerators import breaks_process, is_of_device

BREAKING = [
    "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported",
    "CUDA error: device-side assert triggered",
    "CUDA error: unspecified launch failure",
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: misaligned address",
    "CUDA error: the launch timed out and was terminated",
    "Triton Error [CUDA]: an illegal memory access was encountered",
    "HIP error: an illegal memory access was encountered",
    "HIP error: unspecified launch failure",
    "hipErrorIllegalAddress",
    "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)",
]

OF_LIBRARIES = [
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
    "cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR",
    "cuFFT error: CUFFT_INTERNAL_ERROR",
    "MIOpen Error: no suitable algorithm; miopenStatusUnknownError",
    "CUDA error: no kernel image is available for execution on the device",
    "Native API failed. Native API returns: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)",
    "libcudnn_graph.so.9: cannot open shared object file: No such file or directory",
]

OF_MODELS = [
    "mat1 and mat2 shapes cannot be multiplied (4x8 and 9x8)",
    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
    "no module named triton",
    "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory",
    "CUDA out of memory. Tried to allocate 2.00 GiB",
]


@pytest.mark.parametrize("text", BREAKING)
def test_errors_that_leave_the_device_unusable(text: str) -> None:
    """CUDA's, HIP's and SYCL's; also below what a compiler or we made of them."""
    assert breaks_process(RuntimeError(text))
    assert is_of_device(RuntimeError(text))
    above = ValueError("the backend failed")
    above.__cause__ = RuntimeError(text)
    assert breaks_process(above)


@pytest.mark.parametrize("text", OF_LIBRARIES)
def test_errors_of_libraries_leave_the_process_usable(text: str) -> None:
    """They are no model's fault all the same."""
    assert is_of_device(RuntimeError(text))
    assert not breaks_process(RuntimeError(text))


@pytest.mark.parametrize("text", OF_MODELS)
def test_errors_of_models_are_neither(text: str) -> None:
    """Wrong shapes, wrong devices, no memory."""
    assert not is_of_device(RuntimeError(text))


def test_errors_that_come_from_each_other_are_looked_at_once() -> None:
    """A circle of causes ends."""
    one, two = RuntimeError("one"), RuntimeError("two")
    one.__cause__, two.__context__ = two, one
    assert not is_of_device(one)
