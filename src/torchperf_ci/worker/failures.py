"""The statuses of failures: out of memory, a device that does not work, a compiler that is not there."""

from __future__ import annotations

import torch

from torchperf_ci.worker.accelerators import is_of_device
from torchperf_ci.worker.protocol import CaseError, describe


def is_out_of_memory(error: BaseException) -> bool:
    message = str(error).lower()
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
