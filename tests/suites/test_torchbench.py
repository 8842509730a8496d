"""The torchbench suite, on a miniature of the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from torchperf_ci.core.records import Testing
from torchperf_ci.core.results import read_results

pytest.importorskip("torch")

Cli = Callable[..., subprocess.CompletedProcess[str]]

URL = "https://example.org/data.bin"
SHOW = """
import json, sys
from torchperf_ci.suites import torchbench
for name, size, mode, scale in json.loads(sys.argv[1]):
    module, args, *rest = torchbench.MODELS[name](size, mode=mode, device="cpu", scale=scale)
    named = {key: list(one.shape) for one in rest for key, one in one.items()}
    print(name, size, mode, scale, "->", [list(one.shape) for one in args], named)
"""


def test_the_list_is_the_checkouts(cli: Cli, torchbench: Path) -> None:
    """Models and the canary that PyTorch's suite takes, with what is skipped and why."""
    ran = cli("suites", "list", "torchbench", "--torchbench-dir", str(torchbench))
    head, _, *lines = ran.stdout.splitlines()
    assert head.split() == ["model", "description", "quick", "state"]
    assert [line.split(maxsplit=1) for line in lines] == [
        ["fetches_a_file", "ready"],
        ["fixed_batch", "ready"],
        ["hf_Bert", "skipped: Hugging Face models have a suite of their own: huggingface"],
        ["loads_weights", "ready"],
        ["needs_a_package", "ready"],
        ["reads_a_file", "ready"],
        ["resnet18", "quick  ready"],
        ["takes_a_dict", "ready"],
        ["yolov3", "ready"],
        ["torchrec_dlrm", "skipped on cpu: its kernels are for CUDA alone"],
    ]


def test_models_are_built_by_their_own_factories(torchbench: Path) -> None:
    """The batch asked for, else the data file's, else the model's own; inputs by position or by name."""
    requests = [
        ("resnet18", None, "inference", "full"),
        ("resnet18", None, "training", "full"),
        ("resnet18", None, "inference", "small"),
        ("takes_a_dict", 5, "inference", "full"),
        ("fixed_batch", 5, "inference", "small"),
        ("yolov3", None, "training", "full"),
    ]
    environment = {**os.environ, "TORCHPERF_TORCHBENCH_DIR": str(torchbench)}
    command = [sys.executable, "-c", SHOW, json.dumps(requests)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ran.stdout.splitlines() == [
        "resnet18 None inference full -> [[16, 4]] {}",
        "resnet18 None training full -> [[8, 4]] {}",
        "resnet18 None inference small -> [[2, 4]] {}",
        "takes_a_dict 5 inference full -> [] {'input': [5, 4]}",
        "fixed_batch 5 inference small -> [[16, 4]] {}",
        "yolov3 None training full -> [[8, 3, 384, 512]] {}",
    ], ran.stderr


@pytest.mark.slow
def test_every_model_becomes_a_row(cli: Cli, torchbench: Path, tmp_path: Path) -> None:
    """Weights stay random, a download is refused, a missing package is told with the command, a skip is a pass."""
    ran = cli(
        *("run", "--suites", "torchbench", "--torchbench-dir", str(torchbench), "--inference", "--devices", "cpu"),
        *("--compilers", "eager", "--no-performance", "--output-dir", str(tmp_path / "out"), "--scale", "small"),
    )
    assert ran.returncode == 6, ran.stderr
    needs = "needs_a_package needs no_such_package, which is not installed"
    records = read_results(tmp_path / "out").records
    told = {record.case.model: (record.status.value, record.reason) for record in records}
    assert {record.testing for record in records} == {Testing.ACCURACY}
    assert told == {
        "fetches_a_file": (
            "model_fail_to_load",
            f"NeedsDownload: fetches_a_file asks for a download, and this suite downloads nothing: {URL}",
        ),
        "fixed_batch": ("pass", ""),
        "hf_Bert": ("pass_due_to_skip", "Hugging Face models have a suite of their own: huggingface"),
        "loads_weights": ("pass", ""),
        "needs_a_package": (
            "model_fail_to_load",
            f"CannotBuild: {needs}; run `python install.py needs_a_package` in {torchbench}",
        ),
        "reads_a_file": ("pass", ""),
        "resnet18": ("pass", ""),
        "takes_a_dict": ("pass", ""),
        "yolov3": ("pass", ""),
        "torchrec_dlrm": ("pass_due_to_skip", "its kernels are for CUDA alone"),
    }


def test_a_folder_without_the_package_is_refused(cli: Cli, tmp_path: Path) -> None:
    """The message says what the folder lacks, before anything runs."""
    ran = cli("run", "--suites", "torchbench", "--torchbench-dir", str(tmp_path), "--inference")
    assert ran.returncode == 2
    assert ran.stderr.endswith(
        f"Error: --torchbench-dir {tmp_path} is no checkout of pytorch/benchmark: no torchbenchmark/models\n"
    )
