"""Accelerators end to end under the real torch, on devices that are pretended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from torchperf_ci.core.records import Status, Testing

pytestmark = [pytest.mark.fake_cuda, pytest.mark.slow]

ASKED = ("--inference", "--compilers", "eager", "--output-dir", "out", "--warmup", "1", "--repeat", "10")

BIG = """
import torch

class Big(torch.nn.Module):
    def __init__(self, activations, weights=1):  # MiB
        super().__init__()
        self.activations = activations
        self.weights = torch.nn.Parameter(torch.zeros(weights << 18))
    def forward(self, x):
        big = torch.empty(self.activations << 18, device=x.device)
        return torch.relu_(big)[:4] * self.weights[:4] * x[:, 0].sum()

MODELS = {
    "activations": lambda batch_size: (Big(700), (torch.randn(8, 4),)),
    "weights": lambda batch_size: (Big(10, weights=700), (torch.randn(8, 4),)),
    "batch": lambda batch_size: (Big(100 * (batch_size or 8)), (torch.randn(batch_size or 8, 4),)),
}
"""

LOSES = """
import os, torch

class Loses(torch.nn.Module):
    def forward(self, x):
        if x.device.index == 1:
            open(os.environ["FAKE_LOST"], "w").write("1")
        return x + 1

MODELS = {f"m{number}": lambda batch_size: (Loses(), (torch.ones(4),)) for number in range(4)}
"""


@pytest.mark.parametrize("interleave", ["auto", "iteration"])
def test_two_copies_that_do_not_fit_are_blamed_on_no_side(on_fake_cuda, tmp_path: Path, interleave: str) -> None:
    """Equal sides that fit alone are measured in whole launches, or refused where iterations are asked for."""
    (tmp_path / "big.py").write_text(BIG)
    arguments = ("--suites", "big.py", "--head-env", "SIDE=head", "--launches", "1", "--interleave", interleave)
    done = on_fake_cuda("compare", *arguments, *ASKED, "--devices", "cuda", env={"FAKE_MEM_MB": "1800"})
    cases = json.loads((tmp_path / "out/compare.json").read_text())["measured"]
    assert len(cases) == 3, done.stderr
    assert not any(case[side]["failure"] for case in cases for side in ("base", "head"))
    assert all(bool(case["launches"]) == (interleave == "auto") for case in cases)
    assert all(bool(case["refusals"]) == (interleave == "iteration") for case in cases)


def test_an_exclusive_device_is_compared_in_whole_launches(on_fake_cuda, tmp_path: Path) -> None:
    """Only one process may use it at a time."""
    arguments = ("--suites", "tiny", "-k", "^mlp$", "--head-env", "SIDE=head", "--launches", "1", "--devices", "cuda")
    done = on_fake_cuda("compare", *arguments, *ASKED, env={"FAKE_EXCLUSIVE": "1"})
    (case,) = json.loads((tmp_path / "out/compare.json").read_text())["measured"]
    assert case["launches"], done.stderr
    assert "whole launches" in case["remarks"][0]


def test_foreign_work_is_a_remark_in_a_run(on_fake_cuda, records) -> None:
    """The GPU is found by the UUID that torch reports; its clocks and other work are told in the row."""
    other = {"SMI_APPS": "4242, other, 300\\n", "SMI_LINES": "1980;0x0;99 900;0x40;99", "FAKE_KERNEL_US": "20000"}
    on_fake_cuda("run", "--suites", "tiny", "-k", "^mlp$", "--devices", "cuda", *ASKED, env=other)
    (performance,) = [record for record in records() if record.testing is Testing.PERFORMANCE]
    assert "other (4242)" in performance.remarks[0]
    assert any("throttled" in remark for remark in performance.remarks)
    assert performance.environment.gpu_uuid.startswith("01000000")


def test_a_preload_that_asks_for_cuda_is_named(on_fake_cuda, tmp_path: Path) -> None:
    """The case runs all the same."""
    (tmp_path / "asks_for_cuda.py").write_text("import torch\nCUDA = torch.cuda.is_available()\n")
    (tmp_path / "suite.py").write_text(
        'import torch\nPRELOAD = ("asks_for_cuda",)\n'
        'MODELS = {"linear": lambda batch_size: (torch.nn.Linear(4, 4), (torch.ones(2, 4),))}\n'
    )
    done = on_fake_cuda("run", "--suites", "suite.py", "--devices", "cuda", *ASKED, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "importing asks_for_cuda initialises cuda" in done.stderr


def test_cases_are_spread_over_all_devices(on_fake_cuda, records) -> None:
    """Every case once; the record says on which device."""
    arguments = ("--suites", "tiny", "--quick", "--devices", "all", "--parallel")
    done = on_fake_cuda("run", *arguments, *ASKED, env={"FAKE_DEVICES": "2"})
    assert done.returncode == 0, done.stderr
    made = records()
    assert len({record.key for record in made}) == len(made)
    assert {record.case.device for record in made} == {"cuda"}
    assert {record.environment.gpu_uuid[:2] for record in made} == {"01", "02"}


def test_a_lost_device_ends_its_case_and_the_others_go_on(on_fake_cuda, records, tmp_path: Path) -> None:
    """Its case says that the device was lost; no case is missing."""
    (tmp_path / "loses.py").write_text(LOSES)
    variables = {"FAKE_DEVICES": "2", "FAKE_LOST": str(tmp_path / "lost")}
    done = on_fake_cuda(
        "run", "--suites", "loses.py", "--devices", "all", "--parallel", "--no-accuracy", *ASKED, env=variables
    )
    made = {record.case.model: record for record in records()}
    assert sorted(made) == ["m0", "m1", "m2", "m3"], done.stderr
    lost = [record for record in made.values() if record.status is not Status.PASS]
    assert len(lost) == 1
    assert "the device cuda:1 was lost" in lost[0].reason
    assert done.returncode == 6


def test_both_sides_of_a_case_share_a_device(on_fake_cuda, tmp_path: Path) -> None:
    """While another device compares another case."""
    arguments = ("--suites", "tiny", "-k", "^(mlp|convnet)$", "--head-env", "SIDE=head", "--launches", "1")
    log = tmp_path / "calls.log"
    done = on_fake_cuda(
        "compare", *arguments, *ASKED, "--devices", "all", "--parallel",
        env={"FAKE_DEVICES": "2", "FAKE_LOG": str(log)},
    )  # fmt: skip
    cases = json.loads((tmp_path / "out/compare.json").read_text())["measured"]
    assert [case["case"]["device"] for case in cases] == ["cuda", "cuda"], done.stderr
    assert all(case["launches"] for case in cases)
    assert "LAUNCH on stream of" not in log.read_text()


WORKERS = """
import os, torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(256, 256)
    def forward(self, x):
        return torch.relu(self.layer(x))

def model(batch_size):
    print("WORKER", os.getpid(), flush=True)
    return Model(), (torch.ones(8, 256),)

MODELS = {"model": model}
"""


def test_compile_time_and_memory_with_cuda_graphs(on_fake_cuda, records, tmp_path: Path) -> None:
    """Compile time comes from a worker of its own; a graph's pool is the compiled arm's memory, not eager's."""
    (tmp_path / "suite.py").write_text(WORKERS)
    asked = ("--inference", "--output-dir", "out", "--warmup", "1", "--repeat", "10", "--devices", "cuda")
    done = on_fake_cuda("run", "--suites", "suite.py", *asked, "--compilers", "cudagraphs")
    accuracy, performance = records()
    assert (accuracy.status, performance.status) == (Status.PASS, Status.PASS), done.stderr
    said = (tmp_path / "out" / performance.log).read_text().split()
    assert len({said[at + 1] for at, word in enumerate(said) if word == "WORKER"}) == 2
    assert len(performance.samples["compiled_device"]) == 10
    eager, compiled = (performance.metrics[f"{arm}_peak_mem"] for arm in ("eager", "dynamo"))
    assert 0 < eager < compiled


def test_a_cold_cache_is_recorded_and_is_no_memory_of_the_model(on_fake_cuda, records) -> None:
    """Nothing is quicker from the pretended cache, so the row says that it may not have been empty."""
    on_fake_cuda(
        "run", "--suites", "tiny", "-k", "^mlp$", "--devices", "cuda", "--no-accuracy", "--cold-l2", *ASKED
    )  # fmt: skip
    (performance,) = records()
    assert performance.environment.l2_cache == "cold"
    assert any("the L2 cache may not have been empty" in remark for remark in performance.remarks)
    assert performance.metrics["eager_peak_mem"] < 2**28


def test_both_sides_of_a_comparison_compile_cold(on_fake_cuda, tmp_path: Path) -> None:
    """Each checks accuracy in one worker and compiles in another; what was compared says that the cache was cold."""
    (tmp_path / "suite.py").write_text(WORKERS)
    arguments = ("--suites", "suite.py", "--head-env", "SIDE=head", "--launches", "1", "--interleave", "block")
    asked = ("--inference", "--compilers", "cudagraphs", "--output-dir", "out", "--warmup", "1", "--repeat", "10")
    done = on_fake_cuda("compare", *arguments, *asked, "--devices", "cuda", "--cold-l2")
    document = json.loads((tmp_path / "out/compare.json").read_text())
    (case,) = document["measured"]
    assert case["base"]["memory_bytes"] == case["head"]["memory_bytes"] > 0, done.stderr
    assert "L2 cache was emptied" in document["header"]["how"]
    for side in ("base", "head"):
        assert case[side]["accuracy"] == "pass"
        assert len(case[side]["compile_seconds"]) == 1
        (log,) = (tmp_path / "out/logs").glob(f"{side}_*.log")
        assert log.read_text().count("WORKER") == 2
