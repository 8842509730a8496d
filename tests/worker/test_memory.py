"""Peak memory is measured, or it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from torchperf_ci.worker import memory
from torchperf_ci.worker.memory import peak_while

CPU = torch.device("cpu")
MEBIBYTE = 2**20


def test_the_peak_is_that_of_the_action_alone() -> None:
    """What was allocated and freed before is not in it, what is freed meanwhile is."""
    torch.ones(200 * MEBIBYTE, dtype=torch.uint8)
    idle = peak_while(CPU, lambda: None)
    busy = peak_while(CPU, lambda: torch.ones(100 * MEBIBYTE, dtype=torch.uint8))
    assert idle is not None
    assert busy is not None
    assert 90 * MEBIBYTE < busy - idle < 150 * MEBIBYTE


@pytest.mark.parametrize("device", [CPU, torch.device("mps")])
def test_a_mark_that_cannot_be_reset_gives_no_number(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The action runs all the same."""
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "no" / "clear_refs")
    ran = []
    assert peak_while(device, lambda: ran.append(1)) is None
    assert ran == [1]
