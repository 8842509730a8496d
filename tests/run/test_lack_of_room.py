"""Which failures of a worker may be for want of what another process has taken."""

from __future__ import annotations

import pytest

from torchperf_ci.core.records import Status
from torchperf_ci.run.session import WorkerError, is_lack_of_room


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (Status.OOM, ""),
        (Status.EAGER_1ST_RUN_OOM, ""),
        (Status.KILLED_OOM, "killed: the machine ran out of memory"),
        (Status.MODEL_FAIL_TO_LOAD, "OutOfMemoryError: CUDA out of memory. Tried to allocate 700.00 MiB."),
        (Status.MODEL_FAIL_TO_LOAD, "AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
        (
            Status.FAIL_TO_RUN,
            "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate",
        ),
        (Status.FAIL_TO_RUN, "RuntimeError: HIP out of memory. Tried to allocate 2.00 GiB"),
        (
            Status.FAIL_TO_RUN,
            "RuntimeError: Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
        ),
        (Status.FAIL_TO_RUN, "RuntimeError: MPS backend out of memory (MPS allocated: 7.40 GiB)"),
    ],
)
def test_want_of_room_is_told_in_many_words(status: Status, reason: str) -> None:
    """By status or by what a library says."""
    assert is_lack_of_room(WorkerError(status, reason, alive=True))


@pytest.mark.parametrize("reason", ["ValueError: no such weights", "CUDA error: device-side assert triggered"])
def test_other_failures_are_the_models_own(reason: str) -> None:
    """They are blamed on their side."""
    assert not is_lack_of_room(WorkerError(Status.FAIL_TO_RUN, reason, alive=True))
