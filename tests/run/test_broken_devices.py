"""Cases whose device or library breaks under them: what is lost, what is measured all the same, what is said."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from torchperf_ci.core.records import Record, Testing
from torchperf_ci.core.results import read_results

pytestmark = pytest.mark.slow

Cli = Callable[..., subprocess.CompletedProcess[str]]

SUITE = """
import os
import torch

BROKEN = []

class Model(torch.nn.Module):
    def __init__(self, behave):
        super().__init__()
        self.layer, self.behave = torch.nn.Linear(4, 4), behave
    def forward(self, x):
        return self.behave(self.layer(x))

@torch._dynamo.disable
def breaks_in_float64(output):  # as a context of CUDA does: once broken, every call fails
    if output.dtype is torch.float64:
        BROKEN.append(True)
    if BROKEN:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return output

@torch._dynamo.disable
def library(output):
    raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED")

@torch._dynamo.disable
def process(output):
    print("PROCESS", os.getpid(), flush=True)
    return output

def model(behave):
    return lambda batch_size: (Model(behave), (torch.ones(2, 4),))

MODELS = {
    "breaks_in_float64": model(breaks_in_float64),
    "library": model(library),
    "process": model(process),
    "process_with_random_numbers": model(lambda output: torch.dropout(process(output), 0.5, True)),
}
"""


@pytest.fixture
def run(cli: Cli, tmp_path: Path) -> Callable[..., tuple[subprocess.CompletedProcess[str], list[Record]]]:
    """`torchperf-ci run` of models of the suite above on the CPU, and what it recorded."""
    suite = tmp_path / "suite.py"
    suite.write_text(SUITE)

    def measure(models: str):
        arguments = ("--suites", str(suite), "-k", models, "--inference", "--devices", "cpu")
        limits = ("--compilers", "aot_eager", "--warmup", "1", "--repeat", "3", "--output-dir", str(tmp_path / "out"))
        done = cli("run", *arguments, *limits)
        return done, list(read_results(tmp_path / "out").records)

    return measure


def test_a_broken_device_is_left_to_no_later_testing(run: Callable) -> None:
    """Its worker ends itself; accuracy is not judged, for eager was never wrong; times come from a new worker."""
    done, (accuracy, performance) = run("^breaks_in_float64$")
    assert (accuracy.testing, accuracy.status.value) == (Testing.ACCURACY, "not_judged"), done.stderr
    assert "an illegal memory access" in accuracy.reason
    assert performance.status.value == "pass"
    assert len(performance.samples["eager"]) == 3
    assert done.returncode == 6


def test_a_broken_library_is_a_failure_and_not_left_out(run: Callable) -> None:
    """The headline counts it, with the library's own words in the row."""
    done, records = run("^library$|^process$")
    broken = [record for record in records if record.case.model == "library"]
    assert [record.status.value for record in broken] == ["infra_error"] * 2
    assert all("CUDNN_STATUS_NOT_INITIALIZED" in record.reason for record in broken)
    assert done.returncode == 6
    assert "1 of 2 cases failed" in done.stdout
    assert "left out" not in done.stdout


def test_compile_time_is_taken_in_a_worker_that_compiled_nothing_before(run: Callable, tmp_path: Path) -> None:
    """Where accuracy had to compile other code, a new worker is forked; where it was the same code, it is timed."""
    _, records = run("^process")
    assert all(record.status.value == "pass" for record in records)
    workers = {}
    for record in records:
        said = (tmp_path / "out" / record.log).read_text().split()
        workers[record.case.model] = {said[at + 1] for at, word in enumerate(said) if word == "PROCESS"}
    assert {model: len(pids) for model, pids in workers.items()} == {"process": 1, "process_with_random_numbers": 2}
