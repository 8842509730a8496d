"""Tell errors of a device and its libraries from those of a model, by what drivers and libraries say.

Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Texts of cudaGetErrorString, which HIP shares, and of SYCL's runtimes. CUDA's manual says of each of these: "The
# context cannot be used, so it must be destroyed" (https://docs.nvidia.com/cuda/cuda-runtime-api, cudaError_t).
_BREAKS_PROCESS = re.compile(
    r"illegal memory access|device-side assert|unspecified launch failure|illegal instruction was encountered|"
    r"misaligned address|operation not supported on global/shared address space|invalid program counter|"
    r"hardware stack error|launch timed out and was terminated|context is destroyed|"
    r"uncorrectable (?:ECC|NVLink) error|"
    r"(?:cuda|hip)Error(?:IllegalAddress|Assert|LaunchFailure|LaunchTimeout|ECCUncorrectable|ECCNotCorrectable)|"
    r"DEVICE_LOST|device (?:was |is |has been )?lost",
    re.IGNORECASE,
)

_OF_DEVICE = re.compile(
    r"\b(?:CUDA|HIP|cuDNN|MIOpen|NCCL|cuFFT|hipFFT|cuSPARSE|cuSOLVER|Level.?Zero|SYCL|AOTriton) (?:driver )?error\b|"
    r"\b(?:CUDNN|CUBLAS|CUBLASLT|CUSOLVER|CUSPARSE|HIPBLAS|ROCBLAS|HIPSOLVER|HIPSPARSE|MIOPEN)_STATUS_|"
    r"\bmiopenStatus|\brocblas_status|\bCUFFT_|\b(?:UR_RESULT|PI|ZE_RESULT)_ERROR_|"
    r"\bAcceleratorError\b|no kernel image is available|cuDNN version incompatibility|"
    r"MPS backend (?:is )?(?:not|un)|cannot open shared object file|undefined symbol",
    re.IGNORECASE,
)


def breaks_process(error: BaseException) -> bool:
    """Tell whether the process cannot use its device any more after `error`, so that all that follows would fail."""
    return any(_BREAKS_PROCESS.search(text) for text in _texts(error))


def is_of_device(error: BaseException) -> bool:
    """Tell whether a device, its driver or one of its libraries failed: no fault of the model, and nothing to skip."""
    return any(_OF_DEVICE.search(text) or _BREAKS_PROCESS.search(text) for text in _texts(error))


def _texts(error: BaseException) -> Iterator[str]:
    """Yield type and message of an error and of all that it came from, each once."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield f"{type(one).__name__}: {one}"
        waiting += [one.__cause__, one.__context__, getattr(one, "inner_exception", None)]
