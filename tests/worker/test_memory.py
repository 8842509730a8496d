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
