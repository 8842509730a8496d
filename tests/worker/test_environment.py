"""What a record says about the machine, and what it never says."""

from __future__ import annotations

import os

import psutil

from torchperf_ci.core.records import environment_from
from torchperf_ci.worker.accelerators import device_types
from torchperf_ci.worker.environment import cpu_set, describe_environment, dynamo_flags, packages, variables


def test_variables_steer_torch_and_are_no_secrets() -> None:
    """By their beginnings; what looks like a token, a key or a password is left out."""
    shown = {"TORCH_LOGS": "+dynamo", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "0", "HF_HUB_OFFLINE": "1"}
    hidden = {
        "TORCHPERF_FILTER": "",
        "TORCHPERF_ARGS": "--extra-env HF_TOKEN=s",
        "TORCHPERF_EXTRA_ENV": "HF_TOKEN=s",
        "TORCHPERF_SETUP": "pip install --index-url https://me:s@host",
        "TORCH_API_KEY": "s",
        "TORCH_HUB_TOKEN": "s",
        "CUDA_PASSWORD": "s",
        "XLA_SECRET": "s",
        "NCCL_CREDENTIALS": "s",
        "HF_TOKEN": "s",
        "HOME": "/root",
        "GITHUB_TOKEN": "s",
    }
    assert variables({**hidden, **shown}) == dict(sorted(shown.items()))


def test_the_environment_is_a_record_s() -> None:
    """Every field of it has the right type."""
    told = environment_from(describe_environment())
    assert (told.cpu_count, told.host, bool(told.kernel)) == (len(cpu_set()), os.uname().nodename, True)


def test_only_the_cpus_that_may_be_used_count() -> None:
    """A container or a pinned process has fewer than the machine."""
    process = psutil.Process()
    before = process.cpu_affinity()
    try:
        process.cpu_affinity(before[:1])
        assert cpu_set() == set(before[:1])
        assert describe_environment()["cpu_count"] == 1
    finally:
        process.cpu_affinity(before)


def test_what_there_is_is_listed() -> None:
    """The CPU always, torch always, and flags that are yes or no."""
    assert device_types()["cpu"] == 1
    assert "torch" in packages()
    assert {type(value) for value in dynamo_flags().values()} == {bool}
