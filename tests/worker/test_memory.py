"""Peak memory is measured, or it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from torchperf_ci.worker import memory
from torchperf_ci.worker.memory import peak_while, process_peak_while

CPU = torch.device("cpu")
MEBIBYTE = 2**20


def blocks(count: int) -> list[torch.Tensor]:
    """So many tensors of a mebibyte."""
    return [torch.ones(MEBIBYTE, dtype=torch.uint8) for _ in range(count)]


def test_the_peak_is_what_tensors_need_at_once() -> None:
    """Seven tensors together need seven times the memory of seven one after another, to the byte."""
    peak_while(CPU, lambda: blocks(50))
    assert peak_while(CPU, lambda: blocks(7)) == 7 * MEBIBYTE
    assert peak_while(CPU, lambda: [blocks(1) and None for _ in range(7)]) == MEBIBYTE
    assert peak_while(CPU, lambda: None) == 0


def test_what_was_there_before_is_not_in_the_peak() -> None:
    """Memory that the action gives back leaves room for what it takes."""
    kept = blocks(20)

    def replace() -> None:
        kept.clear()
        kept.extend(blocks(5))

    assert peak_while(CPU, replace) == 0


def test_the_peak_of_the_process_starts_after_an_earlier_one() -> None:
    """What was freed before is given back to the system first; what is freed meanwhile counts."""
    blocks(200)
    idle = process_peak_while(lambda: None)
    busy = process_peak_while(lambda: blocks(100))
    assert idle is not None
    assert busy is not None
    assert 90 * MEBIBYTE < busy - idle < 150 * MEBIBYTE


def test_a_mark_that_cannot_be_reset_gives_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The action runs all the same."""
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "no" / "clear_refs")
    ran = []
    assert process_peak_while(lambda: ran.append("process")) is None
    assert peak_while(torch.device("mps"), lambda: ran.append("mps"), lambda: ran.append("prepared")) is None
    assert ran == ["process", "prepared", "mps", "prepared", "mps"]


class Allocator:
    """What torch.cuda says of its memory: `peak`, what is allocated, and segments of pools."""

    def __init__(self, peaks: list[int], *, allocated: int, segments: list[tuple[int, int, int]]) -> None:
        self.peaks, self.allocated, self.resets = peaks, allocated, 0
        self.segments = segments

    def memory_snapshot(self) -> list[dict]:
        return [
            {"device": 0, "segment_pool_id": (0, pool), "total_size": held, "allocated_size": used}
            for pool, held, used in self.segments
        ] + [{"device": 1, "segment_pool_id": (0, 9), "total_size": 999, "allocated_size": 999}]

    def current_device(self) -> int:
        return 0

    def reset_peak_memory_stats(self, device: torch.device) -> None:
        self.resets += 1

    def max_memory_allocated(self, device: torch.device) -> int:
        return self.peaks[self.resets]

    def memory_allocated(self, device: torch.device) -> int:
        return self.allocated


CUDA = torch.device("cuda")


def test_what_compiling_and_autotuning_took_is_not_in_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark is reset between the first iteration and the second one, and that one counts."""
    allocator = Allocator([10_000, 70], allocated=50, segments=[(0, 200, 50)])
    monkeypatch.setattr(memory, "device_module", lambda device: allocator)
    ran: list[str] = []
    assert peak_while(CUDA, lambda: ran.append("run"), lambda: ran.append(f"reset {allocator.resets}")) == 70
    assert ran == ["reset 0", "run", "reset 0", "run"]


def test_the_pool_of_a_cuda_graph_counts_for_the_arm_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay allocates nothing, so its pool counts in full; eager in the same process does not pay for it."""
    allocator = Allocator([0, 70], allocated=60, segments=[(0, 200, 50), (1, 400, 10)])
    monkeypatch.setattr(memory, "device_module", lambda device: allocator)
    assert memory.graph_pools(CUDA) == {(0, 1): (400, 10)}
    assert peak_while(CUDA, lambda: None) == 50 + 400
    allocator.resets = 0
    assert peak_while(CUDA, lambda: None, other_pools={(0, 1)}) == 70 - 10
