"""When measuring the CPU would be a mistake, and what torch's devices are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Mode
from torchperf_ci.machine.accelerators import Signs, is_gpu_label, missing_accelerator, read_signs
from torchperf_ci.run.plan import Machine, Selection, SuiteListing, make_plan
from torchperf_ci.run.session import Python, package_path
from torchperf_ci.run.survey import left_out_warnings

Cli = Callable[..., subprocess.CompletedProcess[str]]

CPU = {"cpu": 1}
SUITE = SuiteListing(spec="s", name="s", models=("m",))
CUDA_BUILD = Signs(unusable="torch 2.13.0+cu130 is built for CUDA, but RuntimeError: Found no NVIDIA driver")


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        (CUDA_BUILD, "Found no NVIDIA driver"),
        (Signs(listed={"nvidia-smi": "GPU 0: NVIDIA H100 (UUID: GPU-1)"}), "NVIDIA H100"),
        (Signs(listed={"amd-smi": "GPU: 0"}), "amd-smi"),
        (Signs(labels=("self-hosted", '["gpu"]')), "a runner with gpu"),
        (Signs(unusable="it is built for CUDA", hidden={"CUDA_VISIBLE_DEVICES": ""}), "CUDA_VISIBLE_DEVICES=''"),
    ],
)
def test_every_sign_of_an_accelerator_without_a_usable_one_is_an_error(signs: Signs, words: str) -> None:
    """It is named, and the option that means the CPU as well; a device that torch can use ends all doubt."""
    problem = missing_accelerator(CPU, "2.13.0", signs)
    assert words in problem
    assert "--devices cpu" in problem
    assert missing_accelerator({"cpu": 1, "cuda": 1}, "2.13.0", signs) == ""


def test_a_plain_cpu_machine_has_no_problem() -> None:
    """No driver, a build for the CPU, labels of ordinary runners."""
    assert missing_accelerator(CPU, "2.13.0+cpu", Signs(labels=("ubuntu-latest", "self-hosted", "linux-x64"))) == ""


@pytest.mark.parametrize(
    "label",
    ["gpu", "GPU-T4", "linux.aws.a100", "self-hosted-h100", "linux.rocm.gpu.mi300.2", "gpu-8x", "cuda12", "4xL4"],
)
def test_labels_that_promise_a_gpu(label: str) -> None:
    """As people name their runners."""
    assert is_gpu_label(label) == (label != "4xL4"), "a size in front of it is no word of its own"


@pytest.mark.parametrize("label", ["ubuntu-latest", "macos-14", "x64", "linux", "large", "a1000000", "mips", "cpu"])
def test_labels_that_promise_none(label: str) -> None:
    """Words that only look like a GPU's."""
    assert not is_gpu_label(label)


def test_the_cpu_is_measured_only_when_it_is_asked_for() -> None:
    """Where an accelerator is missing, a plan without devices is refused, and one for a GPU says why there is none."""
    machine = Machine(devices=CPU, compilers=("eager",), dtypes=("float32",), torch="2.13.0", signs=CUDA_BUILD)
    asked = Selection(suites=("s",), mode=Mode.INFERENCE, compilers=("eager",))
    with pytest.raises(UsageProblem, match="Found no NVIDIA driver"):
        make_plan(asked, [SUITE], machine)
    on_cpu = Selection(suites=("s",), mode=Mode.INFERENCE, compilers=("eager",), devices=("cpu",))
    assert [planned.device for planned in make_plan(on_cpu, [SUITE], machine).cases] == ["cpu"]
    on_gpu = Selection(suites=("s",), mode=Mode.INFERENCE, compilers=("eager",), devices=("cuda",))
    with pytest.raises(UsageProblem, match=r"no device 'cuda' here.*Found no NVIDIA driver"):
        make_plan(on_gpu, [SUITE], machine)


def test_a_drivers_tool_is_believed_also_when_it_fails(nvidia_smi: Callable[[str], None]) -> None:
    """A machine whose driver is broken is one that should have a GPU."""
    assert read_signs("", {}).listed == {}
    nvidia_smi('#!/bin/sh\necho "NVIDIA-SMI has failed because it couldn\'t communicate with the driver."\nexit 9\n')
    signs = read_signs("", {"CUDA_VISIBLE_DEVICES": "-1", "HOME": "/root"}, labels=["x"])
    assert "has failed" in signs.listed["nvidia-smi"]
    assert signs.hidden == {"CUDA_VISIBLE_DEVICES": "-1"}


def test_a_run_beside_a_gpu_that_torch_cannot_use_is_refused(cli: Cli, nvidia_smi: Callable[[str], None]) -> None:
    """Exit code 2 and no record; `--devices cpu` runs; fastrnns and compare are as careful; the doctor says it."""
    nvidia_smi('#!/bin/sh\necho "GPU 0: NVIDIA H100 (UUID: GPU-1)"\n')
    asked = ("--suites", "tiny", "-k", "^mlp$", "--inference", "--compilers", "eager", "--no-accuracy", "--repeat", "2")
    refused = cli("run", *asked)
    assert refused.returncode == 2
    assert "NVIDIA H100" in refused.stderr
    assert cli("compare", *asked[:-2], "--head-env", "A=1").returncode == 2
    assert cli("fastrnns", "--rnns", "py", "--nloops", "1").returncode == 2
    assert cli("run", *asked, "--devices", "cpu").returncode == 0
    doctor = cli("doctor", "--strict")
    assert doctor.returncode == 3
    assert "❌ accelerators: no accelerator can be used" in doctor.stdout


TOUCHES = """
import os, torch
PARENT = os.getpid()
torch.cuda._is_in_bad_fork = lambda: os.getpid() != PARENT
"""


def test_a_preload_that_touches_a_device_is_left_out_by_name(tmp_path: Path) -> None:
    """It is found by a fork; the process starts anew without it, with the others, and can be forked."""
    (tmp_path / "touches.py").write_text(TOUCHES)
    (tmp_path / "harmless.py").write_text("")
    with (
        package_path({**os.environ, "PYTHONPATH": str(tmp_path)}) as environ,
        Python(executable=sys.executable, environ=environ, log=tmp_path / "preload.log").start() as process,
    ):
        process.preload(["harmless", "touches"])
        assert process.left_out == {"touches": "cuda"}
        assert "touches" in left_out_warnings(process.left_out)[0]
        with process.fork(tmp_path / "worker.log") as worker:
            assert worker.ask("probe_device", device="cpu", deadline=time.monotonic() + 60) == {"sum": 1024.0}


OUT_OF_TREE = """
import sys, torch, types
torch.utils.rename_privateuse1_backend("npu")
torch._register_device_module("npu", types.SimpleNamespace(is_available=lambda: True, device_count=lambda: 2))
from torchperf_ci.worker.accelerators import accelerators, device_types
print(device_types(), [one["device"] for one in accelerators()])
"""


def test_a_device_that_another_package_brings_is_listed() -> None:
    """Under the name that the package gave it, as many as it counts."""
    done = subprocess.run([sys.executable, "-c", OUT_OF_TREE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'cpu': 1, 'npu': 2} ['npu:0', 'npu:1']"


def test_this_machine_has_what_torch_says() -> None:
    """The command that doctor asks answers in one line of JSON."""
    command = [sys.executable, "-m", "torchperf_ci.worker.accelerators"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert '"devices": {"cpu": 1' in done.stdout
