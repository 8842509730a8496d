"""Default batch sizes by device memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.suites import SHARING_VARIABLE
from torchperf_ci.suites.device_memory import device_memory_gb, fitting_batch_size

SIZES = st.integers(1, 1024)
MEMORY = st.floats(0.5, 200, allow_nan=False)


@given(SIZES, MEMORY)
def test_a_device_with_enough_memory_gets_the_published_size(published: int, memory: float) -> None:
    """More memory does not change what is measured."""
    assert fitting_batch_size(published, reference_gb=memory, memory_gb=memory) == published
    assert fitting_batch_size(published, reference_gb=memory, memory_gb=2 * memory) == published


@given(SIZES, MEMORY, st.floats(0.01, 0.99))
def test_less_memory_gets_a_power_of_two_of_at_least_one_within_its_share(
    published: int, reference: float, share: float
) -> None:
    """The size is never above the device's share of the published one, except that it is at least one."""
    size = fitting_batch_size(published, reference_gb=reference, memory_gb=share * reference)
    assert size >= 1
    assert size & (size - 1) == 0
    assert size == 1 or size <= published * share * (1 + 1e-9)


def test_a_cpus_memory_is_that_of_the_machine() -> None:
    """The CPU has the machine's memory, in 10⁹ bytes."""
    assert 0.1 < device_memory_gb("cpu") < 1e5


def test_two_sides_of_a_comparison_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has half of it."""
    whole = device_memory_gb("cpu")
    monkeypatch.setenv(SHARING_VARIABLE, "2")
    assert device_memory_gb("cpu") == whole / 2
