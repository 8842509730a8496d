"""A run can be stopped at any moment: what is finished is on disk, and the rest can be measured later."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from torchperf_ci.core.results import read_results

Cli = Callable[..., subprocess.CompletedProcess[str]]

RUN = [
    *("run", "--suites", "tiny", "--quick", "--inference"),
    *("--compilers", "eager", "--compilers", "aot_eager", "--devices", "cpu", "-n", "20", "--output-dir", "out"),
]
COMMAND = [sys.executable, "-m", "torchperf_ci", *RUN]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_rows_and_is_completed_by_the_same_command(
    in_process: Cli, tmp_path: Path, number: int
) -> None:
    """Finished cases are not measured twice, nothing is left running."""
    process = subprocess.Popen(COMMAND, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("[2/6]"):
            break
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, talk = process.communicate(timeout=30)
    assert process.returncode == 128 + number, talk
    assert "the same command with --keep-output-dir measures the rest" in talk
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in family)
    finished = read_results(tmp_path / "out").records
    assert len(finished) >= 4
    done = in_process(*RUN, "--keep-output-dir", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{len(finished) // 2} cases are recorded already" in done.stderr
    records = read_results(tmp_path / "out").records
    assert len(records) == 12
    assert records[: len(finished)] == finished


@pytest.mark.slow
def test_killing_the_controller_leaves_no_process_behind(tmp_path: Path) -> None:
    """Not even SIGKILL, which no handler sees, leaves a worker on the machine."""
    with subprocess.Popen(
        COMMAND, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("[1/6]"):
                break
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.kill()
    until = time.monotonic() + 20
    while any(child.is_running() for child in family) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(child.is_running() for child in family)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_python_starts_ends_in_words(tmp_path: Path, number: int) -> None:
    """There is nothing to resume then."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 1000\n")
    python.chmod(0o755)
    command = [sys.executable, "-m", "torchperf_ci", "run", "--inference", "--python", str(python)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Starting")
        process.send_signal(number)
        _, talk = process.communicate(timeout=30)
    assert process.returncode == 128 + number, talk
    assert talk.strip() == f"Interrupted by {signal.Signals(number).name}. Nothing was measured yet."
