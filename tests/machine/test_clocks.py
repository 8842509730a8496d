"""Locked clocks: to what, and unlocked whatever ends the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from torchperf_ci.machine.accelerators import Accelerator
from torchperf_ci.machine.gpu import clock_to_lock, locked_clocks

SMI = """#!/bin/sh
case "$*" in
  -L) echo "GPU 0: NVIDIA H100 (UUID: GPU-aaaa)";;
  *clocks.default*) echo "1500, 1980";;
  *lock-gpu-clocks*) echo "$*" >> LOG; ANSWER;;
  *reset-gpu-clocks*) echo "$*" >> LOG;;
esac
"""
GPU = Accelerator(device="cuda:0", name="H100", uuid="aaaa")


def script(log: Path, answer: str = 'echo "GPU clocks set"') -> str:
    return SMI.replace("LOG", str(log)).replace("ANSWER", answer)


@pytest.mark.parametrize(
    ("asked", "told", "clock"),
    [
        ("1200", "1500, 1980\n", 1200),
        ("default", "1500, 1980\n", 1500),
        ("default", "[N/A], 2000\n", 1500),
        ("default", "", None),
    ],
)
def test_the_clock_is_one_that_a_gpu_can_keep(asked: str, told: str, clock: int | None) -> None:
    """As asked, else its default for applications, else three quarters of its highest."""
    assert clock_to_lock(asked, told) == clock


def test_clocks_are_locked_and_unlocked(nvidia_smi: Callable[[str], None], tmp_path: Path) -> None:
    """Of the GPU that the device is, by its UUID."""
    nvidia_smi(script(tmp_path / "log"))
    with locked_clocks("default", ["cuda", "cpu"], [GPU], {}) as told:
        assert told == ["the clocks of cuda are locked to 1500 MHz until the end"]
        assert (tmp_path / "log").read_text() == "-i GPU-aaaa --lock-gpu-clocks=1500,1500\n"
    assert (tmp_path / "log").read_text().splitlines()[1:] == ["-i GPU-aaaa --reset-gpu-clocks"]


@pytest.mark.parametrize(
    "answer", ['echo "no permission for GPU"; exit 4', 'echo "Setting locked GPU clocks is not supported"']
)
def test_a_refusal_is_advice(nvidia_smi: Callable[[str], None], tmp_path: Path, answer: str) -> None:
    """The run goes on, with what an administrator can type."""
    nvidia_smi(script(tmp_path / "log", answer))
    with locked_clocks("1200", ["cuda"], [GPU], {}) as told:
        assert "not locked" in told[0]
        assert "nvidia-smi -i 0 --lock-gpu-clocks=1200,1200" in told[0]


def test_nothing_is_locked_unasked_or_elsewhere(nvidia_smi: Callable[[str], None], tmp_path: Path) -> None:
    """A CPU has no clocks that nvidia-smi could lock."""
    nvidia_smi(script(tmp_path / "log"))
    with locked_clocks(None, ["cuda"], [GPU], {}) as told:
        assert told == []
    with locked_clocks("default", ["cpu"], [], {}) as told:
        assert "none is measured" in told[0]
    assert not (tmp_path / "log").exists()


HOLDS = """
import sys, time
from torchperf_ci.machine.accelerators import Accelerator
from torchperf_ci.machine.gpu import locked_clocks
with locked_clocks("1200", ["cuda"], [Accelerator(device="cuda:0", name="H100", uuid="aaaa")], {}):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_kill_unlocks_clocks(nvidia_smi: Callable[[str], None], tmp_path: Path) -> None:
    """Nothing of ours needs to run for it in the process that is killed."""
    nvidia_smi(script(tmp_path / "log"))
    holder = subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, env=dict(os.environ))
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        holder.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while "reset" not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "log").read_text().endswith("-i GPU-aaaa --reset-gpu-clocks\n")
