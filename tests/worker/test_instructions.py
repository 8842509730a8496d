"""Instructions are counted by what can be trusted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from torchperf_ci.worker.instructions import (
    CallgrindCounter,
    ProcessorCounter,
    count_instructions,
    is_plausible,
    why_no_processor_counter,
)


@pytest.mark.parametrize(
    ("short", "long", "good"),
    [
        (1_000_000, 2_000_000, True),
        (2**64 - 1, 2**64 - 1, False),
        (0, 0, False),
        (1_000_000, 1_000_000, False),
        (10, 20, False),
    ],
)
def test_a_counter_is_tried_on_a_loop(*, short: int, long: int, good: bool) -> None:
    """Virtual machines may answer with nothing, or with nonsense, and no error."""
    assert is_plausible(short, long) is good


def test_the_processor_counts_or_says_why_not() -> None:
    """Twice the work takes more instructions, where there is a counter at all."""
    if why_no_processor_counter():
        with pytest.raises(OSError, match="counter"):
            ProcessorCounter()
        return
    with ProcessorCounter() as counter:
        once, twice = (counter.count(lambda times=times: sum(range(10_000 * times))) for times in (1, 2))
    assert twice > 1.5 * once


def test_the_least_of_ten_counts_after_one_that_does_not() -> None:
    """The first iteration may still load something."""

    class Replay:
        def __init__(self) -> None:
            self.values = [1, *range(30, 20, -1)]

        def __enter__(self) -> Replay:
            return self

        def __exit__(self, *exc: object) -> None: ...

        def count(self, action) -> int:
            action()
            return self.values.pop(0)

    calls: list[str] = []
    assert count_instructions(Replay(), lambda: calls.append("ran"), lambda: calls.append("prepared")) == 21
    assert calls == ["prepared", "ran"] * 11


def test_nothing_is_counted_outside_of_callgrind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A request that valgrind does not hear has no answer."""
    monkeypatch.setenv("TORCHPERF_CALLGRIND", str(tmp_path / "counts"))
    with pytest.raises(OSError, match="callgrind"):
        CallgrindCounter()


PROGRAM = """
from torchperf_ci.worker.instructions import CallgrindCounter
with CallgrindCounter() as counter:
    for steps in (1_000, 1_000, 1_000, 2_000):
        print(counter.count(lambda: [step * step for step in range(steps)]))
"""


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_callgrind_counts_the_same_each_time(tmp_path: Path) -> None:
    """Only what is asked for; twice the work is about twice as many."""
    prefix = tmp_path / "counts"
    done = subprocess.run(
        [
            *("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={prefix}.%p"),
            *(sys.executable, "-c", PROGRAM),
        ],
        env={"PYTHONHASHSEED": "0", "TORCHPERF_CALLGRIND": str(prefix), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    _, once, again, twice = map(int, done.stdout.split())
    assert abs(once - again) < 0.02 * once
    assert 1.6 * once < twice < 2.2 * once
