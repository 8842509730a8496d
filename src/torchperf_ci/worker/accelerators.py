"""The devices that torch can use here, what identifies each, and which failures are theirs.

Asked in a worker or in a process of its own (`python -m torchperf_ci.worker.accelerators` prints it all as JSON),
never in the preloaded process: most of this makes a device context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch

from torchperf_ci.worker.protocol import CaseError, describe, read_message

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
        yield f"{type(one).__name__}: {read_message(one)}"
        waiting += [one.__cause__, one.__context__, getattr(one, "inner_exception", None)]


_TYPES = ("cuda", "xpu", "mps")


def device_types() -> dict[str, int]:
    """Return the device types torch can use here, and how many of each; the CPU is the first one."""
    usable = {"cpu": 1}
    for name in dict.fromkeys((*_TYPES, *_out_of_tree_types())):
        module: Any = getattr(torch, name, None)
        is_available = torch.backends.mps.is_available if name == "mps" else getattr(module, "is_available", None)
        if is_available is not None and is_available():
            usable[name] = module.device_count() if hasattr(module, "device_count") else 1
    return usable


def accelerators() -> list[dict[str, Any]]:
    """List every usable device but the CPU: `device`, `name`, `uuid`, `pci` (bus address), `memory_bytes`.

    Empty text and 0 where this torch does not say.
    """
    return [
        {"device": f"{name}:{index}", **_identity(name, index)}
        for name, count in device_types().items()
        if name != "cpu"
        for index in range(count)
    ]


def unusable_accelerator() -> str:
    """Say why this torch, which was built for an accelerator, cannot use one here; empty where it can, or was not."""
    kind = (
        "HIP"
        if torch.version.hip
        else "CUDA"
        if torch.version.cuda
        else "XPU"
        if getattr(torch.version, "xpu", None)
        else ""
    )
    if not kind or len(device_types()) > 1:
        return ""
    module = torch.xpu if kind == "XPU" else torch.cuda
    try:
        module.init()
    except Exception as error:  # noqa: BLE001 - whatever the driver's library says
        return f"torch {torch.__version__} is built for {kind}, but {describe(error)}"
    return f"torch {torch.__version__} is built for {kind}, but sees no device"


def choose_device(device: torch.device) -> torch.device:
    """Make it the current one, to which events, streams, and a context where none is asked for, belong.

    Returns it with its number: without one it is the device that is current now.
    """
    index: int | None = device.index
    module: Any = getattr(torch, device.type, None)
    if device.type == "cpu":
        return device
    if index is None:
        return torch.device(device.type, module.current_device()) if hasattr(module, "current_device") else device
    if hasattr(module, "set_device"):
        module.set_device(index)
    elif hasattr(torch, "accelerator") and torch.accelerator.current_accelerator() == torch.device(device.type):
        torch.accelerator.set_device_index(index)
    return device


def probe_device(device: str) -> dict[str, Any]:
    """Compute something on a device and wait for it. Raises `CaseError` when that does not work: the device is lost."""
    try:
        choose_device(torch.device(device))
        total = torch.ones(1024, device=device).sum().item()
    except Exception as error:
        raise CaseError("fail_to_run", describe(error)) from error
    return {"sum": total}


def broken_libraries(device: str) -> dict[str, str]:
    """Return what does not work on a device, by name, with the error: plain arithmetic, and its libraries."""
    attempts: dict[str, Callable[[], object]] = {
        "arithmetic": lambda: torch.ones(8, device=device).sum().item(),
        "matrix products": lambda: (torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum().item(),
        "convolutions": lambda: (
            torch.conv2d(torch.ones(1, 1, 4, 4, device=device), torch.ones(1, 1, 2, 2, device=device)).sum().item()
        ),
    }
    broken = {}
    choose_device(torch.device(device))
    for name, attempt in attempts.items():
        try:
            attempt()
        except Exception as error:  # noqa: BLE001 - whatever a library says
            broken[name] = describe(error)
            if breaks_process(error):  # what comes next would fail for that
                break
    return broken


def touched_device() -> str:
    """Say, in a process that was just forked, which device its parent has initialised, so that it is unusable here."""
    for name in (*_TYPES, torch._C._get_privateuse1_backend_name()):
        is_in_bad_fork = getattr(getattr(torch, name, None), "_is_in_bad_fork", None)
        if is_in_bad_fork is not None and is_in_bad_fork():
            return str(name)
    return ""


def _identity(name: str, index: int) -> dict[str, Any]:
    module = getattr(torch, name)
    if not hasattr(module, "get_device_properties"):
        return {"name": name.upper(), "uuid": "", "pci": "", "memory_bytes": 0}
    properties = module.get_device_properties(index)
    bus = getattr(properties, "pci_bus_id", None)
    domain, slot = getattr(properties, "pci_domain_id", 0), getattr(properties, "pci_device_id", 0)
    return {
        "name": str(getattr(properties, "name", name)),
        "uuid": str(getattr(properties, "uuid", "") or ""),
        "pci": "" if bus is None else f"{domain:08x}:{bus:02x}:{slot:02x}.0",
        "memory_bytes": int(getattr(properties, "total_memory", 0)),
    }


def _out_of_tree_types() -> Iterator[str]:
    """Return the types that other packages bring: torch's current accelerator, and what PrivateUse1 was renamed to."""
    if hasattr(torch, "accelerator") and torch.accelerator.is_available():
        current = torch.accelerator.current_accelerator()
        if current is not None:
            yield current.type
    if (renamed := str(torch._C._get_privateuse1_backend_name())) != "privateuseone":
        yield renamed


if __name__ == "__main__":
    seen = accelerators()
    answer = {
        "torch": torch.__version__,
        "devices": device_types(),
        "accelerators": seen,
        "unusable": unusable_accelerator(),
        "broken": {one["device"]: broken for one in seen if (broken := broken_libraries(one["device"]))},
    }
    print(json.dumps(answer))  # noqa: T201 - the answer


def is_out_of_memory(error: BaseException) -> bool:
    message = read_message(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and ("out of memory" in message or "can't allocate memory" in message)
    )


def word_of_failure(error: BaseException, usual: str) -> str:
    """Give an eager failure its status: a device or a library that does not work is nothing to be left out."""
    return "infra_error" if is_of_device(error) else usual


def compile_failure(error: BaseException) -> CaseError:
    if isinstance(error, CaseError):
        return error
    is_import = isinstance(getattr(error, "inner_exception", error), ImportError)
    if is_import and not is_of_device(error):  # a backend whose library is not there
        return CaseError("compiler_not_available", describe(error))
    return CaseError("OOM" if is_out_of_memory(error) else "fail_to_run", describe(error))
