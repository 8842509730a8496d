"""A cold L2 cache: it is emptied by a write larger than it, and that is seen or remarked on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from torchperf_ci.worker import timing
from torchperf_ci.worker.protocol import CaseError
from torchperf_ci.worker.timing import CacheEmptier

CPU = torch.device("cpu")
SIZE = 2**20


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Nanoseconds of a read from a device with a cache of a mebibyte, warm and cold."""
    readings = {"warm": 1000, "cold": 2000}
    properties = SimpleNamespace(L2_cache_size=SIZE)
    monkeypatch.setattr(
        timing, "device_module", lambda device: SimpleNamespace(get_device_properties=lambda device: properties)
    )
    monkeypatch.setattr(timing, "LEAST_BYTES", SIZE)

    def reader(device: torch.device, before: object) -> object:
        return lambda arm, repeats: (9999, readings["cold" if before else "warm"])

    monkeypatch.setattr(timing, "Reader", reader)
    return readings


def test_more_than_the_cache_is_written(times: dict[str, int]) -> None:
    """Twice its size, and at least what lies behind it."""
    empty = CacheEmptier(CPU)
    assert empty.size == SIZE
    assert empty._buffer.nbytes == 2 * SIZE
    empty._buffer.fill_(7)
    empty()
    assert not empty._buffer.any()


def test_a_read_that_is_slower_afterwards_came_from_memory(times: dict[str, int]) -> None:
    """Then there is nothing to remark."""
    assert CacheEmptier(CPU).remarks() == []


def test_a_read_that_is_as_quick_afterwards_is_remarked_on(times: dict[str, int]) -> None:
    """With both times and how much was read."""
    times["cold"] = 1050
    (remark,) = CacheEmptier(CPU).remarks()
    assert "524,288 bytes" in remark
    assert "1.05 µs after emptying it, 1 µs without" in remark


def test_a_cache_whose_size_nobody_says_cannot_be_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The case fails, and is not called cold."""
    properties = SimpleNamespace(name="a device")
    monkeypatch.setattr(
        timing, "device_module", lambda device: SimpleNamespace(get_device_properties=lambda device: properties)
    )
    with pytest.raises(CaseError, match="leave out --cold-l2"):
        CacheEmptier(CPU)
